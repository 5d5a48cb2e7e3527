//! `Ctx`: what every verb gets: where things are, who asks, what lives, where text goes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::model::{CubeRecord, Failure, Name};
use crate::store::journal;
use crate::store::layout::Layout;

pub use super::out::Out;

/// The surroundings of one command. Made once, in `main`.
pub struct Ctx {
    /// Where things are on disk.
    pub layout: Layout,
    /// What `config.toml` says.
    pub config: Config,
    /// Where text goes.
    pub out: Out,
    /// The user's login name.
    pub user: String,
    /// The user's home.
    pub home: PathBuf,
    /// The effective user id.
    pub uid: u32,
    /// `TRIPMINE_MACHINE`.
    pub machine: Option<Name>,
    /// The editor's command line: `$VISUAL`, else `$EDITOR`.
    pub editor: Option<String>,
    /// The cubes that live now.
    pub live: Box<dyn Fn() -> Vec<CubeRecord>>,
}

impl std::fmt::Debug for Ctx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx").field("layout", &self.layout).field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl Ctx {
    /// What carries requests out.
    #[must_use]
    pub fn engine(&self) -> crate::engine::Engine {
        crate::engine::Engine {
            layout: self.layout.clone(),
            config: self.config.clone(),
            user: self.user.clone(),
            home: self.home.clone(),
            uid: self.uid,
            unpacking: Some(super::out::unpacking),
        }
    }

    /// Now, milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The machine used without `-m`: the variable's, else the configuration's, else `default`, as at a launch.
    #[must_use]
    pub fn default_machine(&self) -> Name {
        let named = self.machine.as_ref().or(self.config.machine.as_ref());
        named.cloned().unwrap_or_else(Name::default_machine)
    }

    /// Short ids of the live cubes on a machine.
    #[must_use]
    pub fn cubes_on(&self, machine: &Name) -> Vec<String> {
        self.cubes(|cube| cube.machine == *machine)
    }

    /// Short ids of the live cubes that see `project`: the folder itself, one in it or one around it.
    #[must_use]
    pub fn cubes_at(&self, project: &Path) -> Vec<String> {
        let real = project.canonicalize().unwrap_or_else(|_| project.to_owned());
        self.cubes(|cube| {
            let seen = cube.project_path.as_deref();
            seen.is_some_and(|seen| seen.starts_with(&real) || real.starts_with(seen))
        })
    }

    fn cubes(&self, using: impl Fn(&CubeRecord) -> bool) -> Vec<String> {
        (self.live)()
            .iter()
            .filter(|cube| !cube.state.is_over() && using(cube))
            .map(|cube| cube.id.short().to_owned())
            .collect()
    }

    /// Writes a line into the journal. What was done is done, so a failure is only told.
    pub fn record(&self, act: &str, what: &str, undo: Option<&str>) {
        if let Err(failure) = journal::append(&self.layout, self.now_ms(), act, what, undo) {
            self.out.note(format!("warning: {failure}"));
        }
    }
}

/// Parses a name that was typed.
///
/// # Errors
/// Of kind usage, with what is wrong with it.
pub fn name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A context in a temporary folder, with nothing alive.
    pub(crate) fn ctx() -> (tempfile::TempDir, Ctx) {
        let folder = tempfile::tempdir().expect("tempdir");
        let ctx = Ctx {
            layout: Layout::under(folder.path()),
            config: Config::default(),
            out: Out::captured(),
            user: "user".to_owned(),
            home: folder.path().join("user"),
            uid: rustix::process::geteuid().as_raw(),
            machine: None,
            editor: None,
            live: Box::new(Vec::new),
        };
        (folder, ctx)
    }

    /// A live cube on `machine` in `project`.
    pub(crate) fn cube(machine: &str, project: Option<&Path>) -> CubeRecord {
        let id = crate::model::TripId::from_parts(1, [3; 16]);
        serde_json::from_value(serde_json::json!({
            "version": 1, "id": id, "name": null, "machine": machine, "project": null,
            "project_path": project, "image": "host", "jail": "container", "net": "none", "user": "me",
            "seccomp": "default", "keep": "throwaway", "ephemeral": false, "argv": [], "env_names": [],
            "created_unix_ms": 1, "state": "running", "keeper": null, "init": null, "layers": [],
            "limits": [], "cgroups": [], "tty": false, "exit": null
        }))
        .expect("record")
    }
}
