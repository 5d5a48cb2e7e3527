//! Events of the net as lines for people. Every text of a cube passes `printable`.

use crate::engine::denial::place;
use crate::keeper::net::NetStatus;
use crate::model::NetPolicyKind;
use crate::model::net::{EventKind, NetEvent, Via};
use crate::model::sanitize::printable;

use super::super::events::time;

/// One event: when, what, whom, why.
pub(super) fn event(event: &NetEvent) -> String {
    let what = match event.kind {
        EventKind::Denied => "denied",
        EventKind::Opened => "opened",
        EventKind::Failed => "failed",
        EventKind::Closed => "closed",
        EventKind::LeftOut => "left out",
        EventKind::Changed => "changed",
    };
    let mut line = format!("{}  {what:<8}", time(event.time_ms));
    if let Some(connection) = &event.connection {
        line.push_str("  ");
        line.push_str(&place(event));
        if let (Some(_), Some(address)) = (&connection.name, connection.address) {
            line.push_str(&format!(" ({address})"));
        }
        if let Some(who) = &connection.who {
            line.push_str(&format!("  by {}", printable(who)));
        }
    }
    if let Some(decision) = &event.decision {
        let via = match decision.via {
            Some(Via::Proxy) => " through the proxy",
            _ => "",
        };
        line.push_str(&format!("  {}{via}", printable(&decision.reason.to_string())));
    }
    if let Some(end) = &event.end {
        let amounts = if event.kind == EventKind::Closed {
            format!("{} B out, {} B in, {} ms, ", end.sent, end.received, end.open_ms)
        } else {
            String::new()
        };
        line.push_str(&format!("  {amounts}{}", printable(&end.reason.to_string())));
    }
    if let Some(count) = event.left_out {
        line.push_str(&format!("  {count} events were too many to write down"));
    }
    if let Some(note) = &event.note {
        line.push_str(&format!("  {}", printable(note)));
    }
    line
}

/// How the net stands: the policy, figures, and what is in force.
pub(super) fn summary(
    policy: Option<NetPolicyKind>,
    status: Option<&NetStatus>,
    events: &[NetEvent],
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(status) = status {
        if let Some(gateway) = &status.gateway {
            let then = status.then.map(|then| format!(" (set-up; then {then})")).unwrap_or_default();
            lines.push(format!("policy    {}{then}", gateway.policy));
            lines.extend(
                gateway.live.iter().map(|live| format!("          and {}", printable(&live.to_string()))),
            );
            lines.push(format!(
                "so far    {} opened, {} denied, {} failed; {} open now",
                gateway.opened, gateway.denied, gateway.failed, gateway.open
            ));
        } else if let Some(policy) = policy {
            lines.push(format!("policy    {policy}"));
        }
        let sign = if status.capture.is_full() { "in force" } else { "empty" };
        lines.push(format!("capture   {sign}: {}", printable(status.capture.detail())));
    } else if let Some(policy) = policy {
        lines.push(format!("policy    {policy}"));
    }
    if events.is_empty() {
        lines.push("it has reached for nothing".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::denial::denial;
    use crate::model::net::{Class, Connection, Decision, HostName, NET_EVENT_VERSION, Reason, Transport};

    fn denied(name: Option<&str>, port: u16, reason: Reason) -> NetEvent {
        NetEvent {
            v: NET_EVENT_VERSION,
            seq: 1,
            time_ms: 0,
            kind: EventKind::Denied,
            connection: Some(Connection {
                id: 1,
                transport: Transport::Tcp,
                who: Some("cu\x1b[2Jrl".to_owned()),
                name: name.and_then(|name| HostName::parse(name).ok()),
                address: None,
                port,
            }),
            decision: Some(Decision { allowed: false, via: None, reason }),
            end: None,
            left_out: None,
            note: None,
        }
    }

    #[test]
    fn a_denial_says_what_would_allow_it() {
        for (event, text) in [
            (
                denied(Some("a.example"), 443, Reason::NoRule),
                "net: denied a.example:443: no rule allows it; `--allow a.example:443` lets it",
            ),
            (
                denied(Some("a.example"), 0, Reason::Policy(NetPolicyKind::None)),
                "net: denied a.example: policy `none`; `--allow a.example` lets it",
            ),
            (denied(None, 80, Reason::UnknownName), "net: denied ?:80: the address stands for no name"),
        ] {
            assert_eq!(denial(&event), text);
        }
    }

    /// What is offered helps: for a name that leads near its address, and nothing where no rule can.
    #[test]
    fn a_denial_offers_only_what_helps() {
        let near = |name: Option<&str>, address: &str, class| {
            let mut event = denied(name, 80, Reason::Place(class));
            event.connection.as_mut().expect("connection").address = address.parse().ok();
            denial(&event)
        };
        assert!(
            near(Some("a.example"), "10.0.0.5", Class::Private).ends_with("`--allow 10.0.0.5:80` lets it")
        );
        for (name, address, class) in [
            (Some("a.example"), "169.254.169.254", Class::Metadata),
            (None, "169.254.169.254", Class::Metadata),
            (None, "192.0.2.1", Class::Special),
            (None, "64:ff9b::1", Class::Embedded),
        ] {
            let text = near(name, address, class);
            assert!(!text.contains("--allow"), "{text}");
        }
    }

    #[test]
    fn lines_are_harmless() {
        let line = event(&denied(None, 0, Reason::BadName("a\x1b]0;x\x07".to_owned())));
        assert!(line.starts_with("1970-01-01T00:00:00.000Z  denied"), "{line}");
        assert!(!line.contains('\x1b') && !line.contains('\x07'), "{line:?}");
        assert!(line.contains("by cu\\u{1b}"), "{line}");
    }
}
