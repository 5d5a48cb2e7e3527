//! Machines on disk: a file each, and the home that belongs to it.
//!
//! Every change holds the machine's lock, so that of two commands at once none loses its write.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::edit::{Edit, apply_edits};
use crate::config::load::{load_machine, read_text};
use crate::config::machine::{EMPTY_MACHINE, parse_machine, render_machine};
use crate::model::sanitize::printable_bytes;
use crate::model::{CubeRecord, Failure, FailureKind, ImageRef, Keep, Machine, Name, Settings, TripId};

use super::atomic::{create_atomic, write_atomic};
use super::cubes;
use super::fail::cannot;
use super::layout::Layout;
use super::lock::{self, Lock};
use super::trash::{self, TrashKind, TrashRecord};
use super::usage::{Usage, usage};

/// A machine's file may hold secrets in its environment.
const MODE: u32 = 0o600;

/// Machine `name`. `default` exists even without a file.
///
/// # Errors
/// There is no such machine, or its file is wrong.
pub fn load(layout: &Layout, name: &Name) -> Result<Machine, Failure> {
    match load_machine(name, &layout.machine_file(name))? {
        Some(machine) => Ok(machine),
        None if *name == Name::default_machine() => Ok(Machine::new(name.clone())),
        None => Err(missing(layout, name)),
    }
}

fn missing(layout: &Layout, name: &Name) -> Failure {
    let failure = Failure::new(FailureKind::Missing, format!("there is no machine `{name}`"));
    let deleted = trash::list(layout).unwrap_or_default();
    if deleted.iter().any(|it| it.kind == TrashKind::Machine && it.name == name.as_str()) {
        return failure.hint(format!("it was deleted: `tripmine undo {name}` brings it back"));
    }
    let names = names(layout).unwrap_or_default();
    let known: Vec<&str> = names.iter().map(Name::as_str).collect();
    match crate::config::error::nearest(name.as_str(), &known) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint(format!("make it with: tripmine machine create {name}")),
    }
}

/// True when the machine can be loaded or at least has a file.
#[must_use]
pub fn exists(layout: &Layout, name: &Name) -> bool {
    *name == Name::default_machine() || layout.machine_file(name).exists()
}

/// Every machine's name, sorted, `default` first.
///
/// # Errors
/// The folder cannot be read.
pub fn names(layout: &Layout) -> Result<Vec<Name>, Failure> {
    let folder = layout.machines_dir();
    let mut names = Vec::new();
    match fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|error| cannot("list", &folder, error))?;
                let file = entry.file_name();
                let name = file.to_str().and_then(|f| f.strip_suffix(".toml")).map(Name::parse);
                names.extend(name.and_then(Result::ok));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(cannot("list", &folder, error)),
    }
    let default = Name::default_machine();
    names.retain(|name| *name != default);
    names.sort();
    names.insert(0, default);
    Ok(names)
}

/// A machine's name, and the machine or what is wrong with its file.
pub type Listed = (Name, Result<Machine, Failure>);

/// Every machine; one whose file is wrong comes as its failure, so that it does not hide the others.
///
/// # Errors
/// The folder cannot be read.
pub fn list(layout: &Layout) -> Result<Vec<Listed>, Failure> {
    Ok(names(layout)?
        .into_iter()
        .map(|name| {
            let machine = load(layout, &name);
            (name, machine)
        })
        .collect())
}

/// Holds machine `name` so that it is neither changed nor removed: a launch keeps this until its
/// cube is listed as live.
///
/// # Errors
/// The lock cannot be taken.
pub fn hold(layout: &Layout, name: &Name) -> Result<Lock, Failure> {
    lock::shared(layout, &lock::machine(name))
}

/// Writes a new machine.
///
/// # Errors
/// It exists already, or cannot be written.
pub fn create(layout: &Layout, machine: &Machine) -> Result<(), Failure> {
    create_text(layout, &machine.name, &render_machine(machine)?)
}

/// Writes a new machine of `edits`.
///
/// # Errors
/// It exists already, an edit is wrong, or it cannot be written.
pub fn create_with(layout: &Layout, name: &Name, edits: &[Edit]) -> Result<Machine, Failure> {
    let file = layout.machine_file(name);
    let text = apply_edits(&file, EMPTY_MACHINE, edits)?;
    create_text(layout, name, &text)?;
    Ok(parse_machine(name, &file, &text)?)
}

fn create_text(layout: &Layout, name: &Name, text: &str) -> Result<(), Failure> {
    let _lock = lock::exclusive(layout, &lock::machine(name))?;
    make_folder(layout)?;
    let file = layout.machine_file(name);
    match create_atomic(&file, text.as_bytes(), MODE) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::new(FailureKind::Busy, format!("there is a machine `{name}` already"))
                .hint(format!("change it with: tripmine machine edit {name}")))
        }
        other => other.map_err(|error| cannot("write", &file, error)),
    }
}

fn make_folder(layout: &Layout) -> Result<(), Failure> {
    let folder = layout.machines_dir();
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| cannot("create", &folder, e))
}

/// The text of a machine's file, for an editor.
///
/// # Errors
/// There is no such machine, or it cannot be read.
pub fn text(layout: &Layout, name: &Name) -> Result<String, Failure> {
    match read_text(&layout.machine_file(name), true)? {
        Some(text) => Ok(text),
        None if *name == Name::default_machine() => Ok(EMPTY_MACHINE.to_owned()),
        None => Err(missing(layout, name)),
    }
}

/// Changes keys of a machine's file; comments and everything else stay.
///
/// # Errors
/// There is no such machine, its file is wrong before or after, or it cannot be written.
pub fn edit(layout: &Layout, name: &Name, edits: &[Edit]) -> Result<Machine, Failure> {
    let _lock = lock::exclusive(layout, &lock::machine(name))?;
    let file = layout.machine_file(name);
    let changed = apply_edits(&file, &text(layout, name)?, edits)?;
    write(layout, name, &changed)
}

/// Replaces a machine's text, unless it is no longer `before`: an editor may have been open long.
///
/// # Errors
/// The text is wrong (with its place), or the file was changed meanwhile.
pub fn replace_text(layout: &Layout, name: &Name, before: &str, after: &str) -> Result<Machine, Failure> {
    let _lock = lock::exclusive(layout, &lock::machine(name))?;
    if text(layout, name)? != before {
        return Err(Failure::new(
            FailureKind::Busy,
            format!("machine `{name}` was changed by somebody else while you edited it"),
        )
        .hint("edit it again"));
    }
    write(layout, name, after)
}

fn write(layout: &Layout, name: &Name, text: &str) -> Result<Machine, Failure> {
    let file = layout.machine_file(name);
    let machine = parse_machine(name, &file, text)?;
    make_folder(layout)?;
    write_atomic(&file, text.as_bytes(), MODE).map_err(|error| cannot("write", &file, error))?;
    Ok(machine)
}

/// The settings that `edits` alone make: what was asked for, to be checked before it is written.
///
/// # Errors
/// A change is wrong.
pub fn settings_of(edits: &[Edit]) -> Result<Settings, Failure> {
    let file = Path::new("the options");
    let text = apply_edits(file, EMPTY_MACHINE, edits)?;
    Ok(parse_machine(&Name::default_machine(), file, &text)?.settings)
}

/// Sets a machine's image.
///
/// # Errors
/// As [`edit`].
pub fn set_image(layout: &Layout, name: &Name, image: &ImageRef) -> Result<Machine, Failure> {
    edit(layout, name, &[Edit::Set { key: "image", value: image.to_string() }])
}

/// Refuses while cubes use the machine. `in_use` gives their ids.
///
/// # Errors
/// Some do.
pub fn refuse_in_use(name: &Name, in_use: &dyn Fn(&Name) -> Vec<String>) -> Result<(), Failure> {
    let cubes = in_use(name);
    if cubes.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Busy,
        format!("machine `{name}` is in use by {}", printable_bytes(cubes.join(", ").as_bytes())),
    )
    .hint(format!("stop first: tripmine stop {}", cubes.join(" "))))
}

/// Gives a machine and its home another name.
///
/// The new file comes first, then the home moves, then the kept cubes follow, then the old file goes: a crash in
/// between leaves two machines and one home, and nothing lost.
///
/// # Errors
/// It is `default`, in use or missing, or the new name is taken by a machine or a home.
pub fn rename(
    layout: &Layout,
    old: &Name,
    new: &Name,
    in_use: &dyn Fn(&Name) -> Vec<String>,
) -> Result<(), Failure> {
    if *old == Name::default_machine() {
        return Err(Failure::new(FailureKind::Denied, "machine `default` always exists under this name")
            .hint(format!("make another: tripmine machine create {new}")));
    }
    if old == new {
        return Err(Failure::usage(format!("machine `{old}` has this name already")));
    }
    // Always in the same order, so that two renames cannot wait for each other.
    let (first, second) = if old < new { (old, new) } else { (new, old) };
    let _first = lock::exclusive(layout, &lock::machine(first))?;
    let _second = lock::exclusive(layout, &lock::machine(second))?;
    refuse_in_use(old, in_use)?;
    let text = text(layout, old)?;
    let (old_home, new_home) = (layout.home(old), layout.home(new));
    let taken = |what: &str| {
        Failure::new(FailureKind::Busy, format!("there is {what} `{new}` already"))
            .hint("choose another name")
    };
    if fs::symlink_metadata(&new_home).is_ok() {
        return Err(taken("a home of the name"));
    }
    let (old_file, new_file) = (layout.machine_file(old), layout.machine_file(new));
    match create_atomic(&new_file, text.as_bytes(), MODE) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(taken("a machine")),
        other => other.map_err(|error| cannot("write", &new_file, error))?,
    }
    match fs::rename(&old_home, &new_home) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let failure = cannot("rename", &old_home, error);
            return Err(match fs::remove_file(&new_file) {
                Ok(()) => failure,
                Err(_) => failure.hint(format!("machine `{new}` was made without a home: remove it")),
            });
        }
        _ => {}
    }
    follow(layout, old, new)
        .map_err(|failure| failure.hint(format!("machine `{old}` is still there, its home is `{new}`'s")))?;
    fs::remove_file(&old_file).map_err(|error| cannot("delete", &old_file, error))
}

/// The kept cubes of a machine that do not run, by their names: they can be entered on it alone.
///
/// # Errors
/// The cubes cannot be listed.
pub fn kept_on(layout: &Layout, name: &Name) -> Result<Vec<(TripId, Name)>, Failure> {
    let mines = layout.mines_dir();
    if !mines.is_dir() {
        return Ok(Vec::new());
    }
    let of_it = |entry: cubes::CubeEntry| {
        // A keeper lives a moment longer than its cube.
        let ended = |record: &CubeRecord| !entry.live || record.state.is_over();
        let record = entry.record.ok().filter(|record| record.machine == *name && ended(record))?;
        record.name.filter(|_| record.keep == Keep::Durable).map(|name| (entry.id, name))
    };
    Ok(cubes::list(&mines)?.into_iter().filter_map(of_it).collect())
}

/// The folder of a kept cube that has ended, once its keeper has let go of it.
fn let_go(mines: &Path, id: &TripId) -> Result<(cubes::CubeDir, CubeRecord), cubes::CubeError> {
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        match cubes::open_durable(mines, id) {
            Err(cubes::CubeError::Alive(_)) if Instant::now() < patience => {}
            other => return other,
        }
    }
}

/// The kept cubes of `old` belong to `new` from now on.
fn follow(layout: &Layout, old: &Name, new: &Name) -> Result<(), Failure> {
    for (id, _) in kept_on(layout, old)? {
        let (folder, mut record) = let_go(&layout.mines_dir(), &id)?;
        record.machine = new.clone();
        folder.write_record(&record)?;
    }
    Ok(())
}

/// What removing a machine deletes: its home, and its file beside it.
#[must_use]
pub fn home_usage(layout: &Layout, name: &Name) -> Usage {
    usage(&layout.home(name))
}

/// Moves a machine, file and home together, to the trash.
///
/// # Errors
/// It is in use or missing, or cannot be moved.
pub fn rm(
    layout: &Layout,
    name: &Name,
    used: Usage,
    now_ms: u64,
    in_use: &dyn Fn(&Name) -> Vec<String>,
) -> Result<TrashRecord, Failure> {
    let _lock = lock::exclusive(layout, &lock::machine(name))?;
    refuse_in_use(name, in_use)?;
    if !exists(layout, name) {
        return Err(missing(layout, name));
    }
    let (file, home) = (layout.machine_file(name), layout.home(name));
    let paths: [&Path; 2] = [&file, &home];
    trash::put(layout, TrashKind::Machine, name.as_str(), &paths, used, now_ms)
}

/// Moves a machine's home to the trash; the next launch seeds a new one.
///
/// # Errors
/// It is in use, or there is no home yet.
pub fn reset_home(
    layout: &Layout,
    name: &Name,
    used: Usage,
    now_ms: u64,
    in_use: &dyn Fn(&Name) -> Vec<String>,
) -> Result<TrashRecord, Failure> {
    let _lock = lock::exclusive(layout, &lock::machine(name))?;
    refuse_in_use(name, in_use)?;
    super::homes::reset_home(layout, name, used, now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("name")
    }

    fn setup() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(folder.path());
        (folder, layout)
    }

    const FREE: &dyn Fn(&Name) -> Vec<String> = &|_| Vec::new();

    #[test]
    fn default_always_exists_and_wrong_files_do_not_hide_others() {
        let (_folder, layout) = setup();
        assert_eq!(load(&layout, &name("default")).expect("default"), Machine::new(name("default")));
        create(&layout, &Machine::new(name("work"))).expect("create");
        assert_eq!(create(&layout, &Machine::new(name("work"))).expect_err("twice").kind, FailureKind::Busy);
        fs::write(layout.machine_file(&name("bad")), "x = 1").expect("write");
        fs::write(layout.machines_dir().join(".tmp-x"), "").expect("write");
        let found: Vec<_> = list(&layout)
            .expect("list")
            .into_iter()
            .map(|(name, machine)| (name.to_string(), machine.is_ok()))
            .collect();
        assert_eq!(found, [("default".into(), true), ("bad".into(), false), ("work".into(), true)]);
        let failure = load(&layout, &name("wrok")).expect_err("missing");
        assert_eq!(failure.hints, ["did you mean `work`?"]);
    }

    #[test]
    fn edits_keep_comments_and_bad_ones_the_file() {
        let (_folder, layout) = setup();
        create(&layout, &Machine::new(name("work"))).expect("create");
        let file = layout.machine_file(&name("work"));
        fs::write(&file, "# mine\nimage = \"host\" # why\n").expect("write");
        set_image(&layout, &name("work"), &ImageRef::Stored("dev".into())).expect("set");
        assert_eq!(fs::read_to_string(&file).expect("read"), "# mine\nimage = \"dev\" # why\n");
        let bad = Edit::Set { key: "memory", value: "lots".into() };
        assert_eq!(edit(&layout, &name("work"), &[bad]).expect_err("bad").kind, FailureKind::Config);
        let before = text(&layout, &name("work")).expect("text");
        assert!(replace_text(&layout, &name("work"), &before, "nett = 1").is_err());
        assert_eq!(text(&layout, &name("work")).expect("text"), before);
        assert_eq!(
            replace_text(&layout, &name("work"), "other", "").expect_err("changed").kind,
            FailureKind::Busy
        );
        edit(&layout, &name("default"), &[Edit::Set { key: "net", value: "none".into() }]).expect("default");
    }

    #[test]
    fn writes_at_once_are_all_kept() {
        let (_folder, layout) = setup();
        create(&layout, &Machine::new(name("work"))).expect("create");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let layout = &layout;
                scope.spawn(move || {
                    let variable = crate::model::EnvVar::new(&format!("V{number}"), "x").expect("variable");
                    edit(layout, &name("work"), &[Edit::Env(variable)]).expect("edit");
                });
            }
        });
        assert_eq!(load(&layout, &name("work")).expect("load").settings.env.len(), 8);
    }

    /// A kept cube can be entered on its own machine alone: it goes along with a new name.
    #[test]
    fn kept_cubes_follow_their_machine() {
        use crate::store::cubes::tests::{durable, sample};
        let (_folder, layout) = setup();
        create(&layout, &Machine::new(name("work"))).expect("create");
        let on_work = |mut record: crate::model::CubeRecord| {
            record.machine = name("work");
            drop(cubes::create(&layout.mines_dir(), &record).expect("created"));
            record.id
        };
        let (kept, thrown) = (on_work(durable(1, "lab")), on_work(sample(2)));
        drop(cubes::create(&layout.mines_dir(), &durable(3, "box")).expect("created"));
        assert_eq!(kept_on(&layout, &name("work")), Ok(vec![(kept.clone(), name("lab"))]));
        rename(&layout, &name("work"), &name("play"), FREE).expect("rename");
        assert_eq!(kept_on(&layout, &name("play")), Ok(vec![(kept, name("lab"))]));
        let thrown = cubes::load(&layout.mines_dir(), &thrown).expect("there").record.expect("good");
        assert_eq!(thrown.machine, name("work"), "what has ended for good tells what was");
        rm(&layout, &name("play"), Usage::default(), 1, FREE).expect("rm");
        let failure = load(&layout, &name("play")).expect_err("deleted");
        assert_eq!(failure.hints, ["it was deleted: `tripmine undo play` brings it back"]);
    }

    #[test]
    fn rename_and_rm_take_the_home_along_and_refuse_in_use() {
        let (_folder, layout) = setup();
        create(&layout, &Machine::new(name("work"))).expect("create");
        fs::create_dir_all(layout.home(&name("work"))).expect("mkdir");
        fs::write(layout.home(&name("work")).join("f"), "x").expect("write");
        let busy = |_: &Name| vec!["abc1234".to_owned()];
        assert_eq!(
            rename(&layout, &name("work"), &name("two"), &busy).expect_err("busy").kind,
            FailureKind::Busy
        );
        rename(&layout, &name("work"), &name("two"), FREE).expect("rename");
        assert!(layout.home(&name("two")).join("f").exists() && !exists(&layout, &name("work")));
        assert!(rename(&layout, &name("two"), &name("two"), FREE).is_err());
        assert!(rename(&layout, &name("default"), &name("x"), FREE).is_err());
        let two = name("two");
        assert_eq!(rm(&layout, &two, Usage::default(), 1, &busy).expect_err("busy").kind, FailureKind::Busy);
        rm(&layout, &two, home_usage(&layout, &two), 1, FREE).expect("rm");
        assert_eq!(
            rm(&layout, &two, Usage::default(), 1, FREE).expect_err("gone").kind,
            FailureKind::Missing
        );
        trash::undo(&layout, None).expect("undo");
        assert!(layout.home(&two).join("f").exists() && load(&layout, &two).is_ok());
    }
}
