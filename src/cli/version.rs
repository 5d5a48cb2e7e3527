//! `tripmine version`.

use serde_json::json;

use super::ctx::Out;
use super::verb_args::VersionArgs;
use crate::keeper::protocol;
use crate::model::Failure;
use crate::model::cube::RECORD_VERSION;

/// Carries the command out.
///
/// # Errors
/// Never in practice: the versions are text.
pub fn run(args: &VersionArgs, out: &Out) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        return out.json(&json!({
            "version": 1,
            "tripmine": version,
            "protocol": protocol::VERSION,
            "record": RECORD_VERSION,
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        }));
    }
    out.line(format!("tripmine {version}"));
    Ok(())
}
