//! Themes as files: the built-in ones, and those of the user's folder, which come first but for the two that are always
//! safe. What is wrong with one is told, and the default is used.

use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::config::load::read_text;
use crate::config::theme::{BUILT_IN, RESERVED, Theme, built_in, parse_theme};

fn folder(layout: &Layout) -> PathBuf {
    layout.config.join("themes")
}

/// The names of all themes: built-in first, then the user's.
#[must_use]
pub fn names(layout: &Layout) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let entries = std::fs::read_dir(folder(layout)).into_iter().flatten().flatten();
    let mut own: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".toml").map(str::to_owned))
        .filter(|name| !names.contains(name) && plain(name))
        .collect();
    own.sort();
    names.extend(own);
    names
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !name.starts_with('.')
}

/// The text of the theme `name`, and the file it came from.
#[must_use]
pub fn text(layout: &Layout, name: &str) -> Option<(PathBuf, String)> {
    let file = folder(layout).join(format!("{name}.toml"));
    let own =
        (!RESERVED.contains(&name) && plain(name)).then(|| read_text(&file, true).ok().flatten()).flatten();
    own.map(|text| (file, text)).or_else(|| {
        built_in(name).map(|text| (PathBuf::from(format!("themes/{name}.toml")), text.to_owned()))
    })
}

/// The theme `name`.
///
/// # Errors
/// There is none, or what is wrong with it, with file, line and column.
pub fn load(layout: &Layout, name: &str) -> Result<Theme, String> {
    let shown = crate::model::sanitize::printable(name);
    let (file, own) =
        text(layout, name).ok_or_else(|| format!("there is no theme `{shown}`: t shows those there are"))?;
    let find = |parent: &str| match parent == name {
        // A theme of the user's may build upon the built-in one of its name.
        true => built_in(parent).map(str::to_owned),
        false => text(layout, parent).map(|(_, text)| text),
    };
    parse_theme(name, &file, &own, &find).map_err(|error| error.to_string())
}

/// The default theme, which cannot fail: a test holds it to that.
#[must_use]
pub fn safe() -> Theme {
    let text = built_in("default").unwrap_or_default();
    parse_theme("default", Path::new("default"), text, &|_| None).unwrap_or_else(|_| Theme {
        name: "default".into(),
        light: false,
        roles: std::collections::BTreeMap::new(),
        warnings: Vec::new(),
    })
}

/// Writes `theme = "name"` into `config.toml`, everything else staying as it is.
///
/// # Errors
/// The file cannot be read, understood or written.
pub fn keep(layout: &Layout, name: &str) -> Result<(), String> {
    let file = layout.config_file();
    let text = read_text(&file, true).map_err(|failure| failure.to_string())?.unwrap_or_default();
    let changed = crate::config::global::with_theme(&file, &text, name).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&layout.config).map_err(|error| error.to_string())?;
    let real = file.canonicalize().unwrap_or(file);
    super::atomic::write_atomic(&real, changed.as_bytes(), 0o600).map_err(|error| error.to_string())
}
