//! docker-save archives: manifest.json, a config and tars.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use crate::model::Failure;
use crate::model::image::document::media;
use crate::model::image::{Descriptor, ImageConfig, Manifest, image_name};
use crate::model::sanitize::printable;
use crate::store::fail::cannot;

use super::super::ingest::Ingest;
use super::super::layers::{Layer, about};
use super::super::names::Entry;
use super::archive::Archive;
use super::{ImportOptions, file_name, name_of, sniff};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

pub(super) fn import(
    ingest: &mut Ingest<'_>,
    archive: &mut Archive,
    options: &ImportOptions,
    path: &Path,
) -> Result<Vec<Entry>, Failure> {
    let bytes = archive.read("manifest.json")?;
    let saved: Vec<Saved> = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::failed("its manifest.json is no list of images").because(&error))?;
    let wanted = |saved: &Saved| {
        options.tag.as_ref().is_none_or(|tag| saved.repo_tags.iter().flatten().any(|found| found == tag))
    };
    let chosen: Vec<&Saved> = saved.iter().filter(|saved| wanted(saved)).collect();
    if chosen.is_empty() {
        return Err(none(&saved));
    }
    if chosen.len() > 1 && options.name.is_some() {
        return Err(Failure::usage(format!("it holds {} images, and one name was given", chosen.len()))
            .hint("`--tag TAG` chooses one; without a name each keeps its own"));
    }
    let mut done = BTreeMap::new();
    let mut entries = Vec::new();
    for saved in chosen {
        let config_bytes = archive.read(&saved.config)?;
        let config = ImageConfig::parse(&config_bytes)
            .map_err(|error| Failure::failed("its config is refused").because(&error))?;
        if config.diff_ids.len() != saved.layers.len() {
            let (found, said) = (saved.layers.len(), config.diff_ids.len());
            return Err(Failure::failed(format!("it has {found} layers, its config {said}")));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in saved.layers.iter().zip(&config.diff_ids) {
            let layer = match (archive.take(name), done.get(diff_id)) {
                (_, Some(layer)) => Layer::clone(layer),
                (Some(blob), None) => {
                    let mut file =
                        File::open(&blob.path).map_err(|error| cannot("read", &blob.path, error))?;
                    let compression = sniff(&mut file)?;
                    ingest.layer(blob, compression, Some(*diff_id)).map_err(|failure| about(name, failure))?
                }
                (None, None) => return Err(archive.find(name).err().unwrap_or_else(|| none(&[]))),
            };
            done.insert(*diff_id, layer.clone());
            layers.push(layer.descriptor);
        }
        let (digest, size) = ingest.document(&config_bytes)?;
        let manifest = Manifest::new(Descriptor::new(media::CONFIG, digest, size), layers, BTreeMap::new());
        let tags = saved.repo_tags.as_deref().unwrap_or_default();
        let own: Vec<String> = tags.iter().filter_map(|tag| image_name(tag).ok()).collect();
        let names = match (&options.name, own.is_empty()) {
            (Some(name), _) => vec![Some(name.clone())],
            (None, false) => own.into_iter().map(Some).collect(),
            (None, true) => vec![name_of(path)],
        };
        let source = format!("imported from {}", file_name(path));
        for name in names {
            entries.push(ingest.manifest(&manifest.to_bytes(), name.as_deref(), &source)?);
        }
    }
    Ok(entries)
}

fn none(saved: &[Saved]) -> Failure {
    let tags: Vec<String> = saved
        .iter()
        .flat_map(|saved| saved.repo_tags.iter().flatten())
        .take(20)
        .map(|tag| printable(tag))
        .collect();
    let failure = Failure::failed("it holds no such image");
    if tags.is_empty() { failure } else { failure.hint(format!("it holds: {}", tags.join(", "))) }
}
