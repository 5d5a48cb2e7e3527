//! Projects: the folders beneath the projects root.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Config;
use crate::model::{Failure, FailureKind, Machine, Name};

use super::fail::{cannot, shown};
use super::layout::Layout;
use super::trash::{self, TrashKind, TrashRecord};
use super::usage::Usage;

/// The projects root when nobody names one.
pub const DEFAULT_ROOT: &str = "~/projects";

/// One project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Its name.
    pub name: Name,
    /// Its folder.
    pub path: PathBuf,
    /// It is a link to a folder elsewhere; what it leads to was not looked at.
    pub link: bool,
    /// Last change of the folder itself, milliseconds since 1970.
    pub modified_ms: u64,
}

/// The projects root: the machine's, else the configuration's, else [`DEFAULT_ROOT`], with `~`
/// replaced by `home`.
#[must_use]
pub fn root(machine: Option<&Machine>, config: &Config, home: &Path) -> PathBuf {
    let written = machine.and_then(|machine| machine.projects.as_deref()).or(config.projects.as_deref());
    expand(written.unwrap_or(Path::new(DEFAULT_ROOT)), home)
}

/// A path as it was written, with `~` replaced by `home`.
#[must_use]
pub fn expand(path: &Path, home: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_owned(), |rest| home.join(rest))
}

/// The projects beneath `root`, by name: folders, and links, whose names can be typed. None when
/// the root does not exist yet.
///
/// # Errors
/// The root cannot be read.
pub fn list(root: &Path) -> Result<Vec<Project>, Failure> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot("list the projects in", root, error)),
    };
    let mut projects: Vec<Project> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str().and_then(|name| Name::parse(name).ok())?;
            project(root, &name).ok()
        })
        .collect();
    projects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(projects)
}

fn project(root: &Path, name: &Name) -> Result<Project, Failure> {
    let path = root.join(name.as_str());
    let missing = || {
        Failure::new(FailureKind::Missing, format!("there is no project `{name}` in {}", shown(root)))
            .hint(format!("make it with: tripmine project create {name}"))
    };
    let found = match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() || found.is_symlink() => found,
        Ok(_) => return Err(missing()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(cannot("read", &path, error)),
    };
    let modified_ms = u64::try_from(found.mtime()).unwrap_or(0).saturating_mul(1000);
    Ok(Project { name: name.clone(), path, link: found.is_symlink(), modified_ms })
}

/// Makes a project's folder, and the root if it is missing.
///
/// # Errors
/// It exists already, or cannot be made.
pub fn create(root: &Path, name: &Name) -> Result<PathBuf, Failure> {
    fs::create_dir_all(root).map_err(|error| cannot("create", root, error))?;
    let path = root.join(name.as_str());
    match DirBuilder::new().mode(0o755).create(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::new(
            FailureKind::Busy,
            format!("there is a project `{name}` already: {}", shown(&path)),
        )),
        Err(error) => Err(cannot("create", &path, error)),
    }
}

/// The project `name` beneath `root`.
///
/// # Errors
/// There is none.
pub fn find(root: &Path, name: &Name) -> Result<Project, Failure> {
    project(root, name).map_err(|failure| {
        let near = list(root).unwrap_or_default();
        let known: Vec<&str> = near.iter().map(|project| project.name.as_str()).collect();
        match crate::config::error::nearest(name.as_str(), &known) {
            Some(near) if failure.kind == FailureKind::Missing => {
                let mut failure = failure;
                failure.hints.insert(0, format!("did you mean `{near}`?"));
                failure
            }
            _ => failure,
        }
    })
}

/// Moves a project to the trash. A link goes itself, not what it leads to. `in_use` gives the ids of
/// live cubes that see this folder.
///
/// # Errors
/// It is in use or missing, or cannot be moved.
pub fn rm(
    layout: &Layout,
    project: &Project,
    used: Usage,
    now_ms: u64,
    in_use: &dyn Fn(&Path) -> Vec<String>,
) -> Result<TrashRecord, Failure> {
    refuse_in_use(project, in_use)?;
    let name = project.path.file_name().and_then(OsStr::to_str).unwrap_or(project.name.as_str());
    trash::put(layout, TrashKind::Project, name, &[&project.path], used, now_ms)
}

/// Refuses while cubes see the project. `in_use` gives their ids.
///
/// # Errors
/// Some do.
pub fn refuse_in_use(project: &Project, in_use: &dyn Fn(&Path) -> Vec<String>) -> Result<(), Failure> {
    let cubes = in_use(&project.path);
    if cubes.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Busy,
        format!("project `{}` is in use by {}", project.name, cubes.join(", ")),
    )
    .hint(format!("stop first: tripmine stop {}", cubes.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_root_counts() {
        let home = Path::new("/h");
        let mut machine = Machine::new(Name::default_machine());
        let mut config = Config::default();
        assert_eq!(root(Some(&machine), &config, home), Path::new("/h/projects"));
        config.projects = Some("~".into());
        assert_eq!(root(Some(&machine), &config, home), Path::new("/h"));
        machine.projects = Some("/p".into());
        assert_eq!(root(Some(&machine), &config, home), Path::new("/p"));
        assert_eq!(root(None, &config, home), Path::new("/h"));
    }

    #[test]
    fn lists_what_can_be_typed_and_removes_to_the_trash() {
        let folder = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(folder.path());
        let root = folder.path().join("deep/projects");
        assert_eq!(list(&root), Ok(Vec::new()));
        let site = Name::parse("site").expect("name");
        create(&root, &site).expect("create");
        assert_eq!(create(&root, &site).expect_err("twice").kind, FailureKind::Busy);
        for odd in [".git", "a b", "run"] {
            fs::create_dir(root.join(odd)).expect("mkdir");
        }
        fs::write(root.join("file"), "").expect("write");
        std::os::unix::fs::symlink("/usr", root.join("lnk")).expect("link");
        let found: Vec<_> =
            list(&root).expect("list").into_iter().map(|p| (p.name.to_string(), p.link)).collect();
        assert_eq!(found, [("lnk".into(), true), ("site".into(), false)]);
        let typo = find(&root, &Name::parse("stie").expect("name")).expect_err("typo");
        assert!(typo.hints.iter().any(|hint| hint.contains("`site`")));
        let project = find(&root, &site).expect("find");
        let busy = |_: &Path| vec!["x".to_owned()];
        assert_eq!(
            rm(&layout, &project, Usage::default(), 1, &busy).expect_err("busy").kind,
            FailureKind::Busy
        );
        rm(&layout, &project, Usage::default(), 1, &|_| Vec::new()).expect("rm");
        assert!(!project.path.exists());
        trash::undo(&layout, Some("site")).expect("undo");
        assert!(project.path.is_dir());
    }
}
