//! Lines to read: a log, what a command printed, messages.

use ratatui::layout::Rect;

use super::super::layer::{Page, PageKind, PageLine};
use super::super::model::{Loud, Model};
use super::super::role::{Line, Role, line};
use super::super::text::{pad, wrap};
use super::Zones;
use super::boxes::Brush;

/// Where a page is drawn.
#[must_use]
pub(super) fn area(screen: (u16, u16), full: bool) -> Rect {
    Rect::new(0, 0, screen.0, if full { screen.1 } else { screen.1.saturating_sub(2) })
}

/// Lines of text that a page shows on a screen of this size.
#[must_use]
pub fn page_height(screen: (u16, u16), page: &Page) -> usize {
    let height = usize::from(area(screen, page.full).height);
    if page.full { height.max(1) } else { height.saturating_sub(2).max(1) }
}

/// The first line that is drawn when the last one can be seen.
#[must_use]
pub fn page_end(screen: (u16, u16), page: &Page) -> usize {
    let height = page_height(screen, page);
    if !page.wrap {
        return page.lines.len().saturating_sub(height);
    }
    let width = usize::from(screen.0).saturating_sub(if page.full { 0 } else { 4 });
    let (mut at, mut rows) = (page.lines.len(), 0);
    while at > 0 {
        rows += parts(page, &page.lines[at - 1], width).len();
        if rows > height {
            break;
        }
        at -= 1;
    }
    at.min(page.lines.len().saturating_sub(1))
}

fn time(page: &Page, line: &PageLine) -> String {
    if page.times && !line.time.is_empty() { format!("{}  ", line.time) } else { String::new() }
}

/// A line as the rows that it takes.
fn parts(page: &Page, line: &PageLine, width: usize) -> Vec<String> {
    let room = width.saturating_sub(time(page, line).len() + line.mark.len());
    if page.wrap { wrap(&line.text, room) } else { vec![line.text.clone()] }
}

/// What a command of ours printed, in colours: what was added and taken away, what holds and what does not. The signs say
/// the same.
fn pieces(verb: &str, text: &str) -> Line {
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    let whole = |role| line(role, text);
    match verb {
        "changes" => match rest.as_bytes() {
            [b'+', ..] | [b'A', b' ', ..] => whole(Role::Ok),
            [b'-', ..] | [b'D', b' ', ..] => whole(Role::Error),
            [b'M', b' ', ..] => whole(Role::Warn),
            [b'@', b'@', ..] => whole(Role::Accent),
            _ => whole(Role::Text),
        },
        "doctor" => {
            let word = |word: &str, role| -> Option<Line> {
                let end = rest.find(word).filter(|at| *at < 6)? + word.len();
                let (sign, more) = rest.split_at(end);
                Some(vec![(role, format!("{}{sign}", &text[..start])), (Role::Text, more.to_owned())])
            };
            let known = [("pass", Role::Ok), ("fail", Role::Error), ("untested", Role::Warn)];
            let found = known.into_iter().find_map(|(name, role)| word(name, role));
            found.unwrap_or_else(|| match rest {
                _ if start == 0 => whole(Role::Strong),
                _ => whole(Role::Dim),
            })
        }
        _ => whole(Role::Text),
    }
}

pub(super) fn draw(model: &Model, page: &Page, brush: &mut Brush<'_>, area: Rect, zones: &mut Zones) {
    let log = matches!(page.kind, PageKind::Log(_));
    let note = match (log, page.follow) {
        (true, true) => "following".to_owned(),
        (true, false) if page.unseen > 0 => format!("paused · G to follow, {} new", page.unseen),
        (true, false) => "paused · G to follow".to_owned(),
        (false, _) => String::new(),
    };
    let last = page.lines.len();
    let inside = if page.full {
        brush.clear(area);
        area
    } else {
        brush.window(area, &page.title, &note)
    };
    let height = usize::from(inside.height);
    let top = page.top.min(page_end(model.size, page));
    let count = format!("{}-{} of {last}", if last == 0 { 0 } else { top + 1 }, (top + height).min(last));
    let wide = u16::try_from(count.len()).unwrap_or(0) + 2;
    if area.width > wide + 30 && !page.full {
        let at = Rect { x: area.right() - wide - 2, y: area.y, width: wide, height: 1 };
        brush.text(at, Role::Dim, &format!(" {count} "));
    }
    zones.cursor = Some((inside.x, inside.y));
    if page.lines.is_empty() {
        let text = if page.waiting { "looking…" } else { "nothing yet" };
        brush.text(Rect { height: 1.min(inside.height), ..inside }, Role::Dim, text);
        return;
    }
    let search = page.search.to_lowercase();
    let mut y = inside.y;
    for line in page.lines.iter().skip(top) {
        let time = time(page, line);
        let role = match line.loud {
            None | Some(Loud::Info) => Role::Text,
            Some(Loud::Warn) => Role::Warn,
            Some(Loud::Error) => Role::Error,
        };
        for part in parts(page, line, usize::from(inside.width)) {
            if y >= inside.bottom() {
                return;
            }
            let row = Rect { y, height: 1, ..inside };
            let found = !search.is_empty() && part.to_lowercase().contains(&search);
            let mut text = vec![(Role::Dim, pad(&time, time.len())), (Role::Warn, line.mark.to_owned())];
            match (found, &page.kind) {
                (true, _) => text.push((Role::Match, part)),
                (false, PageKind::Command(verb)) if role == Role::Text => text.extend(pieces(verb, &part)),
                (false, _) => text.push((role, part)),
            }
            brush.line(row, &text);
            y += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_print_is_coloured_by_what_it_says() {
        for (verb, text, role, first) in [
            ("changes", "    +hi", Role::Ok, "    +hi"),
            ("changes", "A /opt/x  3B", Role::Ok, "A /opt/x  3B"),
            ("changes", "D /etc/motd", Role::Error, "D /etc/motd"),
            ("changes", "    @@ -0,0 +1 @@", Role::Accent, "    @@ -0,0 +1 @@"),
            ("changes", "1 added, 0 changed", Role::Text, "1 added, 0 changed"),
            ("doctor", "  \u{2713} pass      Landlock   ABI 7", Role::Ok, "  \u{2713} pass"),
            ("doctor", "  x fail      KVM   none", Role::Error, "  x fail"),
            (
                "doctor",
                "       fix: load it, or it will fail",
                Role::Dim,
                "       fix: load it, or it will fail",
            ),
            ("inspect", "+hi", Role::Text, "+hi"),
        ] {
            let pieces = pieces(verb, text);
            assert_eq!((pieces[0].0, pieces[0].1.as_str()), (role, first), "{verb} {text}");
            assert_eq!(pieces.iter().map(|(_, text)| text.as_str()).collect::<String>(), text);
        }
    }
}
