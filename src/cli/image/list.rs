//! Showing images: the list, one image, its history.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::ctx::Ctx;
use crate::cli::undo;
use crate::image::Store;
use crate::image::names::Entry;
use crate::model::image::Digest;
use crate::model::{ByteSize, Failure, ImageRef};
use crate::plan::collect::{Parts, sizes};

/// One row.
#[derive(Serialize)]
struct Row {
    reference: String,
    name: Option<String>,
    generation: u32,
    digest: Digest,
    /// Bytes of its blobs; none: they cannot be read.
    bytes: Option<u64>,
    /// Bytes that no other image has.
    own_bytes: Option<u64>,
    stored_unix_ms: Option<u64>,
    source: Option<String>,
}

#[derive(Serialize)]
struct List {
    version: u32,
    images: Vec<Row>,
    /// Every blob of the list counted once.
    bytes: u64,
}

pub(super) fn list(store: &Store, all: bool, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let entries: Vec<Entry> =
        store.entries()?.into_iter().filter(|entry| all || entry.newest || entry.name.is_none()).collect();
    let mut parts: BTreeMap<Digest, Option<Parts>> = BTreeMap::new();
    for entry in &entries {
        let digest = entry.descriptor.digest;
        parts.entry(digest).or_insert_with(|| store.blobs(&entry.descriptor).ok());
    }
    let known: Vec<(&Digest, &Parts)> =
        parts.iter().filter_map(|(digest, parts)| Some((digest, parts.as_ref()?))).collect();
    let each: Vec<&Parts> = known.iter().map(|(_, parts)| *parts).collect();
    let (sizes, total) = sizes(&each);
    let sizes: BTreeMap<&Digest, (u64, u64)> = known.iter().map(|(digest, _)| *digest).zip(sizes).collect();
    let mut rows: Vec<Row> = entries
        .into_iter()
        .map(|entry| {
            let size = sizes.get(&entry.descriptor.digest);
            Row {
                reference: entry.reference(),
                generation: entry.generation,
                digest: entry.descriptor.digest,
                bytes: size.map(|size| size.0),
                own_bytes: size.map(|size| size.1),
                stored_unix_ms: entry.stored_ms(),
                source: entry.source().map(str::to_owned),
                name: entry.name,
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        (a.name.is_none(), &a.name, b.generation).cmp(&(b.name.is_none(), &b.name, a.generation))
    });
    if json {
        return ctx.out.json(&List { version: 1, images: rows, bytes: total });
    }
    let size =
        |bytes: Option<u64>| bytes.map_or("damaged".to_owned(), |bytes| ByteSize::bytes(bytes).to_string());
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let name = if row.name.is_some() { row.reference.clone() } else { "-".to_owned() };
            let when = row.stored_unix_ms.map_or("-".to_owned(), undo::time);
            vec![name, row.digest.short(), when, size(row.bytes), size(row.own_bytes)]
        })
        .collect();
    ctx.out.table(&["NAME", "DIGEST", "STORED", "SIZE", "OWN"], &table);
    if table.is_empty() {
        ctx.out.note("no images yet, but `host`, this host's own system, is always there");
        ctx.out.note("hint: `tripmine image pull debian:12`, or `tripmine image import PATH NAME`");
    } else {
        ctx.out.note(format!("together {}, what is shared counted once", ByteSize::bytes(total)));
    }
    Ok(())
}

#[derive(Serialize)]
struct Shown {
    version: u32,
    reference: String,
    digest: Digest,
    source: Option<String>,
    stored_unix_ms: Option<u64>,
    created: Option<String>,
    platform: String,
    bytes: u64,
    user: Option<String>,
    working_dir: Option<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    exposed_ports: Vec<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    layers: Vec<ShownLayer>,
}

#[derive(Serialize)]
struct ShownLayer {
    digest: Digest,
    diff_id: Digest,
    bytes: u64,
    media_type: String,
    /// Bytes and entries when it is unpacked.
    unpacked_bytes: Option<u64>,
    entries: Option<u64>,
    devices_left_out: Option<u64>,
}

pub(super) fn show(store: &Store, reference: &ImageRef, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let entry = store.find(reference)?;
    let (manifest, config) = store.read_image(&entry.descriptor, &entry.reference())?;
    let layers: Vec<ShownLayer> = manifest
        .layers
        .iter()
        .zip(&config.diff_ids)
        .map(|(layer, diff_id)| {
            let record = store.layer_record(diff_id);
            ShownLayer {
                digest: layer.digest,
                diff_id: *diff_id,
                bytes: layer.size,
                media_type: layer.media_type.clone(),
                unpacked_bytes: record.as_ref().map(|record| record.bytes),
                entries: record.as_ref().map(|record| record.entries),
                devices_left_out: record.as_ref().map(|record| record.devices),
            }
        })
        .collect();
    let platform = format!(
        "{}/{}{}",
        config.platform.os,
        config.platform.architecture,
        config.platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default()
    );
    let shown = Shown {
        version: 1,
        reference: entry.reference(),
        digest: entry.descriptor.digest,
        source: entry.source().map(str::to_owned),
        stored_unix_ms: entry.stored_ms(),
        created: config.created,
        platform,
        bytes: layers.iter().map(|layer| layer.bytes).fold(0, u64::saturating_add),
        user: config.user,
        working_dir: config.working_dir,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env.iter().map(|var| format!("{}={}", var.key, var.value)).collect(),
        exposed_ports: config.exposed_ports,
        labels: config.labels,
        annotations: manifest.annotations,
        layers,
    };
    if json { ctx.out.json(&shown) } else { lines(&shown, ctx) }
}

#[expect(clippy::unnecessary_wraps, reason = "as its sibling for JSON")]
fn lines(shown: &Shown, ctx: &Ctx) -> Result<(), Failure> {
    let line = |key: &str, value: &str| {
        if !value.is_empty() {
            ctx.out.line(format!("{key:<12}{value}"));
        }
    };
    let words = |words: &[String]| shell_words::join(words);
    line("image", &shown.reference);
    line("digest", &shown.digest.to_string());
    line("source", shown.source.as_deref().unwrap_or_default());
    line("stored", &shown.stored_unix_ms.map(undo::time).unwrap_or_default());
    line("created", shown.created.as_deref().unwrap_or_default());
    line("platform", &shown.platform);
    line("size", &ByteSize::bytes(shown.bytes).to_string());
    line("user", shown.user.as_deref().unwrap_or_default());
    line("folder", shown.working_dir.as_deref().unwrap_or_default());
    line("entrypoint", &words(&shown.entrypoint));
    line("command", &words(&shown.cmd));
    for variable in &shown.env {
        line("env", variable);
    }
    for port in &shown.exposed_ports {
        line("port", port);
    }
    for (key, value) in shown.labels.iter().chain(&shown.annotations) {
        line("label", &format!("{key}={value}"));
    }
    for layer in &shown.layers {
        let mut text = format!("{} {}", layer.digest.short(), ByteSize::bytes(layer.bytes));
        match (layer.unpacked_bytes, layer.entries) {
            (Some(bytes), Some(entries)) => {
                text.push_str(&format!(", unpacked {} in {entries} entries", ByteSize::bytes(bytes)));
            }
            _ => text.push_str(", not unpacked yet"),
        }
        if let Some(devices @ 1..) = layer.devices_left_out {
            text.push_str(&format!(", {devices} device nodes left out"));
        }
        line("layer", &text);
    }
    Ok(())
}

#[derive(Serialize)]
struct History {
    version: u32,
    reference: String,
    steps: Vec<Step>,
    generations: Vec<Generation>,
}

#[derive(Serialize)]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    layer: Option<Digest>,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Generation {
    reference: String,
    digest: Digest,
    stored_unix_ms: Option<u64>,
}

pub(super) fn history(store: &Store, reference: &ImageRef, json: bool, ctx: &Ctx) -> Result<(), Failure> {
    let entry = store.find(reference)?;
    let (manifest, config) = store.read_image(&entry.descriptor, &entry.reference())?;
    let mut layers = manifest.layers.iter();
    let mut steps: Vec<Step> = config
        .history
        .into_iter()
        .map(|step| {
            let layer = if step.empty_layer { None } else { layers.next() };
            Step {
                created: step.created,
                created_by: step.created_by,
                comment: step.comment,
                layer: layer.map(|layer| layer.digest),
                bytes: layer.map(|layer| layer.size),
            }
        })
        .collect();
    // Not every tool writes a history.
    steps.extend(layers.map(|layer| Step {
        created: None,
        created_by: None,
        comment: None,
        layer: Some(layer.digest),
        bytes: Some(layer.size),
    }));
    let mut generations: Vec<Generation> = store
        .entries()?
        .into_iter()
        .filter(|other| entry.name.is_some() && other.name == entry.name)
        .map(|other| Generation {
            reference: other.reference(),
            digest: other.descriptor.digest,
            stored_unix_ms: other.stored_ms(),
        })
        .collect();
    generations.reverse();
    if json {
        return ctx.out.json(&History { version: 1, reference: entry.reference(), steps, generations });
    }
    let dash = || "-".to_owned();
    let rows: Vec<Vec<String>> = steps
        .iter()
        .rev()
        .map(|step| {
            let by = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("-");
            vec![
                step.layer.map_or_else(dash, |layer| layer.short()),
                step.created.as_deref().map_or_else(dash, |at| at.chars().take(19).collect()),
                step.bytes.map_or_else(dash, |bytes| ByteSize::bytes(bytes).to_string()),
                by.chars().take(100).collect(),
            ]
        })
        .collect();
    ctx.out.table(&["LAYER", "CREATED", "SIZE", "BY"], &rows);
    if generations.len() > 1 {
        for generation in &generations {
            let when = generation.stored_unix_ms.map(undo::time).unwrap_or_default();
            ctx.out.note(format!("{}  {}  {when}", generation.reference, generation.digest.short()));
        }
    }
    Ok(())
}
