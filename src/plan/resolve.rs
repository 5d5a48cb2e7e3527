//! From what was typed and what was found to what will be done. Owns precedence, defaults and the
//! refusals of a launch; looks nothing up and applies nothing.

mod inside;
mod roots;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use inside::{entry, environment, stdio};
use roots::{host_root, root, root_in_place};

use super::env::{self, EnvChoice};
use super::facts::Facts;
use super::landlock::SCOPES_ABI;
use super::launch::{
    InPlace, LandlockPlan, LaunchPlan, MountKind, MountPlan, Origin, ProjectPlan, RootPlan, UserPlan,
};
use super::limits::{self, LimitsInput};
use super::pick::{Picked, Places, Record};
use super::{idmap, images, jails, layers, mounts, ports, reach, secrets, tighten, vm};
use crate::model::net::NetPolicy;
use crate::model::sanitize::printable;
use crate::model::{
    ByteSize, Failure, FailureKind, ImageRef, Jail, Keep, Name, RunAs, SeccompProfile, Settings, VmAccel,
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
    let (mut project, mut mounts) =
        folders(typed, facts, &user, chosen.kind.jail == Jail::Microvm, &mut warnings)?;
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

fn folders(
    typed: &Typed,
    facts: &Facts,
    user: &UserPlan,
    machine: bool,
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
        if user.run_as == RunAs::Root || machine {
            warnings.extend(mounts::set_ids(found, &mount, user));
        }
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
