//! The four ways in which GNU tar writes down where a sparse file has contents. Owns reading them and checking that the
//! pieces are in order, within the file and within the archive.

use std::io::Read;

use tar::{GnuExtSparseHeader, Header};

use super::Piece;
use super::read::{BLOCK, number};

/// No file has more pieces: that many stand in 16 MiB of memory.
const PIECES_MAX: usize = 1 << 20;

/// Where the map of a sparse file in a pax archive stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In the records (forms 0.0 and 0.1).
    Records(Vec<Piece>),
    /// At the start of the contents (form 1.0).
    InContents,
}

impl Form {
    /// The form that a member's pax records tell of.
    pub(super) fn of(records: &[(Vec<u8>, Vec<u8>)]) -> Option<Self> {
        let last = |key: &[u8]| records.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value);
        if last(b"GNU.sparse.major").is_some_and(|major| major == b"1") {
            return Some(Self::InContents);
        }
        let numbers: Vec<u64> = if let Some(map) = last(b"GNU.sparse.map") {
            map.split(|byte| *byte == b',').map_while(number).collect()
        } else if last(b"GNU.sparse.numblocks").is_some() {
            records
                .iter()
                .filter(|(key, _)| key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes")
                .map_while(|(_, value)| number(value))
                .collect()
        } else {
            return None;
        };
        Some(Self::Records(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()))
    }
}

/// The map at the start of the contents: decimal numbers, one a line, padded to a block.
pub(super) fn map_in_contents(contents: &mut impl Read) -> Result<Vec<Piece>, String> {
    let mut block = [0; BLOCK];
    let mut at = BLOCK;
    let mut next = || -> Result<u64, String> {
        let mut text = Vec::new();
        loop {
            if at == BLOCK {
                contents.read_exact(&mut block).map_err(|_| "its sparse map is cut short".to_owned())?;
                at = 0;
            }
            at += 1;
            match block[at - 1] {
                b'\n' => break,
                byte if text.len() < 20 => text.push(byte),
                _ => return Err("its sparse map is malformed".to_owned()),
            }
        }
        number(&text).ok_or_else(|| "its sparse map is malformed".to_owned())
    };
    let count = usize::try_from(next()?).unwrap_or(usize::MAX);
    if count > PIECES_MAX {
        return Err(format!("its sparse map has {count} pieces, more than {PIECES_MAX}"));
    }
    (0..count).map(|_| Ok((next()?, next()?))).collect()
}

/// The map in a GNU header and the blocks behind it, which `next` reads. Also the file's length and how many blocks.
pub(super) fn gnu(
    header: &Header,
    mut next: impl FnMut() -> std::io::Result<Option<[u8; BLOCK]>>,
) -> Result<(Vec<Piece>, u64, usize), String> {
    let gnu = header.as_gnu().ok_or("it is sparse, but no GNU member")?;
    let (mut pieces, mut blocks) = (Vec::new(), 0);
    let mut add = |sparse: &[tar::GnuSparseHeader]| -> Result<(), String> {
        for piece in sparse.iter().filter(|piece| !piece.is_empty()) {
            let read = |value: std::io::Result<u64>| value.map_err(|error| error.to_string());
            pieces.push((read(piece.offset())?, read(piece.length())?));
        }
        if pieces.len() > PIECES_MAX {
            return Err(format!("its sparse map has more than {PIECES_MAX} pieces"));
        }
        Ok(())
    };
    add(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let block = next().map_err(|error| error.to_string())?.ok_or("its sparse map is cut short")?;
        let mut extension = GnuExtSparseHeader::new();
        extension.as_mut_bytes().copy_from_slice(&block);
        add(&extension.sparse)?;
        blocks += 1;
        more = extension.is_extended();
    }
    let size = gnu.real_size().map_err(|error| error.to_string())?;
    Ok((pieces, size, blocks))
}

/// Pieces must be in order, within `size`, and together `stored` bytes.
pub(super) fn check(pieces: &[Piece], size: u64, stored: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in pieces {
        let next = offset.checked_add(length).filter(|next| offset >= end && *next <= size);
        end = next.ok_or("the pieces of its sparse map overlap or lie behind its end")?;
        sum = sum.checked_add(length).ok_or("its sparse map is malformed")?;
    }
    if sum == stored {
        Ok(())
    } else {
        Err(format!("its sparse map names {sum} bytes, the archive has {stored}"))
    }
}
