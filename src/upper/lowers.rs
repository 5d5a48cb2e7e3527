//! Read-only layers seen as overlayfs merges them, without mounting anything.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;

use super::meta::{look, open_file, open_folder};
use crate::plan::changes::{Entry, Kind, join};

/// How many folders' visible layers are remembered.
const REMEMBERED: usize = 4096;

/// Layers, topmost first.
#[derive(Debug)]
pub struct Lowers {
    roots: Vec<OwnedFd>,
    /// For a folder: the layers that show in it.
    visible: HashMap<Vec<u8>, Rc<[usize]>>,
}

impl Lowers {
    /// Opens the layers.
    ///
    /// # Errors
    /// One cannot be opened: its path is in the error.
    pub fn open(paths: &[PathBuf]) -> Result<Self, (PathBuf, Errno)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let roots = paths
            .iter()
            .map(|path| openat(CWD, path, flags, Mode::empty()).map_err(|errno| (path.clone(), errno)))
            .collect::<Result<_, _>>()?;
        Ok(Self { roots, visible: HashMap::new() })
    }

    /// What the layers show at a path.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn entry(&mut self, path: &[u8]) -> Result<Option<Entry>, Errno> {
        Ok(self.find(path)?.map(|(_, entry)| entry))
    }

    /// The plain file that the layers show at a path.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn file(&mut self, path: &[u8]) -> Result<std::fs::File, Errno> {
        let (layer, _) = self.find(path)?.ok_or(Errno::NOENT)?;
        open_file(self.roots[layer].as_fd(), path)
    }

    /// The names that the layers show in a folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&mut self, folder: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = std::collections::BTreeSet::new();
        for layer in self.visible(folder)?.iter() {
            let open = open_folder(self.roots[*layer].as_fd(), folder)?;
            for entry in Dir::read_from(&open)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.insert(name.to_vec());
                }
            }
        }
        // A whiteout is a name, but nothing is there.
        let mut shown = Vec::with_capacity(names.len());
        for name in names {
            if self.find(&join(folder, &name))?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }

    /// What a path leads to, links followed as if the layers were the root; `None` where it leads nowhere.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn resolve(&mut self, path: &[u8]) -> Result<Option<Entry>, Errno> {
        /// As the kernel (path_resolution(7)).
        const LINKS: usize = 40;
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/')
                .rev()
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        // The next part is the last one.
        let (mut waiting, mut here, mut links) = (parts(path), Vec::new(), 0);
        while let Some(part) = waiting.pop() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    let end = here.iter().rposition(|byte: &u8| *byte == b'/').unwrap_or(0);
                    here.truncate(end);
                    continue;
                }
                _ => {}
            }
            let next = join(&here, &part);
            let Some(entry) = self.entry(&next)? else { return Ok(None) };
            let Some(target) = entry.target else {
                here = next;
                continue;
            };
            links += 1;
            if links > LINKS || waiting.len() > 4096 {
                return Ok(None);
            }
            if target.starts_with(b"/") {
                here.clear();
            }
            waiting.extend(parts(&target));
        }
        self.entry(&here)
    }

    fn find(&mut self, path: &[u8]) -> Result<Option<(usize, Entry)>, Errno> {
        let parent = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => &path[..at],
            None if path.is_empty() => {
                return match self.roots.first() {
                    Some(root) => Ok(look(root.as_fd(), b"")?.map(|(entry, _)| (0, entry))),
                    None => Ok(None),
                };
            }
            None => b"",
        };
        for layer in self.visible(parent)?.iter() {
            if let Some((entry, marks)) = look(self.roots[*layer].as_fd(), path)? {
                return Ok((!marks.whiteout).then_some((*layer, entry)));
            }
        }
        Ok(None)
    }

    /// The layers whose folder at `path` is part of the merged one.
    fn visible(&mut self, path: &[u8]) -> Result<Rc<[usize]>, Errno> {
        if path.is_empty() {
            return Ok((0..self.roots.len()).collect());
        }
        if let Some(known) = self.visible.get(path) {
            return Ok(Rc::clone(known));
        }
        // From the top down, so that a deep path needs no deep stack.
        let mut shown: Rc<[usize]> = (0..self.roots.len()).collect();
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let prefix = &path[..end];
            if let Some(known) = self.visible.get(prefix) {
                shown = Rc::clone(known);
                continue;
            }
            let mut here = Vec::new();
            for layer in shown.iter() {
                let Some((entry, marks)) = look(self.roots[*layer].as_fd(), prefix)? else { continue };
                if marks.whiteout || entry.kind != Kind::Folder {
                    break;
                }
                here.push(*layer);
                if marks.opaque {
                    break;
                }
            }
            shown = here.into();
            if self.visible.len() >= REMEMBERED {
                self.visible.clear();
            }
            self.visible.insert(prefix.to_vec(), Rc::clone(&shown));
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn layers_merge_as_overlayfs_merges_them() {
        let base = tempfile::tempdir().expect("tempdir");
        let (top, low) = (base.path().join("top"), base.path().join("low"));
        for (layer, folders) in
            [(&top, &["a", "gone-in", "opaque"][..]), (&low, &["a", "b/c", "opaque", "w"])]
        {
            for folder in folders {
                fs::create_dir_all(layer.join(folder)).expect("mkdir");
            }
        }
        for (path, text) in
            [("a/1", "low"), ("a/2", "low"), ("b/c/3", "low"), ("opaque/old", "low"), ("w/x", "low")]
        {
            fs::write(low.join(path), text).expect("write");
        }
        fs::write(top.join("a/1"), "top").expect("write");
        // A whiteout by attribute: nobody may make a device everywhere.
        fs::write(top.join("w"), "").expect("write");
        let mark = |path: &str, name: &str, value: &[u8]| {
            rustix::fs::setxattr(top.join(path), name, value, rustix::fs::XattrFlags::empty())
        };
        if mark("w", "user.overlay.whiteout", b"").is_err() {
            return;
        }
        mark("opaque", "user.overlay.opaque", b"y").expect("mark");
        // A link in the place of a folder hides it, and is never followed.
        fs::remove_dir(top.join("gone-in")).expect("rmdir");
        fs::create_dir_all(low.join("gone-in")).expect("mkdir");
        fs::write(low.join("gone-in/f"), "low").expect("write");
        symlink("/etc", top.join("gone-in")).expect("link");

        let mut lowers = Lowers::open(&[top, low]).expect("open");
        let names = |lowers: &mut Lowers, folder: &str| -> Vec<String> {
            let names = lowers.names(folder.as_bytes()).expect("names");
            names.into_iter().map(|name| String::from_utf8(name).expect("utf-8")).collect()
        };
        assert_eq!(names(&mut lowers, ""), ["a", "b", "gone-in", "opaque"]);
        assert_eq!(names(&mut lowers, "a"), ["1", "2"]);
        assert_eq!(names(&mut lowers, "opaque"), Vec::<String>::new());
        assert_eq!(lowers.entry(b"a/1").expect("read").map(|entry| entry.size), Some(3));
        assert_eq!(std::io::read_to_string(lowers.file(b"a/1").expect("open")).expect("read"), "top");
        for hidden in ["w/x", "opaque/old", "gone-in/f", "gone-in/passwd", "no/such"] {
            assert_eq!(lowers.entry(hidden.as_bytes()).expect(hidden), None, "{hidden}");
        }
        symlink("../../a/1", base.path().join("low/b/c/to")).expect("link");
        symlink("/b/c/to", base.path().join("low/b/again")).expect("link");
        symlink("loop", base.path().join("low/loop")).expect("link");
        let resolve =
            |lowers: &mut Lowers, path: &[u8]| lowers.resolve(path).expect("resolve").map(|entry| entry.kind);
        assert_eq!(resolve(&mut lowers, b"/b/again"), Some(Kind::File));
        assert_eq!(resolve(&mut lowers, b"b/c/../../../../a/./1"), Some(Kind::File));
        assert_eq!(resolve(&mut lowers, b"gone-in/passwd"), None, "a link stays in the layers");
        assert_eq!(resolve(&mut lowers, b"loop"), None);
        assert_eq!(lowers.entry(b"gone-in").expect("read").map(|entry| entry.kind), Some(Kind::Link));
    }
}
