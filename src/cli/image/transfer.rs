//! Bringing images in and handing them out, with a bar for whoever waits.

use std::io::Read;
use std::path::Path;

use super::progress::{HowShown, Progress};
use super::{HowReached, ImportArgs};
use crate::cli::ctx::{self, Ctx};
use crate::engine::images::push_target;
use crate::engine::registry::Way;
use crate::image::Store;
use crate::image::export::{self, Target};
use crate::image::helper::Limits;
use crate::image::import::{self, ImportOptions};
use crate::image::names::Entry;
use crate::image::registry::client::Client;
use crate::image::registry::{pull, push};
use crate::model::image::remote::RemoteRef;
use crate::model::image::{Digest, image_name};
use crate::model::{Failure, ImageRef};
use crate::store::usage::usage;

pub(super) fn import(mut store: Store, args: &ImportArgs, ctx: &Ctx) -> Result<(), Failure> {
    if let Some(size) = args.max_size {
        store = store.with_limits(Limits { bytes: size.get(), ratio: u64::MAX, ..Limits::default() });
    }
    let name = args.name.as_deref().map(image_name).transpose();
    let options = ImportOptions {
        name: name.map_err(|error| Failure::usage(error.to_string()))?,
        tag: args.tag.clone(),
        compression: args.compress.map(Into::into),
        machine: machine(),
        now: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
    };
    let entries = if args.path == Path::new("-") {
        let progress = Progress::new(args.shown, "reading");
        progress.total(None);
        let mut input = std::io::stdin().lock();
        let each = &mut |count| progress.bytes(count);
        let entries = import::import_stream(&store, &mut input as &mut dyn Read, &options, each)?;
        progress.end();
        entries
    } else {
        let length = match std::fs::metadata(&args.path) {
            Ok(found) if found.is_file() => Some(found.len()),
            _ => Some(usage(&args.path).bytes),
        };
        let progress = Progress::new(args.shown, "importing");
        progress.total(length);
        let entries = import::import(&store, &args.path, &options, &mut |count| progress.bytes(count))?;
        progress.end();
        entries
    };
    done("import", &entries, ctx);
    Ok(())
}

fn client(remote: &RemoteRef, how: &HowReached, push: bool, ctx: &Ctx) -> Result<Client, Failure> {
    let way = Way {
        plain_http: how.plain_http,
        proxy: how.proxy.clone(),
        machine: how.machine.as_deref().map(ctx::name).transpose()?,
        ..Way::default()
    };
    ctx.engine().registry(remote, &way, push)
}

pub(in crate::cli) fn remote(text: &str) -> Result<RemoteRef, Failure> {
    RemoteRef::parse(text).map_err(|error| Failure::usage(error.to_string()))
}

pub(super) fn pull(
    store: &Store,
    text: &str,
    name: Option<&str>,
    how: &HowReached,
    shown: HowShown,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let remote = remote(text)?;
    let client = client(&remote, how, false, ctx)?;
    let entry = fetch(store, &remote, name, &client, shown)?;
    done("pull", &[entry], ctx);
    Ok(())
}

/// Pulls, and says nothing on standard output: what is launched speaks there.
pub(in crate::cli) fn fetch(
    store: &Store,
    remote: &RemoteRef,
    name: Option<&str>,
    client: &Client,
    shown: HowShown,
) -> Result<crate::image::names::Entry, Failure> {
    let name = name.map(image_name).transpose().map_err(|error| Failure::usage(error.to_string()))?;
    let machine = machine();
    let shown = Progress::new(shown, "pulling");
    let progress = |digest: &Digest, length: u64, count: u64| shown.blob(digest, length, count);
    let entry =
        pull::pull(store, client, remote, name.as_deref(), &machine, &progress).map_err(|failure| {
            Failure { message: format!("cannot pull `{remote}`: {}", failure.message), ..failure }
        })?;
    shown.end();
    Ok(entry)
}

pub(super) fn push(
    store: &Store,
    image: &str,
    to: Option<&str>,
    how: &HowReached,
    shown: HowShown,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let entry = store.find(&super::reference(image)?)?;
    let target = push_target(&entry, image, to)?;
    let client = client(&target, how, true, ctx)?;
    let shown = Progress::new(shown, "pushing");
    let progress = |digest: &Digest, length: u64, count: u64| shown.blob(digest, length, count);
    let digest = push::push(store, &client, &target, &entry, &progress).map_err(|failure| Failure {
        message: format!("cannot push `{target}`: {}", failure.message),
        ..failure
    })?;
    shown.end();
    ctx.record("image push", &format!("{} {target}", entry.reference()), None);
    ctx.out.line(digest.to_string());
    ctx.out.note(format!("pushed `{}` to {target}", entry.reference()));
    Ok(())
}

fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

fn done(act: &str, entries: &[Entry], ctx: &Ctx) {
    for entry in entries {
        let reference = entry.reference();
        ctx.record(&format!("image {act}"), &reference, Some(&format!("tripmine image rm {reference}")));
        ctx.out.line(entry.descriptor.digest.to_string());
        ctx.out.note(format!("`{reference}` is {}", entry.descriptor.digest.short()));
    }
}

pub(super) fn export(
    store: &Store,
    reference: &ImageRef,
    target: &str,
    shown: HowShown,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let target = Target::parse(target)?;
    let progress = Progress::new(shown, "exporting");
    progress.total(match target {
        // Its layers are unpacked on the way, to nobody knows how much.
        Target::DockerArchive(..) => None,
        Target::Folder(..) | Target::OciArchive(..) => {
            store.find(reference).and_then(|entry| stored_size(store, &entry)).ok()
        }
    });
    export::export(store, reference, &target, &mut |count| progress.bytes(count))?;
    progress.end();
    ctx.out.note(format!("exported `{reference}`"));
    Ok(())
}

/// The bytes of an image's blobs.
fn stored_size(store: &Store, entry: &Entry) -> Result<u64, Failure> {
    let (manifest, _) = store.read_image(&entry.descriptor, &entry.reference())?;
    let blobs = manifest.layers.iter().chain([&manifest.config, &entry.descriptor]);
    Ok(blobs.map(|blob| blob.size).fold(0, u64::saturating_add))
}
