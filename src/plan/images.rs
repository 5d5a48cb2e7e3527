//! What an image says of how it is run, weighed against what a cube is. A stranger wrote it: nothing of it widens a
//! launch.

use super::facts::{Caller, ImageFacts};
use super::idmap::login_name;
use super::launch::{IdMap, MapWriter, UserPlan};
use super::mounts;
use crate::model::sanitize::printable;
use crate::model::{EnvVar, Failure, RunAs};

/// Variables that are the cube's own, whatever an image says.
const OURS: [&str; 6] = ["HOME", "USER", "LOGNAME", "SHELL", "TERM", "HOSTNAME"];

/// Makes `user` the one that the image wants, as far as an id can be had: the caller's own id is mapped to it. Says what
/// could not be done.
#[must_use]
pub fn run_as(image: &ImageFacts, caller: &Caller, user: &mut UserPlan) -> Option<String> {
    let wanted = image.user.as_ref()?;
    if user.run_as != RunAs::Me {
        return None;
    }
    if user.map_writer != MapWriter::Own {
        return Some(format!(
            "the image's own user {} is not used: started by root, a cube's home and project belong to root",
            wanted.uid
        ));
    }
    let one = |inside, outside| vec![IdMap { inside, outside, count: 1 }];
    user.uid = wanted.uid;
    user.gid = wanted.gid;
    user.uid_map = one(wanted.uid, caller.uid);
    user.gid_map = one(wanted.gid, caller.gid);
    if let Some(name) = wanted.name.as_deref().filter(|name| login_name(name) == *name) {
        name.clone_into(&mut user.name);
    }
    None
}

/// The image's command with `arguments`: they take the place of `Cmd`, as everywhere. `None` when it has none.
#[must_use]
pub fn command(image: &ImageFacts, arguments: &[String]) -> Option<Vec<String>> {
    if image.entrypoint.is_empty() && !arguments.is_empty() {
        return None;
    }
    let tail = if arguments.is_empty() { &image.cmd } else { arguments };
    let argv: Vec<String> = image.entrypoint.iter().chain(tail).cloned().collect();
    (!argv.is_empty()).then_some(argv)
}

/// A command that is nothing but a shell.
#[must_use]
pub fn is_shell(argv: &[String]) -> bool {
    let [program] = argv else { return false };
    let name = program.rsplit('/').next().unwrap_or_default();
    matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "fish" | "busybox")
}

/// The image's variables that a cube takes over.
#[must_use]
pub fn variables(image: &ImageFacts) -> Vec<EnvVar> {
    let ours = |key: &str| OURS.contains(&key) || key.starts_with("TRIPMINE_");
    image.env.iter().filter(|variable| !ours(&variable.key)).cloned().collect()
}

/// The image's working directory.
///
/// # Errors
/// It is no plain absolute path.
pub fn working_dir(text: &str) -> Result<String, Failure> {
    mounts::workdir(text).map_err(|_| {
        Failure::usage(format!("the image's working directory cannot be used: `{}`", printable(text)))
            .hint("`--workdir DIR` names another one")
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::ImageUser;
    use super::super::{idmap, samples};
    use super::*;

    fn image() -> ImageFacts {
        ImageFacts {
            digest: "sha256:1".into(),
            lowers: Vec::new(),
            on_host: false,
            over_system: Vec::new(),
            shell: "/bin/sh".into(),
            env: Vec::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: None,
            user: None,
            notes: Vec::new(),
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands() {
        for (entrypoint, cmd, arguments, want) in [
            ("", "bash", "", Some("bash")),
            ("", "bash", "x", None),
            ("run", "a b", "", Some("run a b")),
            ("run", "a b", "x", Some("run x")),
            ("", "", "", None),
        ] {
            let image = ImageFacts { entrypoint: words(entrypoint), cmd: words(cmd), ..image() };
            assert_eq!(command(&image, &words(arguments)), want.map(words), "{entrypoint} {cmd} {arguments}");
        }
        assert!(
            is_shell(&words("/usr/bin/bash")) && !is_shell(&words("bash -c x")) && !is_shell(&words("ls"))
        );
    }

    #[test]
    fn what_is_ours_stays_ours() {
        let pairs = [("PATH", "/x"), ("HOME", "/evil"), ("TRIPMINE_HOME", "/evil"), ("A", "1")];
        let env = pairs.map(|(key, value)| EnvVar { key: key.into(), value: value.into() });
        let kept = variables(&ImageFacts { env: env.to_vec(), ..image() });
        assert_eq!(kept.iter().map(|v| v.key.as_str()).collect::<Vec<_>>(), ["PATH", "A"]);
        for bad in ["x", "/a/../b", "/proc/self/fd/7"] {
            assert!(working_dir(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_images_user_is_the_callers_own_id_outside() {
        let facts = samples::facts();
        let wanted = ImageUser { uid: 999, gid: 998, name: Some("db".into()) };
        let image = ImageFacts { user: Some(wanted), ..image() };
        let (mut user, _) = idmap::user(RunAs::Me, &facts.caller, None, false);
        assert_eq!(run_as(&image, &facts.caller, &mut user), None);
        assert_eq!((user.uid, user.gid, user.name.as_str()), (999, 998, "db"));
        assert_eq!(user.uid_map, [IdMap { inside: 999, outside: facts.caller.uid, count: 1 }]);
        let root = Caller { uid: 0, ..facts.caller };
        let (mut user, _) = idmap::user(RunAs::Me, &root, None, false);
        assert!(run_as(&image, &root, &mut user).is_some_and(|note| note.contains("not used")));
        assert_eq!(user.uid, 0);
    }
}
