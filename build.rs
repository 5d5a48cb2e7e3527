//! Links the static program with packed relative relocations (`DT_RELR`, which the musl of Rust 1.93 and newer applies):
//! a position-independent program of this size would otherwise read and apply half a megabyte of them before `main`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
