//! Reads configuration files. The one impure file here.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::model::sanitize::printable_bytes;
use crate::model::{Failure, FailureKind, Machine, Name, Settings};

use super::global::{Config, parse_config};
use super::machine::parse_machine;
use super::project::{PROJECT_FILE, parse_project};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// `config.toml`; the built-in values when there is none.
///
/// # Errors
/// The file is wrong or cannot be read.
pub fn load_config(file: &Path) -> Result<Config, Failure> {
    read_text(file, true)?.map_or_else(|| Ok(Config::default()), |text| Ok(parse_config(file, &text)?))
}

/// A machine's file; `None` when there is none.
///
/// # Errors
/// The file is wrong or cannot be read.
pub fn load_machine(name: &Name, file: &Path) -> Result<Option<Machine>, Failure> {
    read_text(file, true)?.map_or(Ok(None), |text| Ok(Some(parse_machine(name, file, &text)?)))
}

/// The `.tconfig.yml` of the project in `folder`; `None` when there is none. A link is not
/// followed: a project could otherwise have errors quote lines of the user's own files.
///
/// # Errors
/// The file is wrong, no plain file, or cannot be read.
pub fn load_project(folder: &Path) -> Result<Option<Settings>, Failure> {
    let file = folder.join(PROJECT_FILE);
    read_text(&file, false)?.map_or(Ok(None), |text| Ok(Some(parse_project(&file, &text)?)))
}

/// A small text file; `None` when it does not exist.
///
/// # Errors
/// No plain file, too large, not UTF-8, or not readable.
pub fn read_text(file: &Path, follow: bool) -> Result<Option<String>, Failure> {
    let shown = printable_bytes(file.as_os_str().as_encoded_bytes());
    let config = |what: &str| Failure::new(FailureKind::Config, format!("{shown}: {what}"));
    let mut flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    if !follow {
        flags |= libc::O_NOFOLLOW;
    }
    let opened = match File::options().read(true).custom_flags(flags).open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(config("it is a symbolic link, which is not followed here"));
        }
        Err(error) => return Err(Failure::failed(format!("cannot read {shown}")).because(&error)),
    };
    let failed = |error: &std::io::Error| Failure::failed(format!("cannot read {shown}")).because(error);
    if !opened.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(config("it is no plain file"));
    }
    let mut bytes = Vec::new();
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(config("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        config(&format!("line {line} is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_files_are_refused_and_missing_ones_are_none() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path();
        assert_eq!(load_project(path), Ok(None));
        assert_eq!(load_config(&path.join("config.toml")), Ok(Config::default()));
        std::os::unix::fs::symlink("/etc/passwd", path.join(PROJECT_FILE)).expect("link");
        assert!(load_project(path).expect_err("link").message.contains("symbolic link"));
        std::fs::write(path.join("a"), b"ok\n\xff").expect("write");
        assert!(load_config(&path.join("a")).expect_err("utf8").message.contains("line 2 is not UTF-8"));
        assert!(load_config(path).expect_err("folder").message.contains("no plain file"));
        std::fs::write(path.join("big"), vec![b' '; (1 << 20) + 1]).expect("write");
        assert!(load_config(&path.join("big")).expect_err("big").message.contains("larger"));
    }
}
