//! Every sign that is drawn, in one place. None is of a private-use plane; each has a plain substitute, and none says
//! anything that a word beside it does not.

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
    border: ["+", "+", "+", "+", "-", "|"],
    spinner: &["|", "/", "-", "\\"],
    more: "..",
};
