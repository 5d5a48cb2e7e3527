//! A kept cube launched once more, as it was: from its record, and from what was typed then.

use std::path::Path;

use crate::model::sanitize::printable;
use crate::model::{CubeRecord, CubeSpec, Failure, FailureKind, Name, Settings};
use crate::plan::Typed;
use crate::plan::resolve::{ProjectRef, What};
use crate::store::cubes::{self, CubeEntry};

/// What is kept of `typed` for [`again`]: paths that mean the same from everywhere.
///
/// # Errors
/// The working directory is gone.
pub(super) fn keep(typed: &Typed) -> Result<Option<Typed>, Failure> {
    if typed.keep.is_none() {
        return Ok(None);
    }
    let mut kept = typed.clone();
    for file in &mut kept.env_files {
        *file = std::path::absolute(&file).map_err(|error| {
            Failure::failed(format!("cannot tell where `{}` is", printable(&file.to_string_lossy())))
                .because(&error)
        })?;
    }
    Ok(Some(kept))
}

/// The launch that made the kept cube of `entry`, once more: as its record says, with the variables, limits and net that were
/// given then. `root` is the projects root, canonical; `shell` the cube's.
///
/// # Errors
/// The folder that was mounted cannot be typed, or what was kept of the launch cannot be read.
pub fn again(entry: &CubeEntry, root: &Path, shell: &str) -> Result<Typed, Failure> {
    let record = entry.record.as_ref().map_err(|error| Failure::failed(error.to_string()))?;
    let kept = cubes::read_launch(&entry.path)?;
    let kept = kept.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|error| {
        Failure::failed("what was kept of the cube's launch cannot be read")
            .because(&error)
            .hint("launch it again with `--keep` and its name: that writes it anew")
    })?;
    as_recorded(record, kept, root, shell)
}

fn as_recorded(record: &CubeRecord, kept: Option<Typed>, root: &Path, shell: &str) -> Result<Typed, Failure> {
    let mut typed = of_spec(&CubeSpec::of(record), record.name.clone(), root, shell)?;
    // Its changes lie on this one, whatever the machine starts from by now.
    typed.settings.image = Some(record.image.clone());
    if let Some(kept) = kept {
        typed.settings.jail = kept.settings.jail;
        typed.settings.limits = kept.settings.limits;
        typed.settings.reach = kept.settings.reach;
        typed.env = kept.env;
        typed.env_files = kept.env_files;
        typed.workdir = kept.workdir;
        typed.review = kept.review;
        // The folder is the one that was agreed to then: it is compared with the record below.
        typed.yes_really = kept.yes_really;
        typed.runs_image = kept.runs_image;
    }
    Ok(typed)
}

/// The launch of `spec` once more. `root` is the projects root, canonical; `shell` the cube's. Variables that were given
/// only then are in no spec, and are not given again.
///
/// # Errors
/// The folder that was mounted cannot be typed.
pub(super) fn of_spec(
    spec: &CubeSpec,
    keep: Option<Name>,
    root: &Path,
    shell: &str,
) -> Result<Typed, Failure> {
    let what = match spec.argv.as_slice() {
        [only] if only == shell => What::Shell,
        argv => What::Command(argv.to_vec()),
    };
    let mut typed = Typed {
        machine: Some(spec.machine.clone()),
        keep,
        settings: Settings {
            jail: Some(spec.jail.into()),
            user: Some(spec.user),
            seccomp: Some(spec.seccomp),
            net: Some(spec.net),
            ports: spec.publish.clone(),
            ..spec.given.settings.clone()
        },
        workdir: spec.given.workdir.clone(),
        ephemeral: spec.ephemeral,
        what,
        ..Typed::default()
    };
    match (&spec.project, &spec.project_path) {
        (Some(project), Some(path)) if *project == "." && path == root => {
            typed.project = Some(ProjectRef::Root)
        }
        (Some(project), Some(path)) if *path == root.join(project) => {
            let name = Name::parse(project).map_err(|error| Failure::usage(error.to_string()))?;
            typed.project = Some(ProjectRef::Named(name));
        }
        (_, Some(path)) => {
            if path.to_str().is_none() {
                let shown = printable(&path.to_string_lossy());
                return Err(Failure::new(
                    FailureKind::Unsupported,
                    format!("the folder is not UTF-8: `{shown}`"),
                ));
            }
            typed.mount = Some(path.clone());
        }
        _ => {}
    }
    Ok(typed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::env::EnvChoice;
    use crate::store::cubes::tests::durable as kept_record;

    #[test]
    fn a_kept_cube_is_launched_as_it_was() {
        let root = Path::new("/home/ann/projects");
        let mut record = kept_record(1, "box");
        let site = || Name::parse("site").ok().map(ProjectRef::Named);
        for (project, path, argv, target, mount, what) in [
            (Some("site"), Some("/home/ann/projects/site"), "/bin/bash", site(), None, What::Shell),
            (
                Some("."),
                Some("/home/ann/projects"),
                "make",
                Some(ProjectRef::Root),
                None,
                What::Command(vec!["make".into()]),
            ),
            (Some("x"), Some("/srv/x"), "/bin/bash", None, Some("/srv/x"), What::Shell),
            (None, None, "/bin/bash", None, None, What::Shell),
        ] {
            record.project = project.map(str::to_owned);
            record.project_path = path.map(Into::into);
            record.argv = vec![argv.to_owned()];
            let typed = as_recorded(&record, None, root, "/bin/bash").expect("good");
            assert_eq!((typed.project, typed.what), (target, what), "{project:?}");
            assert_eq!(typed.mount.as_deref(), mount.map(Path::new));
            assert_eq!(typed.keep.map(String::from).as_deref(), Some("box"));
        }
    }

    #[test]
    fn what_was_given_then_is_given_again() {
        let given = Typed {
            keep: Name::parse("old").ok(),
            env: vec![
                EnvChoice::parse("A=secret").expect("good"),
                EnvChoice::parse("HOMEPAGE").expect("good"),
            ],
            env_files: vec!["vars".into()],
            settings: Settings {
                limits: crate::model::Limits {
                    pids: Some(crate::model::Limit { value: 99, required: true }),
                    ..crate::model::Limits::default()
                },
                ..Settings::default()
            },
            workdir: Some("/usr".into()),
            ..Typed::default()
        };
        assert_eq!(keep(&Typed { keep: None, ..given.clone() }), Ok(None));
        let kept = keep(&given).expect("kept").expect("some");
        assert!(kept.env_files[0].is_absolute());
        let bytes = serde_json::to_vec(&kept).expect("written");
        let read: Typed = serde_json::from_slice(&bytes).expect("read");
        assert_eq!(read, kept);
        // Renamed since: the record knows.
        let typed =
            as_recorded(&kept_record(1, "new"), Some(read), Path::new("/p"), "/bin/sh").expect("good");
        assert_eq!(typed.keep.map(String::from).as_deref(), Some("new"));
        assert_eq!((typed.env, typed.env_files), (given.env, kept.env_files));
        assert_eq!((typed.settings.limits, typed.workdir), (given.settings.limits, given.workdir));
    }
}
