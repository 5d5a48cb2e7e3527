//! The net of a running cube, for every face: what it may reach from now on, and what it was denied of late.

use std::path::Path;

use super::Engine;
use super::client::unexpected;
use super::denial::{helping, place};
use super::request::Until;
use super::running::connect;
use crate::config::edit::Edit;
use crate::keeper::net::{NetAnswer, NetAsk};
use crate::keeper::protocol::{Answer, Ask};
use crate::model::net::{EventKind, Hole, NetEvent, Pattern, Rule, Scope};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, Name, NetPolicyKind};
use crate::store::cubes::CubeEntry;
use crate::store::{machines, net_log};

/// Bytes of the newest part of a log that are looked at for denials.
const TAIL: u64 = 256 << 10;
/// Places that are told of.
const TOLD: usize = 100;

/// Lets a cube reach `rule`; what was done, a line each.
///
/// # Errors
/// It does not run, its keeper refuses, or its machine cannot be changed.
pub fn allow(engine: &Engine, entry: &CubeEntry, rule: &Rule, until: Until) -> Result<Vec<String>, Failure> {
    let scope = if until == Until::Once { Scope::Once } else { Scope::Cube };
    // First what could be refused: a command that fails has allowed nothing.
    let saving = if until == Until::Machine { Some(saving(engine, entry, rule)?) } else { None };
    let mut client = connect(&engine.layout.run, &entry.id)?;
    client.ask(&Ask::Net(NetAsk::Allow { rule: rule.clone(), scope }))?;
    match client.answer()? {
        Answer::Done | Answer::Net(NetAnswer::Status(_)) => {}
        other => return Err(unexpected(&other)),
    }
    let time = if until == Until::Once { "once" } else { "until it ends" };
    let mut notes = vec![format!("cube {} may reach `{rule}` {time}", entry.id.short())];
    if let Some(saving) = saving {
        notes.push(save(engine, rule, &saving)?);
    }
    Ok(notes)
}

/// What is to be written into a machine's file.
struct Saving {
    machine: Name,
    edits: Vec<Edit>,
    /// What the machine does from now on.
    says: String,
}

/// What the file of the cube's machine must say for every later cube to reach `rule`.
fn saving(engine: &Engine, entry: &CubeEntry, rule: &Rule) -> Result<Saving, Failure> {
    let Ok(record) = &entry.record else {
        return Err(Failure::failed("the cube's record cannot be read, so its machine is not known"));
    };
    let name = &record.machine;
    let machine = machines::load(&engine.layout, name)?;
    let add = |key| Edit::Add { key, value: rule.to_string() };
    let policy = machine.settings.net.or(engine.config.defaults.net).unwrap_or(NetPolicyKind::None);
    let (edits, says) = match policy {
        NetPolicyKind::Allow | NetPolicyKind::Open => {
            (vec![add("allow")], format!("allows `{rule}` from now on"))
        }
        NetPolicyKind::None => (
            vec![add("allow"), Edit::Set { key: "net", value: NetPolicyKind::Allow.to_string() }],
            format!("allows `{rule}` from now on; its net policy is `allow` now"),
        ),
        // What a rule opens there is a hole, and only something near can be one.
        NetPolicyKind::Proxy => match (rule.pattern(), Hole::parse(&rule.to_string())) {
            (Pattern::Network(_), Ok(_)) => {
                (vec![add("holes")], format!("has a hole to `{rule}` from now on"))
            }
            (_, Ok(_)) => {
                let message = format!("the machine `{name}` goes through a proxy: every name goes to it");
                return Err(Failure::new(FailureKind::Denied, message)
                    .hint("without `--machine` the rule holds for this cube"));
            }
            (_, Err(error)) => {
                let message =
                    format!("the machine `{name}` goes through a proxy, and `{rule}` is no hole past it");
                return Err(Failure::new(FailureKind::Denied, message)
                    .because(&error)
                    .hint("without `--machine` it holds for this cube"));
            }
        },
    };
    Ok(Saving { machine: name.clone(), edits, says })
}

/// Writes it, in place.
fn save(engine: &Engine, rule: &Rule, saving: &Saving) -> Result<String, Failure> {
    let Saving { machine, edits, says } = saving;
    machines::edit(&engine.layout, machine, edits)?;
    let warning = engine.record("net allow", &format!("{machine} {rule}"), None);
    let warning = warning.map(|warning| format!(" ({warning})")).unwrap_or_default();
    Ok(format!("machine `{machine}` {says}{warning}"))
}

/// Something that a cube was denied, perhaps often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Name or address, with the port: harmless to show.
    pub place: String,
    /// Why, harmless to show.
    pub why: String,
    /// What would let it through.
    pub rule: Option<Rule>,
    /// How often.
    pub count: usize,
    /// When last, milliseconds since 1970.
    pub time_ms: u64,
}

impl Denial {
    /// The denial that an event tells of, if it is one.
    #[must_use]
    pub fn of(event: &NetEvent) -> Option<Self> {
        if event.kind != EventKind::Denied {
            return None;
        }
        let place = place(event);
        let why = event.decision.as_ref().map(|decision| printable(&decision.reason.to_string()));
        Some(Self {
            place,
            why: why.unwrap_or_default(),
            rule: helping(event),
            count: 1,
            time_ms: event.time_ms,
        })
    }
}

/// What the cube whose log lies in `dir` was denied of late, the newest first, each place once.
///
/// # Errors
/// The log cannot be read.
pub fn denials(dir: &Path) -> Result<Vec<Denial>, Failure> {
    let events = net_log::tail(dir, TAIL)
        .map_err(|error| Failure::failed("cannot read what the cube was denied").because(&error))?;
    Ok(gather(events.iter().rev().filter_map(Denial::of)))
}

fn gather(newest_first: impl Iterator<Item = Denial>) -> Vec<Denial> {
    let mut found: Vec<Denial> = Vec::new();
    for denial in newest_first {
        if let Some(known) = found.iter_mut().find(|known| known.place == denial.place) {
            known.count += 1;
        } else if found.len() < TOLD {
            found.push(denial);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_told_once_with_how_often() {
        let denial = |place: &str, time_ms| Denial {
            place: place.into(),
            why: String::new(),
            rule: None,
            count: 1,
            time_ms,
        };
        let found = gather([denial("a:1", 9), denial("b:2", 8), denial("a:1", 7)].into_iter());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].place.as_str(), found[0].count, found[0].time_ms), ("a:1", 2, 9));
        let many = gather((0..1000).map(|at| denial(&format!("h{at}:1"), at)));
        assert_eq!(many.len(), TOLD, "a cube cannot make it grow");
    }
}
