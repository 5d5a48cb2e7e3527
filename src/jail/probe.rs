//! The inside of `verify-jail`: runs in a cube as its entry, tries what a hostile program would try
//! and prints one JSON line for each promise of `plan::battery`. What could end or change the
//! process is tried in a forked child. A probe that cannot be carried out is neither pass nor fail.

mod calls;
mod files;
mod floods;
mod in_place;
mod mounts;
mod net;
mod process;
mod raw;

use std::io::{self, Write};

use crate::model::Jail;
use crate::plan::battery::{Canaries, Observation, Row, rows};
use crate::plan::diagnose::Verdict;

/// Verdict and what was seen.
type Seen = (Verdict, String);

/// Tries every row and writes a line for each.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run(canaries: &Canaries, out: &mut dyn Write) -> io::Result<()> {
    for row in rows(canaries.jail) {
        let (verdict, detail) = try_row(row, canaries);
        let line = serde_json::to_string(&Observation::new(row, verdict, detail))?;
        writeln!(out, "{line}")?;
        // A row may end this process where the jail is broken; what came before is told by then.
        out.flush()?;
    }
    Ok(())
}

fn try_row(row: Row, canaries: &Canaries) -> Seen {
    let in_place = canaries.jail == Jail::Landlock;
    match row.id {
        "L01" => in_place::reading(&canaries.absent),
        "L02" => in_place::writing(canaries.victim.as_deref()),
        "L03" => in_place::unix_sockets(),
        "L04" => in_place::settings_of_others(canaries.host_pid),
        "L05" => in_place::shared_objects(),
        "L06" => in_place::modes(canaries.victim.as_deref()),
        "L07" => in_place::inspecting(canaries.host_pid),
        "P01" => process::privileges(canaries.run_as, canaries.jail),
        "P02" => process::descriptors(),
        "P03" => process::environment(&canaries.env, canaries.host_pid.filter(|_| in_place)),
        "P04" => process::visible_processes(),
        "P08" => process::own_program(),
        "P09" => process::host_process(canaries.host_pid, in_place),
        "P20" => process::namespaces(&canaries.namespaces),
        "P21" => process::sealed(),
        "P13" => process::setuid_programs(),
        "P12" => process::names(canaries.hostname.as_deref(), canaries.machine_id.as_deref()),
        "F01" => files::absent(&canaries.absent),
        "F02" => files::kernel_settings(),
        "F03" => files::kernel_disclosure(),
        "F04" => files::devices(),
        "F05" => files::making_devices(),
        "F06" => mounts::flags(),
        "F13" => mounts::of_the_host(&canaries.mounts),
        "F14" => mounts::system_folders(&canaries.system),
        "N01" => files::interfaces(),
        "N02" => net::past_the_proxy(canaries.port, &canaries.addresses),
        "N03" => net::datagrams(),
        "N09" => net::unusual(canaries.port),
        "N11" => net::changing(),
        "N12" => net::named(canaries.token.as_deref()),
        "N13" => net::proxy_gone(canaries.token.as_deref()),
        "N07" => process::abstract_socket(canaries.abstract_socket.as_deref()),
        "R01" => process::limits(canaries.pids.filter(|_| !in_place), canaries.open_files),
        "R02" => floods::processes(canaries.pids),
        "R03" => floods::memory(canaries.memory),
        "R04" => floods::data(canaries.disk),
        "S14" => calls::foreign(),
        id => calls::answers(id, canaries.profile, in_place),
    }
}

fn pass(detail: impl Into<String>) -> Seen {
    (Verdict::Pass, detail.into())
}

fn fail(detail: impl Into<String>) -> Seen {
    (Verdict::Fail, detail.into())
}

fn untested(detail: impl Into<String>) -> Seen {
    (Verdict::CouldNotTest, detail.into())
}

/// Passes when `found` is empty, else fails with what is in it.
fn none_of(found: &[String], otherwise: &str) -> Seen {
    if found.is_empty() { pass(otherwise) } else { fail(found.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RunAs, SeccompProfile};
    use crate::plan::battery::{LAUNCHES, read};

    /// Outside a jail the battery must notice: it ends, answers every row and finds failures.
    #[test]
    fn outside_a_jail_the_battery_fails() {
        let mut out = Vec::new();
        let mut canaries = Canaries::new(RunAs::Me, SeccompProfile::Default);
        canaries.host_pid = Some(std::process::id());
        canaries.env = vec!["PATH".to_owned()];
        canaries.absent = vec!["/proc".to_owned()];
        run(&canaries, &mut out).unwrap();
        let rows = read(&String::from_utf8(out).unwrap(), Jail::Container, &[]);
        let verdict = |id: &str| rows.iter().find(|row| row.id == id).unwrap().verdict;
        for id in ["P01", "P03", "P09", "S14", "S15", "S18", "F01"] {
            assert_eq!(verdict(id), Verdict::Fail, "{id}: {rows:#?}");
        }
        assert_eq!(verdict("S16"), Verdict::Pass, "{rows:#?}");
        let mut inside = rows.iter().filter(|row| LAUNCHES.iter().all(|other| other.id != row.id));
        assert!(inside.all(|row| row.detail != "the probe said nothing"), "{rows:#?}");
    }
}
