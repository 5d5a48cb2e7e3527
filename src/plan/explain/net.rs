//! The net policy of a plan as lines: whom the gateway dials, and by which rule.

use crate::model::net::{NetPolicy, ProxyAuth};
use crate::model::sanitize::printable;
use crate::plan::LaunchPlan;

/// The lines, without labels.
pub(super) fn lines(plan: &LaunchPlan) -> Vec<String> {
    let Some(setup) = &plan.setup else { return policy(&plan.net) };
    let mut lines = policy(setup);
    if let Some(first) = lines.first_mut() {
        first.push_str("  (until `phase run`)");
    }
    let mut then = policy(&plan.net);
    if let Some(first) = then.first_mut() {
        first.insert_str(0, "then ");
    }
    lines.extend(then);
    lines
}

fn policy(policy: &NetPolicy) -> Vec<String> {
    match policy {
        NetPolicy::None => vec!["none: loopback only, nothing is reached".into()],
        NetPolicy::Allow { rules } => {
            let first = "allow: what a rule names, dialled directly".to_owned();
            std::iter::once(first)
                .chain(rules.iter().map(|rule| format!("  {}", printable(&rule.to_string()))))
                .collect()
        }
        NetPolicy::Open { lan, rules } => {
            let first = if *lan {
                "open: anything but loopback, link-local and metadata; private networks too".to_owned()
            } else {
                "open: anything but loopback, link-local, metadata and private networks".to_owned()
            };
            std::iter::once(first)
                .chain(rules.iter().map(|rule| format!("  and {}", printable(&rule.to_string()))))
                .collect()
        }
        NetPolicy::Proxy { url, auth, holes } => {
            let auth = match auth {
                ProxyAuth::None => "no secret".to_owned(),
                ProxyAuth::File(file) => {
                    format!("secret from the file {}", printable(&file.to_string_lossy()))
                }
                ProxyAuth::Command(argv) => {
                    format!(
                        "secret from the command `{}`",
                        printable(argv.first().map_or("", String::as_str))
                    )
                }
            };
            let mut lines =
                vec![format!("proxy: only through {}, by name; {auth}", printable(&url.to_string()))];
            lines.extend(holes.iter().map(|hole| format!("  past it: {}", printable(&hole.to_string()))));
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::net::{Hole, ProxyUrl, Rule};

    #[test]
    fn everything_that_is_dialled_is_named() {
        let rule = |text: &str| Rule::parse(text).expect("rule");
        for (net, wanted) in [
            (NetPolicy::None, "none: loopback only"),
            (NetPolicy::Allow { rules: vec![rule("a.example:443")] }, "a.example:443"),
            (NetPolicy::Open { lan: true, rules: vec![] }, "private networks too"),
            (NetPolicy::Open { lan: false, rules: vec![rule("10.0.0.1:80")] }, "and 10.0.0.1:80"),
            (
                NetPolicy::Proxy {
                    url: ProxyUrl::parse("socks5h://127.0.0.1:9050").expect("url"),
                    auth: ProxyAuth::File("/s".into()),
                    holes: vec![Hole::parse("10.0.0.1:5432").expect("hole")],
                },
                "socks5h://127.0.0.1:9050, by name; secret from the file /s\n  past it: 10.0.0.1:5432",
            ),
        ] {
            let text = policy(&net).join("\n");
            assert!(text.contains(wanted), "{text}");
        }
    }
}
