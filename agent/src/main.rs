//! PID 1 of a guest, alone: those modules of tripmine that it needs, and nothing else. `src/microvm/agent.rs` says what it does.
#![allow(dead_code, unused_imports, reason = "the modules are whole, and used in part")]

#[path = "../../src/host"]
mod host {
    pub mod capture;
    pub mod descendants;
    pub mod fdpass;
    pub mod guest;
    pub mod net;
    pub mod netlink;
    #[path = "ports/table.rs"]
    pub mod ports;
    pub mod sys;
}

#[path = "../../src/jail"]
mod jail {
    mod connect;
    pub mod init;
    pub mod spawn;
    pub mod step;
    pub mod taken_out;
    pub mod wire;
}

#[path = "../../src/model"]
mod model {
    pub mod net {
        mod own;
        pub use own::{OWN_V4, OWN_V6};
    }
}

#[path = "../../src/microvm"]
mod microvm {
    pub mod agent;
    mod channel;
    mod flow;
    mod link;
    mod stream;
    pub mod wire;
}

fn main() {
    let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if microvm::agent::is_wanted(&argv) {
        microvm::agent::main();
    }
}
