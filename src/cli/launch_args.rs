//! The launch options exactly as they were typed. Owns their names, help and grouping; turning them
//! into model values is `typed`'s job, so nothing is parsed or looked up here.

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::model::{JailChoice, NetPolicyKind, RunAs, SeccompProfile};

const WHERE: &str = "Where it runs";
const CONFINE: &str = "What it may do";
const LIMITS: &str =
    "What it may take (a trailing ! refuses the launch unless the kernel itself enforces it)";
const INSIDE: &str = "What it finds inside";
const LIFE: &str = "How it lives and ends";

pub(super) fn words(list: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(list.iter().copied())
}

/// The launch options, shared by `tripmine PROJECT` and `tripmine run IMAGE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct LaunchArgs {
    /// Launch on this machine [default: default]
    #[arg(short, long, value_name = "NAME", help_heading = WHERE)]
    pub machine: Option<String>,

    /// Start from this image, this launch only: `host`, NAME, NAME@N or a digest
    #[arg(short, long, value_name = "REF", help_heading = WHERE)]
    pub image: Option<String>,

    /// Get the image from its registry first: always, or when it is missing [default: never]
    #[arg(long, value_name = "never|missing|always", hide_possible_values = true, value_parser = words(&["never", "missing", "always"]), help_heading = WHERE)]
    pub pull: Option<String>,

    /// Reach the registry of `--pull` without encryption; only on this host itself
    #[arg(long, help_heading = WHERE, hide_short_help = true, requires = "pull")]
    pub plain_http: bool,

    /// Work on DIR/PROJECT, or on DIR itself without PROJECT, seen at /work
    ///
    /// The folder must exist. Folders with credentials, system folders and your whole home are
    /// refused; see `--yes-really`.
    #[arg(long, value_name = "DIR", help_heading = WHERE)]
    pub mount: Option<String>,

    /// Start in this folder of the cube [default: the project, else the home]
    #[arg(short, long, value_name = "DIR", help_heading = WHERE, hide_short_help = true)]
    pub workdir: Option<String>,

    /// Mount even what holds credentials or the whole home
    #[arg(long, help_heading = WHERE, hide_short_help = true)]
    pub yes_really: bool,

    /// The kind of jail; `auto` is the strongest that works here [default: container]
    #[arg(long, value_name = "landlock|container|microvm|auto", hide_possible_values = true, value_parser = words(JailChoice::WORDS), help_heading = CONFINE)]
    pub jail: Option<String>,

    /// What it may reach on the network [default: none]
    #[arg(long, value_name = "none|proxy|allow|open", hide_possible_values = true, value_parser = words(NetPolicyKind::WORDS), help_heading = CONFINE)]
    pub net: Option<String>,

    /// Let it reach this name, `*.name`, address or network (repeatable)
    ///
    /// Alone it means `--net allow`; what the machine allows stays allowed.
    #[arg(long, value_name = "HOST[:PORT]", help_heading = CONFINE)]
    pub allow: Vec<String>,

    /// Lead everything through this SOCKS proxy, by name: socks5h://HOST:PORT
    #[arg(long, value_name = "URL", help_heading = CONFINE, hide_short_help = true)]
    pub proxy: Option<String>,

    /// Lead a host port to a port of the cube (repeatable)
    ///
    /// HOST:CUBE, or one number for both; on loopback unless BIND is given. A busy host port gives way to the
    /// next free one. An absolute path on either side is a unix socket.
    #[arg(short, long = "publish", value_name = "[BIND:]HOST:CUBE", help_heading = CONFINE)]
    pub publish: Vec<String>,

    /// Run as yourself without any capability, or as root inside [default: me]
    #[arg(long, value_name = "me|root", hide_possible_values = true, value_parser = words(RunAs::WORDS), help_heading = CONFINE)]
    pub user: Option<String>,

    /// The system-call filter [default: default]
    #[arg(long, value_name = "default|strict|debug", hide_possible_values = true, value_parser = words(SeccompProfile::WORDS), help_heading = CONFINE, hide_short_help = true)]
    pub seccomp: Option<String>,

    /// Memory, for example 512M
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = LIMITS)]
    pub memory: Option<String>,

    /// Processors, for example 1.5
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = LIMITS)]
    pub cpus: Option<String>,

    /// Processes and threads at once [default: 4096]
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = LIMITS)]
    pub pids: Option<String>,

    /// Bytes written outside home and project [default: half of the memory, at most 8G]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = LIMITS)]
    pub disk: Option<String>,

    /// Stop it after this time, for example 30s or 1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = LIMITS)]
    pub timeout: Option<String>,

    /// Set a variable, or copy yours when only NAME is given (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = INSIDE)]
    pub env: Vec<String>,

    /// Read variables from a file of NAME=VALUE lines (repeatable)
    #[arg(long, value_name = "FILE", help_heading = INSIDE, hide_short_help = true)]
    pub env_file: Vec<String>,

    /// Start a shell, whatever the entry is
    #[arg(long, help_heading = INSIDE)]
    pub shell: bool,

    /// Give it a terminal even when you have none
    #[arg(short, long, overrides_with = "no_tty", help_heading = INSIDE, hide_short_help = true)]
    pub tty: bool,

    /// Give it pipes even when you have a terminal
    #[arg(short = 'T', long, overrides_with = "tty", help_heading = INSIDE, hide_short_help = true)]
    pub no_tty: bool,

    /// Keep the changes to the system under this name
    #[arg(long, value_name = "NAME", help_heading = LIFE)]
    pub keep: Option<String>,

    /// Drop the changes to the home too
    #[arg(long, help_heading = LIFE)]
    pub ephemeral: bool,

    /// Hold the changes to the project back until `tripmine apply`
    #[arg(long, help_heading = LIFE)]
    pub review: bool,

    /// Leave it running and print its TripID
    #[arg(short, long, help_heading = LIFE)]
    pub detach: bool,

    /// Show everything that would be done, and do nothing
    #[arg(long, help_heading = LIFE)]
    pub dry_run: bool,

    /// Print data as JSON
    #[arg(long, help_heading = LIFE, hide_short_help = true)]
    pub json: bool,
}

impl LaunchArgs {
    /// True when nothing but the machine was typed: the menu, not a launch.
    #[must_use]
    pub fn only_machine(&self) -> bool {
        *self == Self { machine: self.machine.clone(), ..Self::default() }
    }
}
