//! What the net denied, in one line for a person, with what would allow it.

use crate::model::net::{NetEvent, Reason};
use crate::model::sanitize::printable;

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

/// A rule would let this through.
#[must_use]
pub fn allowable(event: &NetEvent) -> bool {
    let reason = event.decision.as_ref().map(|decision| &decision.reason);
    matches!(reason, Some(Reason::NoRule | Reason::Policy(_) | Reason::Place(_) | Reason::OwnAddress))
}

/// A denial in one line, with what would allow it.
#[must_use]
pub fn denial(event: &NetEvent) -> String {
    let place = place(event);
    let why = event.decision.as_ref().map(|decision| decision.reason.to_string()).unwrap_or_default();
    let can = if allowable(event) { format!("; `--allow {place}` lets it") } else { String::new() };
    format!("net: denied {place}: {}{can}", printable(&why))
}
