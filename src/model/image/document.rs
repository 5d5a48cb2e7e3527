//! The JSON documents of the OCI image specification, as far as they are needed: descriptor, manifest, index.
//!
//! Written by hand rather than with `oci-spec`: five small structs, against some twenty crates in a program whose start
//! is measured. Owns what is accepted of a stranger's document: known media types, digests that parse, bounded counts.
//! A blob's own bytes are kept as they came, so that its digest stays right; these are only views of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::model::sanitize::printable;

/// No document is larger (the registries' own limit is 4 MiB).
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// No image has more layers; overlayfs takes 500.
pub const LAYERS_MAX: usize = 256;
/// No index of a stranger has more entries.
pub const INDEX_MAX: usize = 4096;

/// The annotation that names an entry of an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// What a blob is, of the kinds that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// Several manifests, one a platform.
    Index,
    /// One image.
    Manifest,
    /// How it is run.
    Config,
    /// A part of its root.
    Layer(Compression),
}

/// OCI media types, as they are written.
pub mod media {
    /// An index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// A config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer that is not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer in gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer in Zstandard.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, in gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

impl MediaType {
    /// The kind that `text` names, OCI's and Docker's names alike.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            media::INDEX | media::DOCKER_LIST => Self::Index,
            media::MANIFEST | media::DOCKER_MANIFEST => Self::Manifest,
            media::CONFIG | media::DOCKER_CONFIG => Self::Config,
            media::LAYER | media::DOCKER_LAYER => Self::Layer(Compression::None),
            media::LAYER_GZIP | media::DOCKER_LAYER_GZIP => Self::Layer(Compression::Gzip),
            media::LAYER_ZSTD => Self::Layer(Compression::Zstd),
            _ => return None,
        })
    }
}

/// Why a document is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No JSON of that shape.
    #[error("it is no {what}: {why}")]
    Shape {
        /// What it should be.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// A media type that is not understood.
    #[error("the media type of {what} is unknown: `{}`", printable(found))]
    MediaType {
        /// Of what.
        what: &'static str,
        /// The type.
        found: String,
    },
    /// Too many of something.
    #[error("it has {count} {what}, more than {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// A value that cannot be taken over.
    #[error("{field} is `{}`: {why}", printable(value))]
    Value {
        /// Which field.
        field: &'static str,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl DocumentError {
    pub(super) fn value(field: &'static str, value: &str, why: &'static str) -> Self {
        Self::Value { field, value: value.chars().take(80).collect(), why }
    }
}

/// For which machine an image is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// True for an image that this host's processor runs; `machine` is what uname(2) says.
    #[must_use]
    pub fn runs_on(&self, machine: &str) -> bool {
        let wanted = architecture(machine);
        self.os == "linux"
            && self.architecture == wanted
            && (wanted != "arm64" || self.variant.as_deref().is_none_or(|variant| variant == "v8"))
    }
}

/// Go's name of what uname(2) calls `machine`.
#[must_use]
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        "i686" | "i586" | "i386" => "386",
        other => other,
    }
}

/// What points at a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is; see [`MediaType::parse`].
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its length, in bytes.
    pub size: u64,
    /// For which machine; in an index only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A plain one.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
    }

    /// The name in the index that it stands in.
    #[must_use]
    pub fn ref_name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    /// How the layer is packed.
    ///
    /// # Errors
    /// It is no layer of a known kind.
    pub fn compression(&self) -> Result<Compression, DocumentError> {
        match MediaType::parse(&self.media_type) {
            Some(MediaType::Layer(compression)) => Ok(compression),
            _ => Err(DocumentError::MediaType { what: "a layer", found: shorten(&self.media_type) }),
        }
    }
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// May be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// One of ours.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        Self { schema_version: 2, media_type: Some(media::MANIFEST.to_owned()), config, layers, annotations }
    }

    /// Reads one and checks all that a later step relies on.
    ///
    /// # Errors
    /// It is no manifest, or one of an unknown kind.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let read: Self = parse("manifest", bytes)?;
        version(read.schema_version)?;
        if let Some(found) = read.media_type.as_deref()
            && MediaType::parse(found) != Some(MediaType::Manifest)
        {
            return Err(DocumentError::MediaType { what: "the manifest", found: shorten(found) });
        }
        if MediaType::parse(&read.config.media_type) != Some(MediaType::Config) {
            let found = shorten(&read.config.media_type);
            return Err(DocumentError::MediaType { what: "the config", found });
        }
        too_many("layers", read.layers.len(), LAYERS_MAX)?;
        for layer in &read.layers {
            layer.compression()?;
        }
        Ok(read)
    }

    /// As bytes; the same value gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Several images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// May be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What is in it.
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::INDEX.to_owned()),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// Reads one.
    ///
    /// # Errors
    /// It is no index.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let read: Self = parse("index", bytes)?;
        version(read.schema_version)?;
        if let Some(found) = read.media_type.as_deref()
            && MediaType::parse(found) != Some(MediaType::Index)
        {
            return Err(DocumentError::MediaType { what: "the index", found: shorten(found) });
        }
        Ok(read)
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes).map_err(|error| DocumentError::Shape { what, why: error.to_string() })
}

fn version(found: u32) -> Result<(), DocumentError> {
    if found == 2 {
        return Ok(());
    }
    Err(DocumentError::value("schemaVersion", &found.to_string(), "only version 2 is read"))
}

pub(super) fn too_many(what: &'static str, count: usize, max: usize) -> Result<(), DocumentError> {
    if count > max { Err(DocumentError::TooMany { what, count, max }) } else { Ok(()) }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Go writes `null` for what is empty.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(config: &str, layer: &str) -> String {
        let digest = format!("sha256:{}", "0".repeat(64));
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{digest}","size":2}},
            "layers":[{{"mediaType":"{layer}","digest":"{digest}","size":3,"annotations":null}}]}}"#
        )
    }

    #[test]
    fn manifests_of_both_worlds_are_read_and_others_named() {
        for (config, layer) in
            [(media::CONFIG, media::LAYER_ZSTD), (media::DOCKER_CONFIG, media::DOCKER_LAYER_GZIP)]
        {
            let read = Manifest::parse(manifest(config, layer).as_bytes()).expect(layer);
            assert_eq!(Manifest::parse(&read.to_bytes()), Ok(read));
        }
        for (config, layer, part) in [
            (media::CONFIG, "application/x-\\u001bevil", "a layer is unknown: `application/x-\\u{1b}evil`"),
            ("text/plain", media::LAYER, "the config is unknown"),
        ] {
            let error = Manifest::parse(manifest(config, layer).as_bytes()).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        let good = manifest(media::CONFIG, media::LAYER);
        for (from, to) in [
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            ("sha256:", "sha1:"),
            ("\"size\":2", "\"size\":-2"),
        ] {
            assert!(Manifest::parse(good.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn platforms() {
        let platform = |os: &str, architecture: &str, variant: Option<&str>| Platform {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.map(Into::into),
        };
        for (found, machine, runs) in [
            (platform("linux", "amd64", None), "x86_64", true),
            (platform("linux", "arm64", Some("v8")), "aarch64", true),
            (platform("linux", "arm64", Some("v9")), "aarch64", false),
            (platform("windows", "amd64", None), "x86_64", false),
            (platform("linux", "arm64", None), "x86_64", false),
        ] {
            assert_eq!(found.runs_on(machine), runs, "{found:?}");
        }
    }
}
