//! What the trash promises: nothing lost, nothing replaced, nothing left behind.

use super::*;
use crate::store::usage::usage;

fn setup() -> (tempfile::TempDir, Layout, PathBuf) {
    let folder = tempfile::tempdir().expect("tempdir");
    let layout = Layout::under(folder.path());
    let home = layout.home(&crate::model::Name::parse("work").expect("name"));
    fs::create_dir_all(home.join("sub")).expect("mkdir");
    fs::write(home.join("sub/file"), "12345").expect("write");
    (folder, layout, home)
}

fn put_home(layout: &Layout, home: &Path) -> TrashRecord {
    put(layout, TrashKind::Home, "work", &[home, Path::new("/no/such")], usage(home), 1000).expect("put")
}

#[test]
fn what_is_put_comes_back() {
    let (_folder, layout, home) = setup();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o500)).expect("chmod");
    let record = put_home(&layout, &home);
    assert!(!home.exists());
    assert_eq!((record.bytes, record.files, record.parts.len()), (5, 1, 1));
    assert_eq!(list(&layout).expect("list"), [record]);
    undo(&layout, Some("work")).expect("undo");
    assert_eq!(fs::read(home.join("sub/file")).expect("read"), b"12345");
    assert_eq!(fs::metadata(&home).expect("stat").mode() & 0o777, 0o500);
    assert!(list(&layout).expect("list").is_empty());
    assert_eq!(fs::read_dir(layout.trash_dir()).expect("list").count(), 0);
    assert_eq!(undo(&layout, None).expect_err("empty").kind, FailureKind::Missing);
}

#[test]
fn undo_never_replaces() {
    let (_folder, layout, home) = setup();
    let first = put_home(&layout, &home);
    fs::create_dir_all(&home).expect("mkdir");
    assert_eq!(undo(&layout, None).expect_err("exists").kind, FailureKind::Busy);
    let second = put_home(&layout, &home);
    assert_ne!(first.id, second.id);
    assert_eq!(undo(&layout, Some(first.id.as_str())).expect("by id").id, first.id);
    assert!(home.join("sub/file").exists());
}

#[test]
fn a_crash_before_the_move_leaves_all_in_place() {
    let (_folder, layout, home) = setup();
    let record = put_home(&layout, &home);
    // As if the record had been written and nothing moved yet.
    rename(&record.stored(&layout, 0), &home).expect("rename");
    assert!(list(&layout).expect("list").is_empty());
    assert!(home.join("sub/file").exists());
    // A damaged record is shown, not lost.
    fs::create_dir(layout.trash_dir().join("0-home-x")).expect("mkdir");
    assert_eq!(unreadable(&layout).expect("list").len(), 1);
}

#[test]
fn purge_takes_what_is_old() {
    let (_folder, layout, home) = setup();
    let record = put_home(&layout, &home);
    fs::create_dir(layout.trash_dir().join(".purge-1-home-left")).expect("mkdir");
    assert_eq!(purge(&layout, Some(1000)).expect("purge").count, 0);
    assert_eq!(list(&layout).expect("list"), [record]);
    let purged = purge(&layout, None).expect("purge");
    assert_eq!((purged.count, purged.bytes, purged.failures.len()), (1, 5, 0));
    assert_eq!(fs::read_dir(layout.trash_dir()).expect("list").count(), 0);
}

#[test]
fn another_file_system_gets_a_trash_of_its_own() {
    // /dev/shm is a tmpfs nearly everywhere; where it is not another file system than the
    // temporary folder, this shows the plain way once more.
    let Ok(shm) = tempfile::tempdir_in("/dev/shm") else { return };
    let (_folder, layout, _) = setup();
    let project = shm.path().join("site");
    fs::create_dir(&project).expect("mkdir");
    fs::write(project.join("f"), "x").expect("write");
    let record = put(&layout, TrashKind::Project, "site", &[&project], usage(&project), 5).expect("put");
    assert!(!project.exists());
    undo(&layout, None).expect("undo");
    assert!(project.join("f").exists() && !shm.path().join(SIBLING).exists());
    let again = put(&layout, TrashKind::Project, "site", &[&project], usage(&project), 6).expect("put");
    assert_eq!(again.parts[0].elsewhere.is_some(), record.parts[0].elsewhere.is_some());
    assert_eq!(purge(&layout, None).expect("purge").count, 1);
    assert_eq!(fs::read_dir(shm.path()).expect("list").count(), 0);
}
