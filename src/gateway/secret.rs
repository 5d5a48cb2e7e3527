//! The proxy's secret: read when a cube starts, shown to the proxy, kept in this process alone.

use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::model::net::{ProxyAuth, ProxyUrl};
use crate::model::{Failure, FailureKind};

/// The longest user name or password (RFC 1929, 2).
const FIELD_MAX: usize = 255;
/// What is read of a file or command: two fields, a colon and a line end fit.
const READ_MAX: u64 = 4096;
/// How long a command has.
const COMMAND: Duration = Duration::from_secs(10);

/// A user name and a password. It is not printed, also not by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Secret {
    /// One of a test's own.
    #[cfg(test)]
    pub(super) fn of(user: &[u8], password: &[u8]) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    /// The user name: 1 to 255 bytes.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The password: 0 to 255 bytes.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.password
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads what `auth` names.
///
/// # Errors
/// When it cannot be read, others could read it, or it is no secret of SOCKS5.
pub fn read(url: &ProxyUrl, auth: &ProxyAuth) -> Result<Option<Secret>, Failure> {
    let (text, from) = match auth {
        ProxyAuth::None => {
            let user = url.user().map(|user| Secret { user: user.into(), password: Vec::new() });
            return Ok(user);
        }
        ProxyAuth::File(path) => (read_file(path)?, format!("the file `{}`", path.display())),
        ProxyAuth::Command(argv) => {
            (run(argv)?, format!("the command `{}`", argv.first().map_or("", String::as_str)))
        }
    };
    parse(&text, url.user()).map(Some).map_err(|why| {
        Failure::new(FailureKind::Config, format!("the secret of the proxy in {from} {why}")).hint(
            "its first line is `user:password`, or the password alone when the proxy's address has a user",
        )
    })
}

fn parse(text: &[u8], user: Option<&str>) -> Result<Secret, &'static str> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (user, password) = match user {
        Some(user) => (user.as_bytes(), line),
        None => {
            let colon = line.iter().position(|byte| *byte == b':').ok_or("has no `:` after the user name")?;
            (&line[..colon], &line[colon + 1..])
        }
    };
    match (user.len(), password.len()) {
        (0, _) => Err("has no user name"),
        (_, 0) => Err("is empty"),
        (1..=FIELD_MAX, 1..=FIELD_MAX) => Ok(Secret { user: user.into(), password: password.into() }),
        _ => Err("is longer than 255 bytes, which SOCKS5 does not carry"),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let cannot = |error: std::io::Error| {
        let message = format!("cannot read the proxy's secret `{}`: {error}", path.display());
        Failure::new(FailureKind::Config, message)
    };
    // Not waited for: a named pipe would stop the launch.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    let refuse = |why: &str| {
        Err(Failure::new(FailureKind::Denied, format!("the proxy's secret `{}` {why}", path.display()))
            .hint(format!("make it yours alone: `chmod 600 {}`", path.display())))
    };
    if !meta.is_file() {
        return refuse("is no file");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to somebody else");
    }
    if meta.mode() & 0o077 != 0 {
        return refuse(&format!(
            "can be read or written by others: its mode is {:04o}",
            meta.mode() & 0o7777
        ));
    }
    let mut text = Vec::new();
    file.take(READ_MAX).read_to_end(&mut text).map_err(cannot)?;
    Ok(text)
}

fn run(argv: &[String]) -> Result<Vec<u8>, Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::new(FailureKind::Config, "the command for the proxy's secret is empty"));
    };
    let failed = |why: String| {
        Failure::new(FailureKind::Config, format!("the command for the proxy's secret, `{program}`, {why}"))
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("did not start: {error}")))?;
    let deadline = Instant::now() + COMMAND;
    let read = child.stdout.take().map_or(Ok(Vec::new()), |out| read_until(out.into(), deadline));
    let status = wait_until(&mut child, deadline);
    match (read, status) {
        (Ok(text), Some(status)) if status.success() => Ok(text),
        (_, None) => Err(failed(format!("was not done after {} seconds", COMMAND.as_secs()))),
        (Err(error), _) => Err(failed(format!("could not be read: {error}"))),
        (_, Some(status)) => Err(failed(format!("failed: {status}"))),
    }
}

/// Reads until the end, the limit or the deadline.
fn read_until(fd: OwnedFd, deadline: Instant) -> std::io::Result<Vec<u8>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    let most = usize::try_from(READ_MAX).unwrap_or(usize::MAX);
    while text.len() < most {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
        if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left))? == 0 {
            break;
        }
        match rustix::io::read(&fd, &mut buffer)? {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    text.truncate(most);
    Ok(text)
}

/// Waits for the end; a command that is late is killed.
fn wait_until(child: &mut std::process::Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => break,
        }
    }
    let _killed = child.kill();
    let _reaped = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn url(text: &str) -> ProxyUrl {
        text.parse().expect(text)
    }

    #[test]
    fn files_that_others_can_read_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("secret");
        std::fs::write(&path, "ann:pass:word\nnever read\n").expect("write");
        let auth = ProxyAuth::File(path.clone());
        for (mode, part) in [(0o644, "mode is 0644"), (0o620, "mode is 0620"), (0o604, "mode is 0604")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
            let failure = read(&url("socks5h://127.0.0.1"), &auth).expect_err("refused");
            assert!(failure.message.contains(part), "{failure}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        let secret = read(&url("socks5h://127.0.0.1"), &auth).expect("read").expect("some");
        assert_eq!((secret.user(), secret.password()), (&b"ann"[..], &b"pass:word"[..]));
        let secret = read(&url("socks5h://bob@127.0.0.1"), &auth).expect("read").expect("some");
        assert_eq!((secret.user(), secret.password()), (&b"bob"[..], &b"ann:pass:word"[..]));
        assert!(!format!("{secret:?}").contains("pass"));
    }

    #[test]
    fn bad_secrets_are_refused_without_being_shown() {
        let long = "x".repeat(300);
        for (text, part) in [
            ("", "no `:`"),
            ("ann", "no `:`"),
            (":x", "no user"),
            ("a:", "empty"),
            (&*format!("a:{long}"), "255"),
        ] {
            let why = parse(text.as_bytes(), None).expect_err(text);
            assert!(why.contains(part), "{why}");
        }
        let missing =
            read(&url("socks5h://h"), &ProxyAuth::File("/nowhere/secret".into())).expect_err("missing");
        assert!(missing.message.contains("/nowhere/secret"), "{missing}");
    }

    #[test]
    fn commands() {
        let command = |argv: &[&str]| ProxyAuth::Command(argv.iter().map(ToString::to_string).collect());
        let said = read(&url("socks5h://h"), &command(&["echo", "u:p"])).expect("run").expect("some");
        assert_eq!((said.user(), said.password()), (&b"u"[..], &b"p"[..]));
        let failure = read(&url("socks5h://h"), &command(&["false"])).expect_err("failed");
        assert!(failure.message.contains("`false`"), "{failure}");
        let failure = read(&url("socks5h://h"), &command(&["/no/such/program"])).expect_err("missing");
        assert!(failure.message.contains("did not start"), "{failure}");
        let failure = read(&url("socks5h://h"), &command(&["yes", "a:b"])).expect_err("a broken pipe");
        assert!(failure.message.contains("failed"), "{failure}");
    }

    #[test]
    fn a_user_alone_has_an_empty_password() {
        let secret =
            read(&url("socks5h://work@127.0.0.1:9050"), &ProxyAuth::None).expect("read").expect("some");
        assert_eq!((secret.user(), secret.password()), (&b"work"[..], &b""[..]));
        assert_eq!(read(&url("socks5h://127.0.0.1:9050"), &ProxyAuth::None), Ok(None));
    }
}
