//! `tripmine man`: the manual pages, made from the grammar.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::args;
use super::ctx::Out;
use crate::model::Failure;
use crate::store::fail::shown;

/// Arguments of `tripmine man`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ManArgs {
    /// Write tripmine.1 and a page for each command, and for theirs, into this folder
    #[arg(long, value_name = "DIR")]
    pub all: Option<PathBuf>,
}

/// Carries the command out.
///
/// # Errors
/// A page cannot be written.
pub fn run(args: &ManArgs, out: &Out) -> Result<(), Failure> {
    let mut grammar = args::command();
    grammar.build();
    let Some(folder) = &args.all else {
        return out.rendered(|to| page(&grammar, "tripmine", to));
    };
    let fail = |path: &Path, error: &io::Error| {
        Failure::failed(format!("cannot write `{}`", shown(path))).because(error)
    };
    fs::create_dir_all(folder).map_err(|error| fail(folder, &error))?;
    for (command, name) in pages(&grammar, "tripmine".to_owned()) {
        let path = folder.join(format!("{name}.1"));
        let mut text = Vec::new();
        page(command, &name, &mut text)
            .and_then(|()| fs::write(&path, &text))
            .map_err(|error| fail(&path, &error))?;
        out.line(path.to_string_lossy());
    }
    Ok(())
}

/// A command and all beneath it: a page names the pages of its own commands.
fn pages(command: &clap::Command, name: String) -> Vec<(&clap::Command, String)> {
    let beneath = command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    let beneath =
        beneath.flat_map(|verb| pages(verb, format!("{name}-{}", verb.get_name()))).collect::<Vec<_>>();
    std::iter::once((command, name)).chain(beneath).collect()
}

fn page(command: &clap::Command, name: &str, to: &mut dyn Write) -> io::Result<()> {
    // A page is long help: what short help leaves out belongs to it.
    let command = command.clone().name(name.to_owned()).display_name(name.to_owned());
    let command = command.mut_args(|arg| arg.hide_short_help(false));
    clap_mangen::Man::new(command).render(&mut &mut *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_or_one_for_each_verb() {
        let out = Out::captured();
        run(&ManArgs::default(), &out).expect("printed");
        let (text, _) = out.text();
        assert!(text.contains(".TH tripmine 1") && text.contains("tripmine\\-ps(1)"), "{text}");
        let folder = tempfile::tempdir().expect("tempdir");
        run(&ManArgs { all: Some(folder.path().join("man1")) }, &out).expect("written");
        for verb in crate::model::verbs::VERBS.iter().filter(|verb| verb.built && verb.name != "help") {
            let path = folder.path().join(format!("man1/tripmine-{}.1", verb.name));
            let text = fs::read_to_string(&path).expect(verb.name);
            assert!(text.contains(&format!(".TH tripmine-{} 1", verb.name)), "{text}");
        }
        assert!(folder.path().join("man1/tripmine-machine-create.1").exists());
    }
}
