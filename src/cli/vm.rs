//! `tripmine vm`: what microvms are made of on this host, and naming it.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ctx::Ctx;
use crate::config::global::with_defaults;
use crate::config::load::read_text;
use crate::engine::vm;
use crate::model::{Failure, FailureKind, VmAccel, VmSettings};
use crate::plan::vm::{VmFacts, kvm_trouble, too_old};
use crate::store::atomic::write_atomic;

/// Virtual machines
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VmArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: VmVerb,
}

/// The verbs of `tripmine vm`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum VmVerb {
    /// Show what a microvm would be made of here, and what is missing
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Name the kernel, the programs or the accelerator of every microvm, and make them ready
    Setup {
        /// A kernel: its file, or a folder such as an unpacked package
        #[arg(long, value_name = "PATH")]
        kernel: Option<String>,
        /// A folder with a whole system that holds QEMU and virtiofsd
        #[arg(long, value_name = "DIR")]
        engine: Option<String>,
        /// Who executes guests
        #[arg(long, value_name = "kvm|tcg", value_parser = super::launch_args::words(VmAccel::WORDS))]
        accel: Option<String>,
    },
}

/// Carries the command out; 0 when a microvm can start, else 1.
///
/// # Errors
/// What was named cannot be used, or the configuration cannot be written.
pub fn run(args: &VmArgs, ctx: &Ctx) -> Result<u8, Failure> {
    match &args.verb {
        VmVerb::Show { json } => show(*json, ctx),
        VmVerb::Setup { kernel, engine, accel } => {
            setup(kernel.as_deref(), engine.as_deref(), accel.as_deref(), ctx)
        }
    }
}

/// Each part: its name, what was found or what is wrong, and the ways to mend it.
type Part = (&'static str, Result<String, (String, Vec<String>)>);

fn parts(facts: &VmFacts) -> Vec<Part> {
    let failed = |failure: &Failure| (failure.message.clone(), failure.hints.clone());
    let version = |(major, minor, patch): (u32, u32, u32)| format!("{major}.{minor}.{patch}");
    vec![
        (
            "kvm",
            match kvm_trouble(&facts.kvm) {
                None => Ok("the processor executes guests".to_owned()),
                Some(trouble) => Err(trouble),
            },
        ),
        (
            "vmm",
            facts.vmm.as_ref().map_err(failed).map(|vmm| {
                let machine = if vmm.microvm { "microvm" } else { "q35" };
                format!("QEMU {}, {}, machine {machine}", version(vmm.version), vmm.program)
            }),
        ),
        (
            "share",
            facts
                .share
                .as_ref()
                .map_err(failed)
                .map(|share| format!("virtiofsd {}, {}", version(share.version), share.program)),
        ),
        (
            "kernel",
            facts
                .kernel
                .as_ref()
                .map_err(failed)
                .map(|kernel| format!("Linux {}, {}", kernel.release, kernel.source.display())),
        ),
    ]
}

fn look(ctx: &Ctx, over: &VmSettings) -> VmFacts {
    vm::gather(&ctx.engine(), &[over, &ctx.config.defaults.vm], &ctx.user)
}

fn show(json: bool, ctx: &Ctx) -> Result<u8, Failure> {
    // The device is tried whatever accelerator is chosen.
    let facts = look(ctx, &VmSettings { accel: Some(VmAccel::Kvm), ..VmSettings::default() });
    let parts = parts(&facts);
    let emulated = ctx.config.defaults.vm.accel == Some(VmAccel::Tcg);
    // Not a part of every microvm, and no reason against one.
    let old = match (&facts.vmm, &facts.share) {
        (Ok(vmm), Ok(share)) => too_old(vmm, share),
        _ => None,
    };
    let missing = parts.iter().any(|(name, part)| part.is_err() && !(emulated && *name == "kvm"));
    if json {
        let list: Vec<_> = parts
            .iter()
            .map(|(name, part)| match part {
                Ok(found) => json!({ "part": name, "ok": true, "found": found }),
                Err((why, fix)) => json!({ "part": name, "ok": false, "why": why, "fix": fix }),
            })
            .collect();
        ctx.out.json(&json!({
            "version": 1, "ready": !missing, "parts": list, "cannot_pause": old.map(|(why, _)| why)
        }))?;
        return Ok(u8::from(missing));
    }
    for (name, part) in &parts {
        match part {
            Ok(found) => ctx.out.line(format!("{name:8}{found}")),
            Err((why, fix)) => {
                ctx.out.line(format!("{name:8}MISSING: {why}"));
                for fix in fix {
                    ctx.out.line(format!("        fix: {fix}"));
                }
            }
        }
    }
    if let Some((why, fix)) = old {
        ctx.out.line(format!("pause   not possible: {why}"));
        ctx.out.line(format!("        fix: {fix}"));
    }
    if emulated {
        ctx.out.line("accel   tcg: EMULATED, SLOW, as the configuration says");
    }
    Ok(u8::from(missing))
}

fn setup(kernel: Option<&str>, engine: Option<&str>, accel: Option<&str>, ctx: &Ctx) -> Result<u8, Failure> {
    let absolute = |text: &str| {
        Path::new(text).canonicalize().map_err(|error| {
            let shown = crate::model::sanitize::printable(text);
            Failure::new(FailureKind::Missing, format!("`{shown}` cannot be used")).because(&error)
        })
    };
    let kernel = kernel.map(absolute).transpose()?;
    let engine = engine.map(absolute).transpose()?;
    let accel = accel.map(str::parse::<VmAccel>).transpose().map_err(Failure::usage)?;
    let over =
        VmSettings { accel: accel.or(Some(VmAccel::Tcg)), kernel: kernel.clone(), engine: engine.clone() };
    let facts = look(ctx, &over);
    // What was named must work; what was not is only shown.
    if kernel.is_some() {
        facts.kernel.clone()?;
    }
    if engine.is_some() {
        facts.vmm.clone()?;
        facts.share.clone()?;
    }
    let text = |path: &std::path::PathBuf| path.display().to_string();
    let changes: Vec<(&str, String)> = [
        ("vm-kernel", kernel.as_ref().map(text)),
        ("vm-engine", engine.as_ref().map(text)),
        ("vm-accel", accel.map(|accel| accel.to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect();
    if !changes.is_empty() {
        let file = ctx.layout.config_file();
        let before = read_text(&file, true)?.unwrap_or_default();
        let after = with_defaults(&file, &before, &changes)?;
        std::fs::create_dir_all(&ctx.layout.config)
            .and_then(|()| write_atomic(&file, after.as_bytes(), 0o600))
            .map_err(|error| Failure::failed("cannot write the configuration").because(&error))?;
        for (key, value) in &changes {
            ctx.out.note(format!("`{key} = \"{value}\"` is written to {}", file.display()));
        }
    }
    if let Ok(kernel) = &facts.kernel {
        ctx.out.note(format!("Linux {} is ready for guests", kernel.release));
    }
    Ok(0)
}
