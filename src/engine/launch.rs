//! A launch carried out: the cube's folder, its keeper, the handover.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::client::Client;
use super::{Engine, environment, facts};
use crate::host::fdpass;
use crate::jail::taken_out::{self, Part, taken_out};
use crate::keeper::protocol::{self, Launch};
use crate::keeper::state::now_ms;
use crate::model::cube::RECORD_VERSION;
use crate::model::{CubeRecord, CubeState, Failure, FailureKind, Given, Keep, SeccompProfile, Settings};
use crate::plan::launch::{MountPlan, StdioPlan};
use crate::plan::{LaunchPlan, Typed, resolve};
use crate::store::cubes;
use crate::store::lock::Lock;

/// A plan with the locks that keep it true.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: LaunchPlan,
    /// Whoever would change or remove the machine, or keep another cube under the same name, waits for these: until the cube
    /// has started, and is seen to live.
    pub locks: Vec<Lock>,
    /// The image is not collected while this lives; the keeper takes a hold of its own.
    pub image: Option<crate::image::Hold>,
    /// Of a cube that is kept: what was typed, for [`super::again`].
    pub typed: Option<Typed>,
    /// What was typed, for the record.
    pub given: Given,
}

/// Looks up and resolves.
///
/// # Errors
/// As [`facts::gather`] and [`resolve`].
pub fn plan(
    engine: &Engine,
    typed: &Typed,
    extra: Vec<MountPlan>,
    dry_run: bool,
) -> Result<Planned, Failure> {
    let (facts, locks, image) = facts::gather(engine, typed, extra, dry_run)?;
    let mut plan = resolve(typed, &facts)?;
    let keys = std::env::vars_os().filter_map(|(key, _)| key.into_string().ok());
    plan.warnings.extend(environment::slips(keys));
    if plan.seccomp != SeccompProfile::Strict
        && let Some(project) = &plan.project
    {
        for socket in facts::sockets(&project.path) {
            plan.warnings.push(format!(
                "the project holds the unix socket `{socket}`: the cube can talk to what listens on it (`--seccomp strict` forbids it)"
            ));
        }
    }
    super::vm::paused::go_on(&mut plan, &engine.layout.mines_dir())?;
    weaken(engine, &mut plan)?;
    let image = image.map(|found| found.hold);
    Ok(Planned { plan, locks, image, typed: super::again::keep(typed)?, given: given(typed) })
}

/// What is remembered of what was typed.
fn given(typed: &Typed) -> Given {
    Given {
        settings: Settings { env: Vec::new(), ..typed.settings.clone() },
        workdir: typed.workdir.clone(),
        env_names: typed.env.iter().map(|choice| choice.key().to_owned()).collect(),
    }
}

/// What a counter-proof takes out of a plan; nothing in an ordinary build.
#[cfg(not(feature = "counterproof"))]
#[expect(clippy::unnecessary_wraps, reason = "its twin can fail")]
const fn weaken(_engine: &Engine, _plan: &mut LaunchPlan) -> Result<(), Failure> {
    Ok(())
}

#[cfg(feature = "counterproof")]
fn weaken(engine: &Engine, plan: &mut LaunchPlan) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;

    use crate::plan::launch::{FileIdentity, MountKind};
    if taken_out(Part::EntryEnv) {
        plan.env
            .extend(std::env::vars().filter_map(|(key, value)| crate::model::EnvVar::new(&key, &value).ok()));
    }
    if taken_out(Part::OwnStreams) {
        plan.stdio = StdioPlan::Pipes { stdin_direct: true, stdout_direct: true, stderr_direct: true };
    }
    let shown =
        [(Part::HiddenHome, engine.layout.mines_dir()), (Part::Etc, std::path::PathBuf::from("/etc"))];
    for (_, source) in shown.into_iter().filter(|(part, _)| taken_out(*part)) {
        let meta = std::fs::create_dir_all(&source)
            .and_then(|()| source.metadata())
            .map_err(|error| Failure::failed("what a counter-proof shows is not there").because(&error))?;
        plan.mounts.push(MountPlan {
            kind: MountKind::Extra,
            identity: FileIdentity { dev: meta.dev(), ino: meta.ino() },
            target: source.to_string_lossy().into_owned(),
            source,
            directory: true,
            read_only: true,
            review: None,
        });
    }
    Ok(())
}

/// A keeper that was started early and waits for its plan.
#[derive(Debug)]
pub struct Waiting {
    face: UnixStream,
}

/// Starts a keeper: this program again, with an empty environment and one descriptor, its connection to us.
/// It may be started before the plan is known: it waits, and ends when the connection closes.
///
/// # Errors
/// When no process can be made.
pub fn start_keeper() -> Result<Waiting, Failure> {
    let fail =
        |error: &dyn std::error::Error| Failure::failed("cannot start the cube's keeper").because(error);
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| fail(&e))?;
    let mut keeper = Command::new(environment::own_program()?);
    if !taken_out(Part::KeeperEnv) {
        keeper.env_clear();
    }
    keeper
        .arg0("tripmine-keeper")
        .arg("__keeper")
        .args(taken_out::arguments())
        .current_dir("/")
        .stdin(Stdio::from(its))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| fail(&e))?;
    Ok(Waiting { face: ours.into() })
}

/// Becomes two processes: this one, with a connection to its keeper, and the keeper, for which `None` is returned. Only at
/// the start of a face, where there is one thread.
///
/// # Errors
/// When no process can be made.
pub fn fork_keeper() -> Result<Option<Waiting>, Failure> {
    let forked = crate::keeper::start::fork()
        .map_err(|error| Failure::failed("cannot start the cube's keeper").because(&error))?;
    Ok(forked.map(|face| Waiting { face }))
}

/// Launches `planned` and returns the connection to its keeper, attached if `attached`.
///
/// # Errors
/// The cube runs already, or the keeper cannot be reached.
pub fn launch(
    engine: &Engine,
    planned: &Planned,
    waiting: Waiting,
    attached: bool,
) -> Result<Client, Failure> {
    let plan = &planned.plan;
    let mines = engine.layout.mines_dir();
    let enter_again = existing(&mines, plan)?;
    let stdin = std::io::stdin();
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let null = null_device()?;
    let (mut mask, mut fds) = (0, Vec::new());
    if let StdioPlan::Pipes { stdin_direct, stdout_direct, stderr_direct } = plan.stdio {
        let streams = [
            (stdin_direct, if attached { stdin.as_fd() } else { null.as_fd() }),
            (stdout_direct && attached, stdout.as_fd()),
            (stderr_direct && attached, stderr.as_fd()),
        ];
        for (bit, (direct, fd)) in streams.into_iter().enumerate() {
            if direct {
                mask |= 1 << bit;
                fds.push(fd);
            }
        }
    }
    let socket = cubes::socket_path(&engine.layout.run, &plan.id);
    let mut handed = plan.clone();
    super::secret::with_environment(&mut handed, |name| std::env::var(name).ok());
    let hold = plan.image_digest.as_deref().and_then(|digest| digest.strip_prefix("sha256:"));
    let hold = hold.map(|hex| engine.layout.locks_dir().join(format!("image-{hex}")));
    let launch = Launch {
        plan: handed,
        hold,
        record: record(planned),
        typed: planned.typed.clone(),
        mines,
        socket,
        log_bytes: engine.config.log_size.get(),
        attached,
        enter_again,
    };
    hand_over(&waiting.face, mask, &fds, &launch)
        .map_err(|error| Failure::failed("the cube's keeper died before it took over").because(&error))?;
    Ok(Client::over(waiting.face))
}

fn hand_over(face: &UnixStream, mask: u8, direct: &[BorrowedFd<'_>], launch: &Launch) -> std::io::Result<()> {
    let body = fdpass::memory(&serde_json::to_vec(launch)?)?;
    let fds: Vec<_> = std::iter::once(body.as_fd()).chain(direct.iter().copied()).collect();
    fdpass::send(face, &protocol::preamble(mask), &fds)
}

fn null_device() -> Result<OwnedFd, Failure> {
    std::fs::File::open("/dev/null")
        .map(OwnedFd::from)
        .map_err(|error| Failure::failed("cannot open `/dev/null`").because(&error))
}

/// How long an ended cube's keeper may take to let go.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(2);

/// True when this launch enters a kept cube again.
fn existing(mines: &std::path::Path, plan: &LaunchPlan) -> Result<bool, Failure> {
    let Some(name) = &plan.name else { return Ok(false) };
    let Some(mut entry) = durable(mines, name)? else { return Ok(false) };
    // A keeper lives a moment longer than its cube: it clears up.
    let patience = std::time::Instant::now() + SETTLE;
    while entry.live
        && entry.record.as_ref().is_ok_and(|r| r.state.is_over())
        && std::time::Instant::now() < patience
    {
        std::thread::sleep(std::time::Duration::from_millis(2));
        entry = cubes::load(mines, &entry.id)?;
    }
    if entry.live {
        return Err(Failure::new(FailureKind::Busy, format!("the cube `{name}` is running"))
            .hint(format!("`tripmine attach {name}` enters it")));
    }
    let before = entry.record.map_err(Failure::from)?;
    let same_image = match (&before.image_digest, &plan.image_digest) {
        (Some(before), Some(now)) => before == now,
        _ => before.image == plan.image,
    };
    if before.machine != plan.machine || !same_image {
        return Err(Failure::new(
            FailureKind::Busy,
            format!(
                "the cube `{name}` belongs to the machine `{}` and the image `{}`",
                before.machine, before.image
            ),
        )
        .hint(format!("`tripmine attach {name}` enters it as it is"))
        .hint("or choose another name"));
    }
    Ok(entry.id == plan.id)
}

/// The durable cube called `name`.
///
/// # Errors
/// The cubes cannot be listed.
pub fn durable(
    mines: &std::path::Path,
    name: &crate::model::Name,
) -> Result<Option<cubes::CubeEntry>, Failure> {
    Ok(cubes::list(mines)?.into_iter().find(|entry| {
        entry.record.as_ref().is_ok_and(|r| r.keep == Keep::Durable && r.name.as_ref() == Some(name))
    }))
}

fn record(planned: &Planned) -> CubeRecord {
    let plan = &planned.plan;
    CubeRecord {
        version: RECORD_VERSION,
        id: plan.id.clone(),
        name: plan.name.clone(),
        machine: plan.machine.clone(),
        project: plan.project.as_ref().map(|project| project.name.clone()),
        project_path: plan.project.as_ref().map(|project| project.path.clone()),
        image: plan.image.clone(),
        image_digest: plan.image_digest.clone(),
        image_override: plan.image_override,
        jail: plan.jail,
        net: plan.net.kind(),
        user: plan.user.run_as,
        seccomp: plan.seccomp,
        keep: plan.keep,
        ephemeral: plan.ephemeral,
        argv: plan.entry.argv.clone(),
        env_names: plan.env.iter().map(|variable| variable.key.clone()).collect(),
        created_unix_ms: now_ms(),
        state: CubeState::Starting,
        keeper: None,
        init: None,
        layers: Vec::new(),
        limits: crate::plan::limits::lines(&plan.limits),
        cgroups: plan
            .limits
            .cgroup
            .as_ref()
            .map(crate::plan::launch::CgroupPlan::folders)
            .unwrap_or_default(),
        publish: plan.forwards.clone(),
        forwards: Vec::new(),
        given: Some(planned.given.clone()),
        tty: matches!(plan.stdio, StdioPlan::Pty { .. }),
        exit: None,
        cannot_pause: crate::plan::vm::cannot_pause(plan).map(|(why, _)| why),
    }
}
