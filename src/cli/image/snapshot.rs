//! `tripmine image snapshot`: shows what goes in, asks where something looks like a secret, and makes the image.

use clap::Args;
use serde_json::json;

use crate::cli::ctx::{self, Ctx};
use crate::cli::cube_ref;
use crate::engine::home_copy;
use crate::engine::request::SnapshotFor;
use crate::engine::snapshot::{self, Draft};
use crate::model::image::image_name;
use crate::model::sanitize::printable_bytes;
use crate::model::{ByteSize, Failure, FailureKind, Name};
use crate::store::cubes::{self, CubeEntry};

/// Lines of each kind that a person reads.
const SHOWN: usize = 10;

/// Arguments of `tripmine image snapshot`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct SnapshotArgs {
    /// The image's name; what it named before stays as NAME@N
    pub name: String,
    /// The cube: a running one, or one that was kept
    #[arg(required_unless_present = "machine", conflicts_with = "machine")]
    pub cube: Option<String>,
    /// The one cube that runs on this machine
    #[arg(short, long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Make a machine that starts from the image, otherwise like the cube's own
    #[arg(long, value_name = "NAME")]
    pub create_machine: Option<String>,
    /// Let this machine start from the image
    #[arg(long, value_name = "NAME", conflicts_with = "create_machine")]
    pub update_machine: Option<String>,
    /// A group of the home's `carry` patterns that comes along into the new machine's home (repeatable); the others are
    /// asked about, and left out without an answer
    #[arg(long, value_name = "GROUP", requires = "create_machine")]
    pub carry: Vec<String>,
    /// Keep what the cube was launched with, too: `tripmine resume` launches it again from the image
    #[arg(long, conflicts_with_all = ["create_machine", "update_machine"])]
    pub continuation: bool,
    /// Do not ask, even where something looks like a secret
    #[arg(short, long)]
    pub yes: bool,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out.
///
/// # Errors
/// What failed, for a person; nothing was stored then.
pub(in crate::cli) fn run(args: &SnapshotArgs, ctx: &Ctx) -> Result<(), Failure> {
    let name = image_name(&args.name).map_err(|error| Failure::usage(error.to_string()))?;
    let purpose = purpose(args, ctx)?;
    let engine = ctx.engine();
    engine.layout.ensure(ctx.uid)?;
    let entry = match (&args.cube, &args.machine) {
        (Some(word), _) => cube_ref::changed(ctx, word)?,
        (None, Some(machine)) => on_machine(ctx, &ctx::name(machine)?)?,
        (None, None) => return Err(Failure::usage("name a cube, or a machine with `-m`")),
    };
    let draft = snapshot::draft(&engine, &entry)?;
    if !args.json {
        show(&draft, ctx);
    }
    confirm(&draft, args, ctx)?;
    let purpose = offer(purpose, &draft, args, ctx)?;
    let done = engine.keep_snapshot(&draft, &name, &purpose)?;
    let reference = done.copy.unwrap_or(name);
    for warning in &done.warnings {
        ctx.out.note(format!("warning: {warning}"));
    }
    if args.json {
        return ctx.out.json(&json!({
            "version": 1,
            "image": reference,
            "cube": entry.id,
            "entries": draft.entries,
            "bytes": draft.bytes,
            "frozen_ms": draft.frozen.map(|time| time.as_secs_f64() * 1000.0),
            "secrets": draft.secrets.iter().map(|(path, what)| json!({ "path": printable_bytes(path), "what": what })).collect::<Vec<_>>(),
        }));
    }
    ctx.out.line(&reference);
    if purpose != SnapshotFor::Nothing {
        ctx.out.note(done.message);
    }
    Ok(())
}

/// The one running cube of a machine.
fn on_machine(ctx: &Ctx, machine: &Name) -> Result<CubeEntry, Failure> {
    let mut found: Vec<CubeEntry> = cubes::list(&ctx.layout.mines_dir())?
        .into_iter()
        .filter(|entry| entry.live && entry.record.as_ref().is_ok_and(|record| record.machine == *machine))
        .collect();
    match (found.pop(), found.len()) {
        (Some(entry), 0) => Ok(entry),
        (None, _) => {
            Err(Failure::new(FailureKind::Missing, format!("no cube runs on the machine `{machine}`"))
                .hint("`tripmine ps -a` lists kept ones too: name one"))
        }
        (Some(_), others) => {
            Err(Failure::usage(format!("{} cubes run on the machine `{machine}`: name one", others + 1)))
        }
    }
}

fn show(draft: &Draft, ctx: &Ctx) {
    let size = ByteSize::bytes(draft.bytes);
    let frozen = draft
        .frozen
        .map(|time| format!("; the cube stood still for {:.1} ms", time.as_secs_f64() * 1000.0))
        .unwrap_or_default();
    ctx.out.note(format!("{} changes, {size}{frozen}", draft.entries));
    for (path, size) in draft.largest.iter().take(SHOWN) {
        ctx.out.note(format!("  {:>8}  /{}", ByteSize::bytes(*size).to_string(), printable_bytes(path)));
    }
    lines("left out", &draft.left_out, ctx);
    lines("looks like a secret", &draft.secrets, ctx);
}

fn lines(what: &str, list: &[(Vec<u8>, String)], ctx: &Ctx) {
    for (path, why) in list.iter().take(SHOWN) {
        ctx.out.note(format!("  {what}: /{} ({why})", printable_bytes(path)));
    }
    if list.len() > SHOWN {
        ctx.out.note(format!("  {what}: and {} more", list.len() - SHOWN));
    }
}

/// A secret in an image goes wherever the image goes.
fn confirm(draft: &Draft, args: &SnapshotArgs, ctx: &Ctx) -> Result<(), Failure> {
    let count = draft.secrets.len();
    if count == 0 || args.yes {
        return Ok(());
    }
    let files = if count == 1 { "file that looks like a secret" } else { "files that look like secrets" };
    ctx.out.confirm(&format!("put {count} {files} into the image?"), false)
}

/// What it is for, found wanting before anything is copied; the groups of the home are asked about later.
fn purpose(args: &SnapshotArgs, ctx: &Ctx) -> Result<SnapshotFor, Failure> {
    let purpose = match (&args.create_machine, &args.update_machine) {
        (Some(text), _) => SnapshotFor::Create { name: ctx::name(text)?, carry: args.carry.clone() },
        (None, Some(text)) => SnapshotFor::Update(ctx::name(text)?),
        (None, None) if args.continuation => SnapshotFor::Continuation,
        (None, None) => SnapshotFor::Nothing,
    };
    ctx.engine().check_purpose(&purpose)?;
    Ok(purpose)
}

/// Asks about each group of the home that a copy leaves out; without a terminal they stay out, and that is said.
fn offer(
    purpose: SnapshotFor,
    draft: &Draft,
    args: &SnapshotArgs,
    ctx: &Ctx,
) -> Result<SnapshotFor, Failure> {
    let SnapshotFor::Create { name, mut carry } = purpose else { return Ok(purpose) };
    for offer in home_copy::offers(&ctx.engine(), &draft.ground.machine)? {
        if carry.contains(&offer.group) {
            continue;
        }
        let what = format!("`{}` ({})", offer.group, offer.text());
        if ctx.out.can_ask() && !args.yes && !args.json {
            if ctx.out.ask(&format!("copy {what} into the new home?")) {
                carry.push(offer.group);
            }
        } else {
            ctx.out
                .note(format!("left out of the new home: {what}; `--carry {}` takes it along", offer.group));
        }
    }
    Ok(SnapshotFor::Create { name, carry })
}
