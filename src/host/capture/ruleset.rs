//! The rules of a cube's own network, as nftables messages: what is sent, and what must be found again.
//!
//! Two chains decide. `redirect` (nat, output) turns every TCP connection and every DNS question that is not for the
//! cube's own loopback to the gateway's listeners. `arrive` (filter, input) sees what the kernel would hand to a socket
//! inside: own loopback and what was redirected; anything else is answered at once as refused. `shout` (filter, output) refuses
//! datagrams where they are sent, of which no answer would be heard. There is no interface but `lo`, so nothing can leave
//! whatever these say: they make it fail at once, and the gateway hear of it.

use std::net::Ipv6Addr;

use rustix::io::Result;
use std::os::fd::AsFd;

use crate::host::netlink::{self, ACK, APPEND, CREATE, DUMP, Packet, attribute, attributes};
use crate::model::net::{OWN_V4, OWN_V6};

/// Ports of the gateway's listeners, on 127.0.0.1 or on ::1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Every other TCP connection.
    pub tcp: u16,
    /// DNS over UDP.
    pub dns_udp: u16,
    /// DNS over TCP.
    pub dns_tcp: u16,
}

const TABLE: &str = "tripmine";
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS: u16 = 53;
/// `nfgenmsg`: family, version, resource (the subsystem for a batch's ends).
const BATCH: [u8; 4] = [0, 0, 0, 10];
const FAMILY: [u8; 4] = [INET, 0, 0, 0];
/// `NFT_REG_1`.
const REGISTER: u32 = 1;
/// Netfilter's verdicts, and nftables' own `NFT_RETURN` (-5).
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const RETURN: u32 = (-5_i32).cast_unsigned();
/// `NFT_REJECT_TCP_RST`, `NFT_REJECT_ICMPX_UNREACH` and two of its codes.
const TCP_RESET: u32 = 1;
const ICMPX: u32 = 2;
const PORT_UNREACHABLE: u8 = 1;
const PROHIBITED: u8 = 3;

/// All rules in one batch, which the kernel takes whole or not at all; with the number of the last message.
#[must_use]
pub(super) fn batch(v4: Ports, v6: Option<Ports>) -> (Packet, u32) {
    let mut batch = Batch::default();
    batch.packet.message(BATCH_BEGIN, 0, 0, &BATCH, |_| {});
    batch.make(NEW_TABLE, |packet| packet.text(1, TABLE));
    // Hooks 3 (output), 1 (input); priorities of nat (-100) and filter (0).
    batch.chain("redirect", "nat", 3, -100, ACCEPT);
    // The last rule of `arrive` refuses whatever is left. Its policy only holds for the moment in which the kernel takes the
    // batch: there it must not drop, or a question of just then waits five seconds for nothing.
    batch.chain("arrive", "filter", 1, 0, ACCEPT);
    batch.chain("shout", "filter", 3, 0, ACCEPT);
    redirect(&mut batch, v4, v6);
    arrive(&mut batch, v4, v6);
    // Nobody can answer what is sent to many: it fails where it is sent.
    batch.rule("shout", |rule| rule.v4([224, 0, 0, 0], 4).verdict(DROP));
    batch.rule("shout", |rule| rule.v4([255; 4], 32).verdict(DROP));
    batch.rule("shout", |rule| rule.v6_multicast().verdict(DROP));
    // And so does every other datagram that nothing takes: a socket that is not connected never hears of the answer that
    // `arrive` gives, and waits. Questions for names have the gateway as their destination by now.
    batch.rule("shout", |rule| rule.answering().verdict(ACCEPT));
    batch.rule("shout", |rule| rule.v4([127, 0, 0, 0], 8).verdict(ACCEPT));
    batch.rule("shout", |rule| rule.v4(OWN_V4.octets(), 32).verdict(ACCEPT));
    batch.rule("shout", |rule| rule.v6(Ipv6Addr::LOCALHOST).verdict(ACCEPT));
    batch.rule("shout", |rule| rule.v6(OWN_V6).verdict(ACCEPT));
    // Only the last is acknowledged: the kernel names any that fails, and then takes none.
    batch.last("shout", |rule| rule.protocol(UDP).refuse(UDP));
    let last = batch.sequence;
    batch.packet.message(BATCH_END, 0, last + 1, &BATCH, |_| {});
    (batch.packet, last)
}

fn redirect(batch: &mut Batch, v4: Ports, v6: Option<Ports>) {
    // Own servers first: what listens on the cube's own loopback is its own business, DNS included.
    batch.rule("redirect", |rule| rule.v4([127, 0, 0, 0], 8).verdict(RETURN));
    batch.rule("redirect", |rule| rule.v6(Ipv6Addr::LOCALHOST).verdict(RETURN));
    for (protocol, port) in [(UDP, v4.dns_udp), (TCP, v4.dns_tcp)] {
        batch.rule("redirect", |rule| rule.family(IPV4).port(protocol, DNS).redirect(port));
    }
    for (protocol, port) in v6.iter().flat_map(|v6| [(UDP, v6.dns_udp), (TCP, v6.dns_tcp)]) {
        batch.rule("redirect", |rule| rule.family(IPV6).port(protocol, DNS).redirect(port));
    }
    batch.rule("redirect", |rule| rule.v4(OWN_V4.octets(), 32).verdict(RETURN));
    batch.rule("redirect", |rule| rule.v6(OWN_V6).verdict(RETURN));
    batch.rule("redirect", |rule| rule.family(IPV4).protocol(TCP).redirect(v4.tcp));
    if let Some(v6) = v6 {
        batch.rule("redirect", |rule| rule.family(IPV6).protocol(TCP).redirect(v6.tcp));
    }
}

fn arrive(batch: &mut Batch, v4: Ports, v6: Option<Ports>) {
    batch.rule("arrive", |rule| rule.redirected().verdict(ACCEPT));
    batch.rule("arrive", |rule| rule.answering().verdict(ACCEPT));
    // The listeners are for what was redirected: nobody inside talks to them by their own ports.
    for (family, ports) in [(IPV4, Some(v4)), (IPV6, v6)] {
        let Some(ports) = ports else { continue };
        for (protocol, port) in [(TCP, ports.tcp), (TCP, ports.dns_tcp), (UDP, ports.dns_udp)] {
            batch.rule("arrive", |rule| rule.family(family).port(protocol, port).refuse(protocol));
        }
    }
    batch.rule("arrive", |rule| rule.v4([127, 0, 0, 0], 8).verdict(ACCEPT));
    batch.rule("arrive", |rule| rule.v4(OWN_V4.octets(), 32).verdict(ACCEPT));
    batch.rule("arrive", |rule| rule.v6(Ipv6Addr::LOCALHOST).verdict(ACCEPT));
    batch.rule("arrive", |rule| rule.v6(OWN_V6).verdict(ACCEPT));
    batch.rule("arrive", |rule| rule.protocol(TCP).refuse(TCP));
    batch.rule("arrive", |rule| rule.protocol(UDP).refuse(UDP));
    batch.rule("arrive", |rule| rule.refuse(0));
}

#[derive(Default)]
struct Batch {
    packet: Packet,
    sequence: u32,
}

impl Batch {
    fn make(&mut self, kind: u16, body: impl FnOnce(&mut Packet)) {
        self.put(kind, CREATE, body);
    }

    fn put(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Packet)) {
        self.sequence += 1;
        self.packet.message(kind, flags, self.sequence, &FAMILY, body);
    }

    fn chain(&mut self, name: &str, kind: &str, hook: u32, priority: i32, policy: u32) {
        self.make(NEW_CHAIN, |packet| {
            packet.text(1, TABLE);
            packet.text(3, name);
            packet.nested(4, |packet| {
                packet.number(1, hook);
                packet.number(2, priority.cast_unsigned());
            });
            packet.number(5, policy);
            packet.text(7, kind);
        });
    }

    fn rule(&mut self, chain: &str, build: impl FnOnce(Rule) -> Rule) {
        self.with_flags(CREATE | APPEND, chain, build(Rule::default()));
    }

    fn last(&mut self, chain: &str, build: impl FnOnce(Rule) -> Rule) {
        self.with_flags(CREATE | APPEND | ACK, chain, build(Rule::default()));
    }

    fn with_flags(&mut self, flags: u16, chain: &str, rule: Rule) {
        self.put(NEW_RULE, flags, |packet| {
            packet.text(1, TABLE);
            packet.text(2, chain);
            packet.nested(4, |packet| rule.0.into_iter().for_each(|expression| expression(packet)));
        });
    }
}

type Expression = Box<dyn FnOnce(&mut Packet)>;

/// A rule as its expressions, in order.
#[derive(Default)]
struct Rule(Vec<Expression>);

impl Rule {
    fn expression(mut self, name: &'static str, data: impl FnOnce(&mut Packet) + 'static) -> Self {
        self.0.push(Box::new(move |packet| {
            packet.nested(1, |packet| {
                packet.text(1, name);
                packet.nested(2, data);
            });
        }));
        self
    }

    /// Loads `meta` key `key`.
    fn meta(self, key: u32) -> Self {
        self.expression("meta", move |packet| {
            packet.number(1, REGISTER);
            packet.number(2, key);
        })
    }

    /// Loads `length` bytes at `offset` of header `base` (1: network, 2: transport).
    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        self.expression("payload", move |packet| {
            packet.number(1, REGISTER);
            packet.number(2, base);
            packet.number(3, offset);
            packet.number(4, length);
        })
    }

    fn compare(self, equal: bool, value: Vec<u8>) -> Self {
        self.expression("cmp", move |packet| {
            packet.number(1, REGISTER);
            packet.number(2, u32::from(!equal));
            packet.nested(3, |packet| packet.attribute(1, &value));
        })
    }

    fn mask(self, mask: Vec<u8>) -> Self {
        self.expression("bitwise", move |packet| {
            packet.number(1, REGISTER);
            packet.number(2, REGISTER);
            packet.number(3, u32::try_from(mask.len()).unwrap_or(0));
            packet.nested(4, |packet| packet.attribute(1, &mask));
            packet.nested(5, |packet| packet.attribute(1, &vec![0; mask.len()]));
        })
    }

    /// `NFT_META_NFPROTO`.
    fn family(self, family: u8) -> Self {
        self.meta(15).compare(true, vec![family])
    }

    /// `NFT_META_L4PROTO`.
    fn protocol(self, protocol: u8) -> Self {
        self.meta(16).compare(true, vec![protocol])
    }

    fn port(self, protocol: u8, port: u16) -> Self {
        self.protocol(protocol).payload(2, 2, 2).compare(true, port.to_be_bytes().to_vec())
    }

    /// Destination in a network: an address and how many of its bits count.
    fn v4(self, address: [u8; 4], bits: u32) -> Self {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0).to_be_bytes().to_vec();
        self.family(IPV4).payload(1, 16, 4).mask(mask).compare(true, address.to_vec())
    }

    fn v6(self, address: Ipv6Addr) -> Self {
        self.family(IPV6).payload(1, 24, 16).compare(true, address.octets().to_vec())
    }

    fn v6_multicast(self) -> Self {
        self.family(IPV6).payload(1, 24, 1).compare(true, vec![0xff])
    }

    /// `ct status & IPS_DST_NAT`: it came by `redirect`.
    fn redirected(self) -> Self {
        self.ct(2, 1 << 5)
    }

    /// `ct state established,related`: the other direction of what was accepted.
    fn answering(self) -> Self {
        self.ct(0, 2 | 4)
    }

    fn ct(self, key: u32, bits: u32) -> Self {
        self.expression("ct", move |packet| {
            packet.number(1, REGISTER);
            packet.number(2, key);
        })
        .mask(bits.to_ne_bytes().to_vec())
        .compare(false, vec![0; 4])
    }

    fn redirect(self, port: u16) -> Self {
        self.expression("immediate", move |packet| {
            packet.number(1, REGISTER);
            packet.nested(2, |packet| packet.attribute(1, &port.to_be_bytes()));
        })
        .expression("redir", |packet| packet.number(1, REGISTER))
    }

    fn refuse(self, protocol: u8) -> Self {
        self.expression("counter", |_| {}).expression("reject", move |packet| match protocol {
            TCP => {
                packet.number(1, TCP_RESET);
                packet.attribute(2, &[0]);
            }
            UDP => {
                packet.number(1, ICMPX);
                packet.attribute(2, &[PORT_UNREACHABLE]);
            }
            _ => {
                packet.number(1, ICMPX);
                packet.attribute(2, &[PROHIBITED]);
            }
        })
    }

    fn verdict(self, code: u32) -> Self {
        self.expression("immediate", move |packet| {
            packet.number(1, 0);
            packet.nested(2, |packet| packet.nested(2, |packet| packet.number(1, code)));
        })
    }
}

/// A rule as it can be compared: its chain, and its expressions with what they compare and decide.
type Shape = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

/// The rules in `bytes`, which hold netlink messages.
fn shapes(bytes: &[u8]) -> Vec<Shape> {
    let rules = netlink::messages(bytes).filter(|message| message.kind == NEW_RULE);
    rules
        .filter_map(|message| {
            let body = message.body.get(4..)?;
            let chain = attribute(body, 2)?.to_vec();
            let list = attributes(attribute(body, 4)?).map(|(_, element)| {
                let name = attribute(element, 1).unwrap_or_default().to_vec();
                let data = attribute(element, 2).unwrap_or_default();
                // The kernel adds what it counts and its defaults: only what decides is compared.
                let told = match name.as_slice() {
                    b"cmp\0" => [leaf(data, &[2]), leaf(data, &[3, 1])].concat(),
                    b"bitwise\0" => leaf(data, &[4, 1]),
                    b"immediate\0" => [leaf(data, &[2, 1]), leaf(data, &[2, 2, 1])].concat(),
                    b"payload\0" => [leaf(data, &[2]), leaf(data, &[3]), leaf(data, &[4])].concat(),
                    b"meta\0" | b"ct\0" => leaf(data, &[2]),
                    b"reject\0" => leaf(data, &[1]),
                    _ => Vec::new(),
                };
                (name, told)
            });
            Some((chain, list.collect()))
        })
        .collect()
}

/// The value at the end of a path of nested attributes.
fn leaf(data: &[u8], path: &[u16]) -> Vec<u8> {
    path.iter().try_fold(data, |data, kind| attribute(data, *kind)).unwrap_or_default().to_vec()
}

/// Asks the kernel for the rules in force, and compares them with [`batch`]; the number of rules.
///
/// # Errors
/// As netlink; ENODATA when the rules are not those that were asked for.
pub(super) fn verify(socket: impl AsFd, v4: Ports, v6: Option<Ports>) -> Result<usize> {
    let mut request = Packet::default();
    request.message(GET_RULE, DUMP, 1, &FAMILY, |packet| packet.text(1, TABLE));
    let found = shapes(&netlink::dump(socket, &request)?);
    let wanted = shapes(batch(v4, v6).0.bytes());
    if found == wanted { Ok(found.len()) } else { Err(rustix::io::Errno::NODATA) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { tcp: 1001, dns_udp: 1002, dns_tcp: 1003 };

    #[test]
    fn every_rule_counts_when_rules_are_compared() {
        let all = shapes(batch(PORTS, Some(PORTS)).0.bytes());
        assert_eq!(all, shapes(batch(PORTS, Some(PORTS)).0.bytes()));
        for other in [
            (PORTS, None),
            (Ports { tcp: 9, ..PORTS }, Some(PORTS)),
            (PORTS, Some(Ports { dns_udp: 9, ..PORTS })),
        ] {
            assert_ne!(all, shapes(batch(other.0, other.1).0.bytes()), "{other:?}");
        }
        let chains: Vec<_> = all.iter().map(|(chain, _)| chain.as_slice()).collect();
        for chain in [&b"redirect\0"[..], b"arrive\0", b"shout\0"] {
            assert!(chains.contains(&chain), "{chain:?}");
        }
        assert!(all.iter().all(|(_, expressions)| expressions.len() >= 2));
    }

    #[test]
    fn without_ipv6_nothing_of_it_is_let_through_but_loopback() {
        let rules = shapes(batch(PORTS, None).0.bytes());
        let redirects = |rules: &[Shape]| {
            rules.iter().filter(|(_, list)| list.iter().any(|(name, _)| name == b"redir\0")).count()
        };
        assert_eq!(redirects(&rules), 3);
        assert_eq!(redirects(&shapes(batch(PORTS, Some(PORTS)).0.bytes())), 6);
    }
}
