//! One line of keys that matter here; each is a button. While keys of a sequence are held, what they may become.

use ratatui::layout::Rect;

use super::super::command::{COMMANDS, Command, Place};
use super::super::key::show_keys;
use super::super::keymap::Meaning;
use super::super::layer::{Layer, PageKind};
use super::super::model::Model;
use super::super::role::Role;
use super::boxes::Brush;
use super::{Target, Zones};

/// Keys of the place that are shown; `?` has all of them.
const MOST: usize = 6;

pub(super) fn draw(model: &Model, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let mut x = area.x + 1;
    let mut button = |brush: &mut Brush<'_>, key: &str, word: &str, target: Option<Target>| {
        let wide =
            u16::try_from(super::super::text::width(key) + super::super::text::width(word) + 1).unwrap_or(0);
        if x + wide > area.right() {
            return;
        }
        let at = Rect { x, width: wide, ..area };
        let used = brush.text(at, Role::Key, key);
        brush.text(Rect { x: x + used + 1, width: wide - used - 1, ..area }, Role::Hint, word);
        if let Some(target) = target {
            zones.add(at, target);
        }
        x += wide + 2;
    };
    if let Some(layer) = model.layers.last() {
        for (key, word) in layer_hints(model, layer) {
            // One key alone can be pressed; `n/N` and words cannot.
            let pressed = key.parse().ok().map(Target::Key).filter(|_| key != "type");
            button(brush, &key, word, pressed);
        }
        return;
    }
    if model.filtering {
        for (key, word) in [("enter", "keep"), ("esc", "show all"), ("!word", "not this")] {
            button(brush, key, word, key.parse().ok().map(Target::Key));
        }
        return;
    }
    if !model.prefix.is_empty()
        && let Meaning::Prefix(next) = model.keymap.look(model.focus, &model.prefix)
    {
        for (keys, command) in next {
            button(brush, &show_keys(&keys), command.title, Some(Target::Command(command.id)));
        }
        return;
    }
    let of = |place: Place| {
        COMMANDS.iter().filter(move |c| c.place == place && !c.hint.is_empty() && c.check(model).is_ok())
    };
    let here: Vec<_> = of(Place::In(model.focus)).take(MOST).collect();
    let everywhere: Vec<_> = of(Place::Everywhere).collect();
    let wide = |command: &&&Command| {
        super::super::text::width(&model.keymap.keys(command)) + super::super::text::width(command.hint) + 3
    };
    // Where there is no room for all, the key that shows all stays, and what one does most often.
    let help = everywhere.iter().find(|command| command.id == "help").map_or(0, |help| wide(&help));
    // Nothing need follow the last.
    let mut room = (usize::from(area.width) + 1).saturating_sub(help);
    let mut fits = |command: &&&'static Command| {
        let left = room.checked_sub(wide(command));
        room = left.unwrap_or(0);
        left.is_some() || command.id == "help"
    };
    let shown: Vec<_> = here.iter().filter(|command| fits(command)).copied().collect();
    let rest = everywhere.iter().filter(|command| command.id == "help" || fits(command)).copied();
    for command in shown.into_iter().chain(rest) {
        button(brush, &model.keymap.keys(command), command.hint, Some(Target::Command(command.id)));
    }
}

fn layer_hints(model: &Model, layer: &Layer) -> Vec<(String, &'static str)> {
    let list =
        |pairs: &[(&str, &'static str)]| pairs.iter().map(|(key, word)| ((*key).to_owned(), *word)).collect();
    match layer {
        Layer::Sheet(_) => list(&[
            ("enter", "launch"),
            ("up/down", "field"),
            ("left/right", "change"),
            ("/", "choose"),
            ("pagedown", "plan"),
            ("esc", "back"),
        ]),
        Layer::Confirm(_) => list(&[("esc", "leave it")]),
        Layer::Prompt(_) => list(&[("enter", "done"), ("esc", "back")]),
        Layer::Picker(_) => {
            list(&[("enter", "choose"), ("up/down", "move"), ("type", "search"), ("esc", "back")])
        }
        Layer::Page(page) => {
            let mut hints: Vec<_> =
                list(&[("esc", "back"), ("/", "search"), ("n/N", "next"), ("w", "wrap"), ("y", "copy")]);
            if matches!(page.kind, PageKind::Log(_)) {
                hints.push(("t".into(), "times"));
                hints.push(("f".into(), "full"));
                hints.push(("G".into(), "follow"));
            }
            hints
        }
        Layer::Terminal(_) => match &model.setup.leader {
            Some(leader) => vec![(format!("{leader} d"), "back to the lists, it runs on")],
            None => list(&[("", "there is no leader key: stop the cube from elsewhere to leave")]),
        },
    }
}
