//! The Linux edge: wrappers of system calls, probes of what this kernel gives, cgroups, processes,
//! the user's terminal. Decides nothing.

pub mod aio;
pub mod caller;
pub mod capture;
pub mod cgroup;
pub mod descendants;
pub mod diag;
pub mod fdpass;
pub mod fork;
pub mod guest;
pub mod kvm;
pub mod net;
pub mod netlink;
pub mod ports;
pub mod probe;
pub mod proc;
pub mod route;
pub mod socks;
pub mod sys;
pub mod tsc;
pub mod tty;
pub mod userns;
