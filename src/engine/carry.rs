//! Carries out what takes no terminal: everything of [`Request`] but launching attached, attaching and exec'ing.

use std::path::Path;

use super::registry::Way;
use super::request::Request;
use super::{Engine, launch, running};
use crate::keeper::state::now_ms;
use crate::model::{CubeRecord, Failure, Name, TripId};
use crate::plan::resolve::Typed;
use crate::store::cubes::{self, CubeEntry};
use crate::store::fail::shown;
use crate::store::{homes, journal, machines, projects, trash};

/// What was done, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// One line.
    pub message: String,
    /// `tripmine undo` brings it back.
    pub undo: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What is worth having at hand: an address to open.
    pub copy: Option<String>,
}

impl Done {
    pub(super) fn say(message: impl Into<String>) -> Self {
        Self { message: message.into(), undo: false, warnings: Vec::new(), copy: None }
    }
}

impl Engine {
    /// Carries `request` out; it was confirmed.
    ///
    /// # Errors
    /// What failed, for a person. Nothing was done then.
    pub fn carry_out(&self, request: &Request) -> Result<Done, Failure> {
        let mines = self.layout.mines_dir();
        let run = &self.layout.run;
        match request {
            Request::Launch(typed) => self.launch_detached(typed),
            Request::Resume { image, keep } => {
                let (typed, lost) = super::resume::typed(self, image, keep.clone())?;
                let mut done = self.launch_detached(&typed)?;
                done.warnings.extend(super::resume::warning(&lost));
                Ok(done)
            }
            Request::Attach { .. } | Request::Exec { .. } => {
                Err(Failure::usage("this needs a terminal of its own"))
            }
            Request::Stop(id) | Request::Kill(id) => {
                let grace = matches!(request, Request::Kill(_)).then_some(0);
                running::end(run, &mines, id, grace)?;
                Ok(Done::say(format!("cube {} has ended", id.short())))
            }
            Request::Pause(id) => {
                running::pause(run, &mines, id)?;
                let short = id.short();
                let message = format!("cube {short} is paused: `tripmine resume {short}` goes on");
                Ok(self.done(message, "pause", id.as_str(), None))
            }
            Request::Remove(id) => {
                let entry = cubes::load(&mines, id)?;
                if entry.live {
                    return Err(cubes::CubeError::Alive(id.clone()).into());
                }
                running::remove(&self.layout, &entry)?;
                let mut done = Done::say(format!("cube {} is gone", id.short()));
                done.warnings.extend(self.record("rm", id.as_str(), None));
                Ok(done)
            }
            Request::Rename { cube, name } => self.rename_cube(&mines, cube, name),
            Request::MachineCreate { name, edits } => {
                machines::settings_of(edits)?;
                machines::create_with(&self.layout, name, edits)?;
                let undo = format!("tripmine machine rm {name}");
                Ok(self.done(format!("made machine `{name}`"), "machine create", name.as_str(), Some(&undo)))
            }
            Request::MachineEdit { name, edits } => {
                machines::settings_of(edits)?;
                machines::edit(&self.layout, name, edits)?;
                Ok(self.done(format!("changed machine `{name}`"), "machine edit", name.as_str(), None))
            }
            Request::MachineRename { name, new } => {
                machines::rename(&self.layout, name, new, &|name| self.cubes_on(name))?;
                let undo = format!("tripmine machine rename {new} {name}");
                let message = format!("machine `{name}` is now `{new}`");
                Ok(self.done(message, "machine rename", &format!("{name} {new}"), Some(&undo)))
            }
            Request::MachineRemove(name) => {
                let home = homes::usage(&self.layout.home(name));
                machines::rm(&self.layout, name, home, now_ms(), &|name| self.cubes_on(name))?;
                let message = format!("machine `{name}` is in the trash, with its home: {}", home.text());
                Ok(self.gone(message, "machine rm", name.as_str()))
            }
            Request::MachineResetHome(name) => {
                let home = homes::usage(&self.layout.home(name));
                machines::reset_home(&self.layout, name, home, now_ms(), &|name| self.cubes_on(name))?;
                let message = format!("the home of `{name}` is in the trash: {}", home.text());
                Ok(self.gone(message, "machine reset-home", name.as_str()))
            }
            Request::ProjectCreate { machine, name } => {
                let path = projects::create(&self.projects_root(machine)?, name)?;
                let undo = format!("tripmine project rm {name}");
                let message = format!("made project `{name}`: {}", shown(&path));
                Ok(self.done(message, "project create", &shown(&path), Some(&undo)))
            }
            Request::ProjectRemove { machine, name } => {
                let project = projects::find(&self.projects_root(machine)?, name)?;
                let used = crate::store::usage::usage(&project.path);
                projects::rm(&self.layout, &project, used, now_ms(), &|path| self.cubes_at(path))?;
                let message = format!("project `{name}` is in the trash");
                Ok(self.gone(message, "project rm", &shown(&project.path)))
            }
            Request::Undo(what) => {
                let record = trash::undo(&self.layout, what.as_deref())?;
                let message = format!("{} `{}` is back", record.kind.word(), record.name);
                Ok(self.done(message, "undo", record.id.as_str(), None))
            }
            Request::Snapshot { cube, name, machine } => {
                self.layout.ensure(self.uid)?;
                let entry = cubes::load(&mines, cube)?;
                let draft = super::snapshot::draft(self, &entry)?;
                self.keep_snapshot(&draft, name, machine)
            }
            Request::Apply { cube, paths } => {
                let entry = cubes::load(&mines, cube)?;
                let applied = super::changes::apply(self, &entry, paths, false)?;
                let count = applied.paths.len();
                if count == 0 {
                    return Ok(Done::say("nothing to take over"));
                }
                let what = format!("{count} changes of {}", cube.short());
                let mut done = self.done(format!("{what} taken over"), "apply", &what, None);
                done.warnings.extend(applied.notes.iter().cloned());
                Ok(done)
            }
            Request::Forward { cube, map } => self.forward(cube, map),
            Request::Unforward { cube, host } => self.unforward(cube, host),
            Request::NetAllow { cube, rule, until } => {
                let entry = cubes::load(&mines, cube)?;
                let notes = super::net::allow(self, &entry, rule, *until)?;
                Ok(Done::say(notes.join("; ")))
            }
            Request::ImagePull { remote, machine, plain_http } => {
                self.image_pull(remote, &Way::of(machine, *plain_http))
            }
            Request::ImagePush { image, remote, machine, plain_http } => {
                self.image_push(image, remote.as_deref(), &Way::of(machine, *plain_http))
            }
            Request::ImageImport { path, name } => self.image_import(path, name.as_deref()),
            Request::ImageExport { image, target } => self.image_export(image, target),
            Request::ImageTag { image, name } => self.image_tag(image, name),
            Request::ImageRemove(image) => self.image_remove(image),
            Request::Prune => self.prune(),
        }
    }

    fn launch_detached(&self, typed: &Typed) -> Result<Done, Failure> {
        let typed = Typed { detach: true, ..typed.clone() };
        self.layout.ensure(self.uid)?;
        let planned = launch::plan(self, &typed, Vec::new(), false)?;
        let mut client = launch::launch(self, &planned, launch::start_keeper()?, false)?;
        client.answer()?;
        let mut done = Done::say(format!("cube {} runs", planned.plan.id.short()));
        done.warnings.clone_from(&planned.plan.warnings);
        Ok(done)
    }

    fn rename_cube(&self, mines: &Path, cube: &TripId, name: &Name) -> Result<Done, Failure> {
        let entry = cubes::load(mines, cube)?;
        if !running::rename(&self.layout.run, mines, &entry, name)? {
            return Ok(Done::say(format!("the cube is called `{name}` already")));
        }
        Ok(self.done(format!("the cube is now `{name}`"), "rename", &format!("{cube} {name}"), None))
    }

    /// The projects root of a machine.
    ///
    /// # Errors
    /// The machine cannot be read.
    pub fn projects_root(&self, machine: &Name) -> Result<std::path::PathBuf, Failure> {
        let machine = machines::load(&self.layout, machine)?;
        Ok(projects::root(Some(&machine), &self.config, &self.home))
    }

    pub(super) fn done(&self, message: String, act: &str, what: &str, undo: Option<&str>) -> Done {
        let mut done = Done::say(message);
        done.warnings.extend(self.record(act, what, undo));
        done
    }

    fn gone(&self, message: String, act: &str, what: &str) -> Done {
        Done { undo: true, ..self.done(message, act, what, Some("tripmine undo")) }
    }

    /// Writes a line into the journal. What was done is done, so a failure is only told.
    pub(super) fn record(&self, act: &str, what: &str, undo: Option<&str>) -> Option<String> {
        journal::append(&self.layout, now_ms(), act, what, undo).err().map(|failure| failure.to_string())
    }

    /// The records of the cubes that live now.
    #[must_use]
    pub fn live(&self) -> Vec<CubeRecord> {
        let live =
            |entry: CubeEntry| entry.record.ok().filter(|record| entry.live && !record.state.is_over());
        cubes::list(&self.layout.mines_dir()).unwrap_or_default().into_iter().filter_map(live).collect()
    }

    fn cubes_on(&self, machine: &Name) -> Vec<String> {
        self.live()
            .iter()
            .filter(|cube| cube.machine == *machine)
            .map(|cube| cube.id.short().to_owned())
            .collect()
    }

    fn cubes_at(&self, project: &Path) -> Vec<String> {
        let real = project.canonicalize().unwrap_or_else(|_| project.to_owned());
        let sees = |cube: &&CubeRecord| {
            let seen = cube.project_path.as_deref();
            seen.is_some_and(|seen| seen.starts_with(&real) || real.starts_with(seen))
        };
        self.live().iter().filter(sees).map(|cube| cube.id.short().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deleted_comes_back() {
        let folder = tempfile::tempdir().expect("tempdir");
        let engine = Engine::in_folder(folder.path());
        let (machine, name) = (Name::default_machine(), Name::parse("site").expect("a name"));
        let made = engine.carry_out(&Request::ProjectCreate { machine: machine.clone(), name: name.clone() });
        assert!(made.expect("made").message.contains("made project `site`"));
        let gone = engine
            .carry_out(&Request::ProjectRemove { machine: machine.clone(), name: name.clone() })
            .expect("gone");
        assert!(gone.undo && gone.warnings.is_empty(), "{gone:?}");
        assert!(!folder.path().join("user/projects/site").exists());
        engine.carry_out(&Request::Undo(None)).expect("back");
        assert!(folder.path().join("user/projects/site").exists());
    }
}
