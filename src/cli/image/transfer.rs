//! Bringing images in and handing them out, with a bar for whoever waits.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{HowReached, ImportArgs};
use crate::cli::ctx::Ctx;
use crate::image::Store;
use crate::image::export::{self, Target};
use crate::image::helper::Limits;
use crate::image::import::{self, ImportOptions};
use crate::image::names::Entry;
use crate::image::registry::client::{Client, ClientOptions};
use crate::image::registry::{credentials, pull, push};
use crate::model::image::remote::RemoteRef;
use crate::model::image::{Digest, image_name};
use crate::model::{Failure, ImageRef};
use crate::store::usage::usage;

/// A bar on standard error, if that is a terminal.
fn bar(what: &str, length: Option<u64>) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = if length.is_some() {
        "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

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
        let bar = bar("reading", None);
        let mut input = std::io::stdin().lock();
        import::import_stream(&store, &mut input as &mut dyn Read, &options, &mut |count| bar.inc(count))?
    } else {
        let length = match std::fs::metadata(&args.path) {
            Ok(found) if found.is_file() => Some(found.len()),
            _ => Some(usage(&args.path).bytes),
        };
        let bar = bar("importing", length);
        import::import(&store, &args.path, &options, &mut |count| bar.inc(count))?
    };
    done("import", &entries, ctx);
    Ok(())
}

/// Where logins may lie, the first found wins: docker's and podman's places.
fn login_files(ctx: &Ctx) -> Vec<PathBuf> {
    let variable = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut files: Vec<PathBuf> = variable("REGISTRY_AUTH_FILE").into_iter().collect();
    files.extend(variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")));
    files.push(ctx.home.join(".config/containers/auth.json"));
    files.push(variable("DOCKER_CONFIG").unwrap_or_else(|| ctx.home.join(".docker")).join("config.json"));
    files
}

/// A bar for each blob on the way.
struct Bars {
    all: MultiProgress,
    each: Mutex<BTreeMap<Digest, ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        let hidden = !std::io::stderr().is_terminal();
        let all = if hidden {
            MultiProgress::with_draw_target(ProgressDrawTarget::hidden())
        } else {
            MultiProgress::new()
        };
        Self { all, each: Mutex::default() }
    }

    fn add(&self, digest: &Digest, length: u64, count: u64) {
        let Ok(mut each) = self.each.lock() else { return };
        let bar = each.entry(*digest).or_insert_with(|| self.all.add(bar(&digest.short(), Some(length))));
        bar.inc(count);
        if bar.position() >= length {
            bar.finish();
        }
    }
}

fn client(remote: &RemoteRef, how: &HowReached, push: bool, ctx: &Ctx) -> Result<Client, Failure> {
    let login = credentials::find(&login_files(ctx), remote)?;
    let options = ClientOptions { plain_http: how.plain_http, proxy: how.proxy.clone(), login };
    Client::new(remote, options, push)
}

fn remote(text: &str) -> Result<RemoteRef, Failure> {
    RemoteRef::parse(text).map_err(|error| Failure::usage(error.to_string()))
}

pub(super) fn pull(
    store: &Store,
    text: &str,
    name: Option<&str>,
    how: &HowReached,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let entry = fetch(store, text, name, how, ctx)?;
    done("pull", &[entry], ctx);
    Ok(())
}

/// Pulls, and says nothing on standard output: what is launched speaks there.
pub(in crate::cli) fn fetch(
    store: &Store,
    text: &str,
    name: Option<&str>,
    how: &HowReached,
    ctx: &Ctx,
) -> Result<crate::image::names::Entry, Failure> {
    let remote = remote(text)?;
    let name = name.map(image_name).transpose().map_err(|error| Failure::usage(error.to_string()))?;
    let client = client(&remote, how, false, ctx)?;
    let machine = machine();
    let bars = Bars::new();
    let progress = |digest: &Digest, length: u64, count: u64| bars.add(digest, length, count);
    pull::pull(store, &client, &remote, name.as_deref(), &machine, &progress).map_err(|failure| Failure {
        message: format!("cannot pull `{remote}`: {}", failure.message),
        ..failure
    })
}

pub(super) fn push(
    store: &Store,
    image: &str,
    to: Option<&str>,
    how: &HowReached,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let entry = store.find(&super::reference(image)?)?;
    let target = remote(to.or(entry.name.as_deref()).unwrap_or(image))?;
    if target.digest.is_some() {
        return Err(Failure::usage("a push names a tag: the digest is the image's own"));
    }
    let client = client(&target, how, true, ctx)?;
    let bars = Bars::new();
    let progress = |digest: &Digest, length: u64, count: u64| bars.add(digest, length, count);
    let digest = push::push(store, &client, &target, &entry, &progress).map_err(|failure| Failure {
        message: format!("cannot push `{target}`: {}", failure.message),
        ..failure
    })?;
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

pub(super) fn export(store: &Store, reference: &ImageRef, target: &str, ctx: &Ctx) -> Result<(), Failure> {
    let target = Target::parse(target)?;
    let bar = bar("exporting", None);
    export::export(store, reference, &target, &mut |count| bar.inc(count))?;
    bar.finish_and_clear();
    ctx.out.note(format!("exported `{reference}`"));
    Ok(())
}
