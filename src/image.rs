//! Images: the store on disk, what comes in (archives, folders, registries) and what goes out.
//!
//! Owns `$DATA/images`, `$DATA/layers/sha256-*` and `$DATA/ingest`. Refuses to trust a byte of what comes in: names are
//! digests that were checked, archives are unpacked by a process of their own that can write nowhere else.
//!
//! # On disk
//!
//! ```text
//! $DATA/images/                 an OCI image layout: skopeo, podman and umoci read it as `oci:$DATA/images:NAME`
//!   oci-layout  index.json      every name, every generation
//!   blobs/sha256/HEX            manifests, configs, layers; bytes as they came, never changed
//!   partial/HEX             layers of which a pull has only the beginning
//!   quarantine/HEX              blobs that `image check` found damaged
//! $DATA/layers/sha256-DIFFID/   one unpacked layer, shared by images and cubes, never changed (0700: what lies in it may
//!   layer.json                  be setuid)            version, diff id, sizes, what was left out
//!   root/                       ready to be a lower of overlayfs
//! $DATA/ingest/NAME{,.lock}     work under way; without a process that holds the lock, remains that the next one clears
//! $STATE/locks/images           shared: something is added; alone: something is collected
//! $STATE/locks/images-index     alone: index.json is changed
//! $STATE/locks/image-HEX        shared: a cube runs on this manifest, see [`Store::hold`]
//! ```
//!
//! **Names.** The newest generation of `dev` stands in index.json as `dev`, older ones as `dev@1`, `dev@2`; the annotation
//! `dev.tripmine.generation` has the number. An entry without our annotations (another tool wrote it) is generation 1.
//!
//! **Unpacked layers.** They are made of blobs, and can always be made again: an import unpacks what it brings in, because
//! that is how an archive is found to be good; what was pulled or packed here is unpacked by the first launch that needs it.
//! `root/` is a lower for an overlay that is mounted with `userxattr`: a deleted name is a character
//! device 0:0 (which an ordinary user may make), a folder that hides the lower one has `user.overlay.opaque=y`.
//! Attributes `user.overlay.*`, `trusted.*` and `user.tripmine.*` never come from an archive. Device nodes are left out
//! (and counted). Owners, by [`Ownership`]:
//!
//! - `Root`: the host's root. The true ids, 0 to 65535; a launch shifts them with an id-mapped mount.
//! - `Mapped`: an ordinary user with subordinate ids. The ids as `--user root` maps them: 0 is the caller, 1.. are the
//!   subordinate ids. Such files can only be removed, or all of them read, inside that user namespace: by [`helper`].
//! - `One`: everything is the caller's; the folder is `sha256-DIFFID.one`. A file or folder whose true owner is not 0:0 says
//!   so in the attribute `user.tripmine.owner`, `UID:GID`; overlayfs copies it up, so that a packed upper tells it again.
//!
//! Exports and pushes take blobs, never unpacked layers, so they are exact under every one of these.
//!
//! # Who calls what
//!
//! ```text
//! let store = Store::open(&layout)?;
//! let (image, _held) = store.resolve_held(&reference, None)?;  // unpacks what is packed; image.layers are lowest first
//! let mut work = store.begin()?;                   // everything that adds
//! let blob = work.blob(&mut reader)?;              // or work.pack(upper, &options)?
//! let layer = work.layer(blob, None)?;             // unpacked and named; `work.present(&descriptor, diff_id)` reuses
//! let image = work.image(&config, &layers, Some("dev"), &annotations)?;
//! ```
//!
//! A record of a cube must name its image by digest: a name moves on.

pub mod blobs;
pub mod check;
pub mod collect;
pub mod export;
pub mod helper;
pub mod import;
pub mod ingest;
pub mod layers;
pub mod names;
pub mod pack;
pub mod registry;
pub mod store;
pub mod tar;
pub mod unpack;

pub use blobs::TempBlob;
pub use ingest::Ingest;
pub use layers::{Documents, Layer, LayerDir, ResolvedImage};
pub use store::{Hold, Ownership, Store};
