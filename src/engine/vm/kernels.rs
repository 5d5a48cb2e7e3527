//! A kernel and its first programs, made ready in the cache.

use std::path::Path;

use crate::model::{Failure, FailureKind};
use crate::plan::vm::KernelFacts;

pub(super) fn ready(_cache: &Path, _named: Option<&Path>, _pci: bool) -> Result<KernelFacts, Failure> {
    Err(Failure::new(FailureKind::Unsupported, "no kernel"))
}
