//! Looking up what planning needs. Everything is cheap here: a launch waits for it.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Engine, environment, image_root, vm};
use crate::config::load::load_project;
use crate::host::probe;
use crate::model::host::HelperFacts;
use crate::model::image::ImageTarget;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, ImageRef, JailChoice, Layer, Machine, Name, RunAs, TripId};
use crate::plan::facts::{
    Caller, CallerEnv, EnvFile, Facts, FoundFile, FoundProject, IdRange, MissingLayer, StdioFacts,
    StreamKind, SubordinateIds,
};
use crate::plan::launch::{FileIdentity, MountPlan, Origin};
use crate::plan::resolve::ProjectRef;
use crate::plan::vm::ShareKind;
use crate::plan::{Typed, landlock};
use crate::store::cubes::CubeEntry;
use crate::store::layout::Layout;
use crate::store::lock::{self, Lock};
use crate::store::skeleton::{self, SkeletonUser};
use crate::store::{homes, machines, projects};

/// The largest `--env-file`, in bytes.
const ENV_FILE_MAX: u64 = 1 << 20;

/// Looks everything up. The locks keep the machine from being changed, and the name of a kept cube from being given twice,
/// until the cube is live.
///
/// # Errors
/// What does not exist, cannot be read or is malformed.
pub fn gather(
    engine: &Engine,
    typed: &Typed,
    extra: Vec<MountPlan>,
    dry_run: bool,
) -> Result<(Facts, Vec<Lock>, Option<image_root::Found>), Failure> {
    let (settings, named) = environment::settings(|key| std::env::var(key).ok())?;
    let (machine, machine_origin) = match (&typed.machine, named, &engine.config.machine) {
        (Some(name), _, _) => (name.clone(), Origin::Flag),
        (None, Some(name), _) => (name, Origin::Environment),
        (None, None, Some(name)) => (name.clone(), Origin::Config),
        (None, None, None) => (Name::default_machine(), Origin::BuiltIn),
    };
    let mut locks = vec![machines::hold(&engine.layout, &machine)?];
    let machine = machines::load(&engine.layout, &machine)?;
    let project = project(engine, typed, &machine)?;
    let project_file = match &project {
        Some(project) if project.directory && project.name != "." => load_project(&project.path)?,
        _ => None,
    };
    let name = engine.user.clone();
    let caller_home = engine.home.canonicalize().unwrap_or_else(|_| engine.home.clone());
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let shell = shell();
    // Of several who would make a cube of this name one does; the others then see it.
    if let Some(name) = typed.keep.as_ref().filter(|_| !dry_run) {
        locks.push(lock::exclusive(&engine.layout, &format!("kept-{name}"))?);
    }
    let kept = match &typed.keep {
        Some(name) => super::launch::durable(&engine.layout.mines_dir(), name)?,
        None => None,
    };
    // A kept cube is entered again under its own id.
    let id = kept.as_ref().map_or_else(new_id, |entry| Ok(entry.id.clone()))?;
    let all = [
        Some(&typed.settings),
        Some(&settings),
        project_file.as_ref(),
        Some(&machine.settings),
        Some(&engine.config.defaults),
    ];
    let image = match all.iter().flatten().find_map(|settings| settings.image.clone()) {
        Some(reference) if reference != ImageRef::Host => {
            Some(image_root::find(engine, &as_it_was(&reference, kept.as_ref()))?)
        }
        _ => None,
    };
    let seeds = seeds(engine, typed, &machine, image.as_ref())?;
    let seeds: Vec<&Path> = seeds.iter().map(PathBuf::as_path).collect();
    let machine_home = if dry_run && !engine.layout.home(&machine.name).exists() {
        // Nothing is made: what the home will be is not there yet, and the plan only shows its place.
        FoundFile { path: engine.layout.home(&machine.name), identity: FileIdentity { dev: 0, ino: 0 } }
    } else {
        found(&homes::ensure_seeded(&engine.layout, &machine.name, &seeds)?)?
    };
    let mut user = if uid == 0 {
        SkeletonUser { uid: 0, gid: 0, name: "root".into(), home: "/root".into(), shell: shell.clone() }
    } else {
        let inside = crate::plan::idmap::login_name(&name).to_owned();
        let home = format!("/home/{inside}");
        SkeletonUser { uid, gid, name: inside, home, shell: shell.clone() }
    };
    let own_user = !all.iter().flatten().any(|settings| settings.user.is_some());
    let image_facts = match &image {
        Some(image) => Some(image_root::facts(engine, image, &mut user, machine.name.as_str(), own_user)?),
        None => None,
    };
    let skeleton = skeleton::ensure(&engine.layout.layers_dir(), &user, machine.name.as_str())?;
    let wants_root = [&typed.settings, &settings, &machine.settings, &engine.config.defaults]
        .into_iter()
        .chain(project_file.as_ref())
        .any(|settings| settings.user == Some(RunAs::Root));
    let jail = all.iter().flatten().find_map(|settings| settings.jail);
    let vm = (jail == Some(JailChoice::Microvm)).then(|| {
        let settings: Vec<_> = all.iter().flatten().map(|settings| &settings.vm).collect();
        vm::gather(engine, &settings, &name)
    });
    let many_ids = vm.as_ref().is_some_and(|vm| vm.share.as_ref().is_ok_and(|it| it.kind == ShareKind::C));
    let (subordinate, id_helpers) =
        if (wants_root || many_ids) && uid != 0 { subordinate(&name) } else { (None, false) };
    let landlock_abi = probe::landlock_abi();
    let container = (jail == Some(JailChoice::Auto)).then(probe::container_jail);
    let Layout { config, data, state, cache, run } = &engine.layout;
    // Only what is mounted is held against them, and each is a walk.
    let guarded = project.is_some() || !extra.is_empty();
    let own_folders = [config, data, state, cache, run]
        .into_iter()
        .filter(|_| guarded)
        .map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()))
        .collect();
    let facts = Facts {
        cube_dir: engine.layout.mines_dir().join(id.as_str()),
        id,
        config: engine.config.defaults.clone(),
        machine,
        machine_origin,
        project_file,
        image: image_facts,
        environment: settings,
        caller: Caller {
            uid,
            gid,
            name,
            home: caller_home,
            hard_open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .maximum
                .unwrap_or(u64::MAX),
            env: CallerEnv::new(
                std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
            ),
        },
        env_files: typed.env_files.iter().map(|path| env_file(path)).collect::<Result<_, _>>()?,
        project,
        home: machine_home,
        extra,
        own_folders,
        skeleton: skeleton.folder,
        system: skeleton.system,
        landlock_abi,
        container,
        missing: missing(landlock_abi),
        cgroups: probe::cgroups(),
        subordinate,
        id_helpers,
        kernel: probe::kernel().version,
        memory_total: probe::memory_total(),
        stdio: stdio(),
        shell,
        vm,
        landlock: landlock::rules,
    };
    Ok((facts, locks, image))
}

/// The image beneath a kept cube is the one that its changes lie on, whatever its name names by now.
fn as_it_was(reference: &ImageRef, kept: Option<&CubeEntry>) -> ImageRef {
    let record =
        kept.and_then(|entry| entry.record.as_ref().ok()).filter(|record| record.image == *reference);
    match (record.and_then(|record| record.image_digest.as_ref()), reference.target()) {
        (Some(_), Some(ImageTarget::Digest(_))) | (None, _) => reference.clone(),
        (Some(digest), _) => ImageRef::Stored(format!("{reference}@{digest}")),
    }
}

/// Where a fresh home comes from: the machine's own image. A launch with another one must not be the first, because the
/// home would be that image's for good.
fn seeds(
    engine: &Engine,
    typed: &Typed,
    machine: &Machine,
    image: Option<&image_root::Found>,
) -> Result<Vec<PathBuf>, Failure> {
    let host = || vec![PathBuf::from("/etc/skel")];
    let own = machine
        .settings
        .image
        .clone()
        .or_else(|| engine.config.defaults.image.clone())
        .unwrap_or(ImageRef::Host);
    let over = typed.settings.image.as_ref().is_some_and(|typed| *typed != own);
    if engine.layout.home(&machine.name).exists() {
        // Nothing is seeded: the image's folders need not be looked at.
        return Ok(Vec::new());
    }
    if !over {
        return Ok(image.map_or_else(host, image_root::Found::seeds));
    }
    if typed.runs_image && own == ImageRef::Host {
        return Ok(host());
    }
    Err(Failure::new(
        FailureKind::Denied,
        format!(
            "the machine `{}` has no home yet: it is made at the first launch, from its own image `{own}`",
            machine.name
        ),
    )
    .hint("launch once without `-i`")
    .hint(format!("`tripmine machine set-image {} IMAGE` makes the other image its own", machine.name)))
}

fn new_id() -> Result<TripId, Failure> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Failure::failed("cannot get random bytes for a TripID").because(&errno))?;
    Ok(TripId::from_parts(crate::keeper::state::now_ms(), random))
}

fn found(path: &Path) -> Result<FoundFile, Failure> {
    let look = || -> std::io::Result<FoundFile> {
        let path = path.canonicalize()?;
        let meta = fs::metadata(&path)?;
        Ok(FoundFile { identity: FileIdentity { dev: meta.dev(), ino: meta.ino() }, path })
    };
    look().map_err(|error| {
        Failure::new(FailureKind::Missing, format!("cannot open `{}`", printable(&path.to_string_lossy())))
            .because(&error)
    })
}

/// The folder of the project, if one was named.
fn project(engine: &Engine, typed: &Typed, machine: &Machine) -> Result<Option<FoundProject>, Failure> {
    let (name, path) = match (&typed.mount, &typed.project) {
        (None, None) => return Ok(None),
        (Some(folder), None) => (None, folder.clone()),
        (Some(folder), Some(ProjectRef::Named(name))) => {
            let path = folder.join(name.as_str());
            refuse_link(name, &path, path.is_symlink())?;
            (Some(name.to_string()), path)
        }
        (Some(folder), Some(ProjectRef::Root)) => (None, folder.clone()),
        (None, Some(ProjectRef::Root)) => (Some(".".to_owned()), projects_root(engine, machine)?),
        (None, Some(ProjectRef::Named(name))) => {
            let root = projects_root(engine, machine)?;
            let project = projects::find(&root, name).map_err(|failure| not_a_project(failure, name))?;
            refuse_link(name, &project.path, project.link)?;
            (Some(name.to_string()), project.path)
        }
    };
    let shown = printable(&path.to_string_lossy());
    let missing = |error: std::io::Error| {
        Failure::new(FailureKind::Missing, format!("cannot mount `{shown}`"))
            .because(&error)
            .hint("the folder must exist before it can be mounted")
    };
    let canonical = path.canonicalize().map_err(missing)?;
    let meta = fs::metadata(&canonical).map_err(missing)?;
    let name = name.unwrap_or_else(|| {
        canonical.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
    });
    Ok(Some(FoundProject {
        name,
        identity: FileIdentity { dev: meta.dev(), ino: meta.ino() },
        directory: meta.is_dir(),
        open_to_others: canonical.ancestors().skip(1).all(|folder| {
            // The folder itself is the cube's to open. What cannot be looked at is no place for others either.
            fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 != 0)
        }),
        path: canonical,
    }))
}

/// A cube that saw the folder above may have made the link: following it would show the next cube what the first one chose.
fn refuse_link(name: &Name, path: &Path, link: bool) -> Result<(), Failure> {
    if !link {
        return Ok(());
    }
    let shown = printable(&path.to_string_lossy());
    Err(Failure::new(
        FailureKind::Denied,
        format!("the project `{name}` is a link, and links are not followed: `{shown}`"),
    )
    .hint(format!("if you made it: `tripmine --mount {shown}`")))
}

/// Unix sockets at the top of a project: whoever is inside can talk to what listens on them. seccomp cannot see paths, and
/// Landlock only from ABI 9 on.
#[must_use]
pub fn sockets(project: &Path) -> Vec<String> {
    /// Entries looked at: a launch does not walk a large tree.
    const LOOKED_AT: usize = 512;
    let entries = fs::read_dir(project).into_iter().flatten().take(LOOKED_AT).flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    sockets.map(|entry| printable(&entry.file_name().to_string_lossy())).collect()
}

fn projects_root(engine: &Engine, machine: &Machine) -> Result<PathBuf, Failure> {
    let root = projects::root(Some(machine), &engine.config, &engine.home);
    if root.is_dir() {
        return Ok(root);
    }
    let shown = printable(&root.to_string_lossy());
    Err(Failure::new(FailureKind::Missing, format!("there is no projects root yet: `{shown}`"))
        .hint("`tripmine project create NAME` makes it, with a first project")
        .hint("`tripmine --mount DIR` works on a folder that is somewhere else"))
}

/// A word that is no project may be a mistyped verb.
fn not_a_project(failure: Failure, name: &Name) -> Failure {
    let verbs: Vec<&str> = crate::model::verbs::VERBS.iter().filter(|v| v.built).map(|v| v.name).collect();
    match crate::config::error::nearest(name.as_str(), &verbs) {
        Some(verb) => failure.hint(format!("or did you mean the command `tripmine {verb}`?")),
        None => failure,
    }
}

fn env_file(path: &Path) -> Result<EnvFile, Failure> {
    let name = printable(&path.to_string_lossy());
    let fail =
        |why: String| Failure::new(FailureKind::Missing, format!("cannot read the env file `{name}`: {why}"));
    let file = fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    // Bounded while it is read: a pipe or a device says nothing of its size.
    let mut bytes = Vec::new();
    file.take(ENV_FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > ENV_FILE_MAX {
        return Err(fail(format!("it is larger than {} KiB", ENV_FILE_MAX >> 10)));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8".to_owned()))?;
    Ok(EnvFile { name, text })
}

/// The shell inside: the host's own `/usr` is the image, so what is here is there.
#[must_use]
pub fn shell() -> String {
    ["/bin/bash", "/usr/bin/bash", "/bin/sh"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("/bin/sh")
        .to_owned()
}

fn subordinate(user: &str) -> (Option<SubordinateIds>, bool) {
    let facts = probe::subordinate_ids(user);
    let helpers =
        matches!((&facts.newuidmap, &facts.newgidmap), (HelperFacts::Ready(_), HelperFacts::Ready(_)));
    let ranges = facts.uids.zip(facts.gids).map(|(uids, gids)| SubordinateIds {
        uids: IdRange { start: uids.start, count: uids.count },
        gids: IdRange { start: gids.start, count: gids.count },
    });
    (ranges, helpers)
}

/// What can be told without trying. Everything else is found by the launch itself, which names the step that
/// the kernel refused.
fn missing(landlock_abi: u32) -> Vec<MissingLayer> {
    let mut missing = Vec::new();
    if landlock_abi == 0 {
        missing.push(MissingLayer {
            layer: Layer::Landlock,
            why: "this kernel has no Landlock, or it is switched off".into(),
            fix: "a kernel of 5.13 or newer with `landlock` in the `lsm=` list; run `tripmine doctor`".into(),
        });
    }
    missing
}

/// What the caller's standard streams are.
#[must_use]
pub fn stdio() -> StdioFacts {
    let stdin = kind(std::io::stdin().as_fd());
    let stdout = kind(std::io::stdout().as_fd());
    let stderr = kind(std::io::stderr().as_fd());
    let size = |fd: std::os::fd::BorrowedFd<'_>| {
        rustix::termios::tcgetwinsize(fd).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0)
    };
    let terminal = size(std::io::stdout().as_fd())
        .or_else(|| size(std::io::stdin().as_fd()))
        .map(|size| (size.ws_row, size.ws_col));
    StdioFacts { stdin, stdout, stderr, terminal }
}

/// `PIPEFS_MAGIC` of linux/magic.h.
const PIPEFS: u64 = 0x5049_5045;

/// An anonymous pipe or the null device may be the cube's own. Not a plain file or a named pipe: whoever holds a descriptor of
/// his own file may change its mode (fchmod(2), which Landlock does not govern), setuid bit and all. Nor a folder, another
/// device or a socket: through those a cube could reach further. All of these pass through the keeper.
fn kind(fd: std::os::fd::BorrowedFd<'_>) -> StreamKind {
    if rustix::termios::isatty(fd) {
        return StreamKind::Tty;
    }
    let Ok(file) = fd.try_clone_to_owned().map(fs::File::from) else { return StreamKind::Other };
    let Ok(meta) = file.metadata() else { return StreamKind::Other };
    let null = meta.file_type().is_char_device() && meta.rdev() == rustix::fs::makedev(1, 3);
    let pipe = meta.file_type().is_fifo()
        && rustix::fs::fstatfs(fd).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| kind == PIPEFS));
    if pipe || null { StreamKind::Direct } else { StreamKind::Other }
}
