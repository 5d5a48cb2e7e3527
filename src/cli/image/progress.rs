//! How it goes on, for whoever waits: bars on a terminal, lines for a program, or nothing.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::out::progress_line;
use crate::model::image::Digest;

/// Between two lines.
const PACE: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// Bars, if standard error is a terminal
    #[default]
    Auto,
    /// Lines `progress DONE TOTAL` in bytes on standard error, for a program; `-` for a total that is not known
    Lines,
    /// Nothing
    None,
}

/// What can be said about that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct HowShown {
    /// How progress is shown
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: Shown,
}

/// Hears of bytes, and shows them.
pub(super) enum Progress {
    /// One bar for each blob, or one for all.
    Bars {
        all: MultiProgress,
        each: Mutex<BTreeMap<Option<Digest>, ProgressBar>>,
        what: &'static str,
    },
    Lines(Mutex<Lines>),
}

/// The sums that lines tell of.
#[derive(Default)]
pub(super) struct Lines {
    done: u64,
    /// Of all that is known so far.
    total: Option<u64>,
    blobs: BTreeMap<Digest, u64>,
    told: Option<(Instant, u64, Option<u64>)>,
}

impl Lines {
    fn tell(&mut self, now: Instant, last: bool) {
        let due = self.told.is_none_or(|(at, ..)| now.duration_since(at) >= PACE);
        let news = self.told.is_none_or(|(_, done, total)| (done, total) != (self.done, self.total));
        if (due || last) && news {
            self.told = Some((now, self.done, self.total));
            progress_line(self.done, self.total);
        }
    }
}

impl Progress {
    /// For what is done: `importing`.
    pub(super) fn new(how: HowShown, what: &'static str) -> Self {
        match how.progress {
            Shown::Lines => Self::Lines(Mutex::default()),
            Shown::Auto if std::io::stderr().is_terminal() => {
                Self::Bars { all: MultiProgress::new(), each: Mutex::default(), what }
            }
            Shown::Auto | Shown::None => {
                let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
                Self::Bars { all, each: Mutex::default(), what }
            }
        }
    }

    /// So much it will be.
    pub(super) fn total(&self, total: Option<u64>) {
        match self {
            Self::Bars { all, each, what } => {
                if let Ok(mut each) = each.lock() {
                    each.insert(None, all.add(bar(what, total)));
                }
            }
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.total = total;
                    lines.tell(Instant::now(), true);
                }
            }
        }
    }

    /// So many bytes more, of the total.
    pub(super) fn bytes(&self, count: u64) {
        match self {
            Self::Bars { each, .. } => {
                if let Ok(Some(bar)) = each.lock().as_deref().map(|each| each.get(&None)) {
                    bar.inc(count);
                }
            }
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.done += count;
                    lines.tell(Instant::now(), false);
                }
            }
        }
    }

    /// So many bytes more of a blob of this length.
    pub(super) fn blob(&self, digest: &Digest, length: u64, count: u64) {
        match self {
            Self::Bars { all, each, .. } => {
                let Ok(mut each) = each.lock() else { return };
                let new = || all.add(bar(&digest.short(), Some(length)));
                let bar = each.entry(Some(*digest)).or_insert_with(new);
                bar.inc(count);
                if bar.position() >= length {
                    bar.finish();
                }
            }
            Self::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                if lines.blobs.insert(*digest, length).is_none() {
                    lines.total = Some(lines.total.unwrap_or(0) + length);
                }
                lines.done += count;
                lines.tell(Instant::now(), false);
            }
        }
    }

    /// It is over.
    pub(super) fn end(&self) {
        match self {
            Self::Bars { each, .. } => {
                if let Ok(Some(bar)) = each.lock().as_deref().map(|each| each.get(&None)) {
                    bar.finish_and_clear();
                }
            }
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.tell(Instant::now(), true);
                }
            }
        }
    }
}

fn bar(what: &str, length: Option<u64>) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    let template = if length.is_some() {
        "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
