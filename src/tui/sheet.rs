//! The launch sheet: choices for one launch, the plan that they make, and the command that does the same. Nothing on it
//! is written down: every choice is for this launch only.

use std::path::PathBuf;

use tui_input::Input as Field;

use super::layer::{PickItem, Picker, PickerKind};
use super::msg::Planned;
use crate::engine::request::Request;
use crate::model::net::{NetSettings, ProxyUrl, Rule};
use crate::model::{
    Failure, ImageRef, JailChoice, Limits, Name, NetPolicyKind, RunAs, SeccompProfile, Settings, limits,
};
use crate::plan::Typed;
use crate::plan::resolve::{ProjectRef, What};

/// The jails that can be chosen.
pub const JAILS: &[&str] = JailChoice::WORDS;

/// What a choice says when it leaves the matter to machine, project and configuration.
pub const AS_SET: &str = "as set";

/// One field.
#[derive(Debug, Clone)]
pub struct SheetField {
    /// Which option it is.
    pub id: &'static str,
    /// What it is called.
    pub label: &'static str,
    /// Its value.
    pub value: Value,
    /// What may be typed, or what it is about.
    pub about: &'static str,
}

/// The value of a field.
#[derive(Debug, Clone)]
pub enum Value {
    /// One of several words.
    Choice {
        /// The words.
        words: Vec<String>,
        /// Which.
        at: usize,
    },
    /// A text.
    Text(Field),
}

impl SheetField {
    /// The value as text; empty when it is left as it is set.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.value {
            Value::Choice { words, at } => {
                words.get(*at).map_or("", |word| if word == AS_SET { "" } else { word })
            }
            Value::Text(field) => field.value(),
        }
    }
}

/// The sheet.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// What is launched, if it is a project.
    pub project: Option<ProjectRef>,
    /// The fields.
    pub fields: Vec<SheetField>,
    /// Which has the keys.
    pub at: usize,
    /// The number of the question that was asked last.
    pub asked: u64,
    /// What came of it; `None` while it is being planned.
    pub plan: Option<Result<Planned, Failure>>,
    /// The first line of the plan that is drawn.
    pub top: usize,
    /// What each setting came to in the last good plan, by its key.
    pub set: Vec<(String, String)>,
    /// Jails by their words, each with why this launch cannot have it; empty until that was looked up.
    pub offers: Vec<(String, Option<Failure>)>,
}

fn choice(words: &[&str]) -> Value {
    let words = std::iter::once(AS_SET).chain(words.iter().copied()).map(str::to_owned).collect();
    Value::Choice { words, at: 0 }
}

impl Sheet {
    /// A sheet for `project` on `machine`, one of `machines`; `images` are those that can be chosen.
    #[must_use]
    pub fn new(project: Option<ProjectRef>, machine: &Name, machines: &[Name], images: &[String]) -> Self {
        let names = machines.iter().map(ToString::to_string).collect();
        let at = machines.iter().position(|name| name == machine).unwrap_or(0);
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        let text = || Value::Text(Field::default());
        let field = |id, label, value, about| SheetField { id, label, value, about };
        let what: &[&str] = &["entry, else a shell", "shell", "command"];
        let start = Value::Choice { words: what.iter().map(ToString::to_string).collect(), at: 0 };
        let life: &[&str] = &["throwaway", "ephemeral home too"];
        let life = Value::Choice { words: life.iter().map(ToString::to_string).collect(), at: 0 };
        let review: &[&str] = &["written at once", "held for review"];
        let review = Value::Choice { words: review.iter().map(ToString::to_string).collect(), at: 0 };
        let stay: &[&str] = &["attached", "detached"];
        let stay = Value::Choice { words: stay.iter().map(ToString::to_string).collect(), at: 0 };
        Self {
            project,
            fields: vec![
                field(
                    "machine",
                    "machine",
                    Value::Choice { words: names, at },
                    "where its home and policy come from",
                ),
                field("image", "image", choice(&images), "this launch only"),
                field("jail", "jail", choice(JAILS), "the kind of confinement"),
                field("net", "net", choice(NetPolicyKind::WORDS), "what it may reach"),
                field("allow", "allow", text(), "HOST:PORT, *.NAME; several with blanks between"),
                field("proxy", "proxy", text(), "socks5h://HOST:PORT, when `net` is `proxy`"),
                field("user", "user", choice(RunAs::WORDS), "who it runs as, inside"),
                field("seccomp", "seccomp", choice(SeccompProfile::WORDS), "the system-call filter"),
                field("start", "start", start, "what begins"),
                field("command", "command", text(), "when `start` is `command`: what to run"),
                field("mount", "mount", text(), "a folder of yours, seen at /work"),
                field("publish", "ports", text(), "HOST:CUBE, several with blanks between"),
                field("memory", "memory", text(), "for example 512M"),
                field("cpus", "cpus", text(), "for example 1.5"),
                field("disk", "disk", text(), "what it may write, for example 2G"),
                field("pids", "pids", text(), "processes at once"),
                field("timeout", "timeout", text(), "for example 90m"),
                field("keep", "keep as", text(), "a name makes it a kept cube"),
                field("life", "changes", life, "what vanishes with it"),
                field("review", "project", review, "whether its project is written to at once"),
                field("stay", "then", stay, "attached hands you its terminal"),
            ],
            at: 0,
            asked: 0,
            plan: None,
            top: 0,
            set: Vec::new(),
            offers: Vec::new(),
        }
    }

    /// What a field that is left as it is set came to.
    #[must_use]
    pub fn came_to(&self, id: &str) -> Option<&str> {
        self.set.iter().find(|(key, _)| key == id).map(|(_, value)| value.as_str())
    }

    fn text(&self, id: &str) -> &str {
        self.fields.iter().find(|field| field.id == id).map_or("", |field| field.text().trim())
    }

    /// What was chosen, as the command line would have typed it.
    ///
    /// # Errors
    /// The first field that cannot be understood, by its label.
    pub fn typed(&self) -> Result<Typed, Failure> {
        let settings = Settings {
            image: self.read("image", ImageRef::parse)?,
            jail: self.read("jail", str::parse)?,
            net: self.read("net", str::parse)?,
            reach: NetSettings {
                rules: self.read("allow", |text| list(text, Rule::parse))?,
                proxy: self.read("proxy", ProxyUrl::parse)?,
                ..NetSettings::default()
            },
            ports: self.read("publish", |text| list(text, str::parse))?.unwrap_or_default(),
            user: self.read("user", str::parse)?,
            seccomp: self.read("seccomp", str::parse)?,
            limits: Limits {
                memory: self.read("memory", limits::parse_size)?,
                cpus_milli: self.read("cpus", limits::parse_cpus)?,
                pids: self.read("pids", limits::parse_pids)?,
                disk: self.read("disk", limits::parse_size)?,
                timeout: self.read("timeout", limits::parse_timeout)?,
            },
            ..Settings::default()
        };
        let what = match self.text("start") {
            "shell" => What::Shell,
            "command" => {
                let argv = shell_words::split(self.text("command"))
                    .map_err(|error| Failure::usage(format!("command: {error}")))?;
                if argv.is_empty() {
                    return Err(
                        Failure::usage("command: nothing to run").hint("type it into the field `command`")
                    );
                }
                What::Command(argv)
            }
            _ => What::default(),
        };
        let mount = self.text("mount");
        Ok(Typed {
            machine: self.read("machine", Name::parse)?,
            // A folder of its own takes the project's place.
            project: if mount.is_empty() { self.project.clone() } else { None },
            what,
            settings,
            mount: (!mount.is_empty()).then(|| PathBuf::from(mount)),
            keep: self.read("keep", Name::parse)?,
            review: self.text("review") == "held for review",
            ephemeral: self.text("life") == "ephemeral home too",
            detach: self.text("stay") == "detached",
            tty: Some(true),
            ..Typed::default()
        })
    }

    fn read<T, E: std::fmt::Display>(
        &self,
        id: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        let text = self.text(id);
        let label = self.fields.iter().find(|field| field.id == id).map_or(id, |field| field.label);
        (!text.is_empty())
            .then(|| parse(text).map_err(|error| Failure::usage(format!("{label}: {error}"))))
            .transpose()
    }

    /// The command that does the same; what is wrong when there is none.
    #[must_use]
    pub fn command_line(&self) -> String {
        match self.typed() {
            Ok(typed) => Request::Launch(Box::new(typed)).command_line(),
            Err(failure) => failure.to_string(),
        }
    }

    /// Goes to the next word of a choice; false when the field is a text.
    pub fn turn(&mut self, forward: bool) -> bool {
        let Some(SheetField { value: Value::Choice { words, at }, .. }) = self.fields.get_mut(self.at) else {
            return false;
        };
        let count = words.len().max(1);
        *at = (*at + if forward { 1 } else { count - 1 }) % count;
        true
    }

    /// The words of the choice that has the keys, to pick from.
    #[must_use]
    pub fn words(&self) -> Option<Picker> {
        let field = self.fields.get(self.at)?;
        let Value::Choice { words, at } = &field.value else { return None };
        let item = |word: &String| {
            let refusal = self.refusal(field.id, word);
            PickItem {
                id: word.clone(),
                title: word.clone(),
                about: refusal.and_then(|failure| failure.hints.first()).cloned().unwrap_or_default(),
                key: String::new(),
                cli: String::new(),
                disabled: refusal.map(|failure| failure.message.clone()),
            }
        };
        Some(Picker {
            kind: PickerKind::Word(field.id),
            title: format!("{}: {}", field.label, field.about),
            items: words.iter().map(item).collect(),
            field: Field::default(),
            at: *at,
            top: 0,
        })
    }

    /// Why this word of a field cannot be chosen now, as the plan would say it.
    #[must_use]
    pub fn refusal(&self, field: &str, word: &str) -> Option<&Failure> {
        let offer = self.offers.iter().find(|(offered, _)| field == "jail" && offered == word);
        offer.and_then(|(_, failure)| failure.as_ref())
    }

    /// The text that is being typed into.
    pub fn field(&mut self) -> Option<&mut Field> {
        match self.fields.get_mut(self.at) {
            Some(SheetField { value: Value::Text(field), .. }) => Some(field),
            _ => None,
        }
    }

    /// Chooses `word` in the field `id`; nothing when it is none of its words.
    pub fn set(&mut self, id: &str, word: &str) {
        if let Some(field) = self.fields.iter_mut().find(|field| field.id == id) {
            match &mut field.value {
                Value::Choice { words, at } => {
                    *at = words.iter().position(|known| known == word).unwrap_or(*at);
                }
                Value::Text(text) => *text = Field::new(word.to_owned()),
            }
        }
    }
}

/// Several values with blanks between.
fn list<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Vec<T>, E> {
    text.split_whitespace().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_become_the_launch_that_was_meant() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let names = [name("default"), name("work")];
        let mut sheet =
            Sheet::new(Some(ProjectRef::Named(name("site"))), &names[1], &names, &["host".into()]);
        assert_eq!(sheet.command_line(), "tripmine -m work site");
        for (id, word) in [
            ("net", "none"),
            ("image", "host"),
            ("memory", "512M"),
            ("keep", "box"),
            ("start", "command"),
            ("command", "make 'a b'"),
        ] {
            sheet.set(id, word);
        }
        assert_eq!(
            sheet.command_line(),
            "tripmine -m work -i host --net none --memory 512M --keep box site -- make 'a b'"
        );
        sheet.set("memory", "lots\u{1b}");
        let failure = sheet.typed().expect_err("no size");
        assert!(failure.message.starts_with("memory: ") && !failure.message.contains('\u{1b}'), "{failure}");
        sheet.at = 3;
        let before = sheet.text("net").to_owned();
        assert!(sheet.turn(true) && sheet.turn(false));
        assert_eq!(sheet.text("net"), before);
    }
}
