//! Sweeps and the people who should know of them. A keeper that ends sweeps on nobody's time and has nobody to tell: the cubes
//! that it found lost stand in `state/lost`, a short id a line, until the next command tells of them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{KEEP_ENDED, SweepHooks, sweep};
use crate::model::sanitize::printable;
use crate::model::{CubeRecord, Failure};

/// Beyond this nobody reads them one by one.
const MAX_BYTES: u64 = 4096;

fn file(mines: &Path) -> PathBuf {
    mines.with_file_name("lost")
}

/// Sweeps for a keeper: what it finds lost is told by the next command.
pub fn quietly(mines: &Path, run: &Path, now_unix_ms: u64) {
    let mut on_lost = |record: &CubeRecord| {
        let line = format!("{}\n", record.id.short());
        let noted = OpenOptions::new().append(true).create(true).mode(0o600).open(file(mines));
        // On a full disk the cube's record and its events say it all the same.
        let _noted = noted.and_then(|mut file| match file.metadata()?.len() {
            0..MAX_BYTES => file.write_all(line.as_bytes()),
            _ => Ok(()),
        });
    };
    let mut hooks =
        SweepHooks { now_unix_ms, keep_ended: KEEP_ENDED, ended_before: None, on_lost: &mut on_lost };
    // What it could not do, the next one tries again.
    let _swept = sweep(mines, run, &mut hooks);
}

/// Sweeps for a command: a sentence on the cubes that were lost, those of keepers' sweeps included, and what went wrong.
/// Records of throwaways are kept for `retention`.
pub fn aloud(
    mines: &Path,
    run: &Path,
    now_unix_ms: u64,
    retention: Duration,
) -> (Option<String>, Vec<Failure>) {
    let mut lost = take(mines);
    let mut on_lost = |record: &CubeRecord| lost.push(record.id.short().to_owned());
    let kept = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
    let ended_before = Some(now_unix_ms.saturating_sub(kept));
    let mut hooks = SweepHooks { now_unix_ms, keep_ended: KEEP_ENDED, ended_before, on_lost: &mut on_lost };
    let problems = match sweep(mines, run, &mut hooks) {
        Ok(report) => report.problems,
        Err(error) => vec![error.into()],
    };
    let told = (!lost.is_empty())
        .then(|| format!("cleared away after keepers that were lost, with their cubes: {}", lost.join(", ")));
    (told, problems)
}

/// True when a keeper found a lost cube that nobody has been told of.
#[must_use]
pub fn is_owed(mines: &Path) -> bool {
    file(mines).exists()
}

/// The lost cubes that keepers found, told once: who renames the file first has them.
fn take(mines: &Path) -> Vec<String> {
    let (noted, taken) = (file(mines), mines.with_file_name(format!("lost.{}", std::process::id())));
    if fs::rename(&noted, &taken).is_err() {
        return Vec::new();
    }
    let text = fs::read_to_string(&taken).unwrap_or_default();
    // One that stays is overwritten by a later process of the same number.
    let _removed = fs::remove_file(&taken);
    text.lines().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cubes::create;
    use crate::store::cubes::tests::sample;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_a_keeper_found_is_told_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (mines, run) = (folder.path().join("Mines"), folder.path().join("run"));
        fs::create_dir(&run).expect("mkdir");
        let (first, second) = (sample(1), sample(2));
        drop(create(&mines, &first).expect("created"));
        quietly(&mines, &run, 9);
        assert!(is_owed(&mines));
        drop(create(&mines, &second).expect("created"));
        let (told, problems) = aloud(&mines, &run, 9, DAY);
        let told = told.expect("told");
        assert!(told.contains(first.id.short()) && told.contains(second.id.short()), "{told}");
        assert_eq!(problems, []);
        assert!(!is_owed(&mines));
        assert_eq!(aloud(&mines, &run, 9, DAY), (None, Vec::new()));
    }
}
