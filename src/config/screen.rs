//! What `config.toml` says of the screen: keys, signs, colours. Values and their words; what a terminal makes of them is
//! the screen's business.

/// Keys for a command of the screen, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The command.
    pub command: String,
    /// The keys.
    pub keys: String,
    /// File, line and column, for a warning.
    pub place: String,
}

/// The signs that the screen draws with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlyphSet {
    /// Without private-use characters.
    Unicode,
    /// ASCII alone.
    Ascii,
    /// Those of fonts that were patched for it.
    Nerd,
}

/// How many colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColorDepth {
    /// None; attributes alone.
    None,
    /// The terminal's own 16.
    Sixteen,
    /// The palette of 256.
    Palette,
    /// All.
    True,
}

impl ColorDepth {
    /// Parses `never`, `16`, `256` or `true`; `auto` is `None`.
    ///
    /// # Errors
    /// A line that says what can be written.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        match text {
            "auto" => Ok(None),
            "never" => Ok(Some(Self::None)),
            "16" => Ok(Some(Self::Sixteen)),
            "256" => Ok(Some(Self::Palette)),
            "true" => Ok(Some(Self::True)),
            _ => Err("write `auto`, `never`, `16`, `256` or `true`".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_have_words() {
        for (text, depth) in [
            ("auto", None),
            ("never", Some(ColorDepth::None)),
            ("16", Some(ColorDepth::Sixteen)),
            ("256", Some(ColorDepth::Palette)),
            ("true", Some(ColorDepth::True)),
        ] {
            assert_eq!(ColorDepth::parse(text), Ok(depth));
        }
        assert!(ColorDepth::parse("some").is_err());
    }
}
