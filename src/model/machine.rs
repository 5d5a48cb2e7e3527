//! `Machine`: an image plus a persistent home plus a policy. Not running.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::net::NetSettings;
use super::{CarryGroup, EnvVar, ImageRef, Limits, Name, PortMap};

/// The kinds of jail, strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Jail {
    /// In place: Landlock and seccomp only.
    Landlock,
    /// Namespaces, Landlock, seccomp.
    Container,
    /// A virtual machine inside a container jail.
    Microvm,
}

/// Which jail somebody asks for: a kind, or whatever is strongest here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JailChoice {
    /// [`Jail::Landlock`].
    Landlock,
    /// [`Jail::Container`].
    Container,
    /// [`Jail::Microvm`].
    Microvm,
    /// The strongest that works on this host.
    Auto,
}

impl JailChoice {
    /// The weakest that it may come to.
    #[must_use]
    pub const fn least(self) -> Jail {
        match self {
            Self::Landlock | Self::Auto => Jail::Landlock,
            Self::Container => Jail::Container,
            Self::Microvm => Jail::Microvm,
        }
    }

    /// The strongest that it may come to: `auto` never starts a virtual machine.
    #[must_use]
    pub const fn most(self) -> Jail {
        match self {
            Self::Landlock => Jail::Landlock,
            Self::Container | Self::Auto => Jail::Container,
            Self::Microvm => Jail::Microvm,
        }
    }
}

impl From<Jail> for JailChoice {
    fn from(jail: Jail) -> Self {
        match jail {
            Jail::Landlock => Self::Landlock,
            Jail::Container => Self::Container,
            Jail::Microvm => Self::Microvm,
        }
    }
}

/// What a cube may reach on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetPolicyKind {
    /// Nothing.
    None,
    /// The machine's SOCKS proxy, by name.
    Proxy,
    /// What a rule names.
    Allow,
    /// Anything but loopback, link-local and metadata addresses.
    Open,
}

/// Who the entry runs as, inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunAs {
    /// The caller's own ids, no capability.
    Me,
    /// Root inside the user namespace, nobody outside.
    Root,
}

/// The seccomp profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompProfile {
    /// Deny-list with a ceiling on unknown calls.
    Default,
    /// Allow-list: anything not known to be harmless answers ENOSYS.
    Strict,
    /// As default, with ptrace and `process_vm_*` for debuggers.
    Debug,
}

macro_rules! words {
    ($type:ty, $what:literal, $($word:literal => $value:expr),+ $(,)?) => {
        impl $type {
            /// The words that are accepted, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// The word for this value.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(v if v == $value => $word,)+ _ => "" }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
        impl std::str::FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)+
                    other => Err(format!("`{}` is no {}: one of {}", super::sanitize::printable(other), $what, Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words!(Jail, "jail", "landlock" => Jail::Landlock, "container" => Jail::Container, "microvm" => Jail::Microvm);
words!(JailChoice, "jail", "landlock" => JailChoice::Landlock, "container" => JailChoice::Container, "microvm" => JailChoice::Microvm, "auto" => JailChoice::Auto);
words!(NetPolicyKind, "net policy", "none" => NetPolicyKind::None, "proxy" => NetPolicyKind::Proxy, "allow" => NetPolicyKind::Allow, "open" => NetPolicyKind::Open);
words!(RunAs, "user", "me" => RunAs::Me, "root" => RunAs::Root);
words!(SeccompProfile, "seccomp profile", "default" => SeccompProfile::Default, "strict" => SeccompProfile::Strict, "debug" => SeccompProfile::Debug);

/// The settings that a machine, a project file, the configuration and the command line all may
/// give. `None` means "not said here"; resolving picks the first that says something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The image.
    pub image: Option<ImageRef>,
    /// The kind of jail.
    pub jail: Option<JailChoice>,
    /// The network policy.
    pub net: Option<NetPolicyKind>,
    /// What the policy needs to know: rules, proxy, holes.
    #[serde(default)]
    pub reach: NetSettings,
    /// Who runs inside.
    pub user: Option<RunAs>,
    /// The seccomp profile.
    pub seccomp: Option<SeccompProfile>,
    /// Resource limits, each on its own.
    pub limits: Limits,
    /// Variables, later layers win per key.
    pub env: Vec<EnvVar>,
    /// The command that starts without one on the command line: argv.
    pub entry: Option<Vec<String>>,
    /// Forwards that open with a cube; those of stronger places are added, and replace what leads to the same end.
    #[serde(default)]
    pub ports: Vec<PortMap>,
}

/// A saved definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: Name,
    /// Image, policy, limits, env, entry.
    pub settings: Settings,
    /// Its own projects root; `None`: the configuration's.
    pub projects: Option<PathBuf>,
    /// Theme colour for the screen.
    pub colour: Option<String>,
    /// Parts of its home that a copy of it leaves out unless asked; `None`: the usual ones.
    #[serde(default)]
    pub carry: Option<Vec<CarryGroup>>,
}

impl Machine {
    /// A machine that says nothing but its name.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self { name, settings: Settings::default(), projects: None, colour: None, carry: None }
    }

    /// The parts of its home that a copy leaves out unless asked.
    #[must_use]
    pub fn carry_groups(&self) -> Vec<CarryGroup> {
        self.carry.clone().unwrap_or_else(super::carry::usual)
    }
}
