//! Where things are seen inside. Owns the inside paths; whether a host folder may be seen at all is
//! `secrets`' question.

use std::path::Path;

use super::facts::FoundProject;
use super::launch::{MountKind, MountPlan, ProjectPlan, UserPlan};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};

/// Where projects are seen inside.
pub const PROJECTS: &str = "/projects";
/// Where `--mount` is seen inside.
pub const WORK: &str = "/work";

/// What is said when programs can be left in the project that run as their owner, whoever starts them: root inside may set
/// such modes, for packages, as may root of a guest, whose modes are its own. Inside they mean nothing. Under review they
/// are not taken over.
#[must_use]
pub fn set_ids(found: &FoundProject, mount: &MountPlan, user: &UserPlan) -> Option<String> {
    (found.open_to_others && !mount.read_only && mount.review.is_none()).then(|| {
        let whom = if user.idmapped_mounts { "as root" } else { "as you" };
        format!(
            "the cube can leave programs in `{}` that run {whom} when another user of this host starts them, and all of \
             them can get there: close a folder above it (`chmod o-x`), or add `--review`",
            printable(&found.path.to_string_lossy())
        )
    })
}

/// Where a project is seen: `/work` by `--mount`, `/projects` for the root (`.`), else
/// `/projects/NAME`.
#[must_use]
pub fn project_target(name: &str, by_mount: bool) -> String {
    if by_mount {
        WORK.to_owned()
    } else if name == "." {
        PROJECTS.to_owned()
    } else {
        format!("{PROJECTS}/{name}")
    }
}

/// The project and its mount.
///
/// # Errors
/// When it is no folder.
pub fn project(found: &FoundProject, by_mount: bool) -> Result<(ProjectPlan, MountPlan), Failure> {
    let target = project_target(&found.name, by_mount);
    if !found.directory {
        let shown = printable(&found.path.to_string_lossy());
        return Err(Failure::new(FailureKind::Denied, format!("`{shown}` is not a folder"))
            .hint("a project is a folder; give `--mount` the folder that holds the file"));
    }
    let plan = ProjectPlan { name: found.name.clone(), path: found.path.clone(), target: target.clone() };
    let mount = MountPlan {
        kind: MountKind::Project,
        source: found.path.clone(),
        identity: found.identity,
        directory: true,
        target,
        read_only: false,
        review: None,
    };
    Ok((plan, mount))
}

/// A path of the host as it is seen in place: the same.
///
/// # Errors
/// It is not UTF-8, which a variable or a rule cannot hold.
pub fn own_place(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let shown = printable(&path.to_string_lossy());
        Failure::new(FailureKind::Unsupported, format!("the folder is not UTF-8: `{shown}`"))
            .hint("the jail `landlock` names folders as they are; rename it, or use `--jail container`")
    })
}

/// In place everything is seen where it is.
///
/// # Errors
/// As [`own_place`].
pub fn stay(project: Option<&mut ProjectPlan>, mounts: &mut [MountPlan]) -> Result<(), Failure> {
    for mount in mounts {
        mount.target = own_place(&mount.source)?;
    }
    if let Some(project) = project {
        project.target = own_place(&project.path)?;
    }
    Ok(())
}

/// Checks a working directory: an absolute path inside, plain, and not below `/proc`, where links
/// may lead out of the root (CVE-2024-21626).
///
/// # Errors
/// What is wrong with it.
pub fn workdir(text: &str) -> Result<String, Failure> {
    let fail = |why: &str| Err(Failure::usage(format!("`--workdir {}`: {why}", printable(text))));
    if !text.starts_with('/') {
        return fail("it must be an absolute path inside the cube");
    }
    if text.contains('\0') || text.len() > 4095 {
        return fail("it is no path");
    }
    if text.split('/').any(|part| part == "..") {
        return fail("it holds `..`");
    }
    let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.first() == Some(&"proc") {
        return fail("it is below /proc");
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A host name for a cube: letters, digits and `-`, at most 63 bytes, whatever `text` holds.
#[must_use]
pub fn hostname(text: &str) -> String {
    let plain: String =
        text.chars().take(63).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { "cube".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::launch::FileIdentity;
    use super::*;

    #[test]
    fn targets() {
        for (name, by_mount, target) in [
            ("site", false, "/projects/site"),
            (".", false, "/projects"),
            ("site", true, "/work"),
            (".", true, "/work"),
        ] {
            assert_eq!(project_target(name, by_mount), target, "{name} {by_mount}");
        }
    }

    #[test]
    fn a_file_is_no_project() {
        let mut found = FoundProject {
            name: "x".to_owned(),
            path: "/home/ann/projects/x".into(),
            identity: FileIdentity { dev: 1, ino: 2 },
            directory: false,
            open_to_others: false,
        };
        let error = project(&found, false).expect_err("a file");
        assert!(error.message.contains("`/home/ann/projects/x` is not a folder"), "{error}");
        found.directory = true;
        let (plan, mount) = project(&found, false).expect("a folder");
        assert_eq!(plan.target, mount.target);
        assert_eq!((mount.kind, mount.read_only, mount.directory), (MountKind::Project, false, true));
    }

    #[test]
    fn workdirs() {
        for (text, want) in [("/work", "/work"), ("/", "/"), ("//a/./b/", "/a/b"), ("/procs", "/procs")] {
            assert_eq!(workdir(text).as_deref(), Ok(want), "{text}");
        }
        for (text, part) in [
            ("work", "absolute"),
            ("", "absolute"),
            ("/a/../b", "`..`"),
            ("/proc/self/fd/7", "/proc"),
            ("//./proc", "/proc"),
            ("/a\0b", "no path"),
        ] {
            let error = workdir(text).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn hostnames() {
        for (text, want) in
            [("site", "site"), ("my_app.v1", "my-app-v1"), (".", "cube"), ("", "cube"), ("é-a", "a")]
        {
            assert_eq!(hostname(text), want, "{text}");
        }
        assert_eq!(hostname(&"x".repeat(100)).len(), 63);
    }
}
