//! Cubes made, read, found and removed on a real file system.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use super::*;
use crate::model::cube::{ExitReason, RECORD_VERSION};
use crate::model::{CubeState, ImageRef, Jail, Name, NetPolicyKind, RunAs, SeccompProfile};

/// A record of a throwaway, launched `age` milliseconds after the first.
pub(crate) fn sample(age: u64) -> CubeRecord {
    let mut random = [0; 16];
    random[..8].copy_from_slice(&age.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    random[8..].copy_from_slice(&age.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    CubeRecord {
        version: RECORD_VERSION,
        id: TripId::from_parts(1_700_000_000_000 + age, random),
        name: None,
        machine: Name::default_machine(),
        project: Some("site".into()),
        project_path: None,
        image: ImageRef::Host,
        image_digest: None,
        image_override: false,
        jail: Jail::Container,
        net: NetPolicyKind::None,
        user: RunAs::Me,
        seccomp: SeccompProfile::Default,
        keep: Keep::Throwaway,
        ephemeral: false,
        argv: vec!["bash".into()],
        env_names: vec![],
        created_unix_ms: 1_700_000_000_000 + age,
        state: CubeState::Running,
        keeper: None,
        init: None,
        layers: vec![],
        limits: vec![],
        cgroups: vec![],
        publish: Vec::new(),
        forwards: Vec::new(),
        given: None,
        tty: true,
        exit: None,
        cannot_pause: None,
    }
}

/// As [`sample`], durable.
pub(crate) fn durable(age: u64, name: &str) -> CubeRecord {
    CubeRecord { keep: Keep::Durable, name: Name::parse(name).ok(), ..sample(age) }
}

#[test]
fn alive_exactly_while_the_lock_is_held() {
    let base = tempfile::tempdir().expect("tempdir");
    let mines = base.path().join("Mines");
    let record = sample(1);
    let cube = create(&mines, &record).expect("created");
    assert_eq!(cube.path.metadata().expect("meta").permissions().mode() & 0o777, 0o700);
    // Another descriptor of the same open file is what a keeper receives.
    let handed = cube.lock.try_clone().expect("clone");
    drop(cube);
    let seen = load(&mines, &record.id).expect("loaded");
    assert!(seen.live);
    assert_eq!(seen.record.expect("record"), record);
    assert!(matches!(remove(&mines, &record.id), Err(CubeError::Alive(_))));

    drop(handed);
    let seen = load(&mines, &record.id).expect("loaded");
    let corrected = seen.record.expect("record");
    assert!(!seen.live);
    assert_eq!(corrected.state, CubeState::Failed);
    assert_eq!(corrected.exit.expect("exit").reason, ExitReason::KeeperLost);
    assert!(matches!(open_durable(&mines, &record.id), Err(CubeError::NotDurable(_))));
    remove(&mines, &record.id).expect("removed");
    assert!(matches!(load(&mines, &record.id), Err(CubeError::Missing(_))));
    assert_eq!(fs::read_dir(&mines).expect("dir").count(), 0);
}

#[test]
fn a_durable_cube_is_entered_again() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut record = durable(1, "keep-me");
    let cube = create(base.path(), &record).expect("created");
    assert!(matches!(open_durable(base.path(), &record.id), Err(CubeError::Alive(_))));
    record.state = CubeState::Exited;
    cube.write_record(&record).expect("written");
    drop(cube);
    let (again, found) = open_durable(base.path(), &record.id).expect("opened");
    assert_eq!(found.state, CubeState::Exited);
    assert!(load(base.path(), &record.id).expect("loaded").live);
    drop(again);
}

#[test]
fn bad_records_are_told_apart() {
    let base = tempfile::tempdir().expect("tempdir");
    let record = sample(1);
    drop(create(base.path(), &record).expect("created"));
    let path = base.path().join(record.id.as_str()).join(RECORD);
    let whole = fs::read_to_string(&path).expect("read");
    let other = serde_json::to_string(&sample(2)).expect("json");
    for (text, part) in [
        ("", "damaged"),
        (&whole[..whole.len() / 2], "damaged"),
        (&whole.replace("\"version\": 1", "\"version\": 7"), "has version 7"),
        ("{\"version\":7,\"new\":[", "has version 7"),
        (&other, "another cube's"),
    ] {
        fs::write(&path, text).expect("write");
        let error = load(base.path(), &record.id).expect("loaded").record.expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn words_find_cubes() {
    let base = tempfile::tempdir().expect("tempdir");
    let ended = sample(1);
    let live = sample(2);
    let named = CubeRecord { project: None, ..durable(3, "box") };
    drop(create(base.path(), &ended).expect("created"));
    let _live = create(base.path(), &live).expect("created");
    drop(create(base.path(), &named).expect("created"));
    // Its keeper still clears up.
    let over = CubeRecord { state: CubeState::Failed, ..sample(5) };
    let _over = create(base.path(), &over).expect("created");
    let one = |word: &str| match find(base.path(), word).expect("found") {
        Found::One(entry) => Some(entry.id),
        Found::None => None,
        Found::Many(entries) => panic!("{word}: {}", entries.len()),
    };
    assert_eq!(one(ended.id.as_str()), Some(ended.id.clone()));
    assert_eq!(one(ended.id.short()), Some(ended.id.clone()));
    assert_eq!(one("box"), Some(named.id.clone()));
    assert_eq!(one("site"), Some(live.id.clone()), "only the live one counts");
    assert_eq!(one("nothing"), None);
    assert_eq!(one(""), None);
    let Found::Many(all) = find(base.path(), &ended.id.as_str()[..4]).expect("found") else { panic!("many") };
    assert_eq!(all.iter().map(|e| &e.id).collect::<Vec<_>>(), [&over.id, &named.id, &live.id, &ended.id]);
    // The start of an ended cube's id, and a project that runs: neither is guessed.
    let alike = CubeRecord { project: Some(ended.id.short()[..3].to_owned()), ..sample(4) };
    let _alike = create(base.path(), &alike).expect("created");
    let Found::Many(all) = find(base.path(), &ended.id.short()[..3]).expect("found") else {
        panic!("guessed")
    };
    assert!(all.iter().any(|entry| entry.id == alike.id) && all.iter().any(|entry| entry.id == ended.id));
}

#[test]
fn a_failed_making_leaves_nothing() {
    let base = tempfile::tempdir().expect("tempdir");
    let record = sample(1);
    let first = create(base.path(), &record).expect("created");
    create(base.path(), &record).expect_err("the id is taken");
    assert!(load(base.path(), &record.id).expect("loaded").live, "the first is untouched");
    assert_eq!(fs::read_dir(base.path()).expect("dir").count(), 1);
    drop(first);
}

#[test]
fn a_thousand_cubes_list_fast() {
    let base = tempfile::tempdir().expect("tempdir");
    for age in 0..1000 {
        drop(create(base.path(), &sample(age)).expect("created"));
    }
    let best = (0..3)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(list(base.path()).expect("list").len(), 1000);
            start.elapsed()
        })
        .min();
    // 50 ms is the aim; this catches only a wrong order of growth, on a busy machine and unoptimised.
    println!("1000 cubes: {best:?}");
    assert!(best.is_some_and(|time| time < Duration::from_secs(3)), "{best:?}");
}

#[test]
fn a_spare_becomes_the_next_throwaway_and_only_once() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mines = dir.path().join("Mines");
    let spares = || {
        let entries = std::fs::read_dir(&mines).expect("dir").map(|e| e.expect("entry").file_name());
        entries.filter(|name| name.to_string_lossy().starts_with(".spare-")).count()
    };
    for (round, want) in [(1, 2), (2, 4), (3, 4)] {
        make_spares(&mines, &TripId::from_parts(round, [9; 16]));
        assert_eq!(spares(), want);
    }
    let inode = |folder: &Path| std::fs::metadata(folder.join("headers/lock")).expect("lock").ino();
    let before: Vec<_> = (0..4).map(|number| inode(&mines.join(format!(".spare-{number}")))).collect();
    let record = sample(1);
    let held = create(&mines, &record).expect("taken");
    assert!(before.contains(&inode(&held.path)));
    assert_eq!(spares(), 3);
    let entry = load(&mines, &record.id).expect("found");
    assert!(entry.live && entry.record.expect("readable").id == record.id);
    // One whose lock is held, and one whose record is gone, are passed by.
    let left: Vec<_> =
        (0..4).map(|n| mines.join(format!(".spare-{n}"))).filter(|path| path.exists()).collect();
    let _taken = probe_exclusively(&left[0].join("headers/lock"));
    std::fs::remove_file(left[1].join("headers/record.json")).expect("removed");
    let second = sample(2);
    let other = create(&mines, &second).expect("taken");
    assert!(left[0].exists() && left[1].exists() && !left[2].exists());
    drop((held, other));
    // A durable cube is written down from its first moment, and never uses one.
    create(&mines, &durable(3, "kept")).expect("made");
    assert_eq!(spares(), 2);
}

/// What is used again has nothing of its cube; what is not as it should be, or is still read, is not used again.
#[test]
fn an_ended_cube_is_used_again_with_nothing_of_it_inside() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mines = dir.path().join("Mines");
    let fd = || open_mines(&mines).expect("opened");
    let dead = |age: u64| {
        let record = sample(age);
        let cube = create(&mines, &record).expect("made");
        std::fs::create_dir_all(cube.path.join("log")).expect("made");
        std::fs::create_dir_all(cube.path.join("system-copy/upper/etc")).expect("made");
        for file in ["log/out.jsonl", "log/events.jsonl", "headers/launch.json", "system-copy/upper/etc/x"] {
            std::fs::write(cube.path.join(file), "secret").expect("written");
        }
        let name = set_aside(&fd(), record.id.as_str()).expect("renamed");
        (name, cube)
    };
    let (name, cube) = dead(1);
    assert!(!recycle(&fd(), &name), "its lock is held");
    drop(cube);
    assert!(recycle(&fd(), &name));
    let spare = mines.join(".spare-0");
    let mut found: Vec<_> = walk(&spare);
    found.sort();
    assert_eq!(
        found,
        [
            "headers",
            "headers/lock",
            "headers/record.json",
            "headers/record.json.new",
            "log",
            "log/events.jsonl"
        ]
        .map(|name| (name.to_owned(), 0))
    );
    let again = create(&mines, &sample(2)).expect("taken");
    assert!(!spare.exists() && again.path.join("log/events.jsonl").exists());
    // A link into it, and something in the place of a file.
    let (name, _) = dead(3);
    std::fs::hard_link(mines.join(&name).join("headers/record.json"), dir.path().join("outside"))
        .expect("linked");
    let length = std::fs::metadata(dir.path().join("outside")).expect("linked").len();
    assert!(length > 0 && !recycle(&fd(), &name) && mines.join(&name).exists());
    assert_eq!(std::fs::metadata(dir.path().join("outside")).expect("linked").len(), length);
    let (name, _) = dead(4);
    std::fs::remove_file(mines.join(&name).join("headers/record.json")).expect("removed");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), mines.join(&name).join("headers/record.json"))
        .expect("linked");
    assert!(!recycle(&fd(), &name) && !dir.path().join("elsewhere").exists());
}

/// Events are emptied in place where nobody reads them; who does, goes on reading what he opened.
#[test]
fn events_that_are_read_stay_with_their_reader() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mines = dir.path().join("Mines");
    let fd = || open_mines(&mines).expect("opened");
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"));
    for (age, is_read) in [(1, false), (2, true)] {
        let record = sample(age);
        let cube = create(&mines, &record).expect("made");
        std::fs::create_dir_all(cube.log_dir()).expect("made");
        let events = cube.log_dir().join("events.jsonl");
        std::fs::write(&events, "told").expect("written");
        let (mut reader, before) = (File::open(&events).expect("opened"), inode(&events));
        if is_read {
            flock(&reader, FlockOperation::LockShared).expect("locked");
        }
        let name = set_aside(&fd(), record.id.as_str()).expect("renamed");
        drop(cube);
        let free = (0..).map(|slot| mines.join(format!(".spare-{slot}"))).find(|spare| !spare.exists());
        assert!(recycle(&fd(), &name));
        let after = free.expect("one").join("log/events.jsonl");
        assert_eq!(inode(&after) == before, !is_read);
        assert_eq!(std::fs::metadata(&after).expect("there").len(), 0);
        let mut found = String::new();
        std::io::Read::read_to_string(&mut reader, &mut found).expect("read");
        assert_eq!(found, if is_read { "told" } else { "" });
    }
}

/// Every entry under `folder`, with the length of what is a file.
fn walk(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(&at).expect("dir") {
            let path = entry.expect("entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("entry");
            if meta.is_dir() {
                waiting.push(path.clone());
            }
            let name = path.strip_prefix(folder).expect("inside").to_string_lossy().into_owned();
            found.push((name, if meta.is_file() { meta.len() } else { 0 }));
        }
    }
    found
}

/// Keepers that end at the same time make the same spares; what comes too late leaves nothing half made.
#[test]
fn spares_that_find_no_place_leave_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mines = dir.path().join("Mines");
    for round in 0..100 {
        std::thread::scope(|scope| {
            for keeper in 0..3 {
                let mines = &mines;
                scope.spawn(move || make_spares(mines, &TripId::from_parts(round, [keeper; 16])));
            }
        });
        for entry in std::fs::read_dir(&mines).expect("dir") {
            let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
            assert!(name.starts_with(".spare-"), "{name}");
            std::fs::remove_dir_all(mines.join(name)).expect("removed");
        }
    }
}

fn probe_exclusively(path: &Path) -> File {
    let file = File::options().write(true).open(path).expect("lock");
    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("free");
    file
}
