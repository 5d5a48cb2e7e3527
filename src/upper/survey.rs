//! Looking at what would go into a layer: how much it is, and what of it looks like a secret. Writes nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::copy::Source;
use super::helper::open_region;
use super::layer::{Before, Layering, Sink, Totals, other, say};
use super::meta::open_file;
use super::read::{ReadError, RegionReader};
use super::wire::{Bytes, Line};
use crate::plan::changes::{Entry, Kind, walk};
use crate::plan::leaks;

/// Tells what of a cube that stands still would go into a layer.
///
/// # Errors
/// One line.
pub fn survey(source: &Source<'_>, out: &mut dyn Write) -> Result<(), String> {
    let mut totals = Totals::default();
    for region in source.regions {
        let mut reader = open_region(region, source.store, source.ids)?;
        let files = open_region(region, source.store, source.ids)?;
        let mut sink = Looking { files, head: Vec::new() };
        let mut layering = Layering {
            region,
            leave_out: source.leave_out,
            out: &mut *out,
            totals: &mut totals,
            sink: &mut sink,
            again: None,
        };
        walk(&mut reader, &mut layering).map_err(|error| error.to_string())?;
    }
    totals.tell(out).map_err(|error| error.to_string())
}

struct Looking {
    files: RegionReader,
    head: Vec<u8>,
}

impl Sink for Looking {
    fn deleted(&mut self, _: &[u8], _: &[u8]) -> Result<Before, ReadError> {
        Ok(None)
    }

    fn present(
        &mut self,
        path: &[u8],
        inside: &[u8],
        entry: &Entry,
        out: &mut dyn Write,
    ) -> Result<Before, ReadError> {
        if entry.kind == Kind::File && entry.size > 0 {
            match self.files.new_file(path) {
                Ok(mut file) => {
                    tell_secret(&mut file, inside, &mut self.head, out).map_err(|error| other(&error))?;
                }
                Err(ReadError::Path { errno: Errno::NOENT, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Tells which files of a finished copy look like secrets. After the cube goes on: looking takes longer than copying.
///
/// # Errors
/// One line.
pub fn scan(target: &OwnedFd, out: &mut dyn Write) -> Result<(), String> {
    let mut head = Vec::new();
    let looked = super::manifest::each(target.as_fd(), b"", &mut |path, stat| {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(());
        }
        tell_secret(&mut open_file(target.as_fd(), path)?, path, &mut head, out)
    });
    looked.map_err(|error| format!("cannot look for secrets: {error}"))
}

/// Tells whether a file looks like a secret; `head` is room for its beginning.
pub(super) fn tell_secret(
    file: &mut File,
    inside: &[u8],
    head: &mut Vec<u8>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let named = leaks::by_name(&[b"/", inside].concat());
    head.clear();
    file.take(leaks::LOOKED_AT as u64).read_to_end(head)?;
    let named = named.filter(|what| !leaks::is_empty_of(what, head));
    match named.or_else(|| leaks::by_content(head)) {
        Some(what) => say(out, &Line::Secret { path: Bytes(inside.to_vec()), what: what.to_owned() })
            .map_err(std::io::Error::other),
        None => Ok(()),
    }
}
