use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;

/// A tree as a list: path and what is there. Content is the size.
#[derive(Default)]
struct Fake {
    upper: BTreeMap<Vec<u8>, Found>,
    lower: BTreeMap<Vec<u8>, Entry>,
    /// Files of equal size that differ.
    differs: Vec<&'static str>,
}

fn entry(kind: Kind) -> Entry {
    let mode = if kind == Kind::Folder { 0o755 } else { 0o644 };
    Entry {
        kind,
        mode,
        uid: 0,
        gid: 0,
        size: 0,
        allocated: 0,
        mtime_ns: 0,
        target: None,
        device: None,
        xattrs: Vec::new(),
        hard_link: None,
    }
}

fn file(size: u64) -> Entry {
    Entry { size, ..entry(Kind::File) }
}

impl Fake {
    fn up(mut self, path: &str, entry: Entry) -> Self {
        self.upper.insert(path.into(), Found::Entry { entry, opaque: false });
        self
    }
    fn opaque(mut self, path: &str) -> Self {
        self.upper
            .insert(path.into(), Found::Entry { entry: super::tests::entry(Kind::Folder), opaque: true });
        self
    }
    fn gone(mut self, path: &str) -> Self {
        self.upper.insert(path.into(), Found::Whiteout);
        self
    }
    fn low(mut self, path: &str, entry: Entry) -> Self {
        self.lower.insert(path.into(), entry);
        self
    }
}

fn child<'a>(path: &'a [u8], folder: &[u8]) -> Option<&'a [u8]> {
    let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix(b"/")? };
    (!rest.is_empty() && !rest.contains(&b'/')).then_some(rest)
}

impl Trees for Fake {
    type Error = Infallible;
    fn upper(&mut self, folder: &[u8]) -> Result<Vec<(Vec<u8>, Found)>, Infallible> {
        let all = self.upper.iter();
        Ok(all.filter_map(|(path, found)| Some((child(path, folder)?.to_vec(), found.clone()))).collect())
    }
    fn lower(&mut self, path: &[u8]) -> Result<Option<Entry>, Infallible> {
        Ok(if path.is_empty() { Some(entry(Kind::Folder)) } else { self.lower.get(path).cloned() })
    }
    fn lower_names(&mut self, folder: &[u8]) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(self.lower.keys().filter_map(|path| Some(child(path, folder)?.to_vec())).collect())
    }
    fn same_content(&mut self, path: &[u8]) -> Result<bool, Infallible> {
        Ok(!self.differs.iter().any(|name| name.as_bytes() == path))
    }
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    skip: Vec<&'static str>,
    scaffold: Vec<&'static str>,
}

impl Visit<Infallible> for Seen {
    fn skips(&self, path: &[u8]) -> bool {
        self.skip.iter().any(|skip| within(path, skip.as_bytes()))
    }
    fn is_scaffold(&self, path: &[u8]) -> bool {
        self.scaffold.iter().any(|name| name.as_bytes() == path)
    }
    fn change(&mut self, change: Change) -> Result<(), Infallible> {
        let path = String::from_utf8_lossy(&change.path).into_owned();
        let aspects = match &change.what {
            What::Changed { aspects, .. } => format!(" {aspects:?}"),
            _ => String::new(),
        };
        self.lines.push(format!("{} {path}{aspects}", change.what.letter()));
        Ok(())
    }
    fn too_deep(&mut self, path: &[u8]) -> Result<(), Infallible> {
        self.lines.push(format!("deep {}", path.len()));
        Ok(())
    }
}

fn changes(mut fake: Fake) -> Vec<String> {
    let mut seen = Seen::default();
    let Ok(()) = walk(&mut fake, &mut seen);
    seen.lines
}

#[test]
fn what_an_upper_says() {
    let folder = || entry(Kind::Folder);
    let link = |target: &str| Entry { target: Some(target.into()), ..entry(Kind::Link) };
    let table: Vec<(&str, Fake, &[&str])> = vec![
        ("nothing", Fake::default().low("a", file(1)), &[]),
        (
            "added, a folder before what is in it",
            Fake::default().up("d", folder()).up("d/f", file(1)),
            &["A d", "A d/f"],
        ),
        ("sorted", Fake::default().up("b", file(1)).up("a", file(1)), &["A a", "A b"]),
        ("copied up without a difference", Fake::default().low("f", file(3)).up("f", file(3)), &[]),
        ("size", Fake::default().low("f", file(3)).up("f", file(4)), &["M f [Content]"]),
        (
            "same size, other bytes",
            Fake { differs: vec!["f"], ..Fake::default().low("f", file(3)).up("f", file(3)) },
            &["M f [Content]"],
        ),
        (
            "mode and owner",
            Fake::default().low("f", file(3)).up("f", Entry { mode: 0o4755, uid: 7, ..file(3) }),
            &["M f [Mode, Owner]"],
        ),
        (
            "attributes",
            Fake::default()
                .low("f", file(3))
                .up("f", Entry { xattrs: vec![(b"user.a".to_vec(), vec![])], ..file(3) }),
            &["M f [Attributes]"],
        ),
        (
            "a link's mode means nothing",
            Fake::default().low("l", link("a")).up("l", Entry { mode: 0o777, ..link("a") }),
            &[],
        ),
        ("a link's target does", Fake::default().low("l", link("a")).up("l", link("b")), &["M l [Content]"]),
        (
            "another kind",
            Fake::default().low("x", file(1)).up("x", folder()).up("x/y", file(1)),
            &["M x [Kind]", "A x/y"],
        ),
        ("deleted", Fake::default().low("f", file(1)).gone("f"), &["D f"]),
        ("made and deleted again", Fake::default().gone("f"), &[]),
        (
            "a folder deleted with all in it",
            Fake::default().low("d", folder()).low("d/f", file(1)).gone("d"),
            &["D d"],
        ),
        (
            "a folder made anew hides what was in it",
            Fake::default()
                .low("d", folder())
                .low("d/a", file(1))
                .low("d/b", file(1))
                .opaque("d")
                .up("d/b", file(2))
                .up("d/c", file(1)),
            &["D d/a", "M d/b [Content]", "A d/c"],
        ),
        (
            "and so do the folders in it, unmarked",
            Fake::default()
                .low("d", folder())
                .low("d/s", folder())
                .low("d/s/old", file(1))
                .opaque("d")
                .up("d/s", folder())
                .up("d/s/new", file(1)),
            &["D d/s/old", "A d/s/new"],
        ),
        ("nothing beneath", Fake::default().opaque("d").up("d/f", file(1)), &["A d", "A d/f"]),
    ];
    for (name, fake, want) in table {
        assert_eq!(changes(fake), want, "{name}");
    }
}

#[test]
fn mounts_are_left_out_and_depth_is_bounded() {
    let mut fake = Fake::default()
        .up("projects", entry(Kind::Folder))
        .up("projects/site", entry(Kind::Folder))
        .up("projects/mine", file(1))
        .up("proc", entry(Kind::Folder))
        .up("proc/x", file(1));
    let mut seen =
        Seen { skip: vec!["proc", "projects/site"], scaffold: vec!["projects"], ..Seen::default() };
    let Ok(()) = walk(&mut fake, &mut seen);
    assert_eq!(seen.lines, ["A projects/mine"]);

    let mut deep = Fake::default();
    let mut path = String::new();
    for _ in 0..MAX_DEPTH + 20 {
        path.push_str(if path.is_empty() { "d" } else { "/d" });
        deep = deep.up(&path, entry(Kind::Folder));
    }
    let lines = changes(deep);
    assert_eq!(lines.len(), MAX_DEPTH + 1);
    assert!(lines.last().is_some_and(|line| line.starts_with("deep ")), "{:?}", lines.last());
}

#[test]
fn paths() {
    assert_eq!(join(b"", b"a"), b"a");
    assert_eq!(join(b"a", b"b"), b"a/b");
    for (path, above, want) in [("a/b", "a", true), ("ab", "a", false), ("a", "a", true), ("x", "", true)] {
        assert_eq!(within(path.as_bytes(), above.as_bytes()), want, "{path} {above}");
    }
}
