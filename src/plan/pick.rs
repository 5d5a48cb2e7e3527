//! Precedence: of the places that may say a setting, the strongest that says it wins, key by key.
//! Owns the order and the record of who said what; decides nothing about the values.

use std::fmt::Display;

use super::launch::{Origin, Setting};
use crate::model::Settings;

/// A value and who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked<T> {
    /// The value.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

/// The places, strongest first.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    places: Vec<(Origin, &'a Settings)>,
}

impl<'a> Places<'a> {
    /// Puts `places` in order of strength, whatever order they come in.
    pub fn new(places: impl IntoIterator<Item = (Origin, &'a Settings)>) -> Self {
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_by_key(|(origin, _)| *origin);
        Self { places }
    }

    /// The strongest place that says something.
    pub fn pick<T>(&self, said: impl Fn(&Settings) -> Option<T>) -> Option<Picked<T>> {
        self.places
            .iter()
            .find_map(|(origin, settings)| said(settings).map(|value| Picked { value, origin: *origin }))
    }

    /// As [`Places::pick`], or the built-in value.
    pub fn pick_or<T>(&self, said: impl Fn(&Settings) -> Option<T>, built_in: T) -> Picked<T> {
        self.pick(said).unwrap_or(Picked { value: built_in, origin: Origin::BuiltIn })
    }

    /// The places, weakest first: for what merges instead of being replaced.
    pub fn weakest_first(&self) -> impl Iterator<Item = (Origin, &'a Settings)> + '_ {
        self.places.iter().rev().copied()
    }
}

/// The list of settings with their origins that a plan carries.
#[derive(Debug, Default)]
pub struct Record(Vec<Setting>);

impl Record {
    /// Notes one and hands the value back.
    pub fn note<T: Display>(&mut self, key: &str, picked: Picked<T>) -> T {
        self.add(key, &picked.value, picked.origin);
        picked.value
    }

    /// Notes one.
    pub fn add(&mut self, key: &str, value: &impl Display, origin: Origin) {
        self.0.push(Setting { key: key.to_owned(), value: value.to_string(), origin });
    }

    /// The list.
    #[must_use]
    pub fn into_settings(self) -> Vec<Setting> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NetPolicyKind, RunAs};

    #[test]
    fn the_strongest_that_speaks_wins() {
        let silent = Settings::default();
        let open = Settings { net: Some(NetPolicyKind::Open), ..Settings::default() };
        let proxy =
            Settings { net: Some(NetPolicyKind::Proxy), user: Some(RunAs::Root), ..Settings::default() };
        let places =
            Places::new([(Origin::Config, &open), (Origin::Machine, &proxy), (Origin::Flag, &silent)]);
        assert_eq!(
            places.pick(|s| s.net),
            Some(Picked { value: NetPolicyKind::Proxy, origin: Origin::Machine })
        );
        assert_eq!(places.pick(|s| s.seccomp), None);
        assert_eq!(places.pick_or(|s| s.user, RunAs::Me).value, RunAs::Root);
        let order: Vec<_> = places.weakest_first().map(|(origin, _)| origin).collect();
        assert_eq!(order, [Origin::Config, Origin::Machine, Origin::Flag]);
    }
}
