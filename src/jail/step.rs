//! The steps of building a jail, each with the words that a person reads when it fails.

use rustix::io::Errno;

macro_rules! steps {
    ($($(#[$meta:meta])* $name:ident => $text:literal, $hint:literal;)+) => {
        /// One step of the set-up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Step { $($(#[$meta])* $name),+ }

        impl Step {
            const ALL: &'static [Step] = &[$(Step::$name),+];
            /// What was being done, as in "while …".
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Step::$name => $text),+ }
            }
            /// What to do about it; may be empty.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Step::$name => $hint),+ }
            }
            /// The step of a number from the wire.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Step> {
                Step::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

steps! {
    /// Making the namespaces.
    Namespaces => "making the namespaces", "run `tripmine doctor`: it names who forbids user namespaces here, and the fix";
    /// The plan's bytes.
    Plan => "reading the plan", "";
    /// prctl(2).
    DeathSignal => "tying the cube's life to its keeper", "";
    /// uid_map and gid_map.
    IdMap => "writing the id maps", "run `tripmine doctor`: it checks the subordinate ids";
    /// Waiting for the keeper.
    KeeperSync => "waiting for the keeper", "";
    /// setresuid(2).
    SetIds => "taking the mapped ids", "";
    /// unshare(CLONE_NEWCGROUP).
    CgroupNs => "making the cgroup namespace", "";
    /// MS_PRIVATE.
    Propagation => "cutting mount propagation", "";
    /// A lower layer.
    Lower => "opening the image's layers", "the image's folder is missing or was replaced; the next launch builds it again";
    /// A system folder.
    SystemTree => "opening the host's system folders", "";
    /// Home, project, extra.
    Source => "opening a folder that is mounted into the cube", "it was moved or replaced while the cube started, or a part of its path is a link now; try again";
    /// Identity differs.
    Identity => "checking a folder that is mounted into the cube: it is not the one that was planned", "it was replaced while the cube started; try again";
    /// tmpfs for the upper.
    Scratch => "making the cube's memory-backed file system", "";
    /// overlay.
    Overlay => "mounting the root overlay", "run `tripmine doctor`: it checks overlay mounts in user namespaces";
    /// Mount point.
    Target => "making a mount point inside", "a kept cube may have replaced it by a link or a file: `tripmine rm` it, or look at its system-copy folder";
    /// open_tree, mount_setattr, move_mount.
    Bind => "mounting a folder into the cube", "";
    /// proc.
    Proc => "mounting a fresh /proc", "in a container whose /proc is masked this is forbidden; run `tripmine doctor`";
    /// masks.
    ProcMask => "covering the kernel's own files in /proc", "";
    /// dev.
    Dev => "making /dev", "";
    /// devpts.
    DevPts => "mounting the cube's own terminals", "";
    /// hostname.
    Hostname => "setting the host name", "";
    /// lo.
    Loopback => "switching the loopback device on", "";
    /// pivot_root.
    Pivot => "entering the new root", "";
    /// setrlimit.
    Rlimit => "setting resource limits", "";
    /// caps.
    Capabilities => "dropping capabilities", "";
    /// nnp.
    NoNewPrivs => "setting no_new_privs", "";
    /// landlock.
    Landlock => "applying Landlock", "run `tripmine doctor`: it shows the Landlock ABI of this kernel";
    /// canary.
    Canary => "checking Landlock: a forbidden folder could still be opened", "this is a fault; the cube was not started";
    /// seccomp.
    Seccomp => "installing the seccomp filter", "";
    /// dumpable.
    Seal => "sealing PID 1 against inspection", "";
    /// signalfd.
    Signals => "preparing signals", "";
    /// ptmx.
    Terminal => "making the cube's terminal", "";
    /// The machine's files.
    Machine => "putting the virtual machine's files into its jail", "";
    /// mkdir.
    Temporary => "making the cube's folder for temporary files", "";
    /// prctl(2).
    Subreaper => "taking in what loses its parent", "";
    /// kill(2).
    ScopeCanary => "checking Landlock: a process outside the cube could still be signalled", "this is a fault; the cube was not started";
    /// user_namespaces(7).
    Watches => "leaving its user a part of the file watches", "";
    /// vfork.
    Spawn => "starting a process inside", "the limit of processes may be reached";
}

/// A step that failed, and how.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// The step.
    pub step: Step,
    /// The error.
    pub errno: Errno,
    /// Which one of several (mount or layer), as the plan counts them.
    pub index: u16,
}

/// Gives an error its step.
pub trait At<T> {
    /// As the only one of its kind.
    ///
    /// # Errors
    /// The error with its step.
    fn at(self, step: Step) -> Result<T, Failed>;
    /// As number `index`.
    ///
    /// # Errors
    /// The error with its step and number.
    fn at_index(self, step: Step, index: usize) -> Result<T, Failed>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Failed> {
        self.at_index(step, 0)
    }

    fn at_index(self, step: Step, index: usize) -> Result<T, Failed> {
        self.map_err(|errno| Failed { step, errno, index: u16::try_from(index).unwrap_or(u16::MAX) })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: Step) -> Result<T, Failed> {
        self.at_index(step, 0)
    }

    fn at_index(self, step: Step, index: usize) -> Result<T, Failed> {
        self.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)).at_index(step, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_steps() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(*step as u16), Some(*step));
            assert!(!step.text().is_empty());
        }
        assert_eq!(Step::from_number(u16::MAX), None);
    }
}
