//! What a piece of text is for; a theme says what that looks like. And lines made of such pieces.

use crate::config::theme::ROLES;

macro_rules! roles {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// A role. The list is the themes' own; a test compares them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is explained in the list of the themes")]
        pub enum Role { $($variant),+ }

        impl Role {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in a theme's file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

roles! {
    Text = "text", Dim = "text.dim", Strong = "text.strong", Title = "title", TitleFocus = "title.focus",
    Border = "border", BorderFocus = "border.focus", Accent = "accent", Selection = "selection",
    SelectionIdle = "selection.idle", Match = "match", Key = "key", Hint = "hint", Disabled = "disabled",
    Input = "input", Ok = "ok", Warn = "warn", Error = "error", Running = "state.running",
    Starting = "state.starting", Exited = "state.exited", Failed = "state.failed", Full = "enforce.full",
    Partial = "enforce.partial", Missing = "enforce.none", Low = "gauge.low", Mid = "gauge.mid",
    High = "gauge.high", Status = "status",
}

/// Pieces of text in a row.
pub type Line = Vec<(Role, String)>;

/// A line of one piece.
#[must_use]
pub fn line(role: Role, text: impl Into<String>) -> Line {
    vec![(role, text.into())]
}

/// A label and what it labels.
#[must_use]
pub fn labelled(label: &str, role: Role, text: impl Into<String>) -> Line {
    vec![(Role::Dim, format!("{label:<10}")), (role, text.into())]
}

/// How many roles a theme has.
#[must_use]
pub const fn count() -> usize {
    ROLES.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_and_the_themes_know_the_same_roles() {
        let ours: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
        let theirs: Vec<&str> = ROLES.iter().map(|(role, _)| *role).collect();
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), count());
    }
}
