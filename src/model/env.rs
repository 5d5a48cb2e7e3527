//! `EnvVar`: one variable of a cube's environment.

use serde::{Deserialize, Serialize};

/// A variable with its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// The name: letters, digits and `_`, not starting with a digit.
    pub key: String,
    /// The value; any text without NUL.
    pub value: String,
}

/// The value may be a secret: it is not shown by `{:?}`.
impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=<{} bytes>", self.key, self.value.len())
    }
}

/// Why a text is not a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The name holds something else than letters, digits and `_`.
    #[error("`{}` is not a variable's name: letters, digits and `_`, not starting with a digit", super::sanitize::printable(.0))]
    Key(String),
    /// A NUL byte in the value.
    #[error("the value of `{0}` holds a NUL byte")]
    Nul(String),
}

impl EnvVar {
    /// A variable of a checked name and value.
    ///
    /// # Errors
    /// A bad name, or NUL in the value.
    pub fn new(key: &str, value: &str) -> Result<Self, EnvError> {
        let good = !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !key.starts_with(|c: char| c.is_ascii_digit());
        if !good {
            return Err(EnvError::Key(key.chars().take(64).collect()));
        }
        if value.contains('\0') {
            return Err(EnvError::Nul(key.to_owned()));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}
