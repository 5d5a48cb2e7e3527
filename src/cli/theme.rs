//! `tripmine theme`: the themes of the screen, listed, shown, checked, chosen.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ctx::Ctx;
use crate::config::load::read_text;
use crate::config::theme::{Colour, ROLES, Theme, built_in, parse_theme};
use crate::model::{Failure, FailureKind};
use crate::store::themes;

/// Themes of the screen
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ThemeArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<ThemeVerb>,
}

/// The verbs of `tripmine theme`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ThemeVerb {
    /// List the themes
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what each role looks like
    Show {
        /// Its name
        name: String,
    },
    /// Say what is wrong with a theme's file
    Check {
        /// The file
        file: std::path::PathBuf,
    },
    /// Use a theme from now on
    Use {
        /// Its name
        name: String,
    },
}

/// Carries the command out.
///
/// # Errors
/// There is no such theme, or what is wrong with it.
pub fn run(args: &ThemeArgs, ctx: &Ctx) -> Result<u8, Failure> {
    match args.verb.as_ref().unwrap_or(&ThemeVerb::List { json: false }) {
        ThemeVerb::List { json } => list(*json, ctx).map(|()| 0),
        ThemeVerb::Show { name } => {
            let theme =
                themes::load(&ctx.layout, name).map_err(|why| Failure::new(FailureKind::Config, why))?;
            ctx.out.table(&["ROLE", "FG", "BG", "", "FOR"], &rows(&theme));
            Ok(0)
        }
        ThemeVerb::Check { file } => check(file, ctx),
        ThemeVerb::Use { name } => {
            themes::load(&ctx.layout, name).map_err(|why| Failure::new(FailureKind::Config, why))?;
            themes::keep(&ctx.layout, name).map_err(|why| Failure::new(FailureKind::Config, why))?;
            ctx.out.note(format!("the screen uses `{name}` from now on"));
            Ok(0)
        }
    }
}

fn list(json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let used = ctx.config.theme.as_deref().unwrap_or("default");
    let rows: Vec<Vec<String>> = themes::names(&ctx.layout)
        .into_iter()
        .map(|name| {
            let about = match themes::load(&ctx.layout, &name) {
                Ok(theme) if theme.light => "light".to_owned(),
                Ok(_) => "dark".to_owned(),
                Err(why) => why,
            };
            let mark = if name == used { "in use" } else { "" };
            let from = if built_in(&name).is_some() { "built in" } else { "yours" };
            vec![name, about, from.to_owned(), mark.to_owned()]
        })
        .collect();
    if json {
        let themes: Vec<_> = rows
            .iter()
            .map(|row| json!({ "name": row[0], "ground": row[1], "from": row[2], "in_use": !row[3].is_empty() }))
            .collect();
        return ctx.out.json(&json!({ "version": 1, "themes": themes }));
    }
    ctx.out.table(&["NAME", "GROUND", "FROM", ""], &rows);
    Ok(())
}

fn rows(theme: &Theme) -> Vec<Vec<String>> {
    let colour = |colour: Option<Colour>| match colour {
        None => "-".to_owned(),
        Some(Colour::Default) => "default".to_owned(),
        Some(Colour::Index(index)) => index.to_string(),
        Some(Colour::Rgb(red, green, blue)) => format!("#{red:02x}{green:02x}{blue:02x}"),
    };
    ROLES
        .iter()
        .map(|(role, about)| {
            let paint = theme.roles.get(role).cloned().unwrap_or_default();
            vec![
                (*role).to_owned(),
                colour(paint.fg),
                colour(paint.bg),
                paint.mods.join(" "),
                (*about).to_owned(),
            ]
        })
        .collect()
}

/// A theme that works with warnings is no error, but says so with its exit code.
fn check(file: &Path, ctx: &Ctx) -> Result<u8, Failure> {
    let shown = crate::store::fail::shown(file);
    let text = read_text(file, true)?
        .ok_or_else(|| Failure::new(FailureKind::Missing, format!("there is no file `{shown}`")))?;
    let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let find = |parent: &str| themes::text(&ctx.layout, parent).map(|(_, text)| text);
    let theme = parse_theme(&name, file, &text, &find)?;
    for warning in &theme.warnings {
        ctx.out.note(format!("warning: {warning}"));
    }
    if theme.warnings.is_empty() {
        ctx.out.note(format!("`{shown}` is a good theme: every role is given"));
    }
    Ok(u8::from(!theme.warnings.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;

    #[test]
    fn themes_are_checked_and_chosen() {
        let (folder, ctx) = testing::ctx();
        let theme = |verb| run(&ThemeArgs { verb: Some(verb) }, &ctx);
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, "inherits = \"default\"\n[roles]\naccent = \"#ff8800\"\n").expect("written");
        assert_eq!(theme(ThemeVerb::Check { file: file.clone() }), Ok(0));
        std::fs::write(&file, "inherits = \"default\"\n[roles]\naccnt = \"red\"\n").expect("written");
        assert_eq!(theme(ThemeVerb::Check { file: file.clone() }), Ok(1));
        std::fs::write(&file, "[roles]\naccent = \"rde\"\n").expect("written");
        let failure = theme(ThemeVerb::Check { file }).expect_err("no colour");
        assert!(failure.message.contains("mine.toml:2:10: `rde` is no colour"), "{failure}");
        assert!(theme(ThemeVerb::Use { name: "nodr\u{1b}".into() }).is_err());
        assert_eq!(theme(ThemeVerb::Use { name: "nord".into() }), Ok(0));
        let text = std::fs::read_to_string(ctx.layout.config_file()).expect("written");
        assert_eq!(text, "theme = \"nord\"\n");
        assert_eq!(theme(ThemeVerb::List { json: false }), Ok(0));
        assert_eq!(theme(ThemeVerb::Show { name: "dracula".into() }), Ok(0));
        assert!(ctx.out.text().0.contains("colour-blind-safe"));
    }
}
