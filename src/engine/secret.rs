//! The command that prints a proxy's secret runs in the keeper, whose environment is empty on purpose. What such commands need
//! to find the user's own store is written before them, for `env`, and nothing else.

use crate::model::net::{NetPolicy, ProxyAuth};
use crate::plan::LaunchPlan;

/// Variables that password stores look at. None of them is a secret: they stand on a command line.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "PASSWORD_STORE_DIR",
];

/// Gives the commands of `plan` the variables that `get` knows.
pub(super) fn with_environment(plan: &mut LaunchPlan, get: impl Fn(&str) -> Option<String>) {
    let given: Vec<String> = NAMES.iter().filter_map(|name| Some(format!("{name}={}", get(name)?))).collect();
    for policy in std::iter::once(&mut plan.net).chain(&mut plan.setup) {
        if let NetPolicy::Proxy { auth: ProxyAuth::Command(argv), .. } = policy {
            let own = std::mem::take(argv);
            argv.extend(["/usr/bin/env".to_owned(), "-i".to_owned()]);
            argv.extend(given.iter().cloned());
            argv.extend(own);
        }
    }
}
