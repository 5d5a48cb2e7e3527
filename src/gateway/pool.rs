//! The name pool: addresses that stand for names inside one cube.
//!
//! An address means one name for as long as anyone may still hold it: until its time to live is
//! over and no connection to it is open. Beyond that the longest unused one is taken again. The
//! pool is bounded; when every address is held, a new name has none, and the cube that asked for
//! so many waits. Time comes in as a value.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::model::net::{HostName, POOL_V4, POOL_V6};

/// How long an answer may be kept by whoever asked.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// The most names at once: 16,384, at most 6 MiB of them.
pub(super) const NAMES: u32 = 1 << 14;

#[derive(Debug)]
struct Slot {
    name: HostName,
    used: Instant,
    open: u32,
}

/// Names and the number of each; a number is an IPv4 and an IPv6 address.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Vec<Slot>,
    numbers: HashMap<HostName, u32>,
    /// Numbers without an open connection, longest unused first.
    spare: BTreeSet<(Instant, u32)>,
    most: u32,
}

impl Pool {
    pub(super) fn new(most: u32) -> Self {
        Self { slots: Vec::new(), numbers: HashMap::new(), spare: BTreeSet::new(), most }
    }

    /// The number that stands for `name` from now on; `None` when all are held.
    pub(super) fn number(&mut self, name: &HostName, now: Instant) -> Option<u32> {
        if let Some(number) = self.numbers.get(name).copied() {
            self.touch(number, now);
            return Some(number);
        }
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let slot = Slot { name: name.clone(), used: now, open: 0 };
        let number = if next < self.most {
            self.slots.push(slot);
            next
        } else {
            let (used, number) = self.spare.first().copied()?;
            if now.saturating_duration_since(used) <= TTL {
                return None;
            }
            self.spare.remove(&(used, number));
            let old = std::mem::replace(self.slots.get_mut(number as usize)?, slot);
            self.numbers.remove(&old.name);
            number
        };
        self.numbers.insert(name.clone(), number);
        self.spare.insert((now, number));
        Some(number)
    }

    fn touch(&mut self, number: u32, now: Instant) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        if slot.open == 0 && self.spare.remove(&(slot.used, number)) {
            self.spare.insert((now, number));
        }
        slot.used = now;
    }

    /// The name that `address` stands for.
    pub(super) fn name(&self, address: IpAddr) -> Option<&HostName> {
        self.slots.get(number_of(address)? as usize).map(|slot| &slot.name)
    }

    /// A connection to `address` opens: its meaning stays until [`Pool::release`].
    pub(super) fn hold(&mut self, address: IpAddr) -> Option<HostName> {
        let number = number_of(address)?;
        let slot = self.slots.get_mut(number as usize)?;
        if slot.open == 0 {
            self.spare.remove(&(slot.used, number));
        }
        slot.open += 1;
        Some(slot.name.clone())
    }

    /// A connection that held `address` is over.
    pub(super) fn release(&mut self, address: IpAddr, now: Instant) {
        let Some(number) = number_of(address) else { return };
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        slot.open = slot.open.saturating_sub(1);
        if slot.open == 0 {
            slot.used = now;
            self.spare.insert((now, number));
        }
    }
}

/// The IPv4 address of a number: from 198.18.0.1.
pub(super) fn v4(number: u32) -> Ipv4Addr {
    let base = match POOL_V4.first() {
        IpAddr::V4(base) => u32::from(base),
        IpAddr::V6(_) => 0,
    };
    Ipv4Addr::from(base + 1 + number % NAMES)
}

/// The IPv6 address of a number.
pub(super) fn v6(number: u32) -> Ipv6Addr {
    let base = match POOL_V6.first() {
        IpAddr::V6(base) => u128::from(base),
        IpAddr::V4(_) => 0,
    };
    Ipv6Addr::from(base + 1 + u128::from(number % NAMES))
}

fn number_of(address: IpAddr) -> Option<u32> {
    let offset = match (address, POOL_V4.first(), POOL_V6.first()) {
        (IpAddr::V4(it), IpAddr::V4(base), _) => u128::from(u32::from(it).checked_sub(u32::from(base))?),
        (IpAddr::V6(it), _, IpAddr::V6(base)) => u128::from(it).checked_sub(u128::from(base))?,
        _ => return None,
    };
    u32::try_from(offset.checked_sub(1)?).ok().filter(|number| *number < NAMES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: usize) -> HostName {
        HostName::parse(&format!("n{number}.test")).expect("name")
    }

    #[test]
    fn addresses_and_numbers_are_one_to_one() {
        for number in [0, 1, 255, 4096, NAMES - 1] {
            assert_eq!(number_of(v4(number).into()), Some(number));
            assert_eq!(number_of(v6(number).into()), Some(number));
            assert!(POOL_V4.contains(v4(number).into()) && POOL_V6.contains(v6(number).into()));
        }
        for text in ["198.18.0.0", "198.17.255.255", "198.18.64.1", "8.8.8.8", "::1", "fd74:7269:706d::"] {
            assert_eq!(number_of(text.parse().expect("address")), None, "{text}");
        }
    }

    #[test]
    fn held_addresses_are_not_given_away() {
        let (mut pool, start) = (Pool::new(2), Instant::now());
        assert_eq!(pool.number(&name(0), start), Some(0));
        assert_eq!(pool.number(&name(1), start), Some(1));
        assert_eq!(pool.number(&name(2), start + TTL), None, "both answers may still be used");
        assert_eq!(pool.hold(v4(0).into()), Some(name(0)));
        let later = start + TTL + Duration::from_secs(1);
        assert_eq!(pool.number(&name(2), later), Some(1), "the first has an open connection");
        assert_eq!(pool.name(v6(1).into()), Some(&name(2)));
        assert_eq!(pool.number(&name(3), later + TTL), None);
        pool.release(v4(0).into(), later);
        assert_eq!(pool.number(&name(3), later + TTL), None, "released a moment ago");
        assert_eq!(pool.number(&name(3), later + TTL + Duration::from_secs(1)), Some(0));
        assert_eq!(pool.number(&name(0), later + TTL + Duration::from_secs(2)), Some(1));
    }

    proptest! {
        /// Whatever is asked in whatever order: an address never changes its name while it is held or fresh.
        #[test]
        fn an_address_keeps_its_meaning(steps in prop::collection::vec((0u8..3, 0usize..12, 0u64..8), 1..200)) {
            let (mut pool, mut now) = (Pool::new(5), Instant::now());
            let mut given: HashMap<u32, (HostName, Instant, u32)> = HashMap::new();
            for (what, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                let number = u32::try_from(which % 5).expect("small");
                match what {
                    0 => if let Some(number) = pool.number(&name(which), now) {
                        let entry = given.entry(number).or_insert((name(which), now, 0));
                        if entry.0 != name(which) {
                            prop_assert!(entry.2 == 0 && now - entry.1 > TTL, "{entry:?} was taken for {which}");
                            entry.0 = name(which);
                        }
                        entry.1 = now;
                    },
                    1 => if pool.hold(v4(number).into()).is_some() {
                        let entry = given.get_mut(&number).expect("known");
                        entry.2 += 1;
                    },
                    _ => if let Some(entry) = given.get_mut(&number).filter(|entry| entry.2 > 0) {
                        entry.2 -= 1;
                        entry.1 = now;
                        pool.release(v4(number).into(), now);
                    },
                }
                prop_assert!(pool.slots.len() <= 5 && pool.numbers.len() == pool.slots.len());
            }
        }
    }
}
