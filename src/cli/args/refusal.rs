//! What ends parsing early: a text to show, or a failure in our own words. Owns the translation of
//! clap's errors, so that every refusal looks alike and quotes nothing unescaped.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::model::Failure;

/// Parsing ended without a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Help or version, for stdout; exit code 0.
    Show(String),
    /// The command line is wrong, or names what is not built.
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// `verb`: the command whose words were read, if it is one.
pub(super) fn stop(error: &clap::Error, verb: Option<&str>) -> Stop {
    let strings = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(list)) => list.clone(),
        _ => Vec::new(),
    };
    let list = |kind| strings(kind).iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let argument = list(ContextKind::InvalidArg);
    let value = strings(ContextKind::InvalidValue).concat();
    let failure = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return Stop::Show(error.to_string()),
        ErrorKind::UnknownArgument => {
            let what =
                if argument.starts_with("`-") { "there is no option" } else { "there is no place for" };
            let mut failure = Failure::usage(format!("{what} {argument}"));
            for near in strings(ContextKind::SuggestedArg).iter().rev() {
                failure = failure.hint(format!("did you mean `{near}`?"));
            }
            failure
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            Failure::usage(format!("{argument} needs a value{}", one_of(&strings(ContextKind::ValidValue))))
        }
        ErrorKind::InvalidValue => {
            let mut failure = Failure::usage(format!(
                "{argument} does not take `{value}`{}",
                one_of(&strings(ContextKind::ValidValue))
            ));
            for near in strings(ContextKind::SuggestedValue).iter().rev() {
                failure = failure.hint(format!("did you mean `{near}`?"));
            }
            failure
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            Failure::usage(format!("{argument} does not take `{value}`{why}"))
        }
        ErrorKind::MissingRequiredArgument => {
            let plain = argument.replace(['<', '>'], "").replace("...", "…");
            Failure::usage(format!("{plain} is missing"))
        }
        ErrorKind::ArgumentConflict => {
            let prior = list(ContextKind::PriorArg);
            if prior.is_empty() || prior == argument {
                Failure::usage(format!("{argument} is given more than once"))
            } else {
                Failure::usage(format!("{argument} cannot go with {prior}"))
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = strings(ContextKind::InvalidSubcommand).concat();
            let mut failure = Failure::usage(format!("there is no command `{word}`"));
            // The likeliest comes last.
            for near in strings(ContextKind::SuggestedSubcommand).iter().rev() {
                failure = failure.hint(format!("did you mean `{near}`?"));
            }
            failure
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Failure::usage(first.strip_prefix("error: ").unwrap_or(first))
        }
    };
    Stop::Failure(failure.hint(match verb {
        Some(verb) => format!("`tripmine help {verb}` shows what can be typed"),
        None => {
            "`tripmine --help` shows what can be typed; `tripmine help COMMAND` for one command".to_owned()
        }
    }))
}

fn one_of(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(": one of {}", words.join(", ")) }
}
