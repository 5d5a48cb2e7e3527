//! Every sign that is drawn, in one place. None says anything that a word beside it does not, each has a plain
//! substitute, and those of private-use planes are drawn only where somebody asked for them.

/// A set of signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    /// A cube that runs.
    pub running: &'static str,
    /// One that starts, stops or is frozen.
    pub starting: &'static str,
    /// One that has ended.
    pub exited: &'static str,
    /// One that failed.
    pub failed: &'static str,
    /// A kept cube that waits.
    pub kept: &'static str,
    /// In use, chosen.
    pub chosen: &'static str,
    /// Between parts of a line.
    pub dot: &'static str,
    /// Leads on.
    pub arrow: &'static str,
    /// Wholly in force.
    pub full: &'static str,
    /// Partly in force.
    pub partial: &'static str,
    /// Missing.
    pub missing: &'static str,
    /// A plot's steps, low to high.
    pub bars: [&'static str; 8],
    /// A gauge: what is done, what is left.
    pub gauge: [&'static str; 2],
    /// Corners and sides: top left, top right, bottom left, bottom right, horizontal, vertical.
    pub border: [&'static str; 6],
    /// Something is under way: frames.
    pub spinner: &'static [&'static str],
    /// More above or below.
    pub more: &'static str,
}

/// With Unicode.
pub const UNICODE: Glyphs = Glyphs {
    running: "●",
    starting: "◐",
    exited: "○",
    failed: "✗",
    kept: "◌",
    chosen: "›",
    dot: "·",
    arrow: "→",
    full: "✓",
    partial: "~",
    missing: "✗",
    bars: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    gauge: ["█", "░"],
    border: ["╭", "╮", "╰", "╯", "─", "│"],
    spinner: &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧"],
    more: "⋯",
};

/// With ASCII alone.
pub const ASCII: Glyphs = Glyphs {
    running: "*",
    starting: "+",
    exited: "-",
    failed: "x",
    kept: "k",
    chosen: ">",
    dot: "-",
    arrow: "->",
    full: "v",
    partial: "~",
    missing: "x",
    bars: ["_", ".", "-", "=", "+", "*", "#", "#"],
    gauge: ["#", "."],
    border: ["+", "+", "+", "+", "-", "|"],
    spinner: &["|", "/", "-", "\\"],
    more: "..",
};

/// With the signs of fonts that were patched for it (private use: nerd-fonts' Material and powerline ranges).
pub const NERD: Glyphs = Glyphs {
    running: "\u{f0e7}",
    starting: "\u{f252}",
    exited: "\u{f10c}",
    failed: "\u{f00d}",
    kept: "\u{f187}",
    chosen: "\u{f054}",
    full: "\u{f132}",
    partial: "\u{f071}",
    missing: "\u{f00d}",
    ..UNICODE
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_one_column_and_private_ones_are_asked_for() {
        for (glyphs, private) in [(UNICODE, false), (ASCII, false), (NERD, true)] {
            let signs = [
                glyphs.running,
                glyphs.starting,
                glyphs.exited,
                glyphs.failed,
                glyphs.kept,
                glyphs.chosen,
                glyphs.full,
                glyphs.partial,
                glyphs.missing,
                glyphs.gauge[0],
                glyphs.gauge[1],
            ];
            for sign in signs {
                assert_eq!(crate::tui::text::width(sign), 1, "{sign:?}");
                assert!(private || !sign.contains(|c| ('\u{e000}'..='\u{f8ff}').contains(&c)), "{sign:?}");
            }
        }
        assert!(
            ASCII.gauge.concat().is_ascii()
                && ASCII.bars.concat().is_ascii()
                && ASCII.border.concat().is_ascii()
        );
    }
}
