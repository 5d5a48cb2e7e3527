//! Facts of an invented host, for tests of the plan.

use super::facts::{Caller, CallerEnv, CgroupFacts, Facts, FoundFile, FoundProject, StdioFacts, StreamKind};
use super::launch::{FileIdentity, LandlockAccess, LandlockPlan, LandlockRule, LaunchPlan, Origin};
use crate::model::{ByteSize, Machine, Name, Settings, TripId};

/// Ann, an ordinary user on a terminal, with the project `site` and no cgroups.
pub(crate) fn facts() -> Facts {
    let id = TripId::from_parts(1_700_000_000_000, [7; 16]);
    let mines = std::path::Path::new("/home/ann/.local/state/tripmine/Mines");
    Facts {
        cube_dir: mines.join(id.as_str()),
        id,
        config: Settings::default(),
        machine: Machine::new(Name::default_machine()),
        machine_origin: Origin::BuiltIn,
        project_file: None,
        image: None,
        environment: Settings::default(),
        caller: Caller {
            uid: 1000,
            gid: 1000,
            name: "ann".to_owned(),
            home: "/home/ann".into(),
            hard_open_files: 1 << 20,
            env: CallerEnv::new([
                ("TERM".to_owned(), "xterm".to_owned()),
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
                ("EDITOR".to_owned(), "vi".to_owned()),
                ("API_TOKEN".to_owned(), "hunter2".to_owned()),
            ]),
        },
        env_files: Vec::new(),
        project: Some(FoundProject {
            name: "site".to_owned(),
            path: "/home/ann/projects/site".into(),
            identity: FileIdentity { dev: 1, ino: 2 },
            directory: true,
            open_to_others: false,
        }),
        home: FoundFile {
            path: "/home/ann/.local/share/tripmine/homes/default".into(),
            identity: FileIdentity { dev: 1, ino: 3 },
        },
        extra: Vec::new(),
        own_folders: vec![
            "/home/ann/.config/tripmine".into(),
            "/home/ann/.local/share/tripmine".into(),
            "/home/ann/.local/state/tripmine".into(),
        ],
        skeleton: "/home/ann/.local/share/tripmine/layers/host".into(),
        system: vec!["/usr".into(), "/opt".into()],
        landlock_abi: 7,
        container: None,
        missing: Vec::new(),
        cgroups: CgroupFacts::None { why: "the tree is read-only".to_owned() },
        subordinate: None,
        id_helpers: false,
        kernel: (6, 18),
        memory_total: ByteSize::bytes(16 << 30),
        stdio: StdioFacts {
            stdin: StreamKind::Tty,
            stdout: StreamKind::Tty,
            stderr: StreamKind::Tty,
            terminal: Some((50, 132)),
        },
        shell: "/bin/bash".to_owned(),
        vm: None,
        landlock,
    }
}

fn landlock(plan: &LaunchPlan, abi: u32) -> LandlockPlan {
    let rule = |path: &str, access| LandlockRule { path: path.to_owned(), access, optional: false };
    let mut rules = vec![rule("/usr", LandlockAccess::ReadExecute)];
    rules.extend(plan.mounts.iter().map(|mount| rule(&mount.target, LandlockAccess::ReadWrite)));
    LandlockPlan {
        abi: abi.min(7),
        required_abi: 3,
        rules,
        scope_abstract: abi >= 6,
        scope_signal: abi >= 6,
        no_tcp: false,
    }
}
