//! The cube's name service, as bytes in and bytes out.
//!
//! Reads hostile packets with hickory-proto behind a check of the head, so that no count in it
//! makes anything grow. An answer repeats the question as it was asked and says nothing else than
//! what the pool holds. Nothing is ever asked of another server here: a name is looked up when a
//! connection to it is allowed, not before.

use std::net::IpAddr;
use std::time::Instant;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::pool::{self, Pool, TTL};
use crate::model::net::{HostName, Reason};
use crate::model::sanitize::printable;
use crate::plan::net::{NameAnswer, Scene, answer_name};

/// The longest packet that is looked at; a question needs less than 300 bytes.
pub(super) const MAX_QUESTION: usize = 1232;
/// Bytes of a packet's head (RFC 1035, 4.1.1).
const HEAD: usize = 12;

/// What came of a packet.
#[derive(Debug)]
pub(super) struct Answered {
    /// The answer; `None`: nothing is said.
    pub(super) bytes: Option<Vec<u8>>,
    /// A name that was refused.
    pub(super) denied: Option<(Option<HostName>, Reason)>,
}

impl Answered {
    const SILENCE: Self = Self { bytes: None, denied: None };
}

/// Answers one packet.
pub(super) fn answer(packet: &[u8], scene: &Scene<'_>, pool: &mut Pool, v6: bool, now: Instant) -> Answered {
    let Some(head) = packet.first_chunk::<HEAD>() else { return Answered::SILENCE };
    // An answer to an answer could go round for ever.
    if head[2] & 0x80 != 0 {
        return Answered::SILENCE;
    }
    let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (questions, answers, authorities, additionals) = (count(4), count(6), count(8), count(10));
    let opcode = OpCode::from_u8(head[2] >> 3 & 0xf);
    if opcode != OpCode::Query {
        return only_head(head, ResponseCode::NotImp);
    }
    // One question, and beside it at most OPT and a signature; whatever else is no question.
    let shaped = questions == 1 && answers == 0 && authorities == 0 && additionals <= 2;
    if !shaped || packet.len() > MAX_QUESTION {
        return only_head(head, ResponseCode::FormErr);
    }
    let Ok(question) = Message::from_vec(packet) else { return only_head(head, ResponseCode::FormErr) };
    let Some(query) = question.queries.first() else { return only_head(head, ResponseCode::FormErr) };
    let mut reply = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = question.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    if let Some(edns) = &question.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(1232);
        reply.edns = Some(ours);
        if edns.version() != 0 {
            reply.metadata.response_code = ResponseCode::BADVERS;
            return Answered { bytes: reply.to_vec().ok(), denied: None };
        }
    }
    let denied = fill(&mut reply, query, scene, pool, v6, now);
    match reply.to_vec() {
        Ok(bytes) => Answered { bytes: Some(bytes), denied },
        Err(_) => only_head(head, ResponseCode::ServFail),
    }
}

/// A head alone, for what could not be read: the number of the question and a code.
fn only_head(head: &[u8; HEAD], code: ResponseCode) -> Answered {
    let mut bytes = vec![0; HEAD];
    bytes[..2].copy_from_slice(&head[..2]);
    bytes[2] = 0x80 | (head[2] & 0x79);
    bytes[3] = 0x80 | code.low();
    Answered { bytes: Some(bytes), denied: None }
}

fn fill(
    reply: &mut Message,
    query: &Query,
    scene: &Scene<'_>,
    pool: &mut Pool,
    v6: bool,
    now: Instant,
) -> Option<(Option<HostName>, Reason)> {
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        reply.metadata.response_code = ResponseCode::Refused;
        return None;
    }
    // Elsewhere it is a kind of record as any other, of which there is none: "no such name" would deny its address too (RFC 8020).
    let backwards = query.name().iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"arpa"));
    if query.query_type() == RecordType::PTR && backwards {
        reverse(reply, query, pool);
        return None;
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        reply.metadata.response_code = ResponseCode::Refused;
        return None;
    }
    // The root exists, as every name beneath it has to; programs ask for its name servers to see whether anybody answers.
    if query.name().is_root() {
        authority(reply, query.name());
        return None;
    }
    let name = match host_name(query.name()) {
        Ok(name) => name,
        Err(text) => {
            nowhere(reply, query.name());
            return Some((None, Reason::BadName(text)));
        }
    };
    // A browser asks so whether it may look names up by itself, past this; there they would be names no more.
    if name.as_str() == "use-application-dns.net" {
        nowhere(reply, query.name());
        return None;
    }
    let (ask4, ask6) = match query.query_type() {
        RecordType::A => (true, false),
        RecordType::AAAA => (false, true),
        RecordType::ANY => (true, true),
        // The name may well exist; of this kind there is nothing.
        _ => (false, false),
    };
    let addresses = match answer_name(scene, &name) {
        NameAnswer::Nowhere(reason) => {
            nowhere(reply, query.name());
            return Some((Some(name), reason));
        }
        NameAnswer::Loopback => Some((std::net::Ipv4Addr::LOCALHOST, std::net::Ipv6Addr::LOCALHOST)),
        NameAnswer::Pool if ask4 || (ask6 && v6) => match pool.number(&name, now) {
            Some(number) => Some((pool::v4(number), pool::v6(number))),
            None => {
                reply.metadata.response_code = ResponseCode::ServFail;
                return None;
            }
        },
        NameAnswer::Pool => None,
    };
    if let Some((four, six)) = addresses {
        if ask4 {
            add(reply, query.name(), RData::A(A(four)));
        }
        if ask6 && v6 {
            add(reply, query.name(), RData::AAAA(AAAA(six)));
        }
    }
    if reply.answers.is_empty() {
        authority(reply, query.name());
    }
    None
}

fn reverse(reply: &mut Message, query: &Query, pool: &Pool) {
    let address = query.name().parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len());
    let name = address.and_then(|net| match net.addr() {
        IpAddr::V4(it) if it.is_loopback() => Some("localhost".to_owned()),
        IpAddr::V6(it) if it.is_loopback() => Some("localhost".to_owned()),
        address => pool.name(address).map(|name| name.as_str().to_owned()),
    });
    match name.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) {
        Some(name) => add(reply, query.name(), RData::PTR(PTR(name))),
        None => nowhere(reply, query.name()),
    }
}

fn add(reply: &mut Message, name: &Name, data: RData) {
    let ttl = u32::try_from(TTL.as_secs()).unwrap_or_default();
    reply.add_answer(Record::from_rdata(name.clone(), ttl, data));
}

fn nowhere(reply: &mut Message, name: &Name) {
    reply.metadata.response_code = ResponseCode::NXDomain;
    authority(reply, name);
}

/// Who says that there is nothing, and for how long (RFC 2308): the time is that of an answer.
fn authority(reply: &mut Message, name: &Name) {
    let ttl = u32::try_from(TTL.as_secs()).unwrap_or_default();
    let zone = name.trim_to(1);
    let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, ttl);
    reply.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
}

/// The name of a question, by its labels: a dot or a NUL inside one is not what separates them.
fn host_name(name: &Name) -> Result<HostName, String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if label.contains(&b'.') {
            return Err(cut(&name.to_ascii()));
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(std::str::from_utf8(label).map_err(|_| cut(&name.to_ascii()))?);
    }
    HostName::parse_ascii(&text).map_err(|_| cut(&text))
}

fn cut(text: &str) -> String {
    printable(&text.chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests;
