//! `tripmine attach`: the user's terminal on a running cube; a kept cube that has ended is started
//! again.

use std::path::Path;

use super::args::{Launch, Target};
use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::launch;
use super::launch_args::LaunchArgs;
use super::verb_args::AttachArgs;
use crate::engine::client::unexpected;
use crate::engine::session::{self, Join};
use crate::engine::facts;
use crate::host::tty;
use crate::keeper::protocol::{Answer, Ask};
use crate::model::sanitize::printable;
use crate::model::{CubeRecord, Failure, FailureKind, Keep};
use crate::plan::resolve::What;
use crate::store::cubes::CubeEntry;
use crate::store::{machines, projects};

/// Carries the command out; the exit code is the cube's when it ends meanwhile.
///
/// # Errors
/// There is no such cube, or it cannot be entered.
pub fn run(args: &AttachArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let entry = cube_ref::one(ctx, &args.cube, Prefer::Live)?;
    if !entry.live {
        return again(args, &entry, ctx);
    }
    let mut client = cube_ref::connect(ctx, &entry)?;
    let (rows, cols) = tty::size(std::io::stdout()).or_else(|| tty::size(std::io::stdin())).unwrap_or((0, 0));
    client.ask(&Ask::Attach { rows, cols, write: !args.read_only, take_over: args.take_over })?;
    let (tty, writer) = match client.answer()? {
        Answer::Attached { tty, writer, .. } => (tty, writer),
        other => return Err(unexpected(&other)),
    };
    let leader = launch::leader(ctx);
    let id = entry.id.short();
    let leave = match leader {
        Some(key) if tty && writer => format!("{key} d leaves it running"),
        None if tty && writer => "there is no leader key: `tripmine stop` from elsewhere ends it".to_owned(),
        _ => "Ctrl-C leaves it running".to_owned(),
    };
    let watching = match (writer, args.read_only) {
        (true, _) => "",
        (false, true) => "only watching · ",
        (false, false) => "another terminal types, this one only watches (--take-over changes that) · ",
    };
    ctx.out.note(format!("cube {id} · {watching}{leave}"));
    let join = Join { tty, writes: writer, passes_signals: false, relay_stdin: true, leader };
    let outcome = session::join(&mut client, join)?;
    Ok(launch::conclude(&outcome, id, ctx))
}

/// Starts a kept cube again, as it was launched.
fn again(args: &AttachArgs, entry: &CubeEntry, ctx: &Ctx) -> Result<u8, Failure> {
    let record = match &entry.record {
        Ok(record) if record.keep == Keep::Durable && record.name.is_some() => record,
        _ => return Err(cube_ref::ended(entry)),
    };
    if args.read_only {
        return Err(cube_ref::ended(entry));
    }
    let root = match machines::load(&ctx.layout, &record.machine) {
        Ok(machine) => projects::root(Some(&machine), &ctx.config, &ctx.home),
        Err(failure) => return Err(failure),
    };
    let launch = relaunch(record, &root.canonicalize().unwrap_or(root), &facts::shell())?;
    ctx.out.note(format!("the cube {} has ended: starting it again", cube_ref::shown(entry)));
    launch::run(&launch, ctx, None)
}

/// The launch that made `record`, once more. `root` is the projects root, canonical; `shell` the cube's.
/// Variables and limits that were given only then are in no record, and are not given again.
fn relaunch(record: &CubeRecord, root: &Path, shell: &str) -> Result<Launch, Failure> {
    let mut options = LaunchArgs {
        machine: Some(record.machine.to_string()),
        keep: record.name.as_ref().map(ToString::to_string),
        user: Some(record.user.to_string()),
        seccomp: Some(record.seccomp.to_string()),
        net: Some(record.net.to_string()),
        ephemeral: record.ephemeral,
        ..LaunchArgs::default()
    };
    let what = match record.argv.as_slice() {
        [only] if only == shell => What::Shell,
        argv => What::Command(argv.to_vec()),
    };
    let target = match (&record.project, &record.project_path) {
        (Some(project), Some(path)) if *project == "." && path == root => Target::Project(project.clone()),
        (Some(project), Some(path)) if *path == root.join(project) => Target::Project(project.clone()),
        (_, Some(path)) => {
            let text = path.to_str().ok_or_else(|| {
                let shown = printable(&path.to_string_lossy());
                Failure::new(FailureKind::Unsupported, format!("the folder is not UTF-8: `{shown}`"))
            })?;
            options.mount = Some(text.to_owned());
            Target::Nothing
        }
        _ => Target::Nothing,
    };
    Ok(Launch { options, target, what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cubes::tests::durable;

    #[test]
    fn a_kept_cube_is_launched_as_it_was() {
        let root = Path::new("/home/ann/projects");
        let mut record = durable(1, "box");
        for (project, path, argv, target, mount, what) in [
            (Some("site"), Some("/home/ann/projects/site"), "/bin/bash", "site", None, What::Shell),
            (Some("."), Some("/home/ann/projects"), "make", ".", None, What::Command(vec!["make".into()])),
            (Some("x"), Some("/srv/x"), "/bin/bash", "", Some("/srv/x"), What::Shell),
            (None, None, "/bin/bash", "", None, What::Shell),
        ] {
            record.project = project.map(str::to_owned);
            record.project_path = path.map(Into::into);
            record.argv = vec![argv.to_owned()];
            let launch = relaunch(&record, root, "/bin/bash").expect("good");
            let expected =
                if target.is_empty() { Target::Nothing } else { Target::Project(target.to_owned()) };
            assert_eq!((launch.target, launch.what), (expected, what), "{project:?}");
            assert_eq!(launch.options.mount.as_deref(), mount);
            assert_eq!(launch.options.keep.as_deref(), Some("box"));
        }
    }
}
