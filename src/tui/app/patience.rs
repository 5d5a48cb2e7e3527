//! How long the loop may sleep: until the next thing that time alone changes. Nothing on the screen changes by itself, no
//! sleep ends by itself.

use std::time::{Duration, Instant};

use super::super::layer::{DEAF_MS, Layer};
use super::super::model::{Loud, Model, TOAST_MS};

/// Between two frames that only news want.
pub(super) const FRAME: Duration = Duration::from_millis(33);
/// How long a lone escape waits for what may follow it.
pub(super) const ESCAPE: Duration = Duration::from_millis(40);
/// Between two frames of the spinner.
const SPIN: Duration = Duration::from_millis(125);

/// What the loop itself waits for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timers {
    /// When a frame was drawn last.
    pub(super) drawn: Option<Instant>,
    /// Something is to be drawn.
    pub(super) dirty: bool,
    /// Since when a lone escape waits.
    pub(super) escape: Option<Instant>,
    /// When what follows the leader comes too late.
    pub(super) leader: Option<Instant>,
}

/// How long nothing need be done; `None`: for ever.
pub(super) fn patience(model: &Model, timers: &Timers, now: Instant) -> Option<Duration> {
    let mut next = ages(model);
    let mut by = |time: Duration| next = Some(next.map_or(time, |next| next.min(time)));
    if timers.dirty {
        by(timers.drawn.map_or(Duration::ZERO, |at| (at + FRAME).saturating_duration_since(now)));
    }
    if let Some(since) = timers.escape {
        by((since + ESCAPE).saturating_duration_since(now));
    }
    if let Some(deadline) = timers.leader {
        by(deadline.saturating_duration_since(now));
    }
    if !model.jobs.is_empty() {
        by(SPIN);
    }
    if !model.silent.is_empty() {
        // The time until it is asked again is shown.
        by(Duration::from_secs(1));
    }
    let in_ms = |at: u64| Duration::from_millis(at.saturating_sub(model.now_ms).max(1));
    for toast in model.toasts().iter().filter(|toast| toast.loud != Loud::Error) {
        by(in_ms(toast.at_ms + TOAST_MS));
    }
    if let Some(Layer::Confirm(confirm)) = model.layers.last()
        && model.now_ms < confirm.opened_ms + DEAF_MS
    {
        by(in_ms(confirm.opened_ms + DEAF_MS));
    }
    next
}

/// When ages are looked at again: as often as the youngest of them changes what it says, and no more often than is worth
/// waking up for.
fn ages(model: &Model) -> Option<Duration> {
    let cubes = model.world.cubes.iter().filter_map(|cube| cube.good()).map(|record| match &record.exit {
        Some(exit) => exit.ended_unix_ms.max(record.created_unix_ms),
        None => record.created_unix_ms,
    });
    let born = cubes.chain(model.world.projects.iter().map(|project| project.modified_ms)).max()?;
    let seconds = match model.now_ms.saturating_sub(born) / 1000 {
        // As `words::age` counts: seconds, minutes, then hours and days.
        0..120 => 5,
        120..7200 => 30,
        _ => 600,
    };
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::testing::{NOW, model};

    #[test]
    fn nothing_that_changes_nothing_that_wakes() {
        let (now, timers) = (Instant::now(), Timers::default());
        let sleeps = |model: &Model| patience(model, &timers, now).map(|time| time.as_secs());
        let mut model = model(120, 40);
        // The youngest cube is a minute old.
        assert_eq!(sleeps(&model), Some(5));
        model.now_ms = NOW + 600_000;
        assert_eq!(sleeps(&model), Some(30));
        model.now_ms = NOW + 86_400_000;
        assert_eq!(sleeps(&model), Some(600));
        model.world.cubes.clear();
        model.world.projects.clear();
        assert_eq!(sleeps(&model), None, "with nothing that ages it sleeps for ever");
        model.silent.insert("x".into(), model.now_ms + 5000);
        assert_eq!(sleeps(&model), Some(1));
    }

    #[test]
    fn the_next_of_all_counts() {
        let now = Instant::now();
        let mut model = model(120, 40);
        let sleeps = |model: &Model, timers: Timers| patience(model, &timers, now);
        assert_eq!(sleeps(&model, Timers { dirty: true, ..Timers::default() }), Some(Duration::ZERO));
        let drawn = Timers { dirty: true, drawn: Some(now), ..Timers::default() };
        assert_eq!(sleeps(&model, drawn), Some(FRAME));
        assert_eq!(sleeps(&model, Timers { escape: Some(now), ..drawn }), Some(FRAME));
        assert_eq!(sleeps(&model, Timers { escape: Some(now), ..Timers::default() }), Some(ESCAPE));
        model.tell(Loud::Error, "stays until a key", Vec::new());
        assert_eq!(sleeps(&model, Timers::default()), Some(Duration::from_secs(5)));
        model.tell(Loud::Info, "goes by itself", Vec::new());
        assert_eq!(sleeps(&model, Timers::default()), Some(Duration::from_millis(TOAST_MS)));
    }
}
