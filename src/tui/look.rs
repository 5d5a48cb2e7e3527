//! What a theme looks like on this terminal: styles by role, and one pass over the finished frame that brings every
//! cell to the depth that the terminal has. No view knows the depth.

use std::collections::HashMap;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

use super::glyphs::{ASCII, Glyphs, NERD, UNICODE};
use super::role::Role;
pub use crate::config::screen::ColorDepth as Depth;
use crate::config::screen::GlyphSet;
use crate::config::theme::{Colour, Paint, Theme};
use crate::term::cells::{Ink, ShownCell};

impl Depth {
    /// Decides once: `NO_COLOR`, `TERM=dumb`, `COLORTERM`, `256color` in `TERM`, else 16.
    #[must_use]
    pub fn of(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        if set("NO_COLOR").is_some() || term == "dumb" {
            return Self::None;
        }
        match set("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::True,
            _ if term.contains("256color") => Self::Palette,
            _ => Self::Sixteen,
        }
    }
}

/// Styles and signs.
#[derive(Debug, Clone)]
pub struct Look {
    styles: HashMap<Role, Style>,
    /// The signs.
    pub glyphs: Glyphs,
    depth: Depth,
}

impl Look {
    /// Of a theme, on a terminal of this depth.
    #[must_use]
    pub fn new(theme: &Theme, glyphs: GlyphSet, depth: Depth) -> Self {
        let mut styles: HashMap<Role, Style> = Role::ALL
            .iter()
            .map(|role| (*role, theme.roles.get(role.name()).map_or_else(Style::default, style)))
            .collect();
        if depth <= Depth::Sixteen
            && let Some(selection) = styles.get_mut(&Role::Selection)
        {
            // A ground that this terminal cannot show would leave what is selected unmarked.
            *selection = Style { fg: None, bg: None, ..*selection }.add_modifier(Modifier::REVERSED);
        }
        let glyphs = match glyphs {
            GlyphSet::Ascii => ASCII,
            GlyphSet::Unicode => UNICODE,
            GlyphSet::Nerd => NERD,
        };
        Self { styles, glyphs, depth }
    }

    /// What a role looks like.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(&role).copied().unwrap_or_default()
    }

    /// Brings every cell to the terminal's depth.
    pub fn finish(&self, buffer: &mut Buffer) {
        if self.depth == Depth::True {
            return;
        }
        for cell in &mut buffer.content {
            cell.fg = reduce(cell.fg, self.depth);
            cell.bg = reduce(cell.bg, self.depth);
        }
    }
}

fn style(paint: &Paint) -> Style {
    let mut style = Style { fg: paint.fg.map(colour), bg: paint.bg.map(colour), ..Style::default() };
    for word in &paint.mods {
        style = style.add_modifier(match *word {
            "bold" => Modifier::BOLD,
            "dim" => Modifier::DIM,
            "italic" => Modifier::ITALIC,
            "underline" => Modifier::UNDERLINED,
            "reverse" => Modifier::REVERSED,
            _ => Modifier::CROSSED_OUT,
        });
    }
    style
}

fn colour(colour: Colour) -> Color {
    match colour {
        Colour::Default => Color::Reset,
        Colour::Index(index) => indexed(index),
        Colour::Rgb(red, green, blue) => Color::Rgb(red, green, blue),
    }
}

const SIXTEEN: [Color; 16] = [
    Color::Black,
    Color::Red,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
    Color::Gray,
    Color::DarkGray,
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
];

fn indexed(index: u8) -> Color {
    SIXTEEN.get(usize::from(index)).copied().unwrap_or(Color::Indexed(index))
}

/// The style of a cube's cell.
#[must_use]
pub fn cell_style(cell: &ShownCell) -> Style {
    let ink = |ink: Ink| match ink {
        Ink::Default => Color::Reset,
        Ink::Index(index) => indexed(index),
        Ink::Rgb(red, green, blue) => Color::Rgb(red, green, blue),
    };
    let mut style = Style::default().fg(ink(cell.fg)).bg(ink(cell.bg));
    for (on, modifier) in [
        (cell.bold, Modifier::BOLD),
        (cell.dim, Modifier::DIM),
        (cell.italic, Modifier::ITALIC),
        (cell.underline, Modifier::UNDERLINED),
        (cell.reverse, Modifier::REVERSED),
        (cell.strike, Modifier::CROSSED_OUT),
    ] {
        if on {
            style = style.add_modifier(modifier);
        }
    }
    style
}

fn reduce(color: Color, depth: Depth) -> Color {
    match (color, depth) {
        (_, Depth::None) => Color::Reset,
        (Color::Rgb(red, green, blue), Depth::Palette) => Color::Indexed(palette(red, green, blue)),
        (Color::Rgb(red, green, blue), Depth::Sixteen) => sixteen(red, green, blue),
        (Color::Indexed(index), Depth::Sixteen) => match index {
            0..16 => indexed(index),
            16..232 => {
                let step = |part: u8| if part == 0 { 0 } else { 55 + part * 40 };
                let index = index - 16;
                sixteen(step(index / 36), step(index / 6 % 6), step(index % 6))
            }
            _ => {
                let grey = 8 + (index - 232) * 10;
                sixteen(grey, grey, grey)
            }
        },
        (color, _) => color,
    }
}

/// The nearest of the 6×6×6 cube and the greys.
fn palette(red: u8, green: u8, blue: u8) -> u8 {
    let near = |part: u8| -> u8 {
        match part {
            0..48 => 0,
            48..115 => 1,
            _ => (part - 35) / 40,
        }
    };
    let (r, g, b) = (near(red), near(green), near(blue));
    let level = |step: u8| if step == 0 { 0 } else { 55 + step * 40 };
    let far = |x: u8, y: u8| u32::from(x.abs_diff(y)).pow(2);
    let average = u8::try_from((u16::from(red) + u16::from(green) + u16::from(blue)) / 3).unwrap_or(u8::MAX);
    let grey = (average.saturating_sub(3) / 10).min(23);
    let shade = 8 + grey * 10;
    let to_grey = far(red, shade) + far(green, shade) + far(blue, shade);
    let to_cube = far(red, level(r)) + far(green, level(g)) + far(blue, level(b));
    if to_grey < to_cube { 232 + grey } else { 16 + 36 * r + 6 * g + b }
}

/// The nearest of 16 by hue; a ground that is nearly black or nearly white is the terminal's own.
fn sixteen(red: u8, green: u8, blue: u8) -> Color {
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    if high - low < 48 {
        return match high {
            0..80 | 200.. => Color::Reset,
            _ => Color::DarkGray,
        };
    }
    let middle = low + (high - low) / 2;
    let bits = usize::from(red > middle) | usize::from(green > middle) << 1 | usize::from(blue > middle) << 2;
    SIXTEEN[bits + if high > 200 { 8 } else { 0 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::theme::{BUILT_IN, parse_theme};
    use ratatui::layout::Rect;

    #[test]
    fn the_depth_is_decided_once() {
        for (variables, depth) in [
            (&[("TERM", "xterm")][..], Depth::Sixteen),
            (&[("TERM", "xterm-256color")], Depth::Palette),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], Depth::True),
            (&[("TERM", "xterm"), ("NO_COLOR", "1"), ("COLORTERM", "24bit")], Depth::None),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], Depth::Sixteen),
            (&[("TERM", "dumb")], Depth::None),
        ] {
            let look =
                |key: &str| variables.iter().find(|(name, _)| *name == key).map(|(_, v)| (*v).to_owned());
            assert_eq!(Depth::of(look), depth, "{variables:?}");
        }
    }

    #[test]
    fn every_theme_survives_every_depth() {
        for (name, text) in BUILT_IN {
            let find = |name: &str| crate::config::theme::built_in(name).map(str::to_owned);
            let theme = parse_theme(name, std::path::Path::new(name), text, &find).expect(name);
            for depth in [Depth::None, Depth::Sixteen, Depth::Palette, Depth::True] {
                let look = Look::new(&theme, GlyphSet::Unicode, depth);
                let mut buffer = Buffer::empty(Rect::new(0, 0, 40, 1));
                for (x, role) in (0u16..).zip(Role::ALL) {
                    buffer[(x, 0)].set_symbol("x").set_style(look.style(*role));
                }
                look.finish(&mut buffer);
                for cell in &buffer.content {
                    let good = |color: Color| match depth {
                        Depth::None => color == Color::Reset,
                        Depth::Sixteen => !matches!(color, Color::Rgb(..) | Color::Indexed(_)),
                        Depth::Palette => !matches!(color, Color::Rgb(..)),
                        Depth::True => true,
                    };
                    assert!(good(cell.fg) && good(cell.bg), "{name} {depth:?} {cell:?}");
                }
                // What is selected still differs from what is not.
                let (plain, selected) = (&buffer[(0, 0)], &buffer[(9, 0)]);
                assert!(plain.style() != selected.style(), "{name} {depth:?}");
            }
        }
    }
}
