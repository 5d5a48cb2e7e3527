//! A project's `.tconfig.yml` → [`Settings`].
//!
//! The file comes with the project, so it may be a stranger's. It can ask for settings, never for
//! mounts or for another projects root; what asks for more than the machine is the resolver's to refuse.

use std::path::Path;

use crate::model::{PortMap, Settings};

use super::error::{ConfigError, Source};
use super::net::{NET_KEYS, PROJECT_NET_KEYS, read_net};
use super::settings::{LIMIT_KEYS, SETTING_KEYS, read_limit, read_setting, table, unknown_key, version};
use super::tree::parse_yaml;

/// The file's name in a project's folder.
pub const PROJECT_FILE: &str = ".tconfig.yml";

/// Reads a project file; `file` is only for messages.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse_project(file: &Path, text: &str) -> Result<Settings, ConfigError> {
    let source = Source { file, text };
    let mut settings = Settings::default();
    for entry in &parse_yaml(&source)? {
        match entry.key.as_str() {
            "version" => version(&source, entry)?,
            "limits" => {
                for limit in table(&source, entry)? {
                    if !read_limit(&source, &mut settings, limit)? {
                        return Err(unknown_key(&source, limit, &LIMIT_KEYS));
                    }
                }
            }
            key => {
                if read_setting(&source, &mut settings, entry)?
                    || (PROJECT_NET_KEYS.contains(&key) && read_net(&source, &mut settings, entry)?)
                {
                    if key == "ports"
                        && let Some(why) =
                            settings.ports.iter().find_map(PortMap::too_much_for_a_project_file)
                    {
                        let mut error = source.error(&entry.node.span, why);
                        error.hint = Some("give it with `-p`, or save it in the machine".to_owned());
                        return Err(error);
                    }
                    continue;
                }
                let known = [&SETTING_KEYS[..], &PROJECT_NET_KEYS, &["limits"]].concat();
                let mut error = unknown_key(&source, entry, &known);
                if LIMIT_KEYS.contains(&key) {
                    error.hint = Some(format!("write `{key}` beneath `limits`"));
                } else if NET_KEYS.contains(&key) {
                    error.hint = Some(format!(
                        "a project file can only narrow the net: set `{key}` on the machine, with `tripmine machine edit`"
                    ));
                } else if ["mount", "mounts", "volumes"].contains(&key) {
                    error.hint = Some("a project file cannot ask for mounts: use `--mount`".to_owned());
                }
                return Err(error);
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, ConfigError> {
        parse_project(Path::new(".tconfig.yml"), text)
    }

    #[test]
    fn project_file_reads() {
        let settings = parse(
            "# ours\nimage: host\nentry: [npm, run, 'dev server']\nenv:\n  PORT: 8080\n  V: 1.10\n\
             limits:\n  memory: 512M\n  cpus: 1.5\n  timeout: 1h\nnet: none\nuser: me\nports: [3000, \"8080:80\"]\n",
        )
        .expect("project");
        assert_eq!(settings.entry.as_deref(), Some(&["npm", "run", "dev server"].map(String::from)[..]));
        let env: Vec<_> = settings.env.iter().map(|v| (v.key.as_str(), v.value.as_str())).collect();
        assert_eq!(env, [("PORT", "8080"), ("V", "1.10")]);
        assert_eq!(settings.limits.cpus_milli.map(|l| l.value), Some(1500));
        assert_eq!(settings.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["3000", "8080:80"]);
        assert_eq!(parse("ports: 3000\n").expect("one").ports.len(), 1);
        assert_eq!(parse("# nothing\n"), Ok(Settings::default()));
    }

    #[test]
    fn mistakes_have_place_and_hint() {
        for (text, shown, hint) in [
            (
                "image: host\nentri: x\n",
                ".tconfig.yml:2:1: unknown key `entri`",
                Some("did you mean `entry`?"),
            ),
            (
                "mounts:\n  - /etc\n",
                ".tconfig.yml:1:1: unknown key `mounts`",
                Some("a project file cannot ask for mounts: use `--mount`"),
            ),
            (
                "memory: 1G\n",
                ".tconfig.yml:1:1: unknown key `memory`",
                Some("write `memory` beneath `limits`"),
            ),
            (
                "limits:\n  memroy: 1G\n",
                ".tconfig.yml:2:3: unknown key `memroy`",
                Some("did you mean `memory`?"),
            ),
            ("net: opne\n", ".tconfig.yml:1:6: `opne` is no net policy", Some("did you mean `open`?")),
            (
                "ports:\n  - 3000\n  - 0.0.0.0:80:80\n",
                ".tconfig.yml:2:3: a project file cannot ask for an address that others reach",
                Some("give it with `-p`, or save it in the machine"),
            ),
            ("ports:\n  - 3000\n  - 80:0\n", ".tconfig.yml:3:5: `ports`: the cube's port cannot be 0", None),
            ("ports: {a: 1}\n", ".tconfig.yml:1:8: `ports` wants forwards", None),
            ("image:\n", ".tconfig.yml:1:", None),
            ("env: [a]\n", ".tconfig.yml:1:6: `env` wants a table, not a list", None),
            ("image: a\nimage: b\n", ".tconfig.yml:2:1: ", None),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().starts_with(shown), "{text:?}: {error}");
            assert_eq!(error.hint.as_deref(), hint, "{text:?}");
        }
    }
}
