//! `config.toml` → [`Config`]: the user's own choices, all of them optional.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::limits::{parse_size, parse_timeout};
use crate::model::{ByteSize, Name, NetPolicyKind, Settings};

use super::error::{ConfigError, Source};
use super::net::{NET_KEYS, read_net};
use super::screen::{ColorDepth, GlyphSet, KeyChange};
use super::settings::{
    LIMIT_KEYS, SETTING_KEYS, folder, read_limit, read_setting, scalar, table, unknown_key, version,
};
use super::tree::parse_toml;
use super::vm::{VM_KEYS, read_vm};

const KEYS: [&str; 13] = [
    "version",
    "projects",
    "machine",
    "leader",
    "log_retention",
    "log_size",
    "theme",
    "theme_light",
    "color",
    "glyphs",
    "mouse",
    "keys",
    "defaults",
];

/// The smallest file of a log: what is written at once fits in it.
const LOG_SIZE_MIN: ByteSize = ByteSize::bytes(64 << 10);

/// What `config.toml` says, with the built-in values for what it does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The projects root as written (`~` not expanded); `None`: the built-in `~/projects`.
    pub projects: Option<PathBuf>,
    /// The machine used without `-m`; `None`: `default`.
    pub machine: Option<Name>,
    /// The key that leaves an attached cube.
    pub leader: Leader,
    /// How long records and logs of throwaways that have ended are kept.
    pub log_retention: Duration,
    /// The size at which a file of a cube's log is full and the next begins.
    pub log_size: ByteSize,
    /// The theme of the screen; `None`: `default`.
    pub theme: Option<String>,
    /// The theme on a terminal with a light ground; `None`: the same.
    pub theme_light: Option<String>,
    /// How many colours the screen uses; `None`: what the terminal says.
    pub color: Option<ColorDepth>,
    /// The signs that the screen draws with.
    pub glyphs: GlyphSet,
    /// The screen takes the mouse.
    pub mouse: bool,
    /// Other keys for commands of the screen.
    pub keys: Vec<KeyChange>,
    /// Settings for every machine that does not say otherwise.
    pub defaults: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            projects: None,
            machine: None,
            leader: Leader::default(),
            log_retention: Duration::from_secs(14 * 86_400),
            log_size: ByteSize::mib(10),
            theme: None,
            theme_light: None,
            color: None,
            glyphs: GlyphSet::Unicode,
            mouse: true,
            keys: Vec::new(),
            defaults: Settings::default(),
        }
    }
}

/// A control key, as the byte that a terminal sends for it; `None` when there is to be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader(Option<u8>);

/// Ctrl-].
impl Default for Leader {
    fn default() -> Self {
        Self(Some(0x1d))
    }
}

impl Leader {
    /// Parses `ctrl-]`, `ctrl-a`, `^A` or `none`.
    ///
    /// # Errors
    /// A line that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower == "none" {
            return Ok(Self(None));
        }
        let key = lower
            .strip_prefix("ctrl-")
            .or_else(|| lower.strip_prefix("ctrl+"))
            .or_else(|| lower.strip_prefix('^'));
        match key.map(str::as_bytes) {
            // These are what Tab, Enter and Esc send: a shell would become unusable.
            Some([b'i' | b'j' | b'm' | b'[']) => {
                Err(format!("`{text}` is what Tab, Enter or Esc sends: choose another, for example `ctrl-]`"))
            }
            Some([key @ (b'a'..=b'z' | b'\\' | b']' | b'^' | b'_')]) => {
                Ok(Self(Some(key.to_ascii_uppercase() & 0x1f)))
            }
            _ => Err(format!(
                "`{}` is no control key: write for example `ctrl-]` or `ctrl-a`, or `none`",
                crate::model::sanitize::printable(text)
            )),
        }
    }

    /// The byte that the terminal sends.
    #[must_use]
    pub const fn byte(self) -> Option<u8> {
        self.0
    }
}

impl std::fmt::Display for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(byte) => write!(f, "ctrl-{}", char::from(byte | 0x40).to_ascii_lowercase()),
            None => f.write_str("none"),
        }
    }
}

fn shown_path(file: &Path) -> String {
    crate::model::sanitize::printable(&file.to_string_lossy())
}

/// Reads `config.toml`; `file` is only for messages.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse_config(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let source = Source { file, text };
    let mut config = Config::default();
    for entry in &parse_toml(&source)? {
        let fail = |message: String| source.error(&entry.node.span, format!("`{}`: {message}", entry.key));
        match entry.key.as_str() {
            "version" => version(&source, entry)?,
            "projects" => config.projects = Some(folder(&source, entry)?),
            "machine" => {
                config.machine =
                    Some(Name::parse(scalar(&source, entry)?).map_err(|error| fail(error.to_string()))?);
            }
            "leader" => config.leader = Leader::parse(scalar(&source, entry)?).map_err(fail)?,
            "log_retention" => {
                config.log_retention =
                    parse_timeout(scalar(&source, entry)?).map_err(|error| fail(error.to_string()))?;
            }
            "log_size" => {
                let size = parse_size(scalar(&source, entry)?).map_err(|error| fail(error.to_string()))?;
                if size.value < LOG_SIZE_MIN {
                    return Err(fail(format!("a file of a log holds at least {LOG_SIZE_MIN}")));
                }
                config.log_size = size.value;
            }
            "theme" => config.theme = Some(scalar(&source, entry)?.to_owned()),
            "theme_light" => config.theme_light = Some(scalar(&source, entry)?.to_owned()),
            "color" => config.color = ColorDepth::parse(scalar(&source, entry)?).map_err(fail)?,
            "glyphs" => {
                config.glyphs = match scalar(&source, entry)? {
                    "ascii" => GlyphSet::Ascii,
                    "unicode" => GlyphSet::Unicode,
                    "nerd" => GlyphSet::Nerd,
                    _ => return Err(fail("`unicode`, `ascii` or `nerd`".into())),
                };
            }
            "mouse" => {
                config.mouse = match scalar(&source, entry)? {
                    "true" => true,
                    "false" => false,
                    _ => return Err(fail("`true` or `false`".into())),
                };
            }
            "keys" => {
                // What the keys are is the screen's business: a mistake there must not keep anybody from launching.
                for key in table(&source, entry)? {
                    let place = source.error(&key.node.span, "");
                    config.keys.push(KeyChange {
                        command: key.key.clone(),
                        keys: scalar(&source, key)?.to_owned(),
                        place: format!("{}:{}:{}", shown_path(file), place.line, place.column),
                    });
                }
            }
            "defaults" => {
                for default in table(&source, entry)? {
                    let known = read_setting(&source, &mut config.defaults, default)?
                        || read_limit(&source, &mut config.defaults, default)?
                        || read_vm(&source, &mut config.defaults, default)?
                        || read_net(&source, &mut config.defaults, default)?;
                    if !known {
                        let keys = [&SETTING_KEYS[..], &VM_KEYS[..], &LIMIT_KEYS[..], &NET_KEYS[..]].concat();
                        return Err(unknown_key(&source, default, &keys));
                    }
                }
            }
            key if [&SETTING_KEYS[..], &VM_KEYS, &LIMIT_KEYS, &NET_KEYS].concat().contains(&key) => {
                let mut error = unknown_key(&source, entry, &[]);
                error.hint = Some(format!("write `{key}` beneath `[defaults]`"));
                return Err(error);
            }
            _ => return Err(unknown_key(&source, entry, &KEYS)),
        }
    }
    Ok(config)
}

/// The text of `config.toml` with another theme, everything else as it was; `file` is only for messages.
///
/// # Errors
/// The text is no valid configuration, before or after.
pub fn with_theme(file: &Path, text: &str, theme: &str) -> Result<String, ConfigError> {
    with(file, text, &[("theme", theme)])
}

/// What `tripmine init` decides.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The projects root.
    pub projects: &'a str,
    /// The usual machine.
    pub machine: &'a str,
    /// What cubes reach.
    pub net: NetPolicyKind,
    /// Through what, when that is `proxy`.
    pub proxy: Option<&'a str>,
}

/// The text of `config.toml` with these decisions, everything else as it was. What it says already (or says by being
/// silent) is not written.
///
/// # Errors
/// The text is no valid configuration, before or after.
pub fn with_start(file: &Path, text: &str, start: &Start<'_>) -> Result<String, ConfigError> {
    let config = parse_config(file, text)?;
    let (mut changes, mut defaults) = (Vec::new(), Vec::new());
    if config.projects.as_deref() != Some(Path::new(start.projects)) {
        changes.push(("projects", start.projects));
    }
    if config.machine.as_ref().map_or("default", Name::as_str) != start.machine {
        changes.push(("machine", start.machine));
    }
    let net = start.net.to_string();
    if config.defaults.net.unwrap_or(NetPolicyKind::None) != start.net {
        defaults.push(("net", net.as_str()));
    }
    let proxy = config.defaults.reach.proxy.as_ref().map(ToString::to_string);
    if let Some(wanted) = start.proxy.filter(|wanted| proxy.as_deref() != Some(*wanted)) {
        defaults.push(("proxy", wanted));
    }
    let text = with(file, text, &changes)?;
    if defaults.is_empty() { Ok(text) } else { with_in(file, &text, Some("defaults"), &defaults) }
}

/// The text of `config.toml` with these keys beneath `[defaults]`, everything else as it was.
///
/// # Errors
/// The text is no valid configuration, before or after.
pub fn with_defaults(file: &Path, text: &str, changes: &[(&str, String)]) -> Result<String, ConfigError> {
    parse_config(file, text)?;
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        Source { file, text }.error(&error.span().unwrap_or(0..0), error.message())
    })?;
    let table = document.entry("defaults").or_insert_with(|| toml_edit::Item::Table(toml_edit::Table::new()));
    if let Some(table) = table.as_table_like_mut() {
        for (key, value) in changes {
            table.insert(key, toml_edit::value(value.as_str()));
        }
    }
    let changed = document.to_string();
    parse_config(file, &changed)?;
    Ok(changed)
}

fn with(file: &Path, text: &str, changes: &[(&str, &str)]) -> Result<String, ConfigError> {
    with_in(file, text, None, changes)
}

/// The same beneath `[table]`, which is made when it is not there.
fn with_in(
    file: &Path,
    text: &str,
    table: Option<&str>,
    changes: &[(&str, &str)],
) -> Result<String, ConfigError> {
    parse_config(file, text)?;
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        Source { file, text }.error(&error.span().unwrap_or(0..0), error.message())
    })?;
    let root = document.as_table_mut();
    let place = match table {
        None => Some(root),
        Some(table) => root.entry(table).or_insert_with(toml_edit::table).as_table_mut(),
    };
    // Written inline, as `defaults = { … }`: what is not understood here is not changed either.
    let place = place.ok_or_else(|| {
        Source { file, text }.error(&(0..0), "`defaults` is written in one line: write it as `[defaults]`")
    })?;
    for (key, value) in changes {
        let mut value = toml_edit::Value::from(*value);
        if let Some(old) = place.get(key).and_then(toml_edit::Item::as_value) {
            // A comment behind the old value stays.
            *value.decor_mut() = old.decor().clone();
        }
        place.insert(key, toml_edit::Item::Value(value));
    }
    let changed = document.to_string();
    parse_config(file, &changed)?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        parse_config(Path::new("config.toml"), text)
    }

    #[test]
    fn config_reads() {
        let config = parse(
            "projects = \"~/code\"\nmachine = \"work\"\nleader = \"ctrl-a\"\nlog_retention = \"2d\"\n\
             log_size = \"1M\"\n[defaults]\nnet = \"none\"\npids = 100\n[defaults.env]\nA = \"b\"\n",
        )
        .expect("config");
        assert_eq!(config.leader.byte(), Some(1));
        assert_eq!(config.log_retention, Duration::from_secs(2 * 86_400));
        assert_eq!(config.defaults.limits.pids.map(|l| l.value), Some(100));
        assert_eq!(config.defaults.env.len(), 1);
        assert_eq!(parse(""), Ok(Config::default()));
    }

    /// The page of what can be written down knows every key, here and of machines, projects and variables.
    #[test]
    fn the_page_of_keys_is_whole() {
        let page = include_str!("../../docs/CONFIG.md");
        let keys = KEYS.iter().copied().chain(super::super::machine::machine_keys());
        for key in keys {
            assert!(page.contains(&format!("`{key}`")), "`{key}` is not in docs/CONFIG.md");
        }
        let config = Config::default();
        assert_eq!((config.log_size, config.log_retention.as_secs()), (ByteSize::mib(10), 14 * 86_400));
    }

    #[test]
    fn mistakes_have_place_and_hint() {
        for (text, shown, hint) in [
            ("leeder = 1", "config.toml:1:1: unknown key `leeder`", Some("did you mean `leader`?")),
            (
                "net = \"none\"",
                "config.toml:1:1: unknown key `net`",
                Some("write `net` beneath `[defaults]`"),
            ),
            ("[defaults]\nnett = 1", "config.toml:2:1: unknown key `nett`", Some("did you mean `net`?")),
            ("machine = \"run\"", "config.toml:1:11: `machine`: the name `run` is a command", None),
            ("log_size = \"1K\"", "config.toml:1:12: `log_size`: a file of a log holds at least 64K", None),
            ("leader = \"ctrl-m\"", "config.toml:1:10: `leader`: `ctrl-m` is what Tab", None),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().starts_with(shown), "{text:?}: {error}");
            assert_eq!(error.hint.as_deref(), hint, "{text:?}");
        }
    }

    #[test]
    fn leaders() {
        assert_eq!(Leader::parse("ctrl-]"), Ok(Leader::default()));
        assert_eq!(Leader::default().to_string(), "ctrl-]");
        assert_eq!(Leader::parse("none").map(Leader::byte), Ok(None));
        assert_eq!(Leader::parse("none").expect("none").to_string(), "none");
        assert_eq!(Leader::parse("^A").map(Leader::byte), Ok(Some(1)));
        for text in ["", "x", "ctrl-", "ctrl-ab", "ctrl-é", "alt-x"] {
            assert!(Leader::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_init_decides_is_added_and_the_rest_stays() {
        let file = Path::new("config.toml");
        let start = |net, proxy| Start { projects: "~/code", machine: "default", net, proxy };
        let text = "# mine\n[defaults]\nmemory = \"2G\" # enough\n";
        let proxy = "socks5h://127.0.0.1:9050";
        let made = with_start(file, text, &start(NetPolicyKind::Proxy, Some(proxy))).expect("good");
        assert!(
            made.contains("memory = \"2G\" # enough\nnet = \"proxy\"\nproxy = \"socks5h://127.0.0.1:9050\""),
            "{made}"
        );
        assert_eq!(with_start(file, &made, &start(NetPolicyKind::Proxy, Some(proxy))).as_ref(), Ok(&made));
        // `none` is what holds anyway.
        let made = with_start(file, "", &start(NetPolicyKind::None, None)).expect("good");
        assert_eq!(made, "projects = \"~/code\"\n");
        assert!(
            with_start(file, "defaults = { net = \"none\" }", &start(NetPolicyKind::Open, None)).is_err()
        );
    }

    #[test]
    fn a_theme_is_kept_and_nothing_else_changes() {
        let file = Path::new("config.toml");
        let text = "# mine\nmouse = false\ntheme = \"nord\" # cold\n\n[keys]\nquit = \"Q\"\n";
        let changed = with_theme(file, text, "dracula").expect("good");
        assert_eq!(changed, text.replace("nord", "dracula"));
        let config = parse_config(file, &changed).expect("good");
        assert_eq!(
            (config.theme.as_deref(), config.mouse, config.glyphs),
            (Some("dracula"), false, GlyphSet::Unicode)
        );
        let key = &config.keys[0];
        assert_eq!(
            (key.command.as_str(), key.keys.as_str(), key.place.as_str()),
            ("quit", "Q", "config.toml:6:8")
        );
        let made = with_theme(file, "[defaults]\nnet = \"none\"\n", "nord").expect("good");
        assert_eq!(parse_config(file, &made).expect("good").theme.as_deref(), Some("nord"));
        assert!(parse_config(file, "glyphs = \"emoji\"").is_err());
    }
}
