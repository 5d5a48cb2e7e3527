//! `Request`: what changes something, whichever face asks for it. Each says the command line that does the same:
//! the screen shows it before and after, and a test holds the command line to it.

mod words;

use crate::config::edit::Edit;
use crate::model::net::Rule;
use crate::model::{Name, PortMap, TripId};
use crate::plan::resolve::Typed;

/// One act.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Launch, stay joined unless detached.
    Launch(Box<Typed>),
    /// Launch a cube again from a continuation, or let a paused one go on; stay joined.
    Resume {
        /// The continuation, or the cube.
        image: String,
        /// The name of a durable cube.
        keep: Option<Name>,
    },
    /// Join a running cube.
    Attach {
        /// Which.
        cube: TripId,
        /// Take typing over from whoever has it.
        take_over: bool,
    },
    /// Another process in a running cube.
    Exec {
        /// Which.
        cube: TripId,
        /// The command.
        argv: Vec<String>,
    },
    /// End a cube: TERM, then KILL after its grace.
    Stop(TripId),
    /// End a cube at once.
    Kill(TripId),
    /// Save a cube's memory and end it: it goes on from there.
    Pause(TripId),
    /// Delete a cube that has ended, with what it kept.
    Remove(TripId),
    /// Another name for a kept cube.
    Rename {
        /// Which.
        cube: TripId,
        /// The new name.
        name: Name,
    },
    /// Make a machine.
    MachineCreate {
        /// Its name.
        name: Name,
        /// What it saves.
        edits: Vec<Edit>,
    },
    /// Change a machine.
    MachineEdit {
        /// Its name.
        name: Name,
        /// What changes.
        edits: Vec<Edit>,
    },
    /// Another name for a machine and its home.
    MachineRename {
        /// Its name.
        name: Name,
        /// The new one.
        new: Name,
    },
    /// Delete a machine and its home, into the trash.
    MachineRemove(Name),
    /// Delete a machine's home, into the trash.
    MachineResetHome(Name),
    /// Make a project.
    ProjectCreate {
        /// On whose projects root.
        machine: Name,
        /// Its name.
        name: Name,
    },
    /// Delete a project, into the trash.
    ProjectRemove {
        /// On whose projects root.
        machine: Name,
        /// Its name.
        name: Name,
    },
    /// Bring back what was deleted last, or what is named.
    Undo(Option<String>),
    /// Make an image of what a cube changed in its system. Whoever asks has shown what goes in.
    Snapshot {
        /// Which cube.
        cube: TripId,
        /// The image's name.
        name: String,
        /// A machine that starts from it.
        machine: SnapshotFor,
    },
    /// Take over what a cube changed in its project, beneath these places; none: everything.
    Apply {
        /// Which cube.
        cube: TripId,
        /// Places in the project.
        paths: Vec<String>,
    },
    /// Lead a host port to one of a cube, until it is closed or the cube ends.
    Forward {
        /// Which cube.
        cube: TripId,
        /// From where to where.
        map: PortMap,
    },
    /// Close a forward.
    Unforward {
        /// Which cube.
        cube: TripId,
        /// The host's end, as it is listed.
        host: String,
    },
    /// Let a running cube reach something.
    NetAllow {
        /// Which cube.
        cube: TripId,
        /// What.
        rule: Rule,
        /// For how long.
        until: Until,
    },
    /// Fetch an image from a registry.
    ImagePull {
        /// As docker and podman write it.
        remote: String,
        /// Through whose proxy, if it has one.
        machine: Name,
        /// Without encryption; only from this host itself.
        plain_http: bool,
    },
    /// Send an image to a registry.
    ImagePush {
        /// Which.
        image: String,
        /// Where to, as docker and podman write it; none: its name.
        remote: Option<String>,
        /// Through whose proxy, if it has one.
        machine: Name,
        /// Without encryption; only to this host itself.
        plain_http: bool,
    },
    /// Make an image of a folder or an archive.
    ImageImport {
        /// What comes in.
        path: String,
        /// Its name; none: its own.
        name: Option<String>,
    },
    /// Hand an image out.
    ImageExport {
        /// Which.
        image: String,
        /// `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`.
        target: String,
    },
    /// Another name for an image.
    ImageTag {
        /// Which.
        image: String,
        /// The name.
        name: String,
    },
    /// Delete an image, by name with its history.
    ImageRemove(String),
    /// Delete for good what is left over: the trash, old records, what no image needs.
    Prune,
}

/// What a snapshot is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotFor {
    /// New cubes, wherever it is named.
    Nothing,
    /// A new machine that starts from it, otherwise like the cube's own.
    Create {
        /// Its name.
        name: Name,
        /// The groups of the home's `carry` patterns that come along with the rest of the home.
        carry: Vec<String>,
    },
    /// This machine, which starts from it from now on.
    Update(Name),
    /// `resume`.
    Continuation,
}

/// How long a cube may reach what it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For the next connection.
    Once,
    /// Until the cube ends.
    Cube,
    /// Every later cube of its machine, too.
    Machine,
}

impl Request {
    /// The kinds, for the test that walks them: the command's words that every face knows it by.
    pub const KINDS: &'static [&'static str] = &[
        "launch",
        "resume",
        "attach",
        "exec",
        "stop",
        "kill",
        "pause",
        "rm",
        "rename",
        "machine create",
        "machine edit",
        "machine rename",
        "machine rm",
        "machine reset-home",
        "project create",
        "project rm",
        "undo",
        "image snapshot",
        "apply",
        "forward",
        "forward rm",
        "net",
        "image pull",
        "image push",
        "image import",
        "image export",
        "image tag",
        "image rm",
        "prune",
    ];

    /// Which of [`Request::KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Launch(_) => "launch",
            Self::Resume { .. } => "resume",
            Self::Attach { .. } => "attach",
            Self::Exec { .. } => "exec",
            Self::Stop(_) => "stop",
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Remove(_) => "rm",
            Self::Rename { .. } => "rename",
            Self::MachineCreate { .. } => "machine create",
            Self::MachineEdit { .. } => "machine edit",
            Self::MachineRename { .. } => "machine rename",
            Self::MachineRemove(_) => "machine rm",
            Self::MachineResetHome(_) => "machine reset-home",
            Self::ProjectCreate { .. } => "project create",
            Self::ProjectRemove { .. } => "project rm",
            Self::Undo(_) => "undo",
            Self::Snapshot { .. } => "image snapshot",
            Self::Apply { .. } => "apply",
            Self::Forward { .. } => "forward",
            Self::Unforward { .. } => "forward rm",
            Self::NetAllow { .. } => "net",
            Self::ImagePull { .. } => "image pull",
            Self::ImagePush { .. } => "image push",
            Self::ImageImport { .. } => "image import",
            Self::ImageExport { .. } => "image export",
            Self::ImageTag { .. } => "image tag",
            Self::ImageRemove(_) => "image rm",
            Self::Prune => "prune",
        }
    }

    /// It may take minutes: whoever asks can be offered to break it off.
    #[must_use]
    pub const fn may_take_long(&self) -> bool {
        matches!(
            self,
            Self::ImagePull { .. }
                | Self::ImagePush { .. }
                | Self::ImageImport { .. }
                | Self::ImageExport { .. }
        )
    }
}

#[cfg(test)]
pub(crate) mod tests;
