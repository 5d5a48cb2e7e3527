//! From what was typed and what was found to what will be done. Owns precedence, defaults and the
//! refusals of a launch; looks nothing up and applies nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::env::{self, BaseInput, EnvChoice};
use super::facts::{Facts, StreamKind};
use super::landlock::SCOPES_ABI;
use super::launch::{
    EntryPlan, InPlace, LandlockPlan, LaunchPlan, MountKind, MountPlan, Origin, ProjectPlan, RootPlan,
    StdioPlan, SystemTree, UpperPlan, UserPlan,
};
use super::limits::{self, LimitsInput};
use super::pick::{Picked, Places, Record};
use super::{idmap, images, jails, layers, mounts, ports, reach, secrets, tighten, vm};
use crate::model::net::NetPolicy;
use crate::model::sanitize::printable;
use crate::model::{
    ByteSize, EnvVar, Failure, FailureKind, ImageRef, Jail, Keep, Name, RunAs, SeccompProfile, Settings,
    VmAccel,
};

/// How long a cube has between TERM and KILL.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// A launch as it was typed, in model values: nothing is looked up yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Typed {
    /// `-m`.
    pub machine: Option<Name>,
    /// The project: its name, or the projects root.
    pub project: Option<ProjectRef>,
    /// What is started.
    pub what: What,
    /// `-i`, `--jail`, `--net`, `--user`, `--seccomp`, `-p` and the limits. `env` and `entry` stay empty.
    pub settings: Settings,
    /// `--mount`.
    pub mount: Option<PathBuf>,
    /// `-e`.
    pub env: Vec<EnvChoice>,
    /// `--env-file`, to be read by the engine.
    pub env_files: Vec<PathBuf>,
    /// `--keep`.
    pub keep: Option<Name>,
    /// `--ephemeral`.
    pub ephemeral: bool,
    /// `--review`.
    pub review: bool,
    /// `-d`.
    pub detach: bool,
    /// `-t` (`Some(true)`), `-T` (`Some(false)`).
    pub tty: Option<bool>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--yes-really`.
    pub yes_really: bool,
    /// `tripmine run IMAGE`: the image is what is launched, not another one for the machine.
    pub runs_image: bool,
}

/// Which project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectRef {
    /// `.`: the projects root itself.
    Root,
    /// One project.
    Named(Name),
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The entry with these arguments, or a shell when there is neither.
    Entry(Vec<String>),
    /// After `--`.
    Command(Vec<String>),
    /// `--shell`.
    Shell,
}

impl Default for What {
    fn default() -> Self {
        Self::Entry(Vec::new())
    }
}

/// Resolves a launch.
///
/// # Errors
/// What is not built yet, what this host cannot do, what may not be mounted, what is malformed.
pub fn resolve(typed: &Typed, facts: &Facts) -> Result<LaunchPlan, Failure> {
    let (mut record, mut warnings) = (Record::default(), Vec::new());
    let weaker = [&facts.machine.settings, &facts.config];
    let project_file =
        facts.project_file.as_ref().map(|file| tighten::project_file(file, weaker, &mut warnings));
    let nothing = Settings::default();
    let places = Places::new([
        (Origin::Flag, &typed.settings),
        (Origin::Environment, &facts.environment),
        (Origin::ProjectFile, project_file.as_ref().unwrap_or(&nothing)),
        (Origin::Machine, &facts.machine.settings),
        (Origin::Config, &facts.config),
    ]);
    record.add("machine", &facts.machine.name, facts.machine_origin);
    let chosen = choose(facts, &places, &mut record, &mut warnings)?;
    let reach = reach::reach(&typed.settings, facts, &places, &mut record, &mut warnings)?;
    let in_place = in_place(typed, facts, &places, chosen.kind, &reach, &mut warnings)?;

    let mut user = if in_place.is_some() {
        idmap::in_place(&facts.caller, mounts::own_place(&facts.home.path)?)
    } else {
        let (user, poorer) = idmap::user(chosen.user, &facts.caller, facts.subordinate, facts.id_helpers);
        warnings.extend(poorer);
        user
    };
    if let Some(image) = &facts.image {
        warnings.extend(image.notes.iter().cloned());
        if places.pick(|s| s.user).is_none() {
            warnings.extend(images::run_as(image, &facts.caller, &mut user));
        }
    }
    let root = match in_place {
        Some(_) => root_in_place(facts),
        None => root(typed, facts, &places, &user, &mut warnings),
    };
    let limits_input = LimitsInput {
        id: &facts.id,
        cgroups: &facts.cgroups,
        upper: &root.upper,
        hard_open_files: facts.caller.hard_open_files,
    };
    let mut limits = limits::plan(&places, &limits_input, &mut record, &mut warnings)?;
    let (mut project, mut mounts) = folders(typed, facts, &user, &mut warnings)?;
    if in_place.is_some() {
        mounts::stay(project.as_mut(), &mut mounts)?;
    }
    let stdio = stdio(typed, facts);
    let entry = entry(typed, facts, &places, project.as_ref(), &user, &mut record)?;
    let tmp = in_place.as_ref().map(|place| place.tmp.as_path());
    let env = environment(typed, facts, &places, (&user, tmp), &stdio, &mut record, &mut warnings)?;
    env::check_size(&entry.argv, &env)?;
    let forwards = ports::forwards(&places, &mut record, &mut warnings)?;

    let keep = if typed.keep.is_some() { Keep::Durable } else { Keep::Throwaway };
    let named = project.as_ref().map(|project| project.name.as_str()).filter(|name| *name != ".");
    let hostname = mounts::hostname(named.unwrap_or(facts.machine.name.as_str()));
    let machine = match chosen.kind.jail {
        Jail::Microvm => {
            let host_root = host_root(facts);
            Some(machine(
                &places,
                facts,
                &chosen,
                (&mut user, &mut limits),
                &reach,
                &hostname,
                host_root,
                &mut record,
            )?)
        }
        _ => None,
    };
    if machine.as_ref().is_some_and(|machine| machine.spec.accel == VmAccel::Tcg) {
        warnings
            .push("the machine is EMULATED in software (tcg): many times slower than this host".to_owned());
    }
    let mut plan = LaunchPlan {
        id: facts.id.clone(),
        name: typed.keep.clone(),
        machine: facts.machine.name.clone(),
        hostname,
        project,
        forwards,
        image: chosen.image,
        image_digest: facts.image.as_ref().map(|image| image.digest.clone()),
        image_override: chosen.image_override,
        jail: chosen.kind.jail,
        layers: match in_place {
            Some(_) => layers::required_in_place(&limits, facts.landlock_abi >= SCOPES_ABI),
            None => layers::required(&limits, reach.captured(), machine.is_some()),
        },
        net: reach.policy,
        setup: reach.setup,
        seccomp: chosen.seccomp,
        keep,
        ephemeral: typed.ephemeral,
        user,
        entry,
        env,
        root,
        mounts,
        in_place,
        landlock: no_rules(),
        vm: machine,
        limits,
        stdio,
        stop_grace: STOP_GRACE,
        settings: record.into_settings(),
        warnings,
    };
    plan.landlock = (facts.landlock)(&plan, facts.landlock_abi);
    layers::check(&plan.layers, &plan.landlock, facts.landlock_abi, &facts.missing)?;
    Ok(plan)
}

/// The policy of a launch, checked to be built.
struct Chosen {
    image: ImageRef,
    image_override: bool,
    kind: jails::Kind,
    user: RunAs,
    seccomp: SeccompProfile,
}

fn choose(
    facts: &Facts,
    places: &Places<'_>,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Chosen, Failure> {
    let image = places.pick_or(|s| s.image.clone(), ImageRef::Host);
    let user = places.pick_or(|s| s.user, RunAs::Me);
    let seccomp = places.pick_or(|s| s.seccomp, SeccompProfile::Default);
    if image.value != ImageRef::Host && facts.image.is_none() {
        return Err(not_built("image", &image, "`tripmine image list` shows those that are here"));
    }
    let image_override = image.origin == Origin::Flag
        && facts.machine.settings.image.as_ref().unwrap_or(&ImageRef::Host) != &image.value;
    Ok(Chosen {
        image: record.note("image", image),
        image_override,
        kind: jails::choose(facts, places, record, warnings)?,
        user: record.note("user", user),
        seccomp: record.note("seccomp", seccomp),
    })
}

/// The virtual machine. The jail around it has the capabilities that the share daemon needs instead of the user's own, as
/// many open files as there may be, and more memory than the guest.
#[expect(clippy::too_many_arguments, reason = "the parts of one launch")]
fn machine(
    places: &Places<'_>,
    facts: &Facts,
    chosen: &Chosen,
    (user, limits): (&mut UserPlan, &mut super::launch::LimitsPlan),
    reach: &reach::Reach,
    hostname: &str,
    host_root: RootPlan,
    record: &mut Record,
) -> Result<vm::VmPlan, Failure> {
    let found =
        facts.vm.as_ref().ok_or_else(|| Failure::failed("nobody looked for a virtual machine's parts"))?;
    if let Ok(share) = &found.share
        && share.kind == vm::ShareKind::C
    {
        idmap::with_others(user, &facts.caller, facts.subordinate, facts.id_helpers)
            .map_err(|why| vm::few_ids(share, why))?;
    }
    let accel = places.pick(|s| s.vm.accel);
    let single =
        |map: &[super::launch::IdMap]| map.len() == 1 && map.first().is_some_and(|line| line.count == 1);
    let one_id = (single(&user.uid_map) && single(&user.gid_map)).then_some((user.uid, user.gid));
    let plan = vm::plan(vm::VmInput {
        facts: found,
        accel: accel.map(|picked| picked.value),
        seccomp: chosen.seccomp,
        memory: limits.memory.map(|(size, _)| size),
        cpus_milli: limits.cpus_milli.map(|(milli, _)| milli),
        pids: limits.pids.map(|(count, _)| count),
        one_id,
        strange_ids: user.idmapped_mounts,
        capture: reach.captured(),
        hostname: hostname.to_owned(),
        host_root,
    })?;
    if let Some(picked) = accel {
        record.note("vm-accel", picked);
    }
    user.capabilities = plan.spec.capabilities();
    limits.open_files = facts.caller.hard_open_files.min(vm::OPEN_FILES);
    if let Some((size, _)) = &mut limits.memory {
        *size = ByteSize::bytes(size.get().saturating_add(vm::ALLOWANCE.get()));
    }
    if let Some((count, _)) = &mut limits.pids {
        *count = count.saturating_add(vm::ALLOWED_PIDS);
    }
    Ok(plan)
}

/// The root of the image `host`, for the jail around a virtual machine.
fn host_root(facts: &Facts) -> RootPlan {
    let system = facts.system.iter();
    let system =
        system.map(|path| SystemTree { path: path.clone(), writable: false, lowers: Vec::new() }).collect();
    RootPlan {
        lowers: vec![facts.skeleton.clone()],
        upper: UpperPlan::Tmpfs { size: ByteSize::mib(64) },
        system,
    }
}

fn not_built<T: std::fmt::Display>(key: &str, picked: &Picked<T>, hint: &str) -> Failure {
    let value = printable(&picked.value.to_string());
    let origin = picked.origin.word();
    Failure::new(FailureKind::Unsupported, format!("{key} `{value}` (from: {origin}) is not built yet"))
        .hint(hint)
}

/// What the jail `landlock` has in the place of a root; nothing for any other.
fn in_place(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    kind: jails::Kind,
    reach: &reach::Reach,
    warnings: &mut Vec<String>,
) -> Result<Option<InPlace>, Failure> {
    if kind.jail != Jail::Landlock {
        return Ok(None);
    }
    jails::check_in_place(kind, typed, facts, places, reach)?;
    warnings.extend(jails::warnings_in_place(facts, reach));
    Ok(Some(InPlace {
        tmp: facts.cube_dir.join("system-copy/tmp"),
        network: reach.policy != NetPolicy::None,
        host_root: facts.caller.uid == 0,
    }))
}

/// The host's own, of which system folders are read.
fn root_in_place(facts: &Facts) -> RootPlan {
    let tree = |path: &PathBuf| SystemTree { path: path.clone(), writable: false, lowers: Vec::new() };
    RootPlan {
        lowers: Vec::new(),
        upper: UpperPlan::Nothing,
        system: facts.system.iter().map(tree).collect(),
    }
}

fn root(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    user: &UserPlan,
    warnings: &mut Vec<String>,
) -> RootPlan {
    // Overlayfs in a user namespace needs user.* extended attributes, which tmpfs has since 6.6.
    let tmpfs = facts.kernel >= (6, 6);
    let upper = if typed.keep.is_some() || !tmpfs {
        if typed.keep.is_none() {
            warnings.push(format!(
                "changes go to the disk and are deleted at the end: kernel {}.{} is older than 6.6 and cannot \
                 keep them in memory",
                facts.kernel.0, facts.kernel.1
            ));
        }
        UpperPlan::Disk { dir: facts.cube_dir.join("system-copy") }
    } else {
        let size = places
            .pick(|s| s.limits.disk)
            .map_or_else(|| limits::default_upper(facts.memory_total), |picked| picked.value.value);
        UpperPlan::Tmpfs { size }
    };
    if let Some(image) = facts.image.as_ref().filter(|image| !image.on_host) {
        return RootPlan { lowers: image.lowers.clone(), upper, system: Vec::new() };
    }
    let writable = user.idmapped_mounts && user.run_as == RunAs::Root;
    let over = |path: &PathBuf| {
        let all = facts.image.iter().flat_map(|image| image.over_system.iter());
        all.filter(|(tree, _)| tree == path).flat_map(|(_, lowers)| lowers.iter().cloned()).collect()
    };
    let system = facts.system.iter();
    let system = system.map(|path| SystemTree { path: path.clone(), writable, lowers: over(path) }).collect();
    let above = facts.image.iter().flat_map(|image| image.lowers.iter().cloned());
    RootPlan { lowers: above.chain([facts.skeleton.clone()]).collect(), upper, system }
}

fn folders(
    typed: &Typed,
    facts: &Facts,
    user: &UserPlan,
    warnings: &mut Vec<String>,
) -> Result<(Option<ProjectPlan>, Vec<MountPlan>), Failure> {
    let guard =
        secrets::Guard { home: &facts.caller.home, own: &facts.own_folders, confirmed: typed.yes_really };
    let mut list = vec![MountPlan {
        kind: MountKind::Home,
        source: facts.home.path.clone(),
        identity: facts.home.identity,
        directory: true,
        target: user.home.clone(),
        read_only: false,
        review: None,
    }];
    let mut project = None;
    if typed.review && facts.project.is_none() {
        return Err(Failure::usage("`--review` holds the changes to a project, and no project was named"));
    }
    if let Some(found) = &facts.project {
        warnings.extend(guard.check(&found.path)?);
        let (plan, mut mount) = mounts::project(found, typed.mount.is_some())?;
        mount.review = typed.review.then(|| facts.cube_dir.join("review"));
        project = Some(plan);
        list.push(mount);
    }
    for extra in &facts.extra {
        // tripmine's own tools lie in its own folders, read-only.
        if extra.kind != MountKind::Tool {
            warnings.extend(guard.check(&extra.source)?);
        }
        list.push(extra.clone());
    }
    Ok((project, list))
}

fn stdio(typed: &Typed, facts: &Facts) -> StdioPlan {
    let streams = &facts.stdio;
    let tty = typed.tty.unwrap_or(
        // A detached cube gets a terminal so that `attach` finds one.
        typed.detach || (streams.stdin == StreamKind::Tty && streams.stdout == StreamKind::Tty),
    );
    if tty {
        let (rows, cols) = streams.terminal.filter(|(rows, cols)| *rows > 0 && *cols > 0).unwrap_or((24, 80));
        return StdioPlan::Pty { rows, cols };
    }
    let direct = |kind| !typed.detach && kind == StreamKind::Direct;
    StdioPlan::Pipes {
        stdin_direct: direct(streams.stdin),
        stdout_direct: direct(streams.stdout),
        stderr_direct: direct(streams.stderr),
    }
}

fn entry(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    project: Option<&ProjectPlan>,
    user: &UserPlan,
    record: &mut Record,
) -> Result<EntryPlan, Failure> {
    let said = places.pick(|s| s.entry.clone().filter(|argv| !argv.is_empty()));
    let of_image = match (&typed.what, &facts.image) {
        (What::Entry(arguments), Some(image)) => images::command(image, arguments),
        _ => None,
    };
    let (argv, shell, origin) = match (&typed.what, said) {
        (What::Entry(_), None) if of_image.is_some() => {
            let argv = of_image.unwrap_or_default();
            let shell = images::is_shell(&argv);
            (argv, shell, Origin::Image)
        }
        (What::Command(argv), _) if argv.is_empty() => {
            return Err(Failure::usage("`--` is followed by no command"));
        }
        (What::Command(argv), _) => (argv.clone(), false, Origin::Flag),
        (What::Shell, _) => (vec![shell_of(facts).to_owned()], true, Origin::Flag),
        (What::Entry(arguments), Some(said)) => {
            let argv = said.value.into_iter().chain(arguments.iter().cloned()).collect();
            (argv, false, said.origin)
        }
        (What::Entry(arguments), None) if arguments.is_empty() => {
            (vec![shell_of(facts).to_owned()], true, Origin::BuiltIn)
        }
        (What::Entry(arguments), None) => {
            let first: String = arguments.concat().chars().take(40).collect();
            return Err(Failure::usage(format!(
                "there is no entry that could take `{}`: neither the project nor the machine `{}` has one",
                printable(&first),
                facts.machine.name
            ))
            .hint("to start a command, write it after `--`: `tripmine PROJECT -- CMD ARG…`"));
        }
    };
    record.add("entry", &if shell { "shell" } else { "command" }, origin);
    let cwd = match (&typed.workdir, project) {
        (Some(text), _) => mounts::workdir(text)?,
        (None, Some(project)) => project.target.clone(),
        (None, None) => match facts.image.as_ref().and_then(|image| image.working_dir.as_deref()) {
            Some(text) if text != "/" => images::working_dir(text)?,
            _ => user.home.clone(),
        },
    };
    Ok(EntryPlan { argv, cwd, shell })
}

fn environment(
    typed: &Typed,
    facts: &Facts,
    places: &Places<'_>,
    (user, tmp): (&UserPlan, Option<&Path>),
    stdio: &StdioPlan,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Vec<EnvVar>, Failure> {
    let caller = &facts.caller.env;
    let mut base = env::base(&BaseInput {
        id: &facts.id,
        user: &user.name,
        home: &user.home,
        run_as: user.run_as,
        shell: shell_of(facts),
        terminal: matches!(stdio, StdioPlan::Pty { .. }),
        caller,
    });
    base.extend(tmp.and_then(|tmp| EnvVar::new("TMPDIR", tmp.to_str()?).ok()));
    let of_image = facts.image.as_ref().map(|image| (Origin::Image, images::variables(image)));
    let mut named: Vec<(Origin, Vec<EnvVar>)> = of_image
        .into_iter()
        .chain(places.weakest_first().map(|(origin, settings)| (origin, settings.env.clone())))
        .collect();
    let mut from_flags = Vec::new();
    for file in &facts.env_files {
        from_flags.extend(env::parse_file(file)?);
    }
    from_flags.extend(typed.env.iter().cloned());
    let mut resolved = Vec::new();
    for choice in &from_flags {
        match choice.resolve(caller) {
            Some(variable) => resolved.push(variable),
            None => warnings
                .push(format!("`{}` is not set here, so it is not set in the cube either", choice.key())),
        }
    }
    named.push((Origin::Flag, resolved));
    let merged = env::merge(std::iter::once(base).chain(named.iter().map(|(_, list)| list.clone())));
    for variable in &merged {
        let origin = named.iter().rev().find(|(_, list)| list.iter().any(|v| v.key == variable.key));
        if let Some((origin, _)) = origin {
            record.add(&format!("env {}", variable.key), &"set", *origin);
        }
    }
    Ok(merged)
}

/// The shell inside.
fn shell_of(facts: &Facts) -> &str {
    facts.image.as_ref().map_or(&facts.shell, |image| &image.shell)
}

/// Stands in until the rules of the finished plan are made.
fn no_rules() -> LandlockPlan {
    LandlockPlan {
        abi: 0,
        required_abi: 0,
        rules: Vec::new(),
        scope_abstract: false,
        scope_signal: false,
        no_tcp: false,
    }
}

#[cfg(test)]
mod tests;
