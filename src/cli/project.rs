//! `tripmine project`: the folders beneath the projects root.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::ctx::{Ctx, name};
use crate::model::{Failure, Name};
use crate::store::usage::usage;
use crate::store::{fail::shown, machines, projects};

/// Manage projects: the folders beneath the projects root
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ProjectArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ProjectVerb,
    /// Look at the projects root of this machine [default: your default machine]
    #[arg(short, long, value_name = "NAME", global = true)]
    pub machine: Option<String>,
}

/// The verbs of `tripmine project`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ProjectVerb {
    /// List the projects
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an empty project
    Create {
        /// Its name
        name: String,
    },
    /// Delete a project with everything in it, into the trash
    Rm {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Carries the command out.
///
/// # Errors
/// What failed, for a person.
pub fn run(args: &ProjectArgs, ctx: &Ctx) -> Result<(), Failure> {
    let machine = args.machine.as_deref().map_or_else(|| Ok(ctx.default_machine()), name)?;
    let machine = machines::load(&ctx.layout, &machine)?;
    let root = projects::root(Some(&machine), &ctx.config, &ctx.home);
    match &args.verb {
        ProjectVerb::List { json } => list(&root, *json, ctx),
        ProjectVerb::Create { name: text } => {
            let name = name(text)?;
            let path = projects::create(&root, &name)?;
            ctx.record("project create", &shown(&path), Some(&format!("tripmine project rm {name}")));
            ctx.out.note(format!("made project `{name}`: {}", shown(&path)));
            Ok(())
        }
        ProjectVerb::Rm { name: text, yes } => rm(&root, &name(text)?, *yes, ctx),
    }
}

fn list(root: &std::path::Path, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let found = projects::list(root)?;
    if json {
        #[derive(Serialize)]
        struct Whole<'p> {
            version: u32,
            root: &'p std::path::Path,
            projects: &'p [projects::Project],
        }
        return ctx.out.json(&Whole { version: 1, root, projects: &found });
    }
    if found.is_empty() {
        ctx.out.note(format!("no projects in {}", shown(root)));
        ctx.out.note("make one with: tripmine project create NAME");
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|project| {
            let time = UNIX_EPOCH + Duration::from_millis(project.modified_ms);
            let link = if project.link { " (a link)" } else { "" };
            vec![
                project.name.to_string(),
                humantime::format_rfc3339_seconds(time).to_string(),
                format!("{}{link}", shown(&project.path)),
            ]
        })
        .collect();
    ctx.out.table(&["NAME", "CHANGED", "FOLDER"], &rows);
    Ok(())
}

fn rm(root: &std::path::Path, name: &Name, yes: bool, ctx: &Ctx) -> Result<(), Failure> {
    let project = projects::find(root, name)?;
    projects::refuse_in_use(&project, &|path| ctx.cubes_at(path))?;
    let used = usage(&project.path);
    let what = if project.link { "the link only".to_owned() } else { used.text() };
    ctx.out.confirm(&format!("delete project `{name}` ({}): {what}?", shown(&project.path)), yes)?;
    projects::rm(&ctx.layout, &project, used, ctx.now_ms(), &|path| ctx.cubes_at(path))?;
    ctx.record("project rm", &shown(&project.path), Some("tripmine undo"));
    ctx.out.note(format!("project `{name}` is in the trash: {what}"));
    ctx.out.note("undo with: tripmine undo");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::ctx::testing;
    use crate::model::FailureKind;

    fn project(ctx: &Ctx, verb: ProjectVerb) -> Result<(), Failure> {
        run(&ProjectArgs { verb, machine: None }, ctx)
    }

    #[test]
    fn create_list_rm() {
        let (_folder, mut ctx) = testing::ctx();
        project(&ctx, ProjectVerb::List { json: false }).expect("empty");
        project(&ctx, ProjectVerb::Create { name: "site".into() }).expect("create");
        let path = ctx.home.join("projects/site");
        fs::write(path.join("f"), [0; 1024]).expect("write");
        project(&ctx, ProjectVerb::List { json: true }).expect("json");
        let (data, talk) = ctx.out.text();
        let json: serde_json::Value = serde_json::from_str(&data).expect("json");
        assert_eq!((json["version"].as_u64(), json["projects"][0]["name"].as_str()), (Some(1), Some("site")));
        assert!(talk.contains("no projects in"));
        let rm = |yes| ProjectVerb::Rm { name: "site".into(), yes };
        assert!(project(&ctx, rm(false)).expect_err("ask").message.contains("1K in 1 file"));
        // In use by itself, by a folder in it, and by the whole root.
        for seen in [path.clone(), path.join("sub"), ctx.home.join("projects")] {
            let seen = seen.canonicalize().unwrap_or(seen);
            ctx.live = Box::new(move || vec![testing::cube("default", Some(&seen))]);
            assert_eq!(project(&ctx, rm(true)).expect_err("busy").kind, FailureKind::Busy);
        }
        ctx.live = Box::new(Vec::new);
        project(&ctx, rm(true)).expect("rm");
        assert!(!path.exists());
    }
}
