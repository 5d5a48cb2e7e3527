//! Keys for a line that is typed, and what it comes to: a request, or why it is none.

use super::super::pages::look_for;
use super::{Effects, Next};
use crate::config::edit::Edit;
use crate::engine::request::Request;
use crate::model::image::remote::RemoteRef;
use crate::model::net::Rule;
use crate::model::{Failure, Name};
use crate::tui::acts::{self, about, carry, join};
use crate::tui::key::{Code, Key};
use crate::tui::layer::{Prompt, PromptKind, edit};
use crate::tui::model::Model;

pub(super) fn key(model: &mut Model, prompt: &mut Prompt, key: Key) -> Next {
    match key.code {
        Code::Esc => Next::Close(Vec::new()),
        Code::Enter => match answered(model, &prompt.kind, prompt.field.value().trim()) {
            Ok(effects) => Next::Close(effects),
            Err(failure) => {
                prompt.error = Some(failure.message);
                Next::Stay(Vec::new())
            }
        },
        _ => {
            if edit(&mut prompt.field, key) {
                prompt.error = None;
                if prompt.kind == PromptKind::Search {
                    look_for(model, prompt.field.value().to_owned());
                }
            }
            Next::Stay(Vec::new())
        }
    }
}

fn answered(model: &mut Model, kind: &PromptKind, text: &str) -> Result<Effects, Failure> {
    let name = || Name::parse(text).map_err(|error| Failure::usage(error.to_string()));
    let request = match kind {
        PromptKind::MachineCreate => Request::MachineCreate { name: name()?, edits: Vec::new() },
        PromptKind::MachineRename(old) => Request::MachineRename { name: old.clone(), new: name()? },
        PromptKind::MachineEdit(name) => {
            Request::MachineEdit { name: name.clone(), edits: vec![setting(text)?] }
        }
        PromptKind::ProjectCreate => Request::ProjectCreate { machine: model.machine.clone(), name: name()? },
        PromptKind::CubeRename(cube) => Request::Rename { cube: cube.clone(), name: name()? },
        PromptKind::Exec(cube) => {
            let argv = shell_words::split(text).map_err(|error| Failure::usage(error.to_string()))?;
            if argv.is_empty() {
                return Err(Failure::usage("there is nothing to run"));
            }
            return Ok(join(model, Request::Exec { cube: cube.clone(), argv }));
        }
        PromptKind::Search => {
            look_for(model, text.to_owned());
            return Ok(Vec::new());
        }
        PromptKind::Snapshot(cube) => {
            let name =
                crate::model::image::image_name(text).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(acts::draft(model, cube, &name));
        }
        PromptKind::Forward(cube) => {
            let map: crate::model::PortMap = text
                .parse()
                .map_err(|error: crate::model::forward::PortMapError| Failure::usage(error.to_string()))?;
            Request::Forward { cube: cube.clone(), map }
        }
        PromptKind::NetAllow(cube) => {
            let rule = Rule::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(acts::decide(model, cube, &rule, text));
        }
        PromptKind::Apply(cube) => {
            let paths = words(text)?;
            if paths.is_empty() {
                return Err(Failure::usage("name at least one place"));
            }
            Request::Apply { cube: cube.clone(), paths }
        }
        PromptKind::Pull => {
            let (text, plain_http) = place(text);
            RemoteRef::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
            Request::ImagePull { remote: text.to_owned(), machine: model.machine.clone(), plain_http }
        }
        PromptKind::Push(image) => {
            let (text, plain_http) = place(text);
            let remote = RemoteRef::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
            if remote.digest.is_some() {
                return Err(Failure::usage("a push names a tag: the digest is the image's own"));
            }
            let remote = (text != image).then(|| text.to_owned());
            Request::ImagePush { image: image.clone(), remote, machine: model.machine.clone(), plain_http }
        }
        PromptKind::Import => {
            let mut words = words(text)?.into_iter();
            match (words.next(), words.next(), words.next()) {
                (Some(path), name, None) if path.starts_with('/') => Request::ImageImport { path, name },
                _ => {
                    return Err(Failure::usage(
                        "write the whole path, beginning with `/`, then perhaps a name",
                    ));
                }
            }
        }
        PromptKind::Export(image) => Request::ImageExport { image: image.clone(), target: text.to_owned() },
        PromptKind::Tag(image) => Request::ImageTag { image: image.clone(), name: text.to_owned() },
    };
    if let Request::ProjectCreate { name, .. } | Request::MachineCreate { name, .. } = &request {
        // It is selected as soon as it is there.
        model.expected = Some((model.focus, name.to_string()));
    }
    let (row, verb) = about(&request);
    Ok(carry(model, request, row, verb))
}

/// A place in a registry; `http://` before it is without encryption.
fn place(text: &str) -> (&str, bool) {
    text.strip_prefix("http://").map_or((text, false), |text| (text, true))
}

fn words(text: &str) -> Result<Vec<String>, Failure> {
    shell_words::split(text).map_err(|error| Failure::usage(error.to_string()))
}

/// `net=none`, `memory=512M`, `entry=make run`, `env.KEY=value`; nothing after the sign takes it away.
fn setting(text: &str) -> Result<Edit, Failure> {
    let how =
        || Failure::usage("write key=value: `net=none`, `memory=512M`, `entry=make run`, `env.KEY=value`");
    let (key, value) = text.split_once('=').ok_or_else(how)?;
    let (key, value) = (key.trim(), value.trim());
    if value.is_empty() {
        return Ok(Edit::Unset(key.to_owned()));
    }
    if let Some(variable) = key.strip_prefix("env.") {
        let variable =
            crate::model::EnvVar::new(variable, value).map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(Edit::Env(variable));
    }
    if key == "entry" {
        return Ok(Edit::Entry(
            shell_words::split(value).map_err(|error| Failure::usage(error.to_string()))?,
        ));
    }
    let known = crate::config::machine::machine_keys();
    match known.iter().find(|known| **known == key) {
        Some(key) => Ok(Edit::Set { key, value: value.to_owned() }),
        None => {
            let near =
                crate::config::error::nearest(key, &known).map(|near| format!(" (did you mean `{near}`?)"));
            let key = crate::model::sanitize::printable(key);
            Err(Failure::usage(format!("`{key}` is no setting{}", near.unwrap_or_default())))
        }
    }
}
