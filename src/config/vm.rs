//! The keys that say what a microvm is made of. Machines and `[defaults]` may have them; a project's own file may not,
//! because it would name a kernel or a program of the host.

use crate::model::{Settings, VmAccel};

use super::error::{ConfigError, Source};
use super::settings::{folder, word};
use super::tree::Entry;

/// The keys.
pub const VM_KEYS: [&str; 3] = ["vm-accel", "vm-kernel", "vm-engine"];

/// Reads `entry` into `settings` when it is one of [`VM_KEYS`]; false when it is not.
pub(crate) fn read_vm(
    source: &Source<'_>,
    settings: &mut Settings,
    entry: &Entry,
) -> Result<bool, ConfigError> {
    match entry.key.as_str() {
        "vm-accel" => settings.vm.accel = Some(word(source, entry, VmAccel::WORDS)?),
        "vm-kernel" => settings.vm.kernel = Some(folder(source, entry)?),
        "vm-engine" => settings.vm.engine = Some(folder(source, entry)?),
        _ => return Ok(false),
    }
    Ok(true)
}
