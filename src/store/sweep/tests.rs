//! Sweeps over cubes that died in every way.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Instant;

use super::*;
use crate::model::CubeState;
use crate::model::cube::{ExitReason, ProcessRef};
use crate::store::cubes::tests::{durable, sample};
use crate::store::cubes::{create, list, load, make_spares};

struct Place {
    base: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let base = tempfile::tempdir().expect("tempdir");
        fs::create_dir(base.path().join("run")).expect("mkdir");
        Self { base }
    }
    fn mines(&self) -> PathBuf {
        self.base.path().join("Mines")
    }
    fn run(&self) -> PathBuf {
        self.base.path().join("run")
    }
    fn sweep(&self, keep_ended: usize) -> SweepReport {
        self.sweep_before(keep_ended, None)
    }
    fn sweep_before(&self, keep_ended: usize, ended_before: Option<u64>) -> SweepReport {
        let mut hooks = SweepHooks { now_unix_ms: 9, keep_ended, ended_before, on_lost: &mut |_| {} };
        sweep(&self.mines(), &self.run(), &mut hooks).expect("swept")
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.mines())
            .expect("dir")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_lost_cube_is_killed_and_its_upper_dropped() {
    let place = Place::new();
    let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
    let pid = i32::try_from(child.id()).expect("pid");
    let mut record = sample(1);
    record.init = ProcessRef::capture(pid).ok();
    // An innocent: the number is right, the start time is not.
    let mut innocent = Command::new("sleep").arg("100").spawn().expect("sleep");
    let mut other = sample(2);
    other.init = ProcessRef::capture(i32::try_from(innocent.id()).expect("pid")).ok();
    other.init.as_mut().expect("captured").start += 1;

    let cube = create(&place.mines(), &record).expect("created");
    fs::create_dir(cube.system_copy()).expect("mkdir");
    fs::write(cube.system_copy().join("change"), "x").expect("write");
    drop(create(&place.mines(), &other).expect("created"));
    let listener = UnixListener::bind(socket_path(&place.run(), &record.id)).expect("bind");

    assert_eq!(place.sweep(50), SweepReport { sockets: vec![], ..expected_other(&other) }, "the first lives");
    assert!(innocent.try_wait().expect("wait").is_none(), "an innocent was killed");
    drop((cube, listener));
    let report = place.sweep(50);
    assert_eq!((&report.lost, &report.killed), (&vec![record.id.clone()], &vec![record.id.clone()]));
    assert_eq!(report.sockets.len(), 1);
    assert_eq!(report.problems, []);
    child.wait().expect("killed");
    let entry = load(&place.mines(), &record.id).expect("kept for ps -a");
    assert!(!entry.path.join("system-copy").exists());
    assert_eq!(events::read(&entry.log_dir()).expect("events")[0].kind, "keeper-lost");
    let written: CubeRecord = entry.record.expect("record");
    assert_eq!(written.exit.expect("exit").reason, ExitReason::KeeperLost);
    assert_eq!(place.names().len(), 2);
    assert_eq!(place.sweep(50), SweepReport::default(), "nothing is left to do");
    innocent.kill().expect("kill");
    innocent.wait().expect("wait");
}

/// Two homes of one user share the runtime folder: a sweep in one must not make the other's cubes unreachable.
#[test]
fn a_socket_on_which_somebody_listens_stays() {
    let place = Place::new();
    let [theirs, dead] = [1, 2].map(|age| socket_path(&place.run(), &sample(age).id));
    let _listener = UnixListener::bind(&theirs).expect("bind");
    drop(UnixListener::bind(&dead).expect("bind"));
    assert_eq!(place.sweep(50).sockets, [dead]);
    assert!(theirs.exists());
}

fn expected_other(other: &CubeRecord) -> SweepReport {
    SweepReport { lost: vec![other.id.clone()], ..SweepReport::default() }
}

/// A keeper that is killed while it takes a spare leaves its record in it.
#[test]
fn a_spare_that_was_begun_is_deleted_and_a_whole_one_is_not() {
    let place = Place::new();
    make_spares(&place.mines(), &TripId::from_parts(1, [9; 16]));
    fs::write(place.mines().join(".spare-0/headers/record.json"), "{").expect("written");
    assert!(!place.sweep(2).busy);
    assert_eq!(place.names(), [".spare-1"]);
}

#[test]
fn the_newest_ended_stay() {
    let place = Place::new();
    for age in 0..6 {
        drop(create(&place.mines(), &sample(age)).expect("created"));
    }
    let report = place.sweep(2);
    assert_eq!(report.removed.len(), 4);
    let left: Vec<TripId> = list(&place.mines()).expect("list").into_iter().map(|entry| entry.id).collect();
    assert_eq!(left.len(), 2);
    let (spares, left): (Vec<_>, Vec<_>) =
        place.names().into_iter().partition(|name| name.starts_with(".spare-"));
    assert_eq!((spares.len(), left.len()), (4, 2), "nothing half-deleted: {left:?}");
}

/// `log_retention`: what ended before goes, few as they may be, and what is kept or waits for a decision does not.
#[test]
fn the_old_go_and_the_young_stay() {
    let place = Place::new();
    let (old, young, kept, reviewed) = (sample(1), sample(2), durable(3, "box"), sample(4));
    for (record, ended) in [(&old, 1), (&young, 3), (&kept, 1), (&reviewed, 1)] {
        let cube = create(&place.mines(), record).expect("created");
        let mut over = record.clone();
        mark_lost(&mut over, 1_900_000_000_000 + ended);
        cube.write_record(&over).expect("written");
    }
    let review = place.mines().join(reviewed.id.as_str()).join("review/upper");
    fs::create_dir_all(&review).expect("mkdir");
    assert_eq!(place.sweep_before(50, Some(1_900_000_000_002)).removed, [old.id]);
    for id in [&young.id, &kept.id, &reviewed.id] {
        assert!(load(&place.mines(), id).is_ok(), "{id}");
    }
}

#[test]
fn durable_cubes_and_strangers_stay_whatever_happened() {
    let place = Place::new();
    let kept = durable(1, "box");
    let torn = durable(2, "torn");
    let newer = sample(3);
    let scrap = sample(4);
    for record in [&kept, &torn, &newer, &scrap] {
        drop(create(&place.mines(), record).expect("created"));
    }
    let record_of = |id: &TripId| place.mines().join(id.as_str()).join("headers/record.json");
    fs::write(record_of(&torn.id), "").expect("write");
    fs::write(record_of(&newer.id), "{\"version\": 2}").expect("write");
    fs::write(record_of(&scrap.id), "{\"version\": 1, \"id\"").expect("write");
    fs::write(place.mines().join("note.txt"), "a stranger's").expect("write");
    let report = place.sweep(0);
    assert_eq!(report.removed, vec![scrap.id.clone()]);
    assert_eq!(report.lost, vec![kept.id.clone()]);
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    let entry = load(&place.mines(), &kept.id).expect("kept");
    assert!(entry.path.join("system-copy").exists());
    assert_eq!(entry.record.expect("record").state, CubeState::Failed);
    for id in [&torn.id, &newer.id] {
        assert!(record_of(id).exists());
    }
    assert!(place.mines().join("note.txt").exists());
}

#[test]
fn what_a_crash_left_half_done_is_finished() {
    let place = Place::new();
    fs::create_dir_all(place.mines().join(".dead-x/system-copy/upper")).expect("mkdir");
    fs::create_dir_all(place.mines().join(".new-y/headers")).expect("mkdir");
    place.sweep(50);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_sweep_gives_way_to_a_launch() {
    let place = Place::new();
    let held = open_mines(&place.mines()).expect("open");
    flock(&held, FlockOperation::LockShared).expect("lock");
    drop(create(&place.mines(), &sample(1)).expect("launches do not exclude each other"));
    assert!(place.sweep(50).busy);
    drop(held);
    assert!(!place.sweep(50).busy);
}

#[test]
fn nothing_to_do_is_cheap() {
    let place = Place::new();
    for age in 0..50 {
        drop(create(&place.mines(), &sample(age)).expect("created"));
    }
    place.sweep(50);
    let start = Instant::now();
    assert_eq!(place.sweep(50), SweepReport::default());
    println!("50 ended cubes: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2));
}
