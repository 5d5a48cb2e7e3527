//! The verbs' own arguments as they were typed. Owns their names and help; what a verb does with
//! them is the verb's file.

use clap::{Args, Subcommand};

use super::apply::ApplyArgs;
use super::changes::ChangesArgs;
use super::doctor::DoctorArgs;
use super::events::EventsArgs;
use super::forward::ForwardArgs;
use super::image::ImageArgs;
use super::init::InitArgs;
use super::inspect::InspectArgs;
use super::launch_args::LaunchArgs;
use super::logs::LogsArgs;
use super::machine::MachineArgs;
use super::man::ManArgs;
use super::net::NetArgs;
use super::ports::PortsArgs;
use super::project::ProjectArgs;
use super::proxy::ProxyArgs;
use super::prune::PruneArgs;
use super::ps::PsArgs;
use super::theme::ThemeArgs;
use super::undo::UndoArgs;
use super::verify_jail::VerifyJailArgs;
use super::vm::VmArgs;

/// Every verb that is built, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Launch from an image, without a project
    Run(Box<RunArgs>),
    /// Let a paused cube go on, or launch one again from a continuation: an image of its changes with what it was launched with
    #[command(
        after_help = "Examples:\n  tripmine pause lab && tripmine resume lab           a kept microvm: its memory too, where it was\n  tripmine resume --forget lab                        keep its files, give its memory up\n  tripmine image snapshot later site --continuation   and stop it, today\n  tripmine resume later                               tomorrow: its machine, project, command, limits, changes\n\nThe home and the project are the machine's own, as they are now. Values of variables are not kept: give them with -e."
    )]
    Resume(ResumeArgs),
    /// Save the memory of a kept microvm and end it; `resume` lets it go on
    #[command(
        after_help = "Examples:\n  tripmine run host --jail microvm --keep lab -d -- make serve\n  tripmine pause lab     its memory and its devices are on disk, nothing of it runs\n  tripmine resume lab    and goes on where it was, also after a reboot\n\nIt takes QEMU 8.2 and virtiofsd 1.13 or newer (`tripmine vm show`). Connections to the net are broken by it."
    )]
    Pause(PauseArgs),
    /// List the cubes
    #[command(
        after_help = "Examples:\n  tripmine ps         what runs\n  tripmine ps -a      what has ended too"
    )]
    Ps(PsArgs),
    /// Enter the terminal of a running cube, or start a kept one again
    #[command(
        after_help = "Examples:\n  tripmine attach site              the cube that runs the project `site`\n  tripmine attach --read-only k7f   only look; Ctrl-C leaves\n\nThe leader key (Ctrl-] unless configured), then d, leaves the cube running."
    )]
    Attach(AttachArgs),
    /// Run a command inside a running cube
    Exec(ExecArgs),
    /// Show what a cube printed
    #[command(
        after_help = "Examples:\n  tripmine logs site               all of it\n  tripmine logs -f --tail 20 site  the last lines, and what comes\n  tripmine logs --since 10m -t site"
    )]
    Logs(LogsArgs),
    /// Show what happened to a cube
    #[command(
        after_help = "Examples:\n  tripmine events site      what happened so far\n  tripmine events -f site   and what comes, until it has ended"
    )]
    Events(EventsArgs),
    /// Show what a cube reached and what it was denied, and allow it
    #[command(
        after_help = "Examples:\n  tripmine net site                                  what it reached, what was denied\n  tripmine net -f --json site                        as it happens, one event a line\n  tripmine net site allow example.com:443            at once, until the cube ends\n  tripmine net site allow example.com:443 --machine  for every later cube of its machine too\n  tripmine net site phase run                        the set-up is over"
    )]
    Net(NetArgs),
    /// Find SOCKS proxies, and see whether one works
    #[command(
        after_help = "Examples:\n  tripmine proxy detect                            the usual ports of this host\n  tripmine proxy check socks5h://127.0.0.1:9050\n\nExit codes: 0 a proxy answers; 1 none does; 2 the command line is wrong; 3 it could not be told."
    )]
    Proxy(ProxyArgs),
    /// End cubes: TERM, then KILL after a grace
    #[command(
        after_help = "Examples:\n  tripmine stop site         the cube that runs `site`\n  tripmine stop -t 1 a b     a second's grace, both at once\n  tripmine stop --all"
    )]
    Stop(StopArgs),
    /// Send a signal to cubes, KILL by default
    #[command(
        after_help = "Examples:\n  tripmine kill site          end it now\n  tripmine kill -s HUP site   let it read its settings again"
    )]
    Kill(KillArgs),
    /// Delete ended cubes and what they kept
    #[command(
        after_help = "Examples:\n  tripmine rm box           a kept cube with its system changes; asks first\n  tripmine rm --all --yes   every cube that has ended"
    )]
    Rm(RmArgs),
    /// Give a kept cube another name
    #[command(after_help = "Example:\n  tripmine rename box lab")]
    Rename(RenameArgs),
    /// Show everything about cubes, as JSON
    #[command(after_help = "Example:\n  tripmine inspect site")]
    Inspect(InspectArgs),
    /// Show what a cube changed
    #[command(
        after_help = "Examples:\n  tripmine changes site            its system and, with --review, its project\n  tripmine changes --diff site src  how the texts in the project's src differ"
    )]
    Changes(ChangesArgs),
    /// Take the changes of a review over into the project
    #[command(
        after_help = "Examples:\n  tripmine apply k7f            everything\n  tripmine apply k7f src a.txt  only these\n\nRefused where you changed the original since the cube was launched; --force puts the cube's side over yours.\n`tripmine rm` drops what was not taken over."
    )]
    Apply(ApplyArgs),
    /// Show what cubes take: CPU, memory, processes
    #[command(
        after_help = "Examples:\n  tripmine stats          every running cube\n  tripmine stats -f site  a look a second, until it has ended\n  tripmine stats --json site"
    )]
    Stats(StatsArgs),
    /// Lead host ports to ports of a running cube
    #[command(
        after_help = "Examples:\n  tripmine forward site                   choose from what listens\n  tripmine forward site --port 3000       127.0.0.1:3000 leads to its port 3000\n  tripmine forward site --port 8080:80 -d leave it open; `--list` shows it, `--rm 8080` ends it\n  tripmine forward site --port 3000 --bind 0.0.0.0   for other hosts too\n  tripmine forward site --port /tmp/db.sock:/run/db.sock\n\nServers bound to 127.0.0.1 inside are reached too. A port on which nothing listens yet refuses\nconnections until something does."
    )]
    Forward(ForwardArgs),
    /// Show what listens in cubes
    #[command(
        after_help = "Examples:\n  tripmine ports         every running cube\n  tripmine ports --json site"
    )]
    Ports(PortsArgs),
    /// Wait for cubes to end and print their exit codes
    #[command(after_help = "Example:\n  id=$(tripmine -d site); tripmine wait \"$id\"")]
    Wait(WaitArgs),
    /// Create, list, show, change and delete machines
    #[command(
        after_help = "Examples:\n  tripmine machine create work --memory 2G   with a home of its own\n  tripmine -m work site                      launch on it\n  tripmine machine reset-home work           start over with a fresh home"
    )]
    Machine(MachineArgs),
    /// Create, list and delete projects
    #[command(
        after_help = "Examples:\n  tripmine project create site   an empty folder beneath the projects root\n  tripmine project list\n  tripmine project rm site       into the trash; `tripmine undo` brings it back"
    )]
    Project(ProjectArgs),
    /// Bring, list, name, check and hand out images
    #[command(
        after_help = "Examples:\n  tripmine image pull debian:12                  from Docker Hub\n  tripmine image import rootfs.tar.zst base      a root that you have made\n  tripmine image list\n  tripmine image tag base base-before-upgrade    another name\n  tripmine image export base oci-archive:b.tar   for podman, skopeo, umoci\n\nAn older image of a name stays as NAME@1, NAME@2 until `tripmine image rm`."
    )]
    Image(ImageArgs),
    /// Take the last deletion back
    #[command(
        after_help = "Examples:\n  tripmine undo          what was deleted last\n  tripmine undo --list   what can come back"
    )]
    Undo(UndoArgs),
    /// Delete what is left over, for good
    #[command(
        after_help = "Examples:\n  tripmine prune --dry-run          what would go, and how much\n  tripmine prune --older-than 7d"
    )]
    Prune(PruneArgs),
    /// Set up: check this host, choose where projects are; shows what it will write
    #[command(
        after_help = "Examples:\n  tripmine init                               asks, step by step; safe to repeat\n  tripmine init --projects ~/code --yes       without questions"
    )]
    Init(InitArgs),
    /// List, show, check and choose the themes of the screen
    #[command(
        after_help = "Examples:\n  tripmine theme                 what there is\n  tripmine theme use nord        from now on\n  tripmine theme check my.toml   what is wrong with it, with line and column"
    )]
    Theme(ThemeArgs),
    /// Open the full-screen menu
    #[command(
        after_help = "Examples:\n  tripmine tui            the same as `tripmine`\n  tripmine tui --plain    line by line, for screen readers"
    )]
    Tui(TuiArgs),
    /// Show what microvms are made of here, and name their kernel
    #[command(
        after_help = "Examples:\n  tripmine vm show                         what is there, what is missing\n  tripmine vm setup --kernel ~/kernel      an unpacked kernel package\n  tripmine vm setup --accel tcg            emulate, many times slower"
    )]
    Vm(VmArgs),
    /// Show what this host can give, and how to fix what it cannot
    #[command(after_help = "Example:\n  tripmine doctor")]
    Doctor(DoctorArgs),
    /// Try the jail from inside and report every promise
    #[command(
        after_help = "Examples:\n  tripmine verify-jail\n  tripmine verify-jail --user root --seccomp strict"
    )]
    VerifyJail(VerifyJailArgs),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  tripmine completions bash > ~/.local/share/bash-completion/completions/tripmine\n  tripmine completions fish > ~/.config/fish/completions/tripmine.fish\n  tripmine completions zsh  > \"${fpath[1]}/_tripmine\""
    )]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    #[command(
        after_help = "Examples:\n  tripmine man | man -l -                 read it\n  tripmine man --all ~/.local/share/man/man1"
    )]
    Man(ManArgs),
    /// Print the version
    #[command(after_help = "Example:\n  tripmine version --json")]
    Version(VersionArgs),
}

/// `tripmine run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(
    override_usage = "tripmine run [OPTIONS] [IMAGE] [OPTIONS] [-- CMD…]",
    after_help = "Examples:\n  tripmine run host -- python3       one command, then everything but the home is gone\n  tripmine run host --memory 1G      a shell with a limit\n  tripmine run                       without IMAGE it is `host`\n\nIt sees no folder of yours: `tripmine --mount DIR -- CMD…` runs in one."
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
    after_help = "Examples:\n  tripmine exec site                 another shell in it\n  tripmine exec site -- ps aux       one command; its exit code is ours\n  tripmine exec -w / -e A=1 site -- env\n\nExit codes: the command's own; 128+n when signal n killed it; 127 it was not found; 126 it could not\nbe executed; 125 tripmine could not reach the cube."
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

/// `tripmine resume`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ResumeArgs {
    /// The paused cube, by its id or name, or the continuation
    #[arg(value_name = "CUBE|IMAGE")]
    pub image: String,
    /// Give the memory of the paused cube up, keep its files, and start nothing
    #[arg(long, conflicts_with_all = ["keep", "env", "detach", "yes_really", "json"])]
    pub forget: bool,
    /// Keep the changes of this launch as well, in a cube of this name
    #[arg(long, value_name = "NAME")]
    pub keep: Option<String>,
    /// Set a variable, or hand the caller's own in (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Leave it running, and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// Mount what it mounted even where that is dangerous
    #[arg(long)]
    pub yes_really: bool,
    /// With --detach, print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// `tripmine pause`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PauseArgs {
    /// The cube: a TripID or its start, a name, or a project with one running cube
    pub cube: String,
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
    /// Go on, a look a second, until they have ended; with --json one object a line
    #[arg(short, long)]
    pub follow: bool,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
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

/// Arguments of `tripmine tui`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TuiArgs {
    /// Launch on this machine
    #[arg(short, long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Line by line, for screen readers and dumb terminals
    #[arg(long)]
    pub plain: bool,
    /// How many colours: auto, never, 16, 256 or true [default: what the terminal says]
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "never", "16", "256", "true"])]
    pub color: Option<String>,
}
