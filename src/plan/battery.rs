//! The battery of `verify-jail`: which promises are probed from inside a cube, what the probe is
//! told about the host, and how its lines are read. The probe runs in the cube, so what it prints is
//! a stranger's text: only known rows count, and a row without an answer was not tested.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::diagnose::Verdict;
use crate::model::sanitize::printable;
use crate::model::{Jail, RunAs, SeccompProfile};

/// One promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// As in the security document.
    pub id: &'static str,
    /// What is promised, for people.
    pub topic: &'static str,
}

const fn row(id: &'static str, topic: &'static str) -> Row {
    Row { id, topic }
}

/// Every row, in the order it is shown.
pub const ROWS: &[Row] = &[
    row("P01", "no new privileges, filtered calls, bounded capabilities"),
    row("P02", "no descriptor of the host is left open"),
    row("P03", "the host's environment is not seen"),
    row("P04", "only the cube's own processes are seen"),
    row("P05", "process 1 cannot be traced"),
    row("P06", "other processes' memory and descriptors are out of reach"),
    row("P08", "the program behind process 1 cannot be written"),
    row("P09", "processes of the host cannot be signalled"),
    row("P12", "host name and machine id are the cube's own"),
    row("P13", "setuid programs give nothing"),
    row("P20", "every namespace is the cube's own"),
    row("P21", "process 1 cannot be inspected"),
    row("S01", "unshare is refused"),
    row("S02", "clone with namespaces is refused"),
    row("S03", "clone3 does not exist"),
    row("S04", "setns is refused"),
    row("S05", "mount, umount and pivot_root are refused"),
    row("S06", "the newer mount calls are refused"),
    row("S07", "keyrings are refused"),
    row("S08", "bpf and perf are refused"),
    row("S09", "io_uring is refused"),
    row("S10", "userfaultfd and files by handle are refused"),
    row("S11", "kcmp, pidfd_getfd and process_madvise are refused"),
    row("S13", "modules, kexec, clock and the like are refused"),
    row("S14", "x32 and 32-bit calls end the process"),
    row("S15", "typing into the terminal is refused"),
    row("S16", "unknown calls do not exist"),
    row("S17", "what ordinary programs need works"),
    row("S18", "unusual socket families are refused"),
    row("F01", "the host's sockets and homes are absent"),
    row("F02", "kernel settings cannot be written"),
    row("F03", "what the kernel tells of the host is covered"),
    row("F04", "/dev holds only the ordinary devices"),
    row("F05", "devices cannot be made"),
    row("F06", "every mount is nosuid, and nodev outside /dev"),
    row("F07", "mounts cannot be changed"),
    row("F13", "nothing else of the host is mounted"),
    row("F14", "the host's system folders cannot be changed"),
    row("N01", "the only network interface is loopback"),
    row("N02", "nothing is reached past the policy: host, metadata, elsewhere"),
    row("N03", "datagrams and pings go nowhere, and fail at once"),
    row("N07", "abstract sockets of the host are out of reach"),
    row("N09", "fast open and multipath TCP reach nothing"),
    row("N11", "the network cannot be changed from inside"),
    row("N12", "names are given to the proxy, never looked up"),
    row("N13", "without its proxy nothing is reached, at once"),
    row("R01", "processes and open files are limited"),
    row("R02", "a fork bomb ends at the limit"),
    row("R04", "a flood of data ends at the limit"),
    // Last: where the keeper watches memory, it ends the whole cube.
    row("R03", "a flood of memory ends at the limit"),
];

/// A destroyed system.
pub const F08: Row = row("F08", "a system that a cube destroyed is whole at the next launch");
/// Links in a project.
pub const F09: Row = row("F09", "a link in a project leads to nothing of the host's");
/// A project that is exchanged.
pub const F10: Row = row("F10", "a project that is exchanged for a link is not mounted");
/// Rows that take launches of their own, tried from outside.
pub const LAUNCHES: &[Row] = &[F08, F09, F10];

/// What the jail in place promises instead of namespaces.
const IN_PLACE: &[Row] = &[
    row("L01", "files outside home, project and temporary folder are shut"),
    row("L02", "nothing outside them is made, written, renamed or removed"),
    row("L03", "no unix socket can be made"),
    row("L04", "limits and priority of other processes cannot be set"),
    row("L05", "shared memory and queues of the host do not exist"),
    row("L06", "no mode gives files of the host to others"),
    row("L07", "other processes of the caller cannot be inspected"),
];

/// What the jail in place does not promise, and why.
const NOT_IN_PLACE: &[(&str, &str)] = &[
    ("P04", "it has no process namespace: the host's processes are seen, by name and command line"),
    ("P12", "it has the host's name"),
    ("P20", "it has no namespaces"),
    ("P21", "process 1 is the host's; L07 stands for it"),
    ("F01", "the host's files are there, and shut: L01"),
    ("F03", "/proc is the host's own"),
    ("F04", "/dev is the host's own, and shut but for seven devices"),
    ("F06", "its mounts are the host's own"),
    ("F13", "its mounts are the host's own; L01 and L02 stand for it"),
    ("F14", "its mounts are the host's own; L02 stands for it"),
    ("N01", "it has the host's network, and no socket to use it"),
    ("N12", "it has no proxy"),
    ("N13", "it has no proxy"),
    ("R04", "what it writes goes to the caller's own disk"),
];

/// The rows of a kind of jail, in the order they are shown.
#[must_use]
pub fn rows(jail: Jail) -> Vec<Row> {
    let own = if jail == Jail::Landlock { IN_PLACE } else { &[] };
    // Memory stays last.
    let (memory, others): (Vec<Row>, Vec<Row>) = ROWS.iter().copied().partition(|row| row.id == "R03");
    own.iter().copied().chain(others).chain(memory).collect()
}

/// The rows of a kind of jail that take launches of their own. In place there is no system of the cube's own to destroy, and
/// links lead where the host's do: L01 and L02 stand for them.
#[must_use]
pub const fn launches(jail: Jail) -> &'static [Row] {
    match jail {
        Jail::Landlock => &[],
        Jail::Container | Jail::Microvm => LAUNCHES,
    }
}

/// Why this kind of jail does not promise this row; `None`: it does.
#[must_use]
pub fn not_promised(jail: Jail, id: &str) -> Option<&'static str> {
    let list = if jail == Jail::Landlock { NOT_IN_PLACE } else { &[] };
    list.iter().find(|(row, _)| *row == id).map(|(_, why)| *why)
}

/// The name that the battery's own proxy answers.
pub const NAME: &str = "probe.tripmine.example";
/// The name that makes it go away.
pub const STOP: &str = "stop.tripmine.example";

/// The arguments of the hidden verb that runs the probe.
pub const PROBE_VERB: &str = "__probe-jail";

/// What the probe is told so that it can recognise the host's things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canaries {
    /// The kind of jail.
    pub jail: Jail,
    /// As whom the cube runs.
    pub run_as: RunAs,
    /// Its seccomp profile.
    pub profile: SeccompProfile,
    /// A file of the host's that was made to be tried.
    pub victim: Option<String>,
    /// A process of the host, as the host numbers it.
    pub host_pid: Option<u32>,
    /// An abstract unix socket that somebody listens on, on the host; without the leading NUL.
    pub abstract_socket: Option<String>,
    /// Names of variables that the cube was not given.
    pub env: Vec<String>,
    /// The host's name.
    pub hostname: Option<String>,
    /// The host's machine id.
    pub machine_id: Option<String>,
    /// Paths of the host that must not exist inside.
    pub absent: Vec<String>,
    /// Where something of the host is mounted on purpose: system folders, home, project, tools.
    pub mounts: Vec<String>,
    /// The host's namespaces, each as `net:[4026531840]`.
    pub namespaces: Vec<String>,
    /// System folders of the host that are seen inside.
    pub system: Vec<String>,
    /// The limit on processes.
    pub pids: Option<u32>,
    /// A port of the host on which somebody listens, on every address.
    pub port: Option<u16>,
    /// Addresses of the host.
    pub addresses: Vec<IpAddr>,
    /// What the proxy answers [`NAME`] with.
    pub token: Option<String>,
    /// The limit on open files.
    pub open_files: Option<u64>,
    /// The limit on memory, in bytes.
    pub memory: Option<u64>,
    /// The limit on what is written outside home and project, in bytes, where the kernel enforces it.
    pub disk: Option<u64>,
}

impl Canaries {
    /// A cube about which nothing else is known.
    #[must_use]
    pub const fn new(run_as: RunAs, profile: SeccompProfile) -> Self {
        Self {
            jail: Jail::Container,
            run_as,
            profile,
            victim: None,
            host_pid: None,
            abstract_socket: None,
            env: Vec::new(),
            hostname: None,
            machine_id: None,
            absent: Vec::new(),
            mounts: Vec::new(),
            namespaces: Vec::new(),
            system: Vec::new(),
            pids: None,
            port: None,
            addresses: Vec::new(),
            token: None,
            open_files: None,
            memory: None,
            disk: None,
        }
    }

    /// The arguments after [`PROBE_VERB`]: `key=value`, each one word of argv.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("user={}", self.run_as), format!("seccomp={}", self.profile)];
        if self.jail != Jail::Container {
            arguments.push(format!("jail={}", self.jail));
        }
        arguments.extend(self.victim.iter().map(|path| format!("victim={path}")));
        arguments.extend(self.host_pid.map(|pid| format!("host-pid={pid}")));
        arguments.extend(self.abstract_socket.iter().map(|name| format!("abstract={name}")));
        arguments.extend(self.env.iter().map(|name| format!("env={name}")));
        arguments.extend(self.hostname.iter().map(|name| format!("hostname={name}")));
        arguments.extend(self.machine_id.iter().map(|id| format!("machine-id={id}")));
        arguments.extend(self.absent.iter().map(|path| format!("absent={path}")));
        arguments.extend(self.mounts.iter().map(|path| format!("mount={path}")));
        arguments.extend(self.port.map(|port| format!("port={port}")));
        arguments.extend(self.addresses.iter().map(|address| format!("address={address}")));
        arguments.extend(self.token.iter().map(|token| format!("token={token}")));
        arguments.extend(self.namespaces.iter().map(|one| format!("namespace={one}")));
        arguments.extend(self.system.iter().map(|path| format!("system={path}")));
        arguments.extend(self.open_files.map(|files| format!("open-files={files}")));
        arguments.extend(self.memory.map(|bytes| format!("memory={bytes}")));
        arguments.extend(self.pids.map(|pids| format!("pids={pids}")));
        arguments.extend(self.disk.map(|bytes| format!("disk={bytes}")));
        arguments
    }

    /// Reads [`Canaries::arguments`] again.
    ///
    /// # Errors
    /// A line that names the argument that is not understood.
    pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Self, String> {
        let mut canaries = Self::new(RunAs::Me, SeccompProfile::Default);
        for argument in arguments {
            let argument = argument.as_ref();
            let unknown = || format!("`{}` is no argument of the probe", printable(argument));
            let (key, value) = argument.split_once('=').ok_or_else(unknown)?;
            let text = value.to_owned();
            match key {
                "user" => canaries.run_as = value.parse()?,
                "jail" => canaries.jail = value.parse()?,
                "victim" => canaries.victim = Some(text),
                "seccomp" => canaries.profile = value.parse()?,
                "host-pid" => canaries.host_pid = Some(value.parse().map_err(|_| unknown())?),
                "abstract" => canaries.abstract_socket = Some(text),
                "env" => canaries.env.push(text),
                "hostname" => canaries.hostname = Some(text),
                "machine-id" => canaries.machine_id = Some(text),
                "absent" => canaries.absent.push(text),
                "mount" => canaries.mounts.push(text),
                "port" => canaries.port = Some(value.parse().map_err(|_| unknown())?),
                "address" => canaries.addresses.push(value.parse().map_err(|_| unknown())?),
                "token" => canaries.token = Some(text),
                "namespace" => canaries.namespaces.push(text),
                "system" => canaries.system.push(text),
                "open-files" => canaries.open_files = Some(value.parse().map_err(|_| unknown())?),
                "memory" => canaries.memory = Some(value.parse().map_err(|_| unknown())?),
                "pids" => canaries.pids = Some(value.parse().map_err(|_| unknown())?),
                "disk" => canaries.disk = Some(value.parse().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            }
        }
        Ok(canaries)
    }
}

/// What the probe saw of one row; also one line of its output, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The row.
    pub id: String,
    /// What is promised.
    pub topic: String,
    /// Is it kept?
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
}

impl Observation {
    /// An observation of `row`.
    #[must_use]
    pub fn new(row: Row, verdict: Verdict, detail: String) -> Self {
        Self { id: row.id.to_owned(), topic: row.topic.to_owned(), verdict, detail }
    }
}

/// One observation for every row of `jail`, in order; `besides` are rows that this cube does not promise, and why. Lines that are no observation and rows that are not
/// ours count for nothing; of several answers for one row the worst counts; none is no pass.
#[must_use]
pub fn read(output: &str, jail: Jail, besides: &[(&str, &str)]) -> Vec<Observation> {
    let seen: Vec<Observation> =
        output.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect();
    rows(jail)
        .into_iter()
        .chain(launches(jail).iter().copied())
        .map(|row| {
            let besides = besides.iter().find(|(id, _)| *id == row.id).map(|(_, why)| *why);
            if let Some(why) = not_promised(jail, row.id).or(besides) {
                // Whatever the probe saw: nothing was promised.
                return Observation::new(row, Verdict::NotPromised, why.to_owned());
            }
            seen.iter().filter(|one| one.id == row.id).max_by_key(|one| severity(one.verdict)).map_or_else(
                || Observation::new(row, Verdict::CouldNotTest, "the probe said nothing".to_owned()),
                |one| match one.verdict {
                    // Not for the probe to say.
                    Verdict::NotPromised => {
                        Observation::new(row, Verdict::CouldNotTest, printable(&one.detail))
                    }
                    verdict => Observation::new(row, verdict, printable(&one.detail)),
                },
            )
        })
        .collect()
}

/// Where the keeper is who ends a cube that takes too much memory, the probe cannot tell of it any more. `ended` is the
/// keeper's reason for an end by the memory limit.
#[must_use]
pub fn settle(mut rows: Vec<Observation>, ended: Option<&str>) -> Vec<Observation> {
    let silent = |row: &&mut Observation| row.id == "R03" && row.verdict == Verdict::CouldNotTest;
    if let (Some(why), Some(row)) = (ended, rows.iter_mut().find(silent)) {
        (row.verdict, row.detail) = (Verdict::Pass, printable(why));
    }
    rows
}

const fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::CouldNotTest | Verdict::NotPromised => 1,
        Verdict::Fail => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back() {
        let mut canaries = Canaries::new(RunAs::Root, SeccompProfile::Strict);
        assert_eq!(Canaries::parse(&canaries.arguments()), Ok(canaries.clone()));
        (canaries.jail, canaries.victim) = (Jail::Landlock, Some("/x".to_owned()));
        canaries.host_pid = Some(7);
        canaries.abstract_socket = Some("a=b".to_owned());
        canaries.env = vec!["TOKEN".to_owned(), "KEY".to_owned()];
        canaries.hostname = Some("h".to_owned());
        canaries.machine_id = Some("0".to_owned());
        canaries.absent = vec!["/home/me".to_owned()];
        canaries.mounts = vec!["/usr".to_owned()];
        canaries.addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        (canaries.port, canaries.token) = (Some(80), Some("t".to_owned()));
        (canaries.pids, canaries.disk) = (Some(64), Some(1 << 20));
        (canaries.open_files, canaries.memory) = (Some(9), Some(1 << 21));
        canaries.namespaces = vec!["net:[1]".to_owned()];
        canaries.system = vec!["/usr".to_owned()];
        assert_eq!(Canaries::parse(&canaries.arguments()), Ok(canaries));
        for bad in ["x", "pid=1", "host-pid=x", "user=king", "pids=", "disk=-1", "port=0x", "address=h"] {
            assert!(Canaries::parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_by_the_keeper_settles_memory_only() {
        let verdict = |output: &str, ended: Option<&str>, id: &str| {
            settle(read(output, Jail::Container, &[]), ended)
                .into_iter()
                .find(|row| row.id == id)
                .map(|row| row.verdict)
        };
        let broken = "{\"id\":\"R03\",\"topic\":\"\",\"verdict\":\"fail\",\"detail\":\"\"}";
        for (output, ended, id, expected) in [
            ("", Some("passed"), "R03", Verdict::Pass),
            ("", Some("passed"), "R02", Verdict::CouldNotTest),
            ("", None, "R03", Verdict::CouldNotTest),
            (broken, Some("passed"), "R03", Verdict::Fail),
        ] {
            assert_eq!(verdict(output, ended, id), Some(expected), "{id} {ended:?}");
        }
    }

    #[test]
    fn strange_output_never_passes() {
        let line = |id: &str, verdict: &str, detail: &str| {
            format!(
                "{{\"id\":\"{id}\",\"topic\":\"lie\",\"verdict\":\"{verdict}\",\"detail\":\"{detail}\"}}\n"
            )
        };
        let text = line("P01", "pass", "ok")
            + &line("P02", "pass", "first")
            + &line("P02", "fail", "second \\u001b[2J")
            + &line("X99", "pass", "unknown")
            + &line("P03", "splendid", "x")
            + "noise\n";
        let rows = read(&text, Jail::Container, &[]);
        assert_eq!(rows.len(), ROWS.len() + LAUNCHES.len());
        assert_eq!((rows[0].verdict, rows[0].topic.as_str()), (Verdict::Pass, ROWS[0].topic));
        assert_eq!((rows[1].verdict, rows[1].detail.as_str()), (Verdict::Fail, "second \\u{1b}[2J"));
        assert!(rows[2..].iter().all(|row| row.verdict == Verdict::CouldNotTest));
        // Nor does what is not promised pass, or what is promised go unpromised.
        let text =
            line("P04", "pass", "ok") + &line("P05", "not-promised", "ok") + &line("L01", "pass", "ok");
        let rows = read(&text, Jail::Landlock, &[("R02", "the keeper counts")]);
        let verdict = |id: &str| rows.iter().find(|row| row.id == id).map(|row| row.verdict);
        assert_eq!(verdict("P04"), Some(Verdict::NotPromised));
        assert_eq!(verdict("R02"), Some(Verdict::NotPromised));
        assert_eq!(verdict("P05"), Some(Verdict::CouldNotTest));
        assert_eq!((verdict("L01"), verdict("L02")), (Some(Verdict::Pass), Some(Verdict::CouldNotTest)));
        assert_eq!(rows.last().map(|row| row.id.as_str()), Some("R03"));
    }
}
