//! A plan as data, for `--dry-run --json`. Values of variables are left out: they may be secrets.

use serde_json::{Value, json};

use crate::plan::LaunchPlan;

/// The plan with a version, and of its environment only the names.
#[must_use]
pub fn plan(plan: &LaunchPlan) -> Value {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        let names: Vec<_> = plan.env.iter().map(|variable| variable.key.clone()).collect();
        fields.insert("env".into(), json!(names));
    }
    json!({ "version": 1, "plan": value })
}
