//! Export: an image as an OCI layout, as an archive of one, or as a docker-save archive. Blobs go out as they are stored;
//! each is checked on its way. A file is complete or not there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::model::image::document::REF_NAME;
use crate::model::image::{Compression, Descriptor, Digest, Index, Manifest};
use crate::model::{Failure, ImageRef};
use crate::store::atomic::{sync_folder, write_atomic};
use crate::store::fail::{cannot, shown};

use super::blobs::{Hashing, copy, damaged};
use super::ingest::Ingest;
use super::store::Store;
use super::tar::write::TarWriter;
use super::tar::{Kind, Member};

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `oci:DIR[:TAG]`: a folder, made or added to.
    Folder(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:TAG]`.
    DockerArchive(PathBuf, Option<String>),
}

impl Target {
    /// Parses what was typed, as skopeo and podman write it.
    ///
    /// # Errors
    /// It is none of the three.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!("`{text}` is no place to export to")).hint(
                "write `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`, each with `:TAG` if you like",
            )
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        // A colon in a folder's name is no tag.
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest[last..].find(':') {
            Some(at) => (&rest[..last + at], Some(rest[last + at + 1..].to_owned())),
            None => (rest, None),
        };
        if path.is_empty() || tag.as_deref() == Some("") {
            return Err(wrong());
        }
        let path = PathBuf::from(path);
        match kind {
            "oci" => Ok(Self::Folder(path, tag)),
            "oci-archive" => Ok(Self::OciArchive(path, tag)),
            "docker-archive" => Ok(Self::DockerArchive(path, tag)),
            _ => Err(wrong()),
        }
    }
}

/// Writes an image to `target`.
///
/// # Errors
/// No such image, a blob is missing or damaged, or it cannot be written.
pub fn export(
    store: &Store,
    reference: &ImageRef,
    target: &Target,
    each: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let entry = store.find(reference)?;
    // Nothing of it is collected meanwhile.
    let _held = store.hold(&entry.descriptor.digest)?;
    let (manifest, config) = store.read_image(&entry.descriptor, &entry.reference())?;
    let mut plain =
        Descriptor::new(&entry.descriptor.media_type, entry.descriptor.digest, entry.descriptor.size);
    plain.platform = Some(config.platform.clone());
    let tag = |tag: &Option<String>| {
        tag.clone().or_else(|| entry.name.clone()).unwrap_or_else(|| "latest".to_owned())
    };
    match target {
        Target::Folder(path, to) => folder(store, path, &plain, &manifest, &tag(to), each),
        Target::OciArchive(path, to) => {
            whole(path, |file| oci_archive(store, file, &plain, &manifest, &tag(to), each))
        }
        Target::DockerArchive(path, to) => {
            let name = tag(to);
            let name = if name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
                name
            } else {
                format!("{name}:latest")
            };
            let mut ingest = store.begin()?;
            whole(path, |file| docker_archive(&mut ingest, file, &manifest, &config.diff_ids, &name, each))
        }
    }
}

fn blobs(plain: &Descriptor, manifest: &Manifest) -> BTreeMap<Digest, Descriptor> {
    let all = std::iter::once(plain).chain(std::iter::once(&manifest.config)).chain(&manifest.layers);
    all.map(|blob| (blob.digest, blob.clone())).collect()
}

fn folder(
    store: &Store,
    path: &Path,
    plain: &Descriptor,
    manifest: &Manifest,
    tag: &str,
    each: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let index_path = path.join("index.json");
    let mut index = match std::fs::read(&index_path) {
        Ok(bytes) => Index::parse(&bytes)
            .map_err(|error| Failure::failed(format!("{} is no OCI layout", shown(path))).because(&error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let empty = std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
            if !empty {
                return Err(Failure::failed(format!("{} is neither empty nor an OCI layout", shown(path)))
                    .hint("name a folder that does not exist yet"));
            }
            Index::default()
        }
        Err(error) => return Err(cannot("read", &index_path, error)),
    };
    let folder = path.join("blobs/sha256");
    std::fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, error))?;
    for (digest, blob) in blobs(plain, manifest) {
        let to = folder.join(digest.hex());
        if std::fs::metadata(&to).is_ok_and(|found| found.len() == blob.size) {
            each(blob.size);
            continue;
        }
        let io = |error: std::io::Error| cannot("write", &to, error);
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(&folder).map_err(io)?;
        checked(store, &blob, file.as_file_mut(), each)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(readable).and_then(|()| file.as_file().sync_all()).map_err(io)?;
        file.persist(&to).map_err(|error| io(error.error))?;
    }
    sync_folder(&folder).map_err(|error| cannot("sync", &folder, error))?;
    let mark = path.join("oci-layout");
    write_atomic(&mark, MARK, 0o644).map_err(|error| cannot("write", &mark, error))?;
    index.manifests.retain(|entry| entry.ref_name() != Some(tag));
    index.manifests.push(tagged(plain, tag));
    write_atomic(&index_path, &index.to_bytes(), 0o644).map_err(|error| cannot("write", &index_path, error))
}

const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

fn tagged(plain: &Descriptor, tag: &str) -> Descriptor {
    let mut entry = plain.clone();
    entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    entry
}

/// Copies a blob out and sees that it is what its name says.
fn checked(
    store: &Store,
    blob: &Descriptor,
    to: &mut dyn Write,
    each: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let mut file = store.open_blob(blob)?;
    let mut hashing = Hashing::new(to);
    copy(&mut file, &mut hashing, each)
        .map_err(|error| Failure::failed("cannot write the image").because(&error))?;
    let (_, digest, _) = hashing.finish();
    if digest == blob.digest {
        Ok(())
    } else {
        Err(damaged(&blob.digest, "its bytes are not those of its name"))
    }
}

/// A file that appears when it is whole.
fn whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let io = |error: std::io::Error| cannot("write", path, error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder).map_err(io)?;
    let mut buffered = std::io::BufWriter::with_capacity(256 << 10, file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush().map_err(io)?;
    drop(buffered);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

type Archive<'a> = TarWriter<&'a mut dyn Write>;

fn add(archive: &mut Archive<'_>, name: &str, size: u64, contents: &mut dyn Read) -> Result<(), Failure> {
    let mut member = own(name, Kind::File, 0o644);
    member.size = size;
    written(archive, &member, contents)
}

/// A folder of an archive: tools that unpack it as an ordinary user give those that are not named to root, and fail.
fn add_folder(archive: &mut Archive<'_>, name: &str) -> Result<(), Failure> {
    written(archive, &own(name, Kind::Folder, 0o755), &mut std::io::empty())
}

/// A member that belongs to whoever exports: the same tools want to keep its owner.
fn own(name: &str, kind: Kind, mode: u32) -> Member {
    let mut member = Member::new(name.as_bytes(), kind, mode);
    member.uid = rustix::process::geteuid().as_raw().into();
    member.gid = rustix::process::getegid().as_raw().into();
    member
}

fn written(archive: &mut Archive<'_>, member: &Member, contents: &mut dyn Read) -> Result<(), Failure> {
    archive
        .member(member, contents)
        .map_err(|error| Failure::failed("cannot write the archive").because(&error))
}

fn end(archive: Archive<'_>) -> Result<(), Failure> {
    archive.finish().map(|_| ()).map_err(|error| Failure::failed("cannot write the archive").because(&error))
}

/// Reads through, hashing.
struct Checking<'a, R> {
    inner: R,
    hash: Hashing<std::io::Sink>,
    each: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Checking<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(into)?;
        self.hash.write_all(&into[..count])?;
        (self.each)(count as u64);
        Ok(count)
    }
}

fn oci_archive(
    store: &Store,
    out: &mut dyn Write,
    plain: &Descriptor,
    manifest: &Manifest,
    tag: &str,
    each: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let mut archive = TarWriter::new(out);
    add(&mut archive, "oci-layout", MARK.len() as u64, &mut &*MARK)?;
    let index = Index { manifests: vec![tagged(plain, tag)], ..Index::default() }.to_bytes();
    add(&mut archive, "index.json", index.len() as u64, &mut &index[..])?;
    add_folder(&mut archive, "blobs/")?;
    add_folder(&mut archive, "blobs/sha256/")?;
    for (digest, blob) in blobs(plain, manifest) {
        let file = store.open_blob(&blob)?;
        let mut reader = Checking { inner: file, hash: Hashing::new(std::io::sink()), each };
        add(&mut archive, &format!("blobs/sha256/{}", digest.hex()), blob.size, &mut reader)?;
        let (_, found, _) = reader.hash.finish();
        if found != digest {
            return Err(damaged(&digest, "its bytes are not those of its name"));
        }
    }
    end(archive)
}

fn docker_archive(
    ingest: &mut Ingest<'_>,
    out: &mut dyn Write,
    manifest: &Manifest,
    diff_ids: &[Digest],
    name: &str,
    each: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let mut archive = TarWriter::new(out);
    let config = ingest.store().read_document(&manifest.config)?;
    let config_name = format!("{}.json", manifest.config.digest.hex());
    add(&mut archive, &config_name, config.len() as u64, &mut &config[..])?;
    let mut names = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let layer_name = format!("{}.tar", diff_id.hex());
        if !names.contains(&layer_name) {
            // Its length stands before its bytes, so it is unpacked first.
            let mut file = plain_tar(ingest, layer, diff_id, each)?;
            let size = file
                .metadata()
                .map_err(|error| Failure::failed("cannot read a layer").because(&error))?
                .len();
            add(&mut archive, &layer_name, size, &mut file)?;
        }
        names.push(layer_name);
    }
    let list = serde_json::json!([{ "Config": config_name, "RepoTags": [name], "Layers": names }]);
    let list = list.to_string();
    add(&mut archive, "manifest.json", list.len() as u64, &mut list.as_bytes())?;
    end(archive)
}

fn plain_tar(
    ingest: &mut Ingest<'_>,
    layer: &Descriptor,
    diff_id: &Digest,
    each: &mut dyn FnMut(u64),
) -> Result<File, Failure> {
    let blob = ingest.store().open_blob(layer)?;
    let unread = |error: std::io::Error| {
        Failure::failed(format!("cannot read the layer {}", layer.digest)).because(&error)
    };
    let mut reader: Box<dyn Read> =
        match layer.compression().map_err(|error| Failure::failed(error.to_string()))? {
            Compression::None => Box::new(blob),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(blob))),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(blob).map_err(unread)?),
        };
    let temp = ingest.blob(&mut reader, each)?;
    if temp.digest != *diff_id {
        return Err(damaged(&layer.digest, "the tar in it is another"));
    }
    File::open(&temp.path).map_err(|error| cannot("read", &temp.path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, target) in [
            ("oci:out", Some(Target::Folder("out".into(), None))),
            ("oci:/a:b/out:v1", Some(Target::Folder("/a:b/out".into(), Some("v1".into())))),
            ("oci-archive:x.tar", Some(Target::OciArchive("x.tar".into(), None))),
            ("docker-archive:./x.tar:v1", Some(Target::DockerArchive("./x.tar".into(), Some("v1".into())))),
            ("oci:", None),
            ("oci:x:", None),
            ("x", None),
            ("docker:x", None),
        ] {
            assert_eq!(Target::parse(text).ok(), target, "{text}");
        }
    }
}
