//! From a screen back to bytes: what to write to a blank terminal of the same size so that it shows, and
//! behaves, as the cube left it; and what to write to the user's terminal when a cube lets go of it.
//!
//! The bytes are ours, made from cells: nothing that a cube wrote is copied but printable characters.

mod paint;

use alacritty_terminal::grid::{Dimensions, Grid};
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::Cell;
use alacritty_terminal::vte::ansi::{
    CursorShape, CursorStyle, Handler, KeyboardModes, KeyboardModesApplyBehavior,
};

use super::guard::default_tabs;
use super::screen::Screen;

/// Attributes, character sets, margins, origin, insert, autowrap as on a fresh terminal; then a blank screen,
/// which nothing scrolls out of.
const BLANK: &str = "\x1b[m\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[r\x1b[?6l\x1b[4l\x1b[?7h\x1b[H\x1b[J";

/// The bytes that repaint `screen` on a blank terminal of its size: history, primary screen, alternate
/// screen if it is shown, cursor, pen, character sets, tab stops, modes.
pub fn replay(screen: &mut Screen) -> Vec<u8> {
    screen.settle();
    let mut out = String::with_capacity(16 * 1024);
    out.push_str(BLANK);
    tab_stops(&mut out, screen);
    if screen.term.mode().contains(TermMode::ALT_SCREEN) {
        let primary = behind(screen);
        keyboard_stack(&mut out, &screen.memory.other_keyboard);
        paint::grid(&mut out, &primary);
        paint::cursor(&mut out, &primary, &primary.cursor, None);
        // Entering clears the alternate screen with the pen's background, so it is cleared once more.
        out.push_str("\x1b[?1049h");
        out.push_str(BLANK);
    }
    keyboard_stack(&mut out, &screen.memory.keyboard);
    let grid = screen.term.grid();
    paint::grid(&mut out, grid);
    paint::cursor(&mut out, grid, &grid.saved_cursor, None);
    out.push_str("\x1b7");
    let (top, bottom) = screen.memory.region;
    if (top, bottom) != (0, grid.screen_lines()) {
        out.push_str(&format!("\x1b[{};{bottom}r", top + 1));
    }
    let origin = screen.term.mode().contains(TermMode::ORIGIN).then_some((top, bottom));
    if origin.is_some() {
        out.push_str("\x1b[?6h");
    }
    paint::cursor(&mut out, grid, &grid.cursor, origin);
    modes(&mut out, screen);
    if screen.memory.shifted_out {
        out.push('\x0e');
    }
    out.into_bytes()
}

/// The bytes that bring a terminal back to its senses after a cube used it, whatever modes it was left in: the primary
/// screen, no mouse, paste, focus or keyboard reports, a visible cursor of the usual shape, plain text. The cursor stays
/// on its line, and the screen keeps what it shows.
#[must_use]
pub fn leave() -> Vec<u8> {
    concat!(
        "\x1b\\\x1b[?2026l",
        // Each screen has its own keyboard stack.
        "\x1b[<64u",
        // Leaving a screen that is not shown restores a cursor: save the one to restore.
        "\x1b7\x1b[?1049l\x1b[<64u\x1b[=0u",
        "\x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l",
        "\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b[?66l\x1b>\x1b[4l\x1b[20l\x1b[?5l",
        // Origin and margins home the cursor.
        "\x1b7\x1b[?6l\x1b[r\x1b8",
        "\x1b[?7h\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[m\x1b[?12l\x1b[0 q\x1b[?25h",
    )
    .as_bytes()
    .to_vec()
}

/// A copy of the primary screen while the alternate one is shown. The emulator gives it out only by
/// swapping, which clears the alternate screen and loses keyboard flags: both are put back.
fn behind(screen: &mut Screen) -> Grid<Cell> {
    let shown = screen.term.grid().clone();
    let flags = keyboard_flags(*screen.term.mode());
    screen.term.swap_alt();
    let primary = screen.term.grid().clone();
    screen.term.swap_alt();
    *screen.term.grid_mut() = shown;
    Handler::set_keyboard_mode(&mut screen.term, flags, KeyboardModesApplyBehavior::Replace);
    primary
}

fn tab_stops(out: &mut String, screen: &Screen) {
    let tabs = &screen.memory.tabs;
    if *tabs == default_tabs(tabs.len()) {
        return;
    }
    out.push_str("\x1b[3g");
    for (column, _) in tabs.iter().enumerate().filter(|(_, stop)| **stop) {
        out.push_str(&format!("\x1b[{}G\x1bH", column + 1));
    }
    out.push_str("\x1b[H");
}

fn keyboard_stack(out: &mut String, stack: &[KeyboardModes]) {
    for mode in stack {
        out.push_str(&format!("\x1b[>{}u", mode.bits()));
    }
}

fn keyboard_flags(mode: TermMode) -> KeyboardModes {
    let mut flags = KeyboardModes::NO_MODE;
    flags.set(KeyboardModes::DISAMBIGUATE_ESC_CODES, mode.contains(TermMode::DISAMBIGUATE_ESC_CODES));
    flags.set(KeyboardModes::REPORT_EVENT_TYPES, mode.contains(TermMode::REPORT_EVENT_TYPES));
    flags.set(KeyboardModes::REPORT_ALTERNATE_KEYS, mode.contains(TermMode::REPORT_ALTERNATE_KEYS));
    flags.set(KeyboardModes::REPORT_ALL_KEYS_AS_ESC, mode.contains(TermMode::REPORT_ALL_KEYS_AS_ESC));
    flags.set(KeyboardModes::REPORT_ASSOCIATED_TEXT, mode.contains(TermMode::REPORT_ASSOCIATED_TEXT));
    flags
}

/// Everything that does not move the cursor. Only what differs from a fresh terminal is written.
fn modes(out: &mut String, screen: &Screen) {
    let mode = *screen.term.mode();
    for (flag, on) in [
        (TermMode::APP_CURSOR, "\x1b[?1h"),
        (TermMode::APP_KEYPAD, "\x1b="),
        (TermMode::INSERT, "\x1b[4h"),
        (TermMode::LINE_FEED_NEW_LINE, "\x1b[20h"),
        (TermMode::MOUSE_REPORT_CLICK, "\x1b[?1000h"),
        (TermMode::MOUSE_DRAG, "\x1b[?1002h"),
        (TermMode::MOUSE_MOTION, "\x1b[?1003h"),
        (TermMode::UTF8_MOUSE, "\x1b[?1005h"),
        (TermMode::SGR_MOUSE, "\x1b[?1006h"),
        (TermMode::FOCUS_IN_OUT, "\x1b[?1004h"),
        (TermMode::BRACKETED_PASTE, "\x1b[?2004h"),
    ] {
        if mode.contains(flag) {
            out.push_str(on);
        }
    }
    for (flag, off) in [
        (TermMode::LINE_WRAP, "\x1b[?7l"),
        (TermMode::ALTERNATE_SCROLL, "\x1b[?1007l"),
        (TermMode::SHOW_CURSOR, "\x1b[?25l"),
    ] {
        if !mode.contains(flag) {
            out.push_str(off);
        }
    }
    let flags = keyboard_flags(mode);
    if flags != screen.memory.keyboard.last().copied().unwrap_or_default() {
        out.push_str(&format!("\x1b[={}u", flags.bits()));
    }
    let style = screen.term.cursor_style();
    if style != CursorStyle::default() {
        let shape = match style.shape {
            CursorShape::Underline => 3,
            CursorShape::Beam => 5,
            _ => 1,
        };
        out.push_str(&format!("\x1b[{} q", shape + u8::from(!style.blinking)));
    }
}

#[cfg(test)]
mod tests;
