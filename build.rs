//! Links the static program with packed relative relocations (`DT_RELR`, which the musl of Rust 1.93 and newer applies):
//! a position-independent program of this size would otherwise read and apply half a megabyte of them before `main`.
//!
//! And builds the agent of a microVM's guest (`agent/`, from the same sources), which the program carries: what a guest boots
//! from would be five times as large with the whole program in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set, there is no agent, and a launch of a microVM is refused by name.
const WITHOUT: &str = "TRIPMINE_WITHOUT_AGENT";
/// What the agent is made of.
const AGENT: &[&str] = &[
    "agent/Cargo.lock",
    "agent/Cargo.toml",
    "agent/src",
    "src/host/capture",
    "src/host/capture.rs",
    "src/host/descendants.rs",
    "src/host/fdpass.rs",
    "src/host/guest.rs",
    "src/host/net.rs",
    "src/host/netlink.rs",
    "src/host/ports/table.rs",
    "src/host/sys.rs",
    "src/jail/connect.rs",
    "src/jail/init.rs",
    "src/jail/spawn.rs",
    "src/jail/step.rs",
    "src/jail/taken_out.rs",
    "src/jail/wire.rs",
    "src/microvm/agent",
    "src/microvm/agent.rs",
    "src/microvm/channel.rs",
    "src/microvm/flow.rs",
    "src/microvm/link.rs",
    "src/microvm/stream.rs",
    "src/microvm/wire",
    "src/microvm/wire.rs",
    "src/model/net/own.rs",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    for path in AGENT {
        println!("cargo:rerun-if-changed={path}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names OUT_DIR"));
    println!("cargo:rerun-if-env-changed={WITHOUT}");
    let built = if env::var_os(WITHOUT).is_some() {
        println!("cargo:warning=built without the agent of microVMs: `--jail microvm` will be refused");
        Vec::new()
    } else {
        agent(&out).unwrap_or_else(|why| {
            println!("cargo:error=the agent of microVMs was not built:");
            why.lines().for_each(|line| println!("cargo:error={line}"));
            println!("cargo:error={WITHOUT}=1 builds a tripmine that has no microVMs, and says so");
            std::process::exit(1);
        })
    };
    let kept = out.join("agent");
    // The same bytes are not written again, so that nothing is built again for them.
    if fs::read(&kept).ok().as_ref() != Some(&built) {
        fs::write(kept, built).expect("OUT_DIR can be written");
    }
}

fn agent(out: &Path) -> Result<Vec<u8>, String> {
    let target = env::var("TARGET").map_err(|error| error.to_string())?;
    let cargo = env::var_os("CARGO").ok_or("cargo does not name itself")?;
    let folder = beside_the_profiles(out, &target).ok_or("OUT_DIR is not where cargo has it")?.join("agent");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--quiet", "--manifest-path", "agent/Cargo.toml"]);
    command.args(["--target", &target]).arg("--target-dir").arg(&folder);
    // What was meant for the program: lints, other flags, another place.
    for name in [
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
    if !target.ends_with("musl") {
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    fs::read(folder.join(target).join("release/tripmine-agent")).map_err(|error| error.to_string())
}

/// The folder of all builds, of which all have the same agent: `OUT_DIR` is `DIR/PROFILE/build/PACKAGE/out`, with the target
/// before the profile when one was named.
fn beside_the_profiles<'a>(out: &'a Path, target: &str) -> Option<&'a Path> {
    let above = out.ancestors().nth(4)?;
    if above.ends_with(target) { above.parent() } else { Some(above) }
}
