//! What a counter-proof leaves out of a jail, to show that the tests of a promise notice. Owns the list of the parts that can
//! be left out.
//!
//! In every ordinary build [`taken_out`] and [`blind`] are constantly false, and what hangs on them is no part of the
//! program. Only the feature `counterproof`, which a release refuses, reads `TRIPMINE_TAKE_OUT` (parts to leave out) and
//! `TRIPMINE_BLIND` (layers whose absence the keeper does not notice). It is read once, at the start of the face; the keeper
//! and the cube's first process inherit it as memory, because they have no environment.

macro_rules! parts {
    ($($(#[$meta:meta])* $name:ident $word:literal,)+) => {
        /// A part of the jail, or of what stands around it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Part { $($(#[$meta])* $name),+ }

        #[cfg(feature = "counterproof")]
        impl Part {
            const ALL: &'static [Part] = &[$(Part::$name),+];

            const fn word(self) -> &'static str {
                match self { $(Part::$name => $word),+ }
            }
        }
    };
}

parts! {
    /// `CLONE_NEWUSER`.
    UserNs "userns",
    /// `CLONE_NEWNS`.
    MountNs "mountns",
    /// `CLONE_NEWPID`; /proc is then the host's.
    PidNs "pidns",
    /// `CLONE_NEWNET`.
    NetNs "netns",
    /// `CLONE_NEWIPC`.
    IpcNs "ipcns",
    /// `CLONE_NEWUTS`.
    UtsNs "utsns",
    /// `CLONE_NEWCGROUP`.
    CgroupNs "cgroupns",
    /// `CLONE_NEWTIME`.
    TimeNs "timens",
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs "no-new-privs",
    /// The bounding and the other sets are left as they are.
    Capabilities "capabilities",
    /// The whole Landlock domain.
    Landlock "landlock",
    /// Its scopes only: abstract sockets and signals.
    LandlockScopes "landlock-scopes",
    /// Its rules for TCP, in place.
    LandlockTcp "landlock-tcp",
    /// The process that ends what a cube in place leaves running.
    Warden "warden",
    /// The filter. The word `seccomp-NAME` takes one call's rule out instead.
    Seccomp "seccomp",
    /// Entering the cgroup.
    Cgroup "cgroup",
    /// `PR_SET_DUMPABLE` of PID 1.
    Seal "init-sealed",
    /// The host's root stays, at `/oldroot`.
    OldRoot "old-root",
    /// What covers /proc.
    ProcCovers "proc-covers",
    /// Read-only system folders.
    SystemReadOnly "system-read-only",
    /// The throwaway layer over the root: the lowest, which all cubes share, is there itself.
    Upper "upper",
    /// `nosuid` of every mount.
    NoSuid "nosuid",
    /// `nodev` of every mount.
    NoDev "nodev",
    /// The cube's own /dev and terminals: the host's are there instead.
    Dev "dev",
    /// The cube's own /etc: the host's is there instead.
    Etc "etc",
    /// The absence of the caller's folders: that of all cubes is mounted at its own path.
    HiddenHome "hidden-home",
    /// The comparison of a mounted folder with the planned one, and the refusal of links on the way to it.
    Identity "identity",
    /// The refusal of links on the way to a mount point.
    TargetLinks "target-links",
    /// The keeper's empty environment and command line.
    KeeperEnv "keeper-env",
    /// The entry's own environment: the caller's is added.
    EntryEnv "entry-env",
    /// Closing descriptors when the keeper leaves its caller.
    CloseKeeper "close-keeper",
    /// Closing descriptors in the child of the keeper.
    CloseChild "close-child",
    /// Closing descriptors before a program is executed inside.
    CloseSpawn "close-spawn",
    /// Resource limits.
    Rlimits "rlimits",
    /// Size and inodes of the cube's memory-backed file system.
    TmpfsSize "tmpfs-size",
    /// The keeper's watch over memory.
    Watch "watch",
    /// The cube's own terminal or pipes: it gets the caller's streams.
    OwnStreams "own-streams",
    /// The filter between a cube's output and the caller's terminal.
    TerminalFilter "terminal-filter",
    /// The bytes that undo a cube's terminal modes.
    TerminalLeave "terminal-leave",
    /// Passing on the terminal's new size.
    Resize "resize",
    /// The bound on what waits for a client that does not read.
    Queue "queue",
    /// Making strangers' text printable.
    Printable "printable",
}

/// Is this part left out?
#[cfg(not(feature = "counterproof"))]
#[must_use]
pub const fn taken_out(_part: Part) -> bool {
    false
}

/// Is the rule of this system call left out?
#[cfg(not(feature = "counterproof"))]
#[must_use]
pub const fn call_taken_out(_name: &str) -> bool {
    false
}

/// Does the keeper overlook that the layer of this word is missing?
#[cfg(not(feature = "counterproof"))]
#[must_use]
pub const fn blind(_layer: &str) -> bool {
    false
}

/// What a keeper that is executed, not forked, must be told.
#[cfg(not(feature = "counterproof"))]
#[must_use]
pub const fn arguments() -> [&'static str; 0] {
    []
}

#[cfg(feature = "counterproof")]
pub use chosen::{arguments, blind, call_taken_out, read, taken_out};

#[cfg(feature = "counterproof")]
mod chosen {
    use std::sync::OnceLock;

    use super::Part;
    use crate::model::sanitize;

    static OUT: OnceLock<Vec<String>> = OnceLock::new();
    static BLIND: OnceLock<Vec<String>> = OnceLock::new();

    fn holds(list: &OnceLock<Vec<String>>, word: &str) -> bool {
        list.get().is_some_and(|words| words.iter().any(|one| one == word))
    }

    /// Is this part left out?
    #[must_use]
    pub fn taken_out(part: Part) -> bool {
        holds(&OUT, part.word())
    }

    /// Is the rule of this system call left out?
    #[must_use]
    pub fn call_taken_out(name: &str) -> bool {
        holds(&OUT, &format!("seccomp-{name}"))
    }

    /// Does the keeper overlook that the layer of this word is missing?
    #[must_use]
    pub fn blind(layer: &str) -> bool {
        holds(&BLIND, layer)
    }

    /// What a keeper that is executed, not forked, must be told.
    #[must_use]
    pub fn arguments() -> [String; 2] {
        let text =
            |list: &OnceLock<Vec<String>>| list.get().map_or_else(String::new, |words| words.join(","));
        [text(&OUT), text(&BLIND)]
    }

    /// Reads what is left out: from the arguments of a keeper, else from the environment. To be called once, first of all.
    ///
    /// # Panics
    /// A word that names no part, lest a test proves nothing.
    pub fn read(argv: &[std::ffi::OsString]) {
        let words = |variable: &str, argument: usize| -> Vec<String> {
            let keeper = argv.get(1).is_some_and(|word| word == "__keeper");
            let text = if keeper { argv.get(argument).cloned() } else { std::env::var_os(variable) };
            let text = text.unwrap_or_default().to_string_lossy().into_owned();
            text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let out = words("TRIPMINE_TAKE_OUT", 2);
        for word in &out {
            let known = Part::ALL.iter().any(|part| part.word() == word) || word.starts_with("seccomp-");
            assert!(known, "`{word}` is no part of a jail");
        }
        if out.iter().any(|word| word == Part::Printable.word()) {
            sanitize::counterproof::show_raw();
        }
        let _set = (OUT.set(out), BLIND.set(words("TRIPMINE_BLIND", 3)));
    }
}
