//! `tripmine machine`: the saved definitions.

mod editor;
pub mod flags;
mod view;

use clap::{Args, Subcommand};

use crate::cli::ctx::{Ctx, name};
use crate::config::edit::Edit;
use crate::model::sanitize::printable;
use crate::model::{Failure, ImageRef, Name, NetPolicyKind};
use crate::store::{homes, machines};

use flags::MachineFlags;
use view::MachineView;

/// Manage machines: an image, a persistent home and a policy each
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct MachineArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: MachineVerb,
}

/// The verbs of `tripmine machine`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MachineVerb {
    /// Make a machine
    Create {
        /// Its name
        name: String,
        /// What it saves.
        #[command(flatten)]
        flags: Box<MachineFlags>,
    },
    /// List the machines
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one machine
    Show {
        /// Its name
        name: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a machine; without options, in your editor
    Edit {
        /// Its name
        name: String,
        /// What changes.
        #[command(flatten)]
        flags: Box<MachineFlags>,
        /// Remove a key, or one variable as `env.NAME` (repeatable)
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Set the image that a machine starts from
    SetImage {
        /// Its name
        name: String,
        /// The image
        #[arg(value_name = "REF", value_parser = flags::image)]
        image: String,
    },
    /// Give a machine and its home another name
    Rename {
        /// Its name
        name: String,
        /// The new name
        new: String,
    },
    /// Delete a machine and its home, into the trash
    Rm {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Delete a machine's home, into the trash; the next launch makes a new one
    ResetHome {
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
pub fn run(args: &MachineArgs, ctx: &Ctx) -> Result<(), Failure> {
    match &args.verb {
        MachineVerb::Create { name: text, flags } => {
            let mut edits = flags.edits();
            edits.extend(policy(flags, None, ctx));
            create(&name(text)?, &edits, ctx)
        }
        MachineVerb::List { json } => view::list(*json, ctx),
        MachineVerb::Show { name: text, json } => show(&name(text)?, *json, ctx),
        MachineVerb::Edit { name: text, flags, unset } => {
            let mut edits = flags.edits();
            let name = name(text)?;
            if flags.meant_policy().is_some() && !unset.iter().any(|key| key == "net") {
                edits.extend(policy(flags, machines::load(&ctx.layout, &name)?.settings.net, ctx));
            }
            edits.extend(unset.iter().cloned().map(Edit::Unset));
            for key in unset {
                if let Err(near) = crate::config::edit::can_be_unset(key) {
                    let failure = Failure::usage(format!("--unset: there is no key `{}`", printable(key)));
                    return Err(match near {
                        Some(near) => failure.hint(format!("did you mean `{near}`?")),
                        None => failure,
                    });
                }
            }
            edit(&name, &edits, ctx)
        }
        MachineVerb::SetImage { name: text, image } => {
            let image = ImageRef::parse(image).map_err(|error| Failure::usage(error.to_string()))?;
            set_image(&name(text)?, &image, ctx)
        }
        MachineVerb::Rename { name: text, new } => rename(&name(text)?, &name(new)?, ctx),
        MachineVerb::Rm { name: text, yes } => rm(&name(text)?, *yes, ctx),
        MachineVerb::ResetHome { name: text, yes } => reset_home(&name(text)?, *yes, ctx),
    }
}

/// The policy that goes with rules or a proxy, where nothing says another one: without it they would change nothing.
fn policy(flags: &MachineFlags, now: Option<NetPolicyKind>, ctx: &Ctx) -> Option<Edit> {
    let kind = flags.meant_policy()?;
    let unsaid = now.is_none() && ctx.config.defaults.net.is_none_or(|net| net == NetPolicyKind::None);
    unsaid.then(|| {
        ctx.out.note(format!("its net policy is `{kind}`"));
        Edit::Set { key: "net", value: kind.to_string() }
    })
}

fn create(name: &Name, edits: &[Edit], ctx: &Ctx) -> Result<(), Failure> {
    machines::settings_of(edits)?;
    machines::create_with(&ctx.layout, name, edits)?;
    ctx.record("machine create", name.as_str(), Some(&format!("tripmine machine rm {name}")));
    ctx.out.note(format!("made machine `{name}`; launch on it with: tripmine -m {name} PROJECT"));
    Ok(())
}

fn show(name: &Name, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let machine = machines::load(&ctx.layout, name)?;
    MachineView::of(name, Ok(machine), ctx).show(json, ctx)
}

fn edit(name: &Name, edits: &[Edit], ctx: &Ctx) -> Result<(), Failure> {
    if edits.is_empty() {
        if !editor::edit(name, ctx)? {
            ctx.out.note(format!("machine `{name}` is unchanged"));
            return Ok(());
        }
    } else {
        machines::settings_of(edits)?;
        machines::edit(&ctx.layout, name, edits)?;
    }
    ctx.record("machine edit", name.as_str(), None);
    ctx.out.note(format!("changed machine `{name}`"));
    note_running(name, ctx);
    Ok(())
}

fn set_image(name: &Name, image: &ImageRef, ctx: &Ctx) -> Result<(), Failure> {
    machines::set_image(&ctx.layout, name, image)?;
    ctx.record("machine set-image", &format!("{name} {image}"), None);
    ctx.out.note(format!("machine `{name}` starts from `{image}`"));
    note_running(name, ctx);
    Ok(())
}

fn note_running(name: &Name, ctx: &Ctx) {
    let cubes = ctx.cubes_on(name);
    if !cubes.is_empty() {
        ctx.out.note(format!("what runs now stays as it is: {}", cubes.join(", ")));
    }
}

fn rename(old: &Name, new: &Name, ctx: &Ctx) -> Result<(), Failure> {
    machines::rename(&ctx.layout, old, new, &|name| ctx.cubes_on(name))?;
    ctx.record(
        "machine rename",
        &format!("{old} {new}"),
        Some(&format!("tripmine machine rename {new} {old}")),
    );
    ctx.out.note(format!("machine `{old}` is now `{new}`"));
    if ctx.config.machine.as_ref() == Some(old) {
        ctx.out.note(format!("config.toml still names `{old}`: change `machine` in it to `{new}`"));
    }
    Ok(())
}

fn rm(name: &Name, yes: bool, ctx: &Ctx) -> Result<(), Failure> {
    let home = idle_home(name, ctx)?;
    let orphans = orphans(name, ctx)?;
    ctx.out.confirm(&format!("delete machine `{name}` and its home: {}{orphans}?", home.text()), yes)?;
    machines::rm(&ctx.layout, name, home, ctx.now_ms(), &|name| ctx.cubes_on(name))?;
    let told = format!("machine `{name}` is in the trash, with its home: {}{orphans}", home.text());
    trashed("machine rm", name, &told, ctx);
    Ok(())
}

fn reset_home(name: &Name, yes: bool, ctx: &Ctx) -> Result<(), Failure> {
    let home = idle_home(name, ctx)?;
    ctx.out.confirm(&format!("delete the home of `{name}`: {}?", home.text()), yes)?;
    machines::reset_home(&ctx.layout, name, home, ctx.now_ms(), &|name| ctx.cubes_on(name))?;
    let told = format!("the home of `{name}` is in the trash: {}", home.text());
    trashed("machine reset-home", name, &told, ctx);
    Ok(())
}

/// What a deletion leaves behind: cubes that nobody can enter without their machine.
fn orphans(name: &Name, ctx: &Ctx) -> Result<String, Failure> {
    // `default` exists without its file.
    if *name == Name::default_machine() {
        return Ok(String::new());
    }
    let kept: Vec<String> =
        machines::kept_on(&ctx.layout, name)?.iter().map(|(_, name)| format!("`{name}`")).collect();
    Ok(match kept.as_slice() {
        [] => String::new(),
        [one] => format!(" (the kept cube {one} stays, and cannot be entered without it)"),
        more => format!(" (the kept cubes {} stay, and cannot be entered without it)", more.join(", ")),
    })
}

/// What the home of a machine takes that exists and that no cube uses.
fn idle_home(name: &Name, ctx: &Ctx) -> Result<homes::Usage, Failure> {
    if !machines::exists(&ctx.layout, name) {
        machines::load(&ctx.layout, name)?;
    }
    machines::refuse_in_use(name, &|name| ctx.cubes_on(name))?;
    Ok(homes::usage(&ctx.layout.home(name)))
}

fn trashed(act: &str, name: &Name, told: &str, ctx: &Ctx) {
    ctx.record(act, name.as_str(), Some("tripmine undo"));
    ctx.out.note(told);
    ctx.out.note("undo with: tripmine undo");
}

#[cfg(test)]
mod tests;
