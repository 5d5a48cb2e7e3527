//! Which host folders a cube may not see. Owns the list of dangerous places and the words of the
//! refusal; takes canonical paths, so links are already out of the way.

use std::path::{Path, PathBuf};

use crate::model::sanitize::printable_bytes;
use crate::model::{Failure, FailureKind};

/// Folders and files of a home that hold credentials.
const HOME_SECRETS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".mozilla",
    ".thunderbird",
    ".password-store",
    ".netrc",
    ".git-credentials",
    ".pgpass",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".vault-token",
    ".config/gcloud",
    ".config/gh",
    ".config/op",
    ".config/google-chrome",
    ".config/chromium",
    ".config/containers/auth.json",
    ".config/rclone",
    ".config/sops",
    ".local/share/keyrings",
    ".local/share/kwalletd",
];

/// Names that hold credentials wherever they lie, in any home.
const SECRET_NAMES: &[&str] = &[".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store"];

/// System folders: seeing one, or anything in it, needs a clear word.
const SYSTEM: &[&str] = &[
    "/etc", "/usr", "/var", "/boot", "/run", "/root", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt",
    "/efi", "/nix", "/snap",
];

/// Views of the kernel: a cube that sees the host's is no longer a jail.
const KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

/// Folders that are fine to look into but not as a whole: other people's sockets and files.
const SHARED: &[&str] = &["/tmp", "/var/tmp", "/home", "/mnt", "/media", "/run/media"];

/// What the check needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// The caller's home, canonical.
    pub home: &'a Path,
    /// tripmine's own folders, canonical.
    pub own: &'a [PathBuf],
    /// `--yes-really` was typed.
    pub confirmed: bool,
}

/// How bad a mount is.
enum Danger {
    /// Refused whatever is typed.
    Never(&'static str),
    /// Refused without `--yes-really`.
    Confirm(String),
}

impl Guard<'_> {
    /// Checks the canonical path of a mount's source. A confirmed danger comes back as a warning.
    ///
    /// # Errors
    /// The refusal: what, why and what to do.
    pub fn check(&self, source: &Path) -> Result<Option<String>, Failure> {
        let shown = printable_bytes(source.as_os_str().as_encoded_bytes());
        match self.danger(source) {
            None => Ok(None),
            Some(Danger::Never(why)) => {
                Err(Failure::new(FailureKind::Denied, format!("`{shown}` is never shown to a cube: {why}"))
                    .hint("choose another folder: `--mount DIR`; no option lifts this"))
            }
            Some(Danger::Confirm(why)) if self.confirmed => {
                Ok(Some(format!("the cube can read and change `{shown}`: {why}")))
            }
            Some(Danger::Confirm(why)) => {
                Err(Failure::new(FailureKind::Denied, format!("`{shown}` is not shown to a cube: {why}"))
                    .hint("choose a folder that holds only the project: `--mount DIR`")
                    .hint("if the cube shall really read and change all of it, add `--yes-really`"))
            }
        }
    }

    fn danger(&self, source: &Path) -> Option<Danger> {
        if !source.is_absolute() {
            return Some(Danger::Never("its path is not absolute"));
        }
        if self.own.iter().any(|own| source.starts_with(own)) {
            return Some(Danger::Never("tripmine keeps its own configuration, images and records there"));
        }
        if KERNEL.iter().any(|folder| source.starts_with(folder)) {
            return Some(Danger::Never("it is the host kernel's own view and would open the jail"));
        }
        let confirm = |why: &str| Some(Danger::Confirm(why.to_owned()));
        if source == Path::new("/") {
            return confirm("it is the whole host");
        }
        if source == self.home {
            return confirm("it is your whole home, with keys, passwords and everything else in it");
        }
        if self.home.starts_with(source) {
            return confirm("it contains your whole home");
        }
        if let Some(danger) = in_home(self.home, "~", source) {
            return Some(danger);
        }
        // Root by sudo(8) has another home than who typed it: what lies in anybody's is as secret.
        if let Some(home) = home_around(source).filter(|home| *home != self.home) {
            if source == home {
                return confirm(
                    "it is somebody's whole home, with keys, passwords and everything else in it",
                );
            }
            let shown = printable_bytes(home.as_os_str().as_encoded_bytes());
            if let Some(danger) = in_home(home, &shown, source) {
                return Some(danger);
            }
        }
        if let Some(name) = SECRET_NAMES.iter().find(|name| source.iter().any(|part| part == **name)) {
            return Some(Danger::Confirm(format!("`{name}` holds credentials")));
        }
        if self.own.iter().any(|own| own.starts_with(source)) {
            return confirm("it contains tripmine's own configuration, images and records");
        }
        self.system(source)
    }

    fn system(&self, source: &Path) -> Option<Danger> {
        if SHARED.iter().any(|folder| source == Path::new(folder)) {
            return Some(Danger::Confirm("programs and people share it as a whole".to_owned()));
        }
        let under_shared = SHARED.iter().any(|folder| source.starts_with(folder));
        // Service users live below /var, root in /root: what lies in the caller's own home is theirs.
        let home_is_own = self.home == Path::new("/root") || self.home.components().count() > 2;
        if under_shared || (home_is_own && source.starts_with(self.home)) {
            return None;
        }
        SYSTEM
            .iter()
            .find(|folder| source.starts_with(folder))
            .map(|folder| Danger::Confirm(format!("`{folder}` belongs to the system")))
    }
}

/// The home that `source` is, or lies in, by the usual place of homes.
fn home_around(source: &Path) -> Option<&Path> {
    source.ancestors().find(|path| path.parent() == Some(Path::new("/home")))
}

/// What is secret in the home at `home`, which is called `shown`.
fn in_home(home: &Path, shown: &str, source: &Path) -> Option<Danger> {
    HOME_SECRETS.iter().find_map(|secret| {
        let place = home.join(secret);
        if source.starts_with(&place) {
            return Some(Danger::Confirm(format!("`{shown}/{secret}` holds credentials")));
        }
        place
            .starts_with(source)
            .then(|| Danger::Confirm(format!("it contains `{shown}/{secret}`, where credentials lie")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, home: &str, confirmed: bool) -> Result<Option<String>, Failure> {
        let own = [
            Path::new(home).join(".config/tripmine"),
            Path::new(home).join(".local/share/tripmine"),
            Path::new(home).join(".local/state/tripmine"),
        ];
        Guard { home: Path::new(home), own: &own, confirmed }.check(Path::new(source))
    }

    #[test]
    fn ordinary_folders_pass() {
        for (source, home) in [
            ("/home/ann/projects/site", "/home/ann"),
            ("/home/ann/projects", "/home/ann"),
            ("/home/ann/.config/nvim", "/home/ann"),
            ("/home/bob/shared", "/home/ann"),
            ("/srv/site", "/home/ann"),
            ("/mnt/disk/site", "/home/ann"),
            ("/tmp/x", "/home/ann"),
            ("/var/tmp/x", "/home/ann"),
            ("/run/media/ann/stick", "/home/ann"),
            ("/root/projects/site", "/root"),
            ("/var/lib/jenkins/projects/site", "/var/lib/jenkins"),
            ("/etcetera", "/home/ann"),
        ] {
            assert_eq!(check(source, home, false), Ok(None), "{source}");
        }
    }

    #[test]
    fn dangers_need_a_clear_word() {
        for (source, part) in [
            ("/", "whole host"),
            ("/home/ann", "whole home"),
            ("/home", "contains your whole home"),
            ("/home/ann/.ssh", "`~/.ssh` holds credentials"),
            ("/home/ann/.ssh/keys", "`~/.ssh` holds credentials"),
            ("/home/ann/.gnupg", ".gnupg"),
            ("/home/ann/.aws", ".aws"),
            ("/home/ann/.azure", ".azure"),
            ("/home/ann/.kube", ".kube"),
            ("/home/ann/.docker", ".docker"),
            ("/home/ann/.config", "contains `~/.config/gcloud`"),
            ("/home/ann/.config/gcloud", "credentials"),
            ("/home/ann/.config/gh", "credentials"),
            ("/home/ann/.local", "contains `~/.local/share/keyrings`"),
            ("/home/ann/.local/share/keyrings", "credentials"),
            ("/home/ann/.mozilla/firefox", "credentials"),
            ("/home/ann/.password-store", "credentials"),
            ("/home/ann/.netrc", "credentials"),
            ("/home/bob", "somebody's whole home"),
            ("/home/bob/.ssh", "`/home/bob/.ssh` holds credentials"),
            ("/home/bob/.config", "contains `/home/bob/.config/gcloud`"),
            ("/home/bob/.netrc", "credentials"),
            ("/srv/homes/bob/.ssh", "`.ssh` holds credentials"),
            ("/home/ann/.local/state", "contains tripmine's own"),
            ("/etc", "`/etc` belongs to the system"),
            ("/etc/ssl", "`/etc` belongs"),
            ("/usr/src", "`/usr` belongs"),
            ("/var/lib", "`/var` belongs"),
            ("/boot", "`/boot` belongs"),
            ("/run/user/1000", "`/run` belongs"),
            ("/root", "`/root` belongs"),
            ("/tmp", "share it"),
        ] {
            let error = check(source, "/home/ann", false).expect_err(source);
            assert_eq!(error.kind, FailureKind::Denied);
            assert!(error.message.contains(part), "{source}: {error}");
            assert!(error.hints.iter().any(|hint| hint.contains("--yes-really")), "{source}");
            let warning = check(source, "/home/ann", true).expect(source).expect(source);
            assert!(warning.contains(part), "{source}: {warning}");
        }
    }

    #[test]
    fn some_are_never_shown() {
        for (source, part) in [
            ("/home/ann/.config/tripmine", "tripmine keeps"),
            ("/home/ann/.local/share/tripmine/images", "tripmine keeps"),
            ("/home/ann/.local/state/tripmine", "tripmine keeps"),
            ("/proc/1/root", "kernel"),
            ("/sys", "kernel"),
            ("/dev/shm", "kernel"),
            ("relative", "not absolute"),
        ] {
            let error = check(source, "/home/ann", true).expect_err(source);
            assert!(error.message.contains(part), "{source}: {error}");
            assert!(!error.hints.iter().any(|hint| hint.contains("--yes-really")), "{source}");
        }
    }

    #[test]
    fn a_home_that_is_a_system_folder_lifts_nothing() {
        assert!(check("/bin/tools", "/bin", false).is_err());
        assert!(check("/usr/src", "/", false).is_err());
        assert!(check("/root", "/root", false).is_err());
    }

    #[test]
    fn the_refusal_shows_no_controls() {
        let error = check("/etc/\u{1b}[2J", "/home/ann", false).expect_err("system");
        assert!(!error.message.contains('\u{1b}'), "{error:?}");
    }
}
