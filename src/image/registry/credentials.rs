//! Docker's credential files and helpers. Owns who we are to a registry; shows no secret, not even to `{:?}`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::model::Failure;
use crate::model::image::remote::RemoteRef;
use crate::model::sanitize::printable;
use crate::store::fail::{cannot, shown};

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password(String, String),
    /// A token that is exchanged for others.
    Token(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password(user, _) => write!(f, "{user}:<password>"),
            Self::Token(_) => f.write_str("<token>"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The login for a registry from the first of `files` that has one.
///
/// # Errors
/// A file cannot be read, or a helper that is named in it fails.
pub fn find(files: &[PathBuf], remote: &RemoteRef) -> Result<Option<Login>, Failure> {
    for path in files {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(cannot("read", path, error)),
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|error| {
            // The parser's words name a line and a column, never a value.
            Failure::failed(format!("{} is no file of docker's credentials", shown(path))).because(&error)
        })?;
        if let Some(login) = in_file(&file, remote)? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn in_file(file: &File, remote: &RemoteRef) -> Result<Option<Login>, Failure> {
    let keys = remote.credential_keys();
    for key in &keys {
        if let Some(helper) = file.cred_helpers.get(key) {
            return ask(helper, key);
        }
    }
    for key in &keys {
        let Some(auth) = file.auths.get(key) else { continue };
        if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Login::Token(token.clone())));
        }
        if let Some(login) = auth.auth.as_deref().and_then(decode) {
            return Ok(Some(login));
        }
    }
    match &file.creds_store {
        Some(store) => {
            for key in &keys {
                if let Some(login) = ask(store, key)? {
                    return Ok(Some(login));
                }
            }
            Ok(None)
        }
        None => Ok(None),
    }
}

fn decode(auth: &str) -> Option<Login> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Login::Password(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Asks `docker-credential-HELPER`, whose protocol is docker's.
fn ask(helper: &str, key: &str) -> Result<Option<Login>, Failure> {
    if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(Failure::failed(format!("`{}` is no name of a credential helper", printable(helper))));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot ask `{program}` for the login of {key}")).because(&error)
    };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not listen answers something all the same.
        drop(stdin.write_all(key.as_bytes()));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        // It has none for this registry: that is how helpers say so.
        return Ok(None);
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| Failure::failed(format!("`{program}` gave no login for {key} that can be read")))?;
    Ok(Some(if answer.username == "<token>" {
        Login::Token(answer.secret)
    } else {
        Login::Password(answer.username, answer.secret)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_of_files() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("config.json");
        let text = r#"{"auths":{"localhost:5000":{"auth":"bWU6czpwYXNz"},"https://index.docker.io/v1/":
            {"identitytoken":"tok"},"empty.org":{}},"credHelpers":{"x.org":"../evil"},"HttpHeaders":{}}"#;
        std::fs::write(&path, text).expect("write");
        let files = [folder.path().join("missing.json"), path.clone()];
        let login = |text: &str| find(&files, &RemoteRef::parse(text).expect(text));
        assert_eq!(login("localhost:5000/x"), Ok(Some(Login::Password("me".into(), "s:pass".into()))));
        assert_eq!(login("debian"), Ok(Some(Login::Token("tok".into()))));
        assert_eq!(login("empty.org/x"), Ok(None));
        assert!(login("x.org/x").expect_err("helper").message.contains("no name of a credential helper"));
        assert_eq!(format!("{:?}", login("localhost:5000/x")), "Ok(Some(me:<password>))");
        std::fs::write(&path, "{").expect("write");
        assert!(login("debian").is_err());
    }
}
