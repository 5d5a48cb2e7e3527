//! The options that `machine create` and `machine edit` share, as changes to the machine's file.

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::config::edit::Edit;
use crate::config::machine::COLOURS;
use crate::model::limits::{parse_cpus, parse_pids, parse_size, parse_timeout};
use crate::model::net::{Hole, ProxyUrl, Rule};
use crate::model::{
    CarryGroup, CarryPattern, EnvVar, ImageRef, JailChoice, Name, NetPolicyKind, PortMap, RunAs,
    SeccompProfile, VmAccel,
};
use crate::store::machines;

fn words(list: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(list.iter().copied())
}

/// What a machine saves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct MachineFlags {
    /// Start from this image [default: host]
    #[arg(short, long, value_name = "REF", value_parser = image)]
    pub image: Option<String>,
    /// The kind of jail [default: container]
    #[arg(long, value_name = "KIND", value_parser = words(JailChoice::WORDS))]
    pub jail: Option<String>,
    /// Who executes a microvm: the processor, or QEMU in software, many times slower [default: kvm]
    #[arg(long, value_name = "kvm|tcg", hide_possible_values = true, value_parser = words(VmAccel::WORDS))]
    pub vm_accel: Option<String>,
    /// The kernel of its microvms [default: the best that this host has]
    #[arg(long, value_name = "FILE", value_parser = folder)]
    pub vm_kernel: Option<String>,
    /// A folder with a whole system that holds QEMU and virtiofsd [default: this host]
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub vm_engine: Option<String>,
    /// What it may reach on the network [default: none]
    #[arg(long, value_name = "POLICY", value_parser = words(NetPolicyKind::WORDS))]
    pub net: Option<String>,
    /// Let it reach this name, `*.name`, address or network (repeatable; replaces the list)
    #[arg(long, value_name = "HOST[:PORT]", value_parser = rule)]
    pub allow: Vec<String>,
    /// The proxy of the net policy `proxy`: socks5h://[USER@]HOST:PORT
    #[arg(long, value_name = "URL", value_parser = proxy)]
    pub proxy: Option<String>,
    /// A file of mode 0600 with the proxy's password, or `user:password`
    #[arg(long, value_name = "FILE", value_parser = folder, conflicts_with = "proxy_auth_command")]
    pub proxy_auth_file: Option<String>,
    /// A command that prints it
    #[arg(long, value_name = "CMD", value_parser = entry)]
    pub proxy_auth_command: Option<String>,
    /// What goes past the proxy, on private networks or the host (repeatable; replaces the list)
    #[arg(long, value_name = "HOST:PORT", value_parser = hole)]
    pub hole: Vec<String>,
    /// Let `open` reach private networks too
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = words(&["true", "false"]))]
    pub lan: Option<String>,
    /// Another net policy until `tripmine net CUBE phase run`
    #[arg(long, value_name = "POLICY", value_parser = words(NetPolicyKind::WORDS))]
    pub setup: Option<String>,
    /// Run as yourself without any capability, or as root inside [default: me]
    #[arg(long, value_name = "WHO", value_parser = words(RunAs::WORDS))]
    pub user: Option<String>,
    /// The system-call filter [default: default]
    #[arg(long, value_name = "PROFILE", value_parser = words(SeccompProfile::WORDS))]
    pub seccomp: Option<String>,
    /// Memory, for example 512M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<String>,
    /// Processors, for example 1.5
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub cpus: Option<String>,
    /// Processes and threads at once
    #[arg(long, value_name = "N", value_parser = pids)]
    pub pids: Option<String>,
    /// Bytes written outside home and project, for example 2G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub disk: Option<String>,
    /// Stop cubes after this time, for example 30s or 1h
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub timeout: Option<String>,
    /// Set a variable (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<EnvVar>,
    /// The command that starts without one on the command line
    #[arg(long, value_name = "CMD", value_parser = entry)]
    pub entry: Option<String>,
    /// Lead a host port to a port of its cubes (repeatable; replaces what the machine has)
    #[arg(short = 'p', long = "publish", value_name = "[BIND:]HOST:CUBE")]
    pub publish: Vec<PortMap>,
    /// A part of its home that a copy of it (`image snapshot --create-machine`) asks about and leaves out
    /// otherwise (repeatable) [default: where assistants and shells keep what was said and typed]
    #[arg(long, value_name = "NAME=PLACE[,PLACE]", value_parser = carry)]
    pub carry: Vec<CarryGroup>,
    /// A copy of its home leaves nothing out
    #[arg(long, conflicts_with = "carry")]
    pub no_carry: bool,
    /// A projects root of its own
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub projects: Option<String>,
    /// Its colour on the screen: a name or #rrggbb
    #[arg(long, value_name = "COLOUR", value_parser = colour)]
    pub colour: Option<String>,
}

impl MachineFlags {
    /// The net policy that is meant where none is named, as on the command line of a launch: rules mean `allow`, a proxy
    /// means `proxy`, both together are for a person to say.
    #[must_use]
    pub fn meant_policy(&self) -> Option<NetPolicyKind> {
        match (&self.net, self.allow.is_empty(), &self.proxy) {
            (None, false, None) => Some(NetPolicyKind::Allow),
            (None, true, Some(_)) => Some(NetPolicyKind::Proxy),
            _ => None,
        }
    }

    /// The changes, in the order of the file.
    #[must_use]
    pub fn edits(&self) -> Vec<Edit> {
        let texts = [
            ("image", &self.image),
            ("jail", &self.jail),
            ("vm-accel", &self.vm_accel),
            ("vm-kernel", &self.vm_kernel),
            ("vm-engine", &self.vm_engine),
            ("net", &self.net),
            ("proxy", &self.proxy),
            ("proxy-auth-file", &self.proxy_auth_file),
            ("proxy-auth-command", &self.proxy_auth_command),
            ("lan", &self.lan),
            ("setup", &self.setup),
            ("user", &self.user),
            ("seccomp", &self.seccomp),
            ("memory", &self.memory),
            ("cpus", &self.cpus),
            ("pids", &self.pids),
            ("disk", &self.disk),
            ("timeout", &self.timeout),
            ("entry", &self.entry),
            ("projects", &self.projects),
            ("colour", &self.colour),
        ];
        let set =
            texts.into_iter().filter_map(|(key, value)| value.clone().map(|value| Edit::Set { key, value }));
        let mut edits: Vec<Edit> = set.collect();
        if !self.publish.is_empty() {
            edits.push(Edit::Ports(self.publish.clone()));
        }
        // One secret: the new kind replaces the other.
        if self.proxy_auth_file.is_some() {
            edits.insert(0, Edit::Unset("proxy-auth-command".to_owned()));
        } else if self.proxy_auth_command.is_some() {
            edits.insert(0, Edit::Unset("proxy-auth-file".to_owned()));
        }
        for (key, values) in [("allow", &self.allow), ("holes", &self.hole)] {
            if !values.is_empty() {
                edits.push(Edit::List { key, values: values.clone() });
            }
        }
        edits.extend(self.env.iter().cloned().map(Edit::Env));
        edits.extend(self.carry.iter().cloned().map(Edit::Carry));
        edits.extend(self.no_carry.then_some(Edit::NoCarry));
        edits
    }
}

fn checked<T, E: ToString>(text: &str, parsed: Result<T, E>) -> Result<String, String> {
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Checks an image's name and leaves it as typed.
///
/// # Errors
/// What is wrong with it.
pub fn image(text: &str) -> Result<String, String> {
    checked(text, ImageRef::parse(text))
}

fn rule(text: &str) -> Result<String, String> {
    Rule::parse(text).map(|rule| rule.to_string()).map_err(|error| error.to_string())
}

fn hole(text: &str) -> Result<String, String> {
    Hole::parse(text).map(|hole| hole.to_string()).map_err(|error| error.to_string())
}

fn proxy(text: &str) -> Result<String, String> {
    ProxyUrl::parse(text).map(|url| url.to_string()).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<String, String> {
    checked(text, parse_size(text))
}

fn cpus(text: &str) -> Result<String, String> {
    checked(text, parse_cpus(text))
}

fn pids(text: &str) -> Result<String, String> {
    checked(text, parse_pids(text))
}

fn timeout(text: &str) -> Result<String, String> {
    checked(text, parse_timeout(text))
}

fn variable(text: &str) -> Result<EnvVar, String> {
    let (key, value) = text.split_once('=').ok_or("a machine saves values: write NAME=VALUE")?;
    EnvVar::new(key, value).map_err(|error| error.to_string())
}

fn carry(text: &str) -> Result<CarryGroup, String> {
    let (name, places) = text.split_once('=').ok_or("write NAME=PLACE[,PLACE]")?;
    let name = Name::parse(name).map_err(|error| error.to_string())?;
    let patterns = places.split(',').map(CarryPattern::parse).collect::<Result<_, _>>();
    Ok(CarryGroup { name, patterns: patterns.map_err(|error| error.to_string())? })
}

fn entry(text: &str) -> Result<String, String> {
    match shell_words::split(text) {
        Ok(words) if words.first().is_some_and(|word| !word.is_empty()) => Ok(text.to_owned()),
        Ok(_) => Err("the command is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder named from where the user stands; the file holds it absolute.
fn folder(text: &str) -> Result<String, String> {
    if text == "~" || text.starts_with("~/") {
        return Ok(text.to_owned());
    }
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    path.into_os_string().into_string().map_err(|_| "the path is not UTF-8".to_owned())
}

fn colour(text: &str) -> Result<String, String> {
    machines::settings_of(&[Edit::Set { key: "colour", value: text.to_owned() }])
        .map(|_| text.to_owned())
        .map_err(|_| format!("no colour: `#rrggbb` or one of {}", COLOURS.join(", ")))
}
