//! Writing tar members: ustar where it suffices, pax records where it does not. The same members give the same bytes.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::read::BLOCK;
use super::{Kind, Member, Piece};

/// The largest number in an octal field of 12 bytes and of 8.
const OCTAL_12: u64 = 0o777_7777_7777;
const OCTAL_8: u64 = 0o777_7777;

/// How much goes out at once.
const AT_ONCE: usize = 256 << 10;

/// An archive being written. What goes out is gathered here: contents are read right to where they are written from.
#[derive(Debug)]
pub struct TarWriter<W> {
    inner: W,
    waiting: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// An archive that begins here.
    pub fn new(inner: W) -> Self {
        Self { inner, waiting: Vec::with_capacity(AT_ONCE) }
    }

    /// Writes a member with `contents`, which must give [`Member::stored`] bytes.
    ///
    /// # Errors
    /// Writing failed, or the contents are shorter (a file that shrank meanwhile): the rest is zeros, and the error says so.
    pub fn member(&mut self, member: &Member, contents: &mut dyn Read) -> io::Result<()> {
        let map = member.pieces.as_ref().map(|pieces| map_of(pieces));
        let stored = member.stored() + map.as_ref().map_or(0, |map| map.len() as u64);
        let mut records = records(member, stored);
        let mut header = Header::new_ustar();
        let path = if map.is_some() {
            record(&mut records, "GNU.sparse.major", b"1");
            record(&mut records, "GNU.sparse.minor", b"0");
            record(&mut records, "GNU.sparse.name", &member.path);
            record(&mut records, "GNU.sparse.realsize", member.size.to_string().as_bytes());
            &b"GNUSparseFile.0/sparse"[..]
        } else {
            &member.path
        };
        if !records.is_empty() {
            let mut extension = Header::new_ustar();
            extension.set_entry_type(EntryType::XHeader);
            fields(&mut extension, b"././@PaxHeader", b"", 0o644, (0, 0), 0, records.len() as u64);
            self.padded(&extension, &mut &records[..], records.len() as u64)?;
        }
        header.set_entry_type(match member.kind {
            Kind::File => EntryType::Regular,
            Kind::HardLink => EntryType::Link,
            Kind::Symlink => EntryType::Symlink,
            Kind::Folder => EntryType::Directory,
            Kind::Fifo => EntryType::Fifo,
            Kind::Device => EntryType::Char,
        });
        let mtime = u64::try_from(member.mtime.0).unwrap_or(0).min(OCTAL_12);
        let owner = (member.uid.min(OCTAL_8), member.gid.min(OCTAL_8));
        fields(&mut header, path, &member.link, member.mode, owner, mtime, stored.min(OCTAL_12));
        match map {
            Some(map) => self.padded(&header, &mut (&map[..]).chain(contents), stored),
            None => self.padded(&header, contents, stored),
        }
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Writing failed.
    pub fn finish(mut self) -> io::Result<W> {
        self.zeros(2 * BLOCK as u64)?;
        self.send()?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn padded(&mut self, header: &Header, contents: &mut dyn Read, size: u64) -> io::Result<()> {
        self.contents(&mut &header.as_bytes()[..], BLOCK as u64)?;
        let copied = self.contents(contents, size)?;
        // The archive stays one, whatever the file did.
        self.zeros(size - copied)?;
        self.zeros(size.next_multiple_of(BLOCK as u64) - size)?;
        if copied < size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
        Ok(())
    }

    /// Takes at most `size` bytes of `contents`; how many there were.
    fn contents(&mut self, contents: &mut dyn Read, size: u64) -> io::Result<u64> {
        let mut left = size;
        while left > 0 {
            if self.waiting.len() == AT_ONCE {
                self.send()?;
            }
            let at = self.waiting.len();
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(AT_ONCE - at);
            self.waiting.resize(at + most, 0);
            let read = contents.read(&mut self.waiting[at..]);
            self.waiting.truncate(at + read.as_ref().map_or(0, |count| (*count).min(most)));
            match read {
                Ok(0) => break,
                Ok(count) => left -= count.min(most) as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(size - left)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.contents(&mut io::repeat(0).take(count), count).map(drop)
    }

    fn send(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

fn fields(
    header: &mut Header,
    path: &[u8],
    link: &[u8],
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    size: u64,
) {
    if let Some(ustar) = header.as_ustar_mut() {
        put(&mut ustar.name, path);
        put(&mut ustar.linkname, link);
    }
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mtime(mtime);
    header.set_size(size);
    header.set_cksum();
}

/// As much as fits: the whole stands in a pax record then.
fn put(field: &mut [u8; 100], bytes: &[u8]) {
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

/// The pax records that the plain header cannot hold.
fn records(member: &Member, stored: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let plain = |text: &[u8]| text.len() <= 100 && text.is_ascii() && !text.contains(&0);
    if !plain(&member.path) && member.pieces.is_none() {
        record(&mut bytes, "path", &member.path);
    }
    if !plain(&member.link) {
        record(&mut bytes, "linkpath", &member.link);
    }
    if stored > OCTAL_12 {
        record(&mut bytes, "size", stored.to_string().as_bytes());
    }
    for (key, id) in [("uid", member.uid), ("gid", member.gid)] {
        if id > OCTAL_8 {
            record(&mut bytes, key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanos) = member.mtime;
    if nanos != 0 || seconds < 0 {
        record(&mut bytes, "mtime", time(seconds, nanos).as_bytes());
    }
    for (key, value) in &member.attributes {
        if let Ok(key) = std::str::from_utf8(key) {
            record(&mut bytes, &format!("SCHILY.xattr.{key}"), value);
        }
    }
    bytes
}

fn time(seconds: i64, nanos: u32) -> String {
    let (sign, seconds, nanos) = match (seconds < 0, nanos) {
        (true, 1..) => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
        (negative, nanos) => (if negative { "-" } else { "" }, seconds.unsigned_abs(), nanos),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// "LENGTH KEY=VALUE\n"; the length counts itself.
fn record(bytes: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

/// The map of form 1.0.
fn map_of(pieces: &[Piece]) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len()).into_bytes();
    for (offset, length) in pieces {
        map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::super::read::TarReader;
    use super::*;

    /// Members whose every field needs another form of the format.
    fn members() -> Vec<(Member, Vec<u8>)> {
        let mut long = Member::new(&b"d/".repeat(200), Kind::Folder, 0o1777);
        long.mtime = (-2, 500_000_000);
        let mut big = Member::new(b"big", Kind::File, 0o4755);
        (big.uid, big.gid, big.size) = (70_000_000, 5, 700);
        big.mtime = (1_700_000_000, 1);
        big.attributes = vec![(b"security.capability".to_vec(), b"a\nb=\0\n".to_vec())];
        let mut odd = Member::new(b"odd \xff \n", Kind::Symlink, 0o777);
        odd.link = b"x".repeat(300);
        let mut link = Member::new(b"link", Kind::HardLink, 0o644);
        link.link = b"big".to_vec();
        let mut sparse = Member::new(b"sp\xc3\xa4rse", Kind::File, 0o600);
        sparse.size = 1 << 40;
        sparse.pieces = Some(vec![(0, 3), (1 << 30, 600), (1 << 40, 0)]);
        vec![
            (long, Vec::new()),
            (big, b"z".repeat(700)),
            (odd, Vec::new()),
            (link, Vec::new()),
            (sparse, b"s".repeat(603)),
            (Member::new(b"fifo", Kind::Fifo, 0o640), Vec::new()),
        ]
    }

    fn archive() -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (member, contents) in members() {
            writer.member(&member, &mut &contents[..]).expect("written");
        }
        writer.finish().expect("finished")
    }

    #[test]
    fn what_is_written_is_read() {
        let archive = archive();
        assert_eq!(archive.len() % BLOCK, 0);
        let mut reader = TarReader::new(&archive[..]);
        for (member, contents) in members() {
            assert_eq!(reader.next_member().expect("read").as_ref(), Some(&member));
            let mut found = Vec::new();
            reader.contents().read_to_end(&mut found).expect("contents");
            assert_eq!(found, contents, "{}", member.shown());
        }
        assert_eq!(reader.next_member().expect("end"), None);
    }

    #[test]
    fn cut_short_anywhere_it_is_an_error_or_a_shorter_archive() {
        let archive = archive();
        for end in 0..archive.len() - 2 * BLOCK {
            let mut reader = TarReader::new(&archive[..end]);
            let mut count = 0;
            while let Ok(Some(_)) = reader.next_member() {
                count += 1;
            }
            assert!(count <= members().len(), "{end}");
        }
    }

    #[test]
    fn a_file_that_shrank_leaves_an_archive() {
        let mut file = Member::new(b"f", Kind::File, 0o644);
        file.size = 10;
        let mut writer = TarWriter::new(Vec::new());
        assert!(writer.member(&file, &mut &b"abc"[..]).is_err());
        let archive = writer.finish().expect("finished");
        assert_eq!(archive.len(), 4 * BLOCK);
    }
}
