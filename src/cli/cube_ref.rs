//! From the word that a person typed to the cube that they mean. Owns the picker, the error that
//! lists candidates, and the way to a cube's keeper.

use super::ctx::Ctx;
use crate::config::error::nearest;
use crate::engine::changes::{settled, under_review};
use crate::engine::client::Client;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};
use crate::store::cubes::find::choose;
use crate::store::cubes::{self, CubeEntry, Found};
use crate::store::machines;

/// Which cubes are meant first when a word names several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// Those that run; an ended one only when no running one is named so.
    Live,
    /// No difference.
    Any,
}

/// The cube that `word` names; one that has just ended, when its keeper is gone too: until then it lives, and answers nobody.
///
/// # Errors
/// There is none, or there are several and no terminal to choose on.
pub fn one(ctx: &Ctx, word: &str, prefer: Prefer) -> Result<CubeEntry, Failure> {
    settled(&ctx.engine(), named(ctx, word, prefer)?)
}

fn named(ctx: &Ctx, word: &str, prefer: Prefer) -> Result<CubeEntry, Failure> {
    let mines = ctx.layout.mines_dir();
    if prefer == Prefer::Live {
        let live = cubes::list(&mines)?.into_iter().filter(|entry| entry.live).collect();
        match choose(live, word) {
            Found::One(entry) => return Ok(*entry),
            Found::Many(entries) => return pick(ctx, word, entries),
            Found::None => {}
        }
    }
    let entries = cubes::list(&mines)?;
    let known = names(&entries);
    match choose(entries, word) {
        Found::One(entry) => Ok(*entry),
        Found::Many(entries) => pick(ctx, word, entries),
        Found::None => Err(missing(ctx, word, &known)),
    }
}

/// The running cube that `word` names.
///
/// # Errors
/// As [`one`]; or it has ended.
pub fn live(ctx: &Ctx, word: &str) -> Result<CubeEntry, Failure> {
    let entry = one(ctx, word, Prefer::Live)?;
    if entry.live { Ok(entry) } else { Err(ended(&entry)) }
}

/// The running cube that `word` names; without a word the only one that runs.
///
/// # Errors
/// As [`live`]; or none runs, or several and there is no terminal to choose on.
pub fn only(ctx: &Ctx, word: Option<&str>) -> Result<CubeEntry, Failure> {
    if let Some(word) = word {
        return live(ctx, word);
    }
    let mut running = all_live(ctx)?;
    match running.len() {
        0 => Err(Failure::new(FailureKind::Missing, "no cube runs")
            .hint("`tripmine PROJECT` launches one, `tripmine -d PROJECT` in the background")),
        1 => Ok(running.swap_remove(0)),
        count => {
            let rows: Vec<String> = running.iter().map(row).collect();
            match ctx.out.pick(&format!("{count} cubes run; which one?"), &rows) {
                Some(index) => Ok(running.swap_remove(index)),
                None => {
                    let failure = Failure::usage(format!("{count} cubes run: name one"));
                    Err(rows.into_iter().fold(failure, Failure::hint))
                }
            }
        }
    }
}

/// The cube whose changes `word` names: a running one, an ended one, or the last one of a project that was under review.
///
/// # Errors
/// As [`one`].
pub fn changed(ctx: &Ctx, word: &str) -> Result<CubeEntry, Failure> {
    match one(ctx, word, Prefer::Live) {
        Err(failure) if failure.kind == FailureKind::Missing => {
            under_review(&ctx.engine(), word)?.ok_or(failure)
        }
        other => other,
    }
}

/// Every running cube, oldest first.
///
/// # Errors
/// The cubes cannot be listed.
pub fn all_live(ctx: &Ctx) -> Result<Vec<CubeEntry>, Failure> {
    Ok(cubes::list(&ctx.layout.mines_dir())?.into_iter().filter(|entry| entry.live).collect())
}

/// Looks every word up, a cube named twice only once; what failed comes second.
pub fn each(
    words: &[String],
    mut look: impl FnMut(&str) -> Result<CubeEntry, Failure>,
) -> (Vec<CubeEntry>, Vec<Failure>) {
    let (mut found, mut failures) = (Vec::<CubeEntry>::new(), Vec::new());
    for word in words {
        match look(word) {
            Ok(entry) if found.iter().any(|old| old.id == entry.id) => {}
            Ok(entry) => found.push(entry),
            Err(failure) => failures.push(failure),
        }
    }
    (found, failures)
}

/// A connection to the keeper of a running cube.
///
/// # Errors
/// It cannot be reached.
pub fn connect(ctx: &Ctx, entry: &CubeEntry) -> Result<Client, Failure> {
    Client::connect(&cubes::socket_path(&ctx.layout.run, &entry.id), [None, None, None])
}

/// What a cube that should run, but has ended, is answered with.
#[must_use]
pub fn ended(entry: &CubeEntry) -> Failure {
    let paused = crate::store::memory::is_there(&entry.path);
    let what = if paused { "is paused" } else { "has ended" };
    let failure = Failure::new(FailureKind::Missing, format!("the cube {} {what}", shown(entry)));
    match entry.record.as_ref().ok().and_then(|record| record.name.as_ref()) {
        Some(name) if paused => failure.hint(format!("`tripmine resume {name}` lets it go on where it was")),
        Some(name) => failure.hint(format!("`tripmine attach {name}` starts it again")),
        None => failure.hint(format!("`tripmine logs {}` shows what it printed", entry.id.short())),
    }
}

/// A cube for a person: its name, else the short id.
#[must_use]
pub fn shown(entry: &CubeEntry) -> String {
    let name = entry.record.as_ref().ok().and_then(|record| record.name.as_ref());
    name.map_or_else(|| entry.id.short().to_owned(), |name| format!("`{name}`"))
}

fn missing(ctx: &Ctx, word: &str, known: &[String]) -> Failure {
    let mut failure = Failure::new(FailureKind::Missing, format!("there is no cube `{}`", printable(word)));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    if let Some(near) = nearest(word, &known) {
        failure = failure.hint(format!("did you mean `{near}`?"));
    }
    if super::ctx::name(word).is_ok_and(|name| machines::exists(&ctx.layout, &name)) {
        failure = failure.hint(format!("`{word}` is a machine: `tripmine machine show {word}`"));
    }
    failure.hint("`tripmine ps` lists the running cubes, `tripmine ps -a` all of them")
}

/// What a person may have meant to type.
fn names(entries: &[CubeEntry]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        names.push(entry.id.short().to_owned());
        if let Ok(record) = &entry.record {
            names.extend(record.name.as_ref().map(ToString::to_string));
            names.extend(record.project.clone().filter(|_| entry.live));
        }
    }
    names
}

fn pick(ctx: &Ctx, word: &str, mut entries: Vec<CubeEntry>) -> Result<CubeEntry, Failure> {
    let rows: Vec<String> = entries.iter().map(row).collect();
    let word = printable(word);
    if let Some(index) = ctx.out.pick(&format!("`{word}` names {} cubes; which one?", rows.len()), &rows) {
        return Ok(entries.swap_remove(index));
    }
    let failure = Failure::usage(format!("`{word}` names {} cubes: give more of an id", rows.len()));
    Err(rows.into_iter().fold(failure, Failure::hint))
}

/// One candidate: short id, name, project, state and command.
fn row(entry: &CubeEntry) -> String {
    let id = entry.id.short();
    match &entry.record {
        Ok(record) => {
            let name = record.name.as_ref().map(|name| format!("  {name}")).unwrap_or_default();
            let project = record.project.as_ref().map(|project| format!("  {project}")).unwrap_or_default();
            format!(
                "{id}{name}{project}  {}  {}",
                record.state.word(),
                crate::model::words::command(&record.argv)
            )
        }
        Err(error) => format!("{id}  {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;
    use crate::store::cubes::create;
    use crate::store::cubes::tests::{durable, sample};

    #[test]
    fn words_lead_to_cubes_or_say_what_is_near() {
        let (_folder, ctx) = testing::ctx();
        let mines = ctx.layout.mines_dir();
        let (running, kept) = (sample(1), durable(2, "box"));
        let held = create(&mines, &running).expect("created");
        drop(create(&mines, &sample(3)).expect("created"));
        drop(create(&mines, &kept).expect("created"));
        // The project names the one that runs, and an id names whatever it is of.
        assert_eq!(one(&ctx, "site", Prefer::Live).expect("live").id, running.id);
        assert_eq!(one(&ctx, "box", Prefer::Live).expect("kept").id, kept.id);
        assert_eq!(one(&ctx, kept.id.short(), Prefer::Any).expect("kept").id, kept.id);
        let failure = live(&ctx, "box").expect_err("ended");
        assert_eq!(failure.message, "the cube `box` has ended");
        assert!(failure.hints[0].contains("attach box"), "{failure:?}");
        let failure = one(&ctx, "bxo", Prefer::Any).expect_err("none");
        assert_eq!((failure.kind, failure.hints[0].as_str()), (FailureKind::Missing, "did you mean `box`?"));
        let (found, failures) =
            each(&["site".into(), "site".into(), "zz\u{1b}".into()], |word| live(&ctx, word));
        assert_eq!((found.len(), failures.len()), (1, 1));
        assert!(!failures[0].message.contains('\u{1b}'));
        drop(held);
    }

    #[test]
    fn several_are_listed_where_nobody_can_choose() {
        let (_folder, ctx) = testing::ctx();
        let mines = ctx.layout.mines_dir();
        let held: Vec<_> = [1, 2].map(|n| create(&mines, &sample(n)).expect("created")).into();
        let failure = one(&ctx, "site", Prefer::Live).expect_err("two");
        assert_eq!((failure.kind, failure.hints.len()), (FailureKind::Usage, 2));
        assert!(failure.message.contains("`site` names 2 cubes"), "{failure}");
        drop(held);
    }
}
