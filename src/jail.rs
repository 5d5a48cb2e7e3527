//! Inside the child: apply the plan step by step, confine, then be init.
//!
//! The child ([`child`]) is single-threaded, takes its namespaces by one clone3(2) and waits for its plan, which it turns into
//! strings, maps and rule tables ([`prepare`]) before its first step; the keeper compiles the filters meanwhile. Then it makes
//! system calls in the written order; each step that fails is reported by name over the control socket. It never executes
//! another image of tripmine: what runs as PID 1 is a copy of the keeper, which has an empty environment.
//!
//! Order, and why:
//! 1. id maps: nothing else is permitted before them;
//! 2. sources are opened and compared with what was planned, before anything covers them;
//! 3. the root is built and entered, the old one detached: from here no host path exists;
//! 4. resource limits and capabilities: the last step that needs a capability is behind us;
//! 5. `no_new_privs`, then Landlock (which would forbid mounting), then seccomp (which would forbid Landlock in
//!    stricter profiles);
//! 6. the keeper reads the layers back from the kernel and says go; only then does anything untrusted run.

pub mod child;
pub mod confine;
mod connect;
pub mod init;
pub mod mounts;
pub mod prepare;
pub mod probe;
pub mod spawn;
pub mod step;
pub mod taken_out;
pub mod warden;
pub mod wire;
