//! What the net denied, in one line for a person, with what would allow it.

use crate::model::net::{Destination, NetEvent, Port, Reason, Rule};
use crate::model::sanitize::printable;
use crate::plan::net::helping_rule;

/// Name or address, with the port where there is one.
pub fn place(event: &NetEvent) -> String {
    let Some(connection) = &event.connection else { return String::new() };
    let host = match (connection.host(), &event.decision) {
        (Some(host), _) => host.to_string(),
        (None, Some(decision)) => match &decision.reason {
            Reason::BadName(text) => format!("`{text}`"),
            _ => "?".to_owned(),
        },
        (None, None) => "?".to_owned(),
    };
    let host = if host.contains(':') && connection.port > 0 { format!("[{host}]") } else { host };
    let port = if connection.port > 0 { format!(":{}", connection.port) } else { String::new() };
    printable(&format!("{host}{port}"))
}

/// The rule that would let this through, if one does.
#[must_use]
pub fn helping(event: &NetEvent) -> Option<Rule> {
    let connection = event.connection.as_ref()?;
    let reason = &event.decision.as_ref()?.reason;
    let host = connection.host()?;
    match Port::new(connection.port) {
        Some(port) => helping_rule(&Destination { host, port }, reason, connection.address),
        // A name that does not exist under `none`.
        None if matches!(reason, Reason::Policy(_)) => Rule::parse(&host.to_string()).ok(),
        None => None,
    }
}

/// A denial in one line, with what would allow it.
#[must_use]
pub fn denial(event: &NetEvent) -> String {
    let place = place(event);
    let why = event.decision.as_ref().map(|decision| decision.reason.to_string()).unwrap_or_default();
    let can = helping(event).map_or_else(String::new, |rule| format!("; `--allow {rule}` lets it"));
    format!("net: denied {place}: {}{can}", printable(&why))
}
