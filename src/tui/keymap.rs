//! Which keys mean which command: the registry's own, and what the configuration says instead.

use super::command::{COMMANDS, Command, Place};
use super::key::{Key, parse_keys, show_keys};
use super::model::Pane;
use crate::config::screen::KeyChange;

/// The keys of every command.
#[derive(Debug, Clone)]
pub struct Keymap {
    bindings: Vec<(Vec<Key>, &'static Command)>,
}

/// What keys lead to.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// A command.
    Command(&'static Command),
    /// The beginning of these.
    Prefix(Vec<(Vec<Key>, &'static Command)>),
    /// Nothing.
    Nothing,
}

impl Keymap {
    /// The registry's keys, those of `changes` instead of its own; and what is wrong with the changes, by place.
    #[must_use]
    pub fn new(changes: &[KeyChange]) -> (Self, Vec<String>) {
        let (mut bindings, mut warnings) = (Vec::new(), Vec::new());
        for command in COMMANDS {
            let own = || command.keys.iter().filter_map(|keys| parse_keys(keys).ok());
            match changes.iter().find(|change| change.command == command.id) {
                None => bindings.extend(own().map(|keys| (keys, command))),
                Some(change) if change.keys == "none" => {}
                Some(change) => match parse_keys(&change.keys) {
                    Ok(keys) => bindings.push((keys, command)),
                    Err(why) => {
                        warnings.push(format!("{}: the key of `{}`: {why}", change.place, command.id));
                        bindings.extend(own().map(|keys| (keys, command)));
                    }
                },
            }
        }
        for change in changes {
            if !COMMANDS.iter().any(|command| command.id == change.command) {
                let shown = crate::model::sanitize::printable(&change.command);
                warnings.push(format!("{}: there is no command `{shown}` to bind a key to", change.place));
            }
        }
        (Self { bindings }, warnings)
    }

    /// What `keys` mean where `pane` has the keys. Its own commands come before those for everywhere.
    #[must_use]
    pub fn look(&self, pane: Pane, keys: &[Key]) -> Meaning {
        let here = |place: Place| place == Place::Everywhere || place == Place::In(pane);
        let mut fits: Vec<&(Vec<Key>, &'static Command)> = self
            .bindings
            .iter()
            .filter(|(bound, command)| here(command.place) && bound.starts_with(keys))
            .collect();
        fits.sort_by_key(|(_, command)| command.place == Place::Everywhere);
        match fits.iter().find(|(bound, _)| bound.len() == keys.len()) {
            Some((_, command)) => Meaning::Command(command),
            None if fits.is_empty() => Meaning::Nothing,
            None => Meaning::Prefix(fits.into_iter().cloned().collect()),
        }
    }

    /// The first keys of a command, as they are written; empty without any.
    #[must_use]
    pub fn keys(&self, command: &Command) -> String {
        let found = self.bindings.iter().find(|(_, bound)| bound.id == command.id);
        found.map_or_else(String::new, |(keys, _)| show_keys(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_can_be_changed_and_mistakes_do_not_lock_anybody_out() {
        let change = |id: &str, keys: &str| KeyChange {
            command: id.to_owned(),
            keys: keys.to_owned(),
            place: "config.toml:3:1".to_owned(),
        };
        let (keymap, warnings) = Keymap::new(&[
            change("quit", "Q"),
            change("help", "ctlr-h"),
            change("stop", "none"),
            change("qiut", "q"),
        ]);
        let meaning = |keys: &str| keymap.look(Pane::Cubes, &parse_keys(keys).expect("keys"));
        assert!(matches!(meaning("Q"), Meaning::Command(command) if command.id == "quit"));
        assert_eq!(meaning("q"), Meaning::Nothing);
        assert!(matches!(meaning("?"), Meaning::Command(command) if command.id == "help"));
        assert_eq!(meaning("x"), Meaning::Nothing);
        assert!(matches!(meaning("g"), Meaning::Prefix(_)));
        assert!(matches!(meaning("g g"), Meaning::Command(command) if command.id == "first"));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.starts_with("config.toml:3:1: ")), "{warnings:?}");
        assert!(warnings[0].contains("`help`") && warnings[1].contains("`qiut`"), "{warnings:?}");
    }

    #[test]
    fn no_two_commands_of_a_place_share_a_key() {
        let (keymap, _) = Keymap::new(&[]);
        for (at, (keys, command)) in keymap.bindings.iter().enumerate() {
            for (other_keys, other) in &keymap.bindings[at + 1..] {
                let meet = command.place == other.place
                    || command.place == Place::Everywhere
                    || other.place == Place::Everywhere;
                let clash = keys.starts_with(other_keys) || other_keys.starts_with(keys);
                assert!(!(meet && clash), "{} and {} share {}", command.id, other.id, show_keys(keys));
            }
        }
    }
}
