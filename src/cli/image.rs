//! `tripmine image`: what cubes start from. Owns the words; the work is `crate::image`'s.

mod list;
mod manage;
pub(super) mod progress;
pub(super) mod snapshot;
pub(super) mod transfer;

use clap::{Args, Subcommand, ValueEnum};

use progress::HowShown;

use crate::cli::ctx::Ctx;
use crate::image::Store;
use crate::model::image::Compression;
use crate::model::{ByteSize, Failure, ImageRef};

/// Manage images
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImageArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ImageVerb,
}

/// The verbs of `tripmine image`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ImageVerb {
    /// List the images
    #[command(visible_alias = "ls")]
    List {
        /// Older generations of names, too
        #[arg(short, long)]
        all: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one image: config, layers, sizes
    Show {
        /// The image: NAME, NAME@N, or a digest
        image: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how an image came to be, layer by layer, and what its name named before
    History {
        /// The image
        image: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give an image another name
    Tag {
        /// The image
        image: String,
        /// The new name
        name: String,
    },
    /// Delete images: NAME with all its generations, or only NAME@N
    Rm {
        /// The images
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Read every blob; put damaged ones aside and name their images
    Check {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring an image in: a folder, a tar of a root, an OCI layout or archive, a docker-save archive
    #[command(
        after_help = "Examples:\n  mmdebstrap bookworm root && tripmine image import root debian\n  podman save --format oci-archive fedora | tripmine image import - fedora\n  tripmine image import saved.tar --tag app:2 app"
    )]
    Import(ImportArgs),
    /// Make an image of what a cube changed in its system
    #[command(
        after_help = "Examples:\n  tripmine image snapshot dev site                     of the running cube of the project `site`\n  tripmine image snapshot dev -m work --update-machine work\n  tripmine image snapshot dev k7f --create-machine lab  a new machine that starts from it\n  tripmine image snapshot later site --continuation && tripmine resume later\n\nIts home, its projects and what the launch itself makes are not in it. What looks like a secret is shown first."
    )]
    Snapshot(snapshot::SnapshotArgs),
    /// Bring an image in from a registry
    #[command(
        after_help = "Examples:\n  tripmine image pull debian:12\n  tripmine image pull ghcr.io/owner/app@sha256:… app\n  tripmine image pull --plain-http localhost:5000/app\n\nLogins are those of `docker login` and `podman login`, credential helpers included."
    )]
    Pull {
        /// The image, as docker and podman write it
        #[arg(value_name = "[HOST/]REPOSITORY[:TAG][@DIGEST]")]
        remote: String,
        /// Its name here [default: as it was typed]
        name: Option<String>,
        /// How the registry is reached.
        #[command(flatten)]
        how: HowReached,
        /// How progress is shown.
        #[command(flatten)]
        shown: HowShown,
    },
    /// Send an image to a registry
    Push {
        /// The image
        image: String,
        /// Where to [default: its name]
        #[arg(value_name = "[HOST/]REPOSITORY[:TAG]")]
        remote: Option<String>,
        /// How the registry is reached.
        #[command(flatten)]
        how: HowReached,
        /// How progress is shown.
        #[command(flatten)]
        shown: HowShown,
    },
    /// Hand an image out: oci:DIR, oci-archive:FILE or docker-archive:FILE
    #[command(
        after_help = "Examples:\n  tripmine image export dev oci:out:dev && skopeo inspect oci:out:dev\n  tripmine image export dev docker-archive:dev.tar && docker load -i dev.tar"
    )]
    Export {
        /// The image
        image: String,
        /// Where to
        #[arg(value_name = "oci:DIR|oci-archive:FILE|docker-archive:FILE")]
        target: String,
        /// How progress is shown.
        #[command(flatten)]
        shown: HowShown,
    },
}

/// `tripmine image import`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ImportArgs {
    /// What to bring in; `-` is standard input
    pub path: std::path::PathBuf,
    /// Its name [default: its own, else the file's]
    pub name: Option<String>,
    /// Which image of an archive that has several
    #[arg(long)]
    pub tag: Option<String>,
    /// Compress the layer of a folder or a plain tar [default: no, which is quickest]
    #[arg(long, value_name = "HOW")]
    pub compress: Option<HowPacked>,
    /// Let an archive that you trust unpack to more than 64G, or much more than it is
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<ByteSize>,
    /// How progress is shown.
    #[command(flatten)]
    pub shown: HowShown,
}

/// How a registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct HowReached {
    /// Without encryption; only for a registry on this host itself
    #[arg(long)]
    pub plain_http: bool,
    /// Through a proxy, which resolves names, too [default: that of the machine, if its net goes through one]
    #[arg(long, value_name = "socks5h://HOST:PORT")]
    pub proxy: Option<String>,
    /// Through the proxy of this machine [default: the default machine]
    #[arg(short, long, value_name = "NAME", conflicts_with = "proxy")]
    pub machine: Option<String>,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HowPacked {
    /// Every tool reads it
    Gzip,
    /// Smaller and quicker; umoci and tools before 2022 do not read it
    Zstd,
}

impl From<HowPacked> for Compression {
    fn from(how: HowPacked) -> Self {
        match how {
            HowPacked::Gzip => Self::Gzip,
            HowPacked::Zstd => Self::Zstd,
        }
    }
}

fn size(text: &str) -> Result<ByteSize, String> {
    ByteSize::parse(text).map_err(|error| error.to_string())
}

/// Carries the command out; its exit code.
///
/// # Errors
/// What failed, for a person.
pub fn run(args: &ImageArgs, ctx: &Ctx) -> Result<u8, Failure> {
    let store = Store::open(&ctx.layout)?;
    let done = |()| 0;
    match &args.verb {
        ImageVerb::List { all, json } => list::list(&store, *all, *json, ctx).map(done),
        ImageVerb::Show { image, json } => list::show(&store, &reference(image)?, *json, ctx).map(done),
        ImageVerb::History { image, json } => list::history(&store, &reference(image)?, *json, ctx).map(done),
        ImageVerb::Tag { image, name } => manage::tag(&store, &reference(image)?, name, ctx).map(done),
        ImageVerb::Rm { images, yes } => manage::rm(&store, images, *yes, ctx).map(done),
        ImageVerb::Check { json } => manage::check(&store, *json, ctx),
        ImageVerb::Snapshot(args) => snapshot::run(args, ctx).map(done),
        ImageVerb::Import(args) => transfer::import(store, args, ctx).map(done),
        ImageVerb::Pull { remote, name, how, shown } => {
            transfer::pull(&store, remote, name.as_deref(), how, *shown, ctx).map(done)
        }
        ImageVerb::Push { image, remote, how, shown } => {
            transfer::push(&store, image, remote.as_deref(), how, *shown, ctx).map(done)
        }
        ImageVerb::Export { image, target, shown } => {
            transfer::export(&store, &reference(image)?, target, *shown, ctx).map(done)
        }
    }
}

fn reference(text: &str) -> Result<ImageRef, Failure> {
    ImageRef::parse(text).map_err(|error| Failure::usage(error.to_string()))
}
