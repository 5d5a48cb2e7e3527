//! Themes: colours by role, read from TOML. Owns the list of roles, inheritance and the built-in themes; what a
//! terminal can show of them is the screen's business.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ConfigError, Source, nearest};
use super::settings::scalar;
use super::tree::{Entry, Node, Value, parse_toml};

/// Every role, with what it is for. A theme gives any of them; the rest is inherited.
pub const ROLES: &[(&str, &str)] = &[
    ("text", "ordinary text"),
    ("text.dim", "what matters less"),
    ("text.strong", "names and numbers"),
    ("title", "titles of boxes"),
    ("title.focus", "the title of the box that has the keys"),
    ("border", "lines around boxes"),
    ("border.focus", "the line around the box that has the keys"),
    ("accent", "what leads on"),
    ("selection", "the selected row of the box that has the keys"),
    ("selection.idle", "the selected row elsewhere"),
    ("match", "letters that a filter found"),
    ("key", "keys in hints and menus"),
    ("hint", "words beside keys"),
    ("disabled", "what cannot be chosen now"),
    ("input", "a field that is being typed into"),
    ("ok", "good news"),
    ("warn", "warnings"),
    ("error", "failures"),
    ("state.running", "a cube that runs"),
    ("state.starting", "a cube that starts, stops or is frozen"),
    ("state.exited", "a cube that has ended"),
    ("state.failed", "a cube that failed"),
    ("enforce.full", "a protection that is wholly in force"),
    ("enforce.partial", "a protection that is partly in force"),
    ("enforce.none", "a protection that is missing"),
    ("gauge.low", "plots, low"),
    ("gauge.mid", "plots, middling"),
    ("gauge.high", "plots, high"),
    ("status", "the last line"),
];

/// A colour, as a theme names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// The terminal's own.
    Default,
    /// One of the terminal's 16, or of the palette's 256.
    Index(u8),
    /// Red, green, blue.
    Rgb(u8, u8, u8),
}

const NAMES: [&str; 16] = [
    "black",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "white",
    "bright-black",
    "bright-red",
    "bright-green",
    "bright-yellow",
    "bright-blue",
    "bright-magenta",
    "bright-cyan",
    "bright-white",
];

/// Attributes that a role may have.
pub const MODS: [&str; 6] = ["bold", "dim", "italic", "underline", "reverse", "strike"];

/// What one role looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paint {
    /// Foreground; `None` leaves what is there.
    pub fg: Option<Colour>,
    /// Background.
    pub bg: Option<Colour>,
    /// Attributes, of [`MODS`].
    pub mods: Vec<&'static str>,
}

/// A whole theme: every role that it or its ancestors give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    /// Its name.
    pub name: String,
    /// For a light background.
    pub light: bool,
    /// Role → look.
    pub roles: BTreeMap<&'static str, Paint>,
    /// Unknown roles and the like, with file, line and column.
    pub warnings: Vec<String>,
}

macro_rules! builtin {
    ($($name:literal),+ $(,)?) => {
        /// The themes of the program itself: name and text.
        pub const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../themes/", $name, ".toml")))),+];
    };
}

builtin!(
    "default",
    "mono",
    "high-contrast-dark",
    "high-contrast-light",
    "colour-blind-safe",
    "catppuccin-latte",
    "catppuccin-mocha",
    "dracula",
    "gruvbox-dark",
    "gruvbox-light",
    "nord",
    "rose-pine",
    "solarized-dark",
    "solarized-light",
    "tokyo-night",
);

/// Names that a file of the user's cannot take: there is always a safe theme.
pub const RESERVED: [&str; 2] = ["default", "mono"];

/// How many themes may inherit one from another.
const DEPTH: usize = 8;

/// The text of the built-in theme `name`.
#[must_use]
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

struct Sheet {
    light: Option<bool>,
    inherits: Option<String>,
    roles: Vec<(&'static str, Paint)>,
    warnings: Vec<String>,
}

/// Reads the theme `name` from `text` with what it inherits. `find` gives the text of another theme, if there is one.
///
/// # Errors
/// A mistake that makes it unusable, with its place.
pub fn parse_theme(
    name: &str,
    file: &Path,
    text: &str,
    find: &dyn Fn(&str) -> Option<String>,
) -> Result<Theme, ConfigError> {
    let mut sheets = vec![sheet(file, text)?];
    while let Some(parent) = sheets.last().and_then(|sheet| sheet.inherits.clone()) {
        let wrong = |why: &str| Source { file, text }.error(&(0..0), format!("`inherits`: {why}"));
        if sheets.len() >= DEPTH {
            return Err(wrong("the themes inherit in a circle, or too deeply"));
        }
        let Some(found) = find(&parent) else {
            return Err(wrong(&format!("there is no theme `{parent}`")));
        };
        sheets.push(sheet(Path::new(&parent), &found)?);
    }
    let mut theme = Theme {
        name: name.to_owned(),
        light: sheets.iter().find_map(|sheet| sheet.light).unwrap_or(false),
        roles: BTreeMap::new(),
        warnings: Vec::new(),
    };
    for sheet in sheets.into_iter().rev() {
        theme.roles.extend(sheet.roles);
        theme.warnings.extend(sheet.warnings);
    }
    let lacking: Vec<&str> =
        ROLES.iter().map(|(role, _)| *role).filter(|role| !theme.roles.contains_key(role)).collect();
    if !lacking.is_empty() {
        theme.warnings.push(format!(
            "{}: nothing says what these look like: {} (write `inherits = \"default\"`)",
            file.display(),
            lacking.join(", ")
        ));
    }
    Ok(theme)
}

fn sheet(file: &Path, text: &str) -> Result<Sheet, ConfigError> {
    let source = Source { file, text };
    let mut sheet = Sheet { light: None, inherits: None, roles: Vec::new(), warnings: Vec::new() };
    let entries = parse_toml(&source)?;
    let mut palette = BTreeMap::new();
    for entry in &entries {
        match (entry.key.as_str(), &entry.node.value) {
            ("name", _) => drop(scalar(&source, entry)?),
            ("inherits", _) => sheet.inherits = Some(scalar(&source, entry)?.to_owned()),
            ("variant", _) => {
                sheet.light = Some(match scalar(&source, entry)? {
                    "light" => true,
                    "dark" => false,
                    _ => return Err(source.error(&entry.node.span, "`variant` is `dark` or `light`")),
                });
            }
            ("palette", Value::Table(colours)) => {
                for colour in colours {
                    let value = colour_of(scalar(&source, colour)?, &BTreeMap::new())
                        .map_err(|why| source.error(&colour.node.span, why))?;
                    palette.insert(colour.key.clone(), value);
                }
            }
            ("roles", Value::Table(_)) => {}
            (key, _) => {
                let known = ["name", "inherits", "variant", "palette", "roles"];
                return Err(source.unknown(&entry.key_span, format!("unknown key `{key}`"), key, &known));
            }
        }
    }
    for entry in &entries {
        if let ("roles", Value::Table(roles)) = (entry.key.as_str(), &entry.node.value) {
            for role in roles {
                read_role(&source, role, &palette, &mut sheet)?;
            }
        }
    }
    Ok(sheet)
}

fn read_role(
    source: &Source<'_>,
    entry: &Entry,
    palette: &BTreeMap<String, Colour>,
    sheet: &mut Sheet,
) -> Result<(), ConfigError> {
    let known: Vec<&'static str> = ROLES.iter().map(|(role, _)| *role).collect();
    let Some(role) = known.iter().find(|role| **role == entry.key) else {
        let mut warning = source.error(&entry.key_span, format!("unknown role `{}`", entry.key)).to_string();
        if let Some(near) = nearest(&entry.key, &known) {
            warning.push_str(&format!(" (did you mean `{near}`?)"));
        }
        sheet.warnings.push(warning);
        return Ok(());
    };
    let mut paint = Paint::default();
    match &entry.node.value {
        // `role = "colour"` is the foreground alone.
        Value::Scalar(text) => {
            paint.fg = Some(colour_of(text, palette).map_err(|why| source.error(&entry.node.span, why))?);
        }
        Value::Table(parts) => {
            for part in parts {
                match (part.key.as_str(), &part.node) {
                    ("fg" | "bg", node) => {
                        let colour = colour_of(scalar(source, part)?, palette)
                            .map_err(|why| source.error(&node.span, why))?;
                        *(if part.key == "fg" { &mut paint.fg } else { &mut paint.bg }) = Some(colour);
                    }
                    ("mods", Node { value: Value::List(words), .. }) => {
                        for word in words {
                            paint.mods.push(modifier(source, word)?);
                        }
                    }
                    (key, _) => {
                        let known = ["fg", "bg", "mods"];
                        return Err(source.unknown(
                            &part.key_span,
                            format!("unknown key `{key}`"),
                            key,
                            &known,
                        ));
                    }
                }
            }
        }
        other => {
            return Err(source
                .error(&entry.node.span, format!("a role is a colour or a table, not {}", other.what())));
        }
    }
    sheet.roles.push((role, paint));
    Ok(())
}

fn modifier(source: &Source<'_>, node: &Node) -> Result<&'static str, ConfigError> {
    let Value::Scalar(text) = &node.value else {
        return Err(source.error(&node.span, format!("an attribute is a word, not {}", node.value.what())));
    };
    MODS.iter().copied().find(|known| known == text).ok_or_else(|| {
        source.unknown(
            &node.span,
            format!("`{text}` is no attribute: one of {}", MODS.join(", ")),
            text,
            &MODS,
        )
    })
}

fn colour_of(text: &str, palette: &BTreeMap<String, Colour>) -> Result<Colour, String> {
    if let Some(colour) = palette.get(text) {
        return Ok(*colour);
    }
    if text == "default" {
        return Ok(Colour::Default);
    }
    if let Some(index) = NAMES.iter().position(|name| *name == text) {
        return Ok(Colour::Index(u8::try_from(index).unwrap_or(0)));
    }
    if let Ok(index) = text.parse::<u8>() {
        return Ok(Colour::Index(index));
    }
    let hex =
        text.strip_prefix('#').filter(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if let Some(value) = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
        let [_, red, green, blue] = value.to_be_bytes();
        return Ok(Colour::Rgb(red, green, blue));
    }
    Err(format!(
        "`{text}` is no colour: write a name of the palette, `red` … `bright-white`, 0 to 255, `#rrggbb` or `default`"
    ))
}

#[cfg(test)]
mod tests;
