//! A kernel's file: its release, and the ELF file in it that a VMM enters without unpacking it in the guest.
//!
//! A bzImage begins with a boot header (the kernel's `Documentation/arch/x86/boot.rst`); `payload_offset` and
//! `payload_length` name the compressed ELF file. Every number of the header is checked against the file.

use std::io::Read;

/// The most bytes that a kernel unpacks to.
const MOST: u64 = 512 << 20;
/// A block of the LZ4 "legacy" form, unpacked.
const LZ4_BLOCK: usize = 8 << 20;
const ELF: &[u8] = b"\x7fELF";

/// Why a kernel could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Neither an ELF file nor a bzImage.
    #[error("it is neither a bzImage nor an ELF file")]
    Form,
    /// Its header names bytes beyond its end.
    #[error("it is cut off, or its header is damaged")]
    Torn,
    /// Compressed in a way that is not known here.
    #[error("it is compressed in a way that tripmine does not know (it begins with {0:02x?})")]
    Unknown([u8; 4]),
    /// The compressed data are damaged.
    #[error("its compressed part is damaged ({form})")]
    Damaged {
        /// The form of compression.
        form: &'static str,
        /// What the decoder says.
        #[source]
        source: std::io::Error,
    },
    /// What comes out is no ELF file.
    #[error("what is in it is no ELF file")]
    NotElf,
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

fn is_bz_image(image: &[u8]) -> bool {
    image.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && image.get(0x202..0x206) == Some(b"HdrS")
}

/// The release in a kernel's file.
#[must_use]
pub fn release(image: &[u8]) -> Option<String> {
    let text = if is_bz_image(image) {
        image.get(short(image, 0x20e)? + 0x200..)?
    } else if image.starts_with(ELF) {
        let banner = b"Linux version ";
        image.get(memchr::memmem::find(image, banner)? + banner.len()..)?
    } else {
        return None;
    };
    let end = text.iter().take(128).position(|byte| matches!(byte, b' ' | 0))?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+~".contains(c);
    (!release.is_empty() && release.chars().all(plain)).then(|| release.to_owned())
}

/// The ELF file of a kernel.
///
/// # Errors
/// It is none, damaged, or compressed in an unknown way.
pub fn unpack(image: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if image.starts_with(ELF) {
        return Ok(image.to_vec());
    }
    if !is_bz_image(image) {
        return Err(UnpackError::Form);
    }
    let payload = payload(image).ok_or(UnpackError::Torn)?;
    let elf = decompress(payload)?;
    if elf.starts_with(ELF) { Ok(elf) } else { Err(UnpackError::NotElf) }
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    // No number of sectors means four (boot.rst).
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + word(image, 0x248)?;
    image.get(start..start.checked_add(word(image, 0x24c)?)?)
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let magic = payload.first_chunk::<4>().ok_or(UnpackError::Torn)?;
    let (form, result) = match magic {
        [0x1f, 0x8b, ..] => ("gzip", all(flate2::read::GzDecoder::new(payload))),
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", zstd_frame(payload)),
        // The size that follows is none of its business.
        [0xfd, b'7', b'z', b'X'] => ("xz", all(lzma_rust2::XzReader::new(payload, false))),
        [0x02, 0x21, 0x4c, 0x18] => ("lz4", lz4_legacy(&payload[4..])),
        other => return Err(UnpackError::Unknown(*other)),
    };
    result.map_err(|source| UnpackError::Damaged { form, source })
}

/// One frame only: the kernel's build appends the size.
fn zstd_frame(payload: &[u8]) -> std::io::Result<Vec<u8>> {
    all(zstd::stream::read::Decoder::with_buffer(payload)?.single_frame())
}

/// Unpacks a module, whatever it is compressed with.
pub(super) fn unpack_module(bytes: Vec<u8>) -> Result<Vec<u8>, UnpackError> {
    if bytes.starts_with(ELF) { Ok(bytes) } else { decompress(&bytes) }
}

fn all(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Blocks, each with its length before it; the last four bytes are the size.
fn lz4_legacy(mut rest: &[u8]) -> std::io::Result<Vec<u8>> {
    let torn = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut unpacked = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    while rest.len() > 4 {
        let length = word(rest, 0).ok_or_else(torn)?;
        let packed = rest.get(4..).and_then(|rest| rest.get(..length)).ok_or_else(torn)?;
        let count = lz4_flex::block::decompress_into(packed, &mut block).map_err(std::io::Error::other)?;
        unpacked.extend_from_slice(&block[..count]);
        if unpacked.len() as u64 > MOST {
            return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        }
        rest = &rest[4 + length..];
    }
    Ok(unpacked)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    /// The smallest bzImage around this payload.
    pub(in super::super) fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x30c].copy_from_slice(b"6.1.0-9-x #1");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).expect("short");
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(&[0; 16]);
        image.extend_from_slice(payload);
        image
    }

    fn elf() -> Vec<u8> {
        [ELF, &b"Linux version 6.1.0-9-x (builder) and more of it ".repeat(5000)].concat()
    }

    fn packed(form: &str) -> Vec<u8> {
        let mut bytes = match form {
            "gzip" => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(&elf()).expect("packed");
                writer.finish().expect("packed")
            }
            "zstd" => zstd::bulk::compress(&elf(), 3).expect("packed"),
            _ => {
                let block = lz4_flex::block::compress(&elf());
                let length = u32::try_from(block.len()).expect("short").to_le_bytes();
                [&[0x02, 0x21, 0x4c, 0x18], &length[..], &block].concat()
            }
        };
        bytes.extend_from_slice(&u32::try_from(elf().len()).expect("short").to_le_bytes());
        bytes
    }

    #[test]
    fn kernels_of_every_form_are_unpacked() {
        for form in ["gzip", "zstd", "lz4"] {
            let image = bz_image(&packed(form));
            assert_eq!(release(&image).as_deref(), Some("6.1.0-9-x"));
            assert_eq!(unpack(&image).expect(form), elf(), "{form}");
        }
        assert_eq!(unpack(&elf()).expect("as it is"), elf());
        assert_eq!(release(&elf()).as_deref(), Some("6.1.0-9-x"));
    }

    #[test]
    fn damaged_kernels_are_refused_and_never_panic() {
        assert!(matches!(unpack(b"text"), Err(UnpackError::Form)));
        assert!(matches!(unpack(&bz_image(b"BZh9....")), Err(UnpackError::Unknown(_))));
        assert!(matches!(
            unpack(&bz_image(&zstd::bulk::compress(b"text", 1).expect("packed"))),
            Err(UnpackError::NotElf)
        ));
        for form in ["gzip", "zstd", "lz4"] {
            let whole = bz_image(&packed(form));
            for end in (0..whole.len()).step_by(37) {
                assert!(unpack(&whole[..end]).is_err(), "{form} cut at {end}");
                let _none_or_some = release(&whole[..end]);
            }
            let payload = packed(form);
            let mut damaged = bz_image(&payload[..payload.len() / 2]);
            assert!(unpack(&damaged).is_err(), "{form}");
            damaged[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(matches!(unpack(&damaged), Err(UnpackError::Torn)));
        }
    }
}
