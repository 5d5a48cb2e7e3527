//! Reads the keys of the net that machines, the configuration and, in part, project files share.

use std::fmt::Display;

use crate::model::net::{Hole, HoleError, ProxyAuth, ProxyUrl, Rule};
use crate::model::{NetPolicyKind, Settings};

use super::error::{ConfigError, Source};
use super::settings::{argv, folder, scalar, word};
use super::tree::{Entry, Node, Value};

/// The keys, besides `net` itself.
pub const NET_KEYS: [&str; 7] =
    ["allow", "proxy", "proxy-auth-file", "proxy-auth-command", "holes", "lan", "setup"];

/// Those of them that a project file may have: what narrows.
pub const PROJECT_NET_KEYS: [&str; 1] = ["allow"];

/// Reads `entry` into `settings` when it is one of [`NET_KEYS`]; false when it is not.
pub(crate) fn read_net(
    source: &Source<'_>,
    settings: &mut Settings,
    entry: &Entry,
) -> Result<bool, ConfigError> {
    let reach = &mut settings.reach;
    match entry.key.as_str() {
        "allow" => reach.rules = Some(list(source, entry, Rule::parse)?),
        "holes" => reach.holes = Some(list(source, entry, Hole::parse)?),
        "proxy" => {
            let url = ProxyUrl::parse(scalar(source, entry)?);
            reach.proxy = Some(url.map_err(|error| source.error(&entry.node.span, error.to_string()))?);
        }
        "proxy-auth-file" => {
            if reach.auth.is_some() {
                return Err(twice(source, entry));
            }
            reach.auth = Some(ProxyAuth::File(folder(source, entry)?));
        }
        "proxy-auth-command" => {
            if reach.auth.is_some() {
                return Err(twice(source, entry));
            }
            reach.auth = Some(ProxyAuth::Command(argv(source, entry)?));
        }
        "lan" => {
            reach.lan = Some(match scalar(source, entry)? {
                "true" => true,
                "false" => false,
                _ => return Err(source.error(&entry.node.span, "`lan` is `true` or `false`")),
            });
        }
        "setup" => reach.setup = Some(word(source, entry, NetPolicyKind::WORDS)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Refuses a hole that leads to the proxy, in the place where it is written.
pub(crate) fn holes_past_the_proxy(
    source: &Source<'_>,
    settings: &Settings,
    entries: &[Entry],
) -> Result<(), ConfigError> {
    let (Some(url), Some(holes)) = (&settings.reach.proxy, &settings.reach.holes) else { return Ok(()) };
    let wrong = holes.iter().find(|hole| hole.is_the_proxy(url));
    match (wrong, entries.iter().find(|entry| entry.key == "holes")) {
        (Some(hole), Some(entry)) => {
            let error = HoleError::Itself(hole.to_string());
            Err(source.error(&entry.node.span, format!("`holes`: {error}")))
        }
        _ => Ok(()),
    }
}

fn twice(source: &Source<'_>, entry: &Entry) -> ConfigError {
    source.error(&entry.key_span, "`proxy-auth-file` and `proxy-auth-command` exclude each other")
}

/// A list of texts, or a single one.
/// Texts, or one of them, each parsed.
pub(crate) fn list<T, E: Display>(
    source: &Source<'_>,
    entry: &Entry,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, ConfigError> {
    let one = |node: &Node| match &node.value {
        Value::Scalar(text) => {
            parse(text).map_err(|error| source.error(&node.span, format!("`{}`: {error}", entry.key)))
        }
        other => Err(source.error(&node.span, format!("`{}` wants texts, not {}", entry.key, other.what()))),
    };
    match &entry.node.value {
        Value::List(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(&entry.node)?]),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::machine::parse_machine;
    use super::super::project::parse_project;
    use super::*;
    use crate::model::Name;

    fn machine(text: &str) -> Result<Settings, ConfigError> {
        parse_machine(&Name::default_machine(), Path::new("m.toml"), text).map(|machine| machine.settings)
    }

    #[test]
    fn every_key_is_read() {
        let settings = machine(
            "net = \"proxy\"\nallow = [\"example.com:443\", \"*.debian.org\"]\nproxy = \"socks5h://127.0.0.1:9050\"\n\
             proxy-auth-file = \"~/secret\"\nholes = \"10.0.0.1:5432\"\nlan = true\nsetup = \"open\"\n",
        )
        .expect("good");
        let reach = &settings.reach;
        assert_eq!(reach.rules.as_ref().map(Vec::len), Some(2));
        assert_eq!(
            reach.proxy.as_ref().map(ToString::to_string).as_deref(),
            Some("socks5h://127.0.0.1:9050")
        );
        assert_eq!(reach.auth, Some(ProxyAuth::File("~/secret".into())));
        assert_eq!(reach.holes.as_ref().map(Vec::len), Some(1));
        assert_eq!((reach.lan, reach.setup), (Some(true), Some(NetPolicyKind::Open)));
        let command = machine("proxy-auth-command = \"pass show tor\"").expect("good").reach.auth;
        assert_eq!(command, Some(ProxyAuth::Command(["pass", "show", "tor"].map(String::from).to_vec())));
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, shown) in [
            ("allow = [\"a.example:443\",\n  \"https://b.example/\"]", "m.toml:2:3: `allow`: the rule"),
            ("allow = [[\"a\"]]", "m.toml:1:10: `allow` wants texts, not a list"),
            ("allow = [\"localhost\"]", "m.toml:1:10: `allow`: the rule `localhost` can never match"),
            ("proxy = \"socks5://127.0.0.1\"", "m.toml:1:9: `socks5://` would look names up"),
            ("proxy = \"socks5h://u:secret@h\"", "m.toml:1:9: the proxy's address holds a password"),
            (
                "proxy = \"socks5h://localhost:4000\"\nholes = [\"127.0.0.1:4000\"]",
                "m.toml:2:9: `holes`: the hole `127.0.0.1:4000` is the proxy itself",
            ),
            ("holes = [\"1.1.1.1:80\"]", "m.toml:1:10: `holes`: the hole"),
            ("lan = 3", "m.toml:1:7: `lan` is `true` or `false`"),
            ("setup = \"opn\"", "m.toml:1:9: `opn` is no net policy"),
            (
                "proxy-auth-file = \"/a\"\nproxy-auth-command = \"b\"",
                "m.toml:2:1: `proxy-auth-file` and `proxy-auth-command` exclude",
            ),
        ] {
            let error = machine(text).expect_err(text);
            assert!(error.to_string().starts_with(shown), "{error}");
        }
    }

    #[test]
    fn a_project_file_may_only_name_rules() {
        let project = |text: &str| parse_project(Path::new("p.yml"), text);
        let settings = project("net: allow\nallow:\n  - example.com:443\n").expect("good");
        assert_eq!(settings.reach.rules.as_ref().map(Vec::len), Some(1));
        for key in NET_KEYS.iter().filter(|key| !PROJECT_NET_KEYS.contains(key)) {
            let error = project(&format!("{key}: x\n")).expect_err(key);
            assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("machine")), "{key}: {error:?}");
        }
    }
}
