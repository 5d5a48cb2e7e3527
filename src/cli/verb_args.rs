//! The verbs' own arguments as they were typed. Owns their names and help; what a verb does with
//! them is the verb's file.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::launch_args::LaunchArgs;

/// Every verb that is built, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Launch from an image, without a project
    Run(Box<RunArgs>),
    /// List the cubes
    Ps(Rest),
    /// Enter the terminal of a running cube
    Attach(AttachArgs),
    /// Run a command inside a running cube
    Exec(ExecArgs),
    /// Show what a cube printed
    Logs(Rest),
    /// Show what happened
    Events(Rest),
    /// End cubes: TERM, then KILL after a grace
    Stop(StopArgs),
    /// Send a signal to cubes, KILL by default
    Kill(KillArgs),
    /// Delete ended cubes and what they kept
    Rm(RmArgs),
    /// Give a cube another name
    Rename(RenameArgs),
    /// Show everything about a cube or machine
    Inspect(Rest),
    /// Show what cubes take: CPU, memory, processes
    Stats(StatsArgs),
    /// Wait for cubes to end and print their exit codes
    Wait(WaitArgs),
    /// Create, list, show, change and delete machines
    Machine(Rest),
    /// Create, list and delete projects
    Project(Rest),
    /// Take the last deletion back
    Undo(Rest),
    /// Delete what is left over, for good
    Prune(Rest),
    /// Show what this host can give, and how to fix what it cannot
    Doctor(Rest),
    /// Try the jail from inside and report every promise
    VerifyJail(Rest),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Print the version
    Version(VersionArgs),
}

/// `tripmine run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(
    override_usage = "tripmine run [OPTIONS] [IMAGE] [OPTIONS] [-- CMD…]",
    after_help = "Examples:\n  tripmine run host -- make test     one command, then everything but the home is gone\n  tripmine run host --memory 1G      a shell with a limit\n  tripmine run -- ./untrusted        without IMAGE it is `host`"
)]
pub struct RunArgs {
    /// The launch options.
    #[command(flatten)]
    pub options: LaunchArgs,
    /// The image [default: host]
    #[arg(value_name = "IMAGE")]
    pub named: Option<String>,
    /// What followed `--`.
    #[arg(skip)]
    pub command: Option<Vec<String>>,
}

/// Stands in for a verb whose arguments are not described yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Rest {
    /// Everything after the verb
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// `tripmine attach`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct AttachArgs {
    /// The cube: a TripID or its start, a name, or a project with one running cube
    pub cube: String,
    /// Only look: keys are not sent
    #[arg(long)]
    pub read_only: bool,
    /// Take the keyboard from whoever is attached
    #[arg(long, conflicts_with = "read_only")]
    pub take_over: bool,
}

/// `tripmine exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(
    override_usage = "tripmine exec [OPTIONS] CUBE [OPTIONS] -- CMD…",
    after_help = "Example:\n  tripmine exec site -- ps aux"
)]
pub struct ExecArgs {
    /// Give it a terminal even when you have none
    #[arg(short, long, overrides_with = "no_tty")]
    pub tty: bool,
    /// Give it pipes even when you have a terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    pub no_tty: bool,
    /// Set a variable, or copy yours when only NAME is given (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Start in this folder of the cube
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The cube: a TripID or its start, a name, or a project with one running cube
    pub cube: String,
    /// The command and its arguments; none: the cube's shell
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// `tripmine stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StopArgs {
    /// The cubes
    #[arg(value_name = "CUBE", required_unless_present = "all", conflicts_with = "all")]
    pub cubes: Vec<String>,
    /// Every running cube
    #[arg(short, long)]
    pub all: bool,
    /// Time between TERM and KILL, in seconds [default: what the cube was launched with]
    #[arg(short, long, value_name = "SECS")]
    pub time: Option<u32>,
}

/// `tripmine kill`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct KillArgs {
    /// The cubes
    #[arg(value_name = "CUBE", required_unless_present = "all", conflicts_with = "all")]
    pub cubes: Vec<String>,
    /// Every running cube
    #[arg(short, long)]
    pub all: bool,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
}

/// `tripmine rm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RmArgs {
    /// The cubes
    #[arg(value_name = "CUBE", required_unless_present = "all", conflicts_with = "all")]
    pub cubes: Vec<String>,
    /// Every cube that has ended
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// End it first when it runs
    #[arg(short, long)]
    pub force: bool,
}

/// `tripmine rename`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RenameArgs {
    /// The cube
    pub cube: String,
    /// Its new name
    pub name: String,
}

/// `tripmine stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StatsArgs {
    /// The cubes; none: every running one
    #[arg(value_name = "CUBE")]
    pub cubes: Vec<String>,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
    /// Print once instead of again and again
    #[arg(long)]
    pub no_stream: bool,
}

/// `tripmine wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct WaitArgs {
    /// The cubes
    #[arg(value_name = "CUBE", required = true)]
    pub cubes: Vec<String>,
}

/// `tripmine completions`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `tripmine version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct VersionArgs {
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}
