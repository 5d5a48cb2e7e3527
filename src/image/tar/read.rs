//! Walking a tar archive, member by member, in bounded memory.

use std::io::{ErrorKind, Read};

use tar::{EntryType, Header};

use super::{Kind, Member, TarError, Time, shown, sparse};

/// A block of the format.
pub const BLOCK: usize = 512;
/// The longest record of one member's pax header. Attributes may be 64 KiB each (xattr(7)).
const PAX_MAX: u64 = 1 << 20;
/// The longest GNU long name.
const NAME_MAX: u64 = 64 << 10;

/// A walk over an archive.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    /// Bytes of the current member's contents that are not read yet, and the padding behind them.
    left: u64,
    padding: u64,
    name: String,
    done: bool,
}

/// What the headers before a member said of it.
#[derive(Debug, Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Said {
    fn last(&self, key: &[u8]) -> Option<&[u8]> {
        self.records.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value.as_slice())
    }

    fn number(&self, key: &'static str, name: &str) -> Result<Option<u64>, TarError> {
        let Some(value) = self.last(key.as_bytes()) else { return Ok(None) };
        number(value)
            .map(Some)
            .ok_or_else(|| TarError::Member(name.to_owned(), format!("its pax record `{key}` is no number")))
    }
}

impl<R: Read> TarReader<R> {
    /// A walk from the start of an archive.
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, name: "its first member".to_owned(), done: false }
    }

    /// The next member; `None` at the end. What is left of the contents before is skipped.
    ///
    /// # Errors
    /// The archive cannot be read, or holds what cannot be understood.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut said = Said::default();
        let mut fresh = true;
        loop {
            let Some(header) = self.header()? else {
                if fresh {
                    return Ok(None);
                }
                return Err(TarError::Short(self.name.clone()));
            };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|error| TarError::Damaged(error.to_string()))?;
            match kind {
                EntryType::XHeader => said.records.extend(pax(&self.all(size, PAX_MAX, "pax header")?)?),
                EntryType::GNULongName => said.path = Some(trimmed(self.all(size, NAME_MAX, "name")?)),
                EntryType::GNULongLink => said.link = Some(trimmed(self.all(size, NAME_MAX, "link")?)),
                // Comments and defaults for all members; nobody writes the latter into a layer.
                EntryType::XGlobalHeader => drop(self.all(size, PAX_MAX, "global pax header")?),
                other if other.as_byte() == b'V' => self.begin(size),
                _ => return self.member(&header, said).map(Some),
            }
            fresh = false;
        }
    }

    /// The contents of the member that was given last: for a sparse file its pieces, one after the other.
    pub fn contents(&mut self) -> Contents<'_, R> {
        Contents(self)
    }

    /// What was read from, standing behind the last member that was given.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn member(&mut self, header: &Header, said: Said) -> Result<Member, TarError> {
        let own = header.path_bytes().into_owned();
        let path = said.last(b"path").map(<[u8]>::to_vec).or_else(|| said.path.clone()).unwrap_or(own);
        self.name = shown(&path);
        let name = self.name.clone();
        let damaged = |error: std::io::Error| TarError::Member(name.clone(), error.to_string());
        let link = said.last(b"linkpath").map(<[u8]>::to_vec).or_else(|| said.link.clone());
        let link =
            link.or_else(|| header.link_name_bytes().map(|link| link.into_owned())).unwrap_or_default();
        let stored = match said.number("size", &name)? {
            Some(size) => size,
            None => header.entry_size().map_err(damaged)?,
        };
        let kind = match header.entry_type() {
            // Before POSIX, a folder was a file whose name ends with a slash.
            EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::Directory => Kind::Folder,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let kind = shown(&[other.as_byte()]);
                return Err(TarError::Member(
                    name,
                    format!("members of the kind `{kind}` are not understood"),
                ));
            }
        };
        let mut member = Member::new(&path, kind, header.mode().map_err(damaged)? & 0o7777);
        member.link = link;
        member.uid = match said.number("uid", &name)? {
            Some(uid) => uid,
            None => header.uid().map_err(damaged)?,
        };
        member.gid = match said.number("gid", &name)? {
            Some(gid) => gid,
            None => header.gid().map_err(damaged)?,
        };
        member.mtime = match said.last(b"mtime") {
            Some(text) => time(text).ok_or_else(|| {
                TarError::Member(name.clone(), "its pax record `mtime` is no time".to_owned())
            })?,
            // Times before 1970 in the header proper are base-256 and read as far too late ones.
            None => (header.mtime().ok().and_then(|at| i64::try_from(at).ok()).unwrap_or(0), 0),
        };
        // Only files have contents; old archives give links and folders a size that means nothing.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.begin(stored);
        member.size = stored;
        if kind == Kind::File {
            self.sparse(&mut member, header, &said)?;
        }
        for (key, value) in said.records {
            if let Some(key) = key.strip_prefix(b"SCHILY.xattr.") {
                member.attributes.push((key.to_vec(), value));
            }
        }
        Ok(member)
    }

    fn sparse(&mut self, member: &mut Member, header: &Header, said: &Said) -> Result<(), TarError> {
        let stored = member.size;
        if header.entry_type() == EntryType::GNUSparse {
            let (pieces, size, blocks) = sparse::gnu(header, || {
                let mut block = [0; BLOCK];
                read_full(&mut self.inner, &mut block).map(|full| full.then_some(block))
            })
            .map_err(|why| TarError::Member(self.name.clone(), why))?;
            let _read_already = blocks;
            (member.pieces, member.size) = (Some(pieces), size);
        } else if let Some(form) = sparse::Form::of(&said.records) {
            if let Some(real) = said.last(b"GNU.sparse.name") {
                member.path = real.to_vec();
                self.name = shown(real);
            }
            let map = match form {
                sparse::Form::Records(pieces) => pieces,
                sparse::Form::InContents => {
                    let mut contents = Contents(self);
                    sparse::map_in_contents(&mut contents)
                        .map_err(|why| TarError::Member(member.shown(), why))?
                }
            };
            let real = said.number("GNU.sparse.realsize", &self.name)?;
            let real = real.or(said.number("GNU.sparse.size", &self.name)?);
            let real = real
                .ok_or_else(|| TarError::Member(self.name.clone(), "its real size is missing".to_owned()))?;
            (member.pieces, member.size) = (Some(map), real);
        }
        if let Some(pieces) = &member.pieces {
            let left = if header.entry_type() == EntryType::GNUSparse { stored } else { self.left };
            sparse::check(pieces, member.size, left)
                .map_err(|why| TarError::Member(self.name.clone(), why))?;
        }
        Ok(())
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The next header that is not empty; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        if self.done {
            return Ok(None);
        }
        let mut skip = (&mut self.inner).take(self.left.saturating_add(self.padding));
        let wanted = skip.limit();
        if std::io::copy(&mut skip, &mut std::io::sink())? != wanted {
            return Err(TarError::Short(self.name.clone()));
        }
        (self.left, self.padding) = (0, 0);
        let mut block = [0; BLOCK];
        if !read_full(&mut self.inner, &mut block).map_err(|error| self.short(error))? {
            self.done = true;
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            self.done = true;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block.iter().enumerate().fold(0, |sum, (at, byte)| {
            sum + if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) }
        });
        match header.cksum() {
            Ok(found) if found == sum => Ok(Some(header)),
            _ => Err(TarError::Damaged(format!("the checksum after {} is wrong", self.name))),
        }
    }

    fn short(&self, error: std::io::Error) -> TarError {
        if error.kind() == ErrorKind::UnexpectedEof {
            TarError::Short(self.name.clone())
        } else {
            TarError::Read(error)
        }
    }

    /// The whole contents of a header that describes the next member.
    fn all(&mut self, size: u64, max: u64, what: &'static str) -> Result<Vec<u8>, TarError> {
        if size > max {
            return Err(TarError::TooLong { name: format!("the member after {}", self.name), what, max });
        }
        self.begin(size);
        let mut bytes = Vec::new();
        Contents(self).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The contents of one member.
#[derive(Debug)]
pub struct Contents<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let reader = &mut *self.0;
        let most = usize::try_from(reader.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let count = reader.inner.read(&mut into[..most])?;
        if count == 0 {
            let why = format!("the archive ends in the middle of `{}`", reader.name);
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, why));
        }
        reader.left -= count as u64;
        Ok(count)
    }
}

/// Fills `block`; false when there is nothing at all.
fn read_full(reader: &mut impl Read, block: &mut [u8]) -> std::io::Result<bool> {
    let mut at = 0;
    while at < block.len() {
        match reader.read(&mut block[at..]) {
            Ok(0) if at == 0 => return Ok(false),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => at += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// The records of a pax header: "LENGTH KEY=VALUE\n", the length that of all of it. Values are bytes.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn pax(mut bytes: &[u8]) -> Result<Records, TarError> {
    let mut records = Vec::new();
    let wrong = || TarError::Damaged("a pax record is malformed".to_owned());
    while !bytes.is_empty() && bytes.iter().any(|byte| *byte != 0) {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length =
            number(&bytes[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
        let record = bytes.get(space + 1..length).ok_or_else(wrong)?;
        let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// A decimal number without a sign.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// "-12.5" is a time.
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    Some(if negative && nanos > 0 {
        (seconds.checked_sub(1)?, 1_000_000_000 - nanos)
    } else {
        (seconds, nanos)
    })
}
