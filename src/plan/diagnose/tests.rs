//! Hosts that lack one thing each: the finding, its weight and its fix.

use super::*;
use crate::model::ByteSize;
use crate::model::host::{
    CgroupFacts, CgroupLayout, HelperFacts, IdSpan, KernelFacts, KvmFacts, LandlockFacts, SubordinateFacts,
    TerminalFacts, UserNamespaceFacts,
};

fn good() -> HostFacts {
    let span = Some(IdSpan { start: 100_000, count: 65_536 });
    HostFacts {
        uid: 1000,
        user: "me".to_owned(),
        program: Some("/usr/bin/tripmine".into()),
        kernel: KernelFacts { version: (6, 18), release: "6.18.1".to_owned() },
        landlock: LandlockFacts { abi: 7, errata: 7 },
        seccomp: Tried::Works,
        user_namespaces: UserNamespaceFacts {
            tried: Tried::Works,
            max: Some(9000),
            clone_allowed: None,
            apparmor_restricts: None,
        },
        overlay: Tried::Works,
        tmpfs_xattrs: Tried::Works,
        fresh_proc: Tried::Works,
        network_namespace: Tried::Works,
        nftables: Tried::Works,
        subordinate: SubordinateFacts {
            uids: span,
            gids: span,
            newuidmap: HelperFacts::Ready("/usr/bin/newuidmap".into()),
            newgidmap: HelperFacts::Ready("/usr/bin/newgidmap".into()),
        },
        cgroup_layout: CgroupLayout::V2,
        cgroups: CgroupFacts::V2 {
            base: "/sys/fs/cgroup/x".into(),
            controllers: ["cpu", "memory", "pids"].map(str::to_owned).into(),
        },
        kvm: KvmFacts::Works { dev: 1, ino: 2, mode: 0o660 },
        terminal: TerminalFacts {
            term: Some("xterm-256color".to_owned()),
            interactive: true,
            size: Some((80, 24)),
        },
        container: None,
        memory_total: ByteSize::mib(4096),
    }
}

#[test]
fn a_good_host_passes_and_needs_no_fix() {
    let findings = diagnose(&good());
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Pass && finding.fix.is_empty()));
    assert!(is_ready(&findings));
    assert!(findings.is_sorted_by_key(|finding| finding.matters));
    let mut ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), findings.len());
}

type Change = fn(&mut HostFacts);

fn refused() -> Tried {
    Tried::Refused("mounting: permission denied".to_owned())
}

#[test]
fn each_lack_is_found_with_its_fix() {
    // change, id, ready all the same, words of the fix
    let cases: &[(Change, &str, bool, &[&str])] = &[
        (
            |f| (f.user_namespaces.tried, f.user_namespaces.max) = (refused(), Some(0)),
            "user-namespaces",
            false,
            &["sudo sysctl -w user.max_user_namespaces=15000", "sysctl.d"],
        ),
        (
            |f| (f.user_namespaces.tried, f.user_namespaces.clone_allowed) = (refused(), Some(false)),
            "user-namespaces",
            false,
            &["kernel.unprivileged_userns_clone=1"],
        ),
        (
            |f| (f.user_namespaces.tried, f.user_namespaces.apparmor_restricts) = (refused(), Some(true)),
            "user-namespaces",
            false,
            &["'profile tripmine /usr/bin/tripmine flags=(unconfined) {' '  userns,'", "apparmor_parser -r"],
        ),
        (
            |f| {
                (f.user_namespaces.tried, f.user_namespaces.apparmor_restricts) = (refused(), Some(true));
                f.program = Some("/home/a b/$(x)".into());
            },
            "user-namespaces",
            false,
            &["/usr/local/bin/tripmine"],
        ),
        (
            |f| (f.user_namespaces.tried, f.container) = (refused(), Some("docker".to_owned())),
            "user-namespaces",
            false,
            &["seccomp=unconfined"],
        ),
        (|f| f.user_namespaces.tried = refused(), "user-namespaces", false, &["CONFIG_USER_NS"]),
        (|f| f.overlay = refused(), "overlay", false, &["modprobe overlay"]),
        (|f| (f.overlay, f.kernel.version) = (refused(), (5, 4)), "overlay", false, &["5.11 or newer"]),
        (|f| f.fresh_proc = refused(), "fresh-proc", false, &["findmnt"]),
        (|f| f.network_namespace = refused(), "network-namespace", false, &["max_net_namespaces"]),
        (|f| f.landlock.abi = 0, "landlock", false, &["lsm=landlock,"]),
        (|f| f.seccomp = refused(), "seccomp", false, &["CONFIG_SECCOMP_FILTER"]),
        (|f| f.landlock.abi = 5, "landlock-scopes", true, &["6.12"]),
        (|f| f.tmpfs_xattrs = refused(), "tmpfs-xattrs", true, &["6.6"]),
        (
            |f| f.cgroups = CgroupFacts::None { why: "no".to_owned() },
            "cgroups",
            true,
            &["Delegate=cpu cpuset io memory pids", "daemon-reload"],
        ),
        (
            |f| {
                f.cgroup_layout = CgroupLayout::Hybrid;
                f.cgroups = CgroupFacts::V1 { bases: vec![("memory".to_owned(), "/m".into())] };
            },
            "cgroups",
            true,
            &["unified_cgroup_hierarchy=1"],
        ),
        (
            |f| f.subordinate.newuidmap = HelperFacts::Missing,
            "subordinate-ids",
            true,
            &["apt-get install uidmap"],
        ),
        (
            |f| f.subordinate.newgidmap = HelperFacts::Powerless("/usr/bin/newgidmap".into()),
            "subordinate-ids",
            true,
            &["chmod u+s \"$(command -v newgidmap)\""],
        ),
        (
            |f| f.subordinate.gids = None,
            "subordinate-ids",
            true,
            &["usermod --add-subuids 524288-589823 --add-subgids 524288-589823 me "],
        ),
        (|f| f.terminal.term = None, "terminal", true, &["export TERM="]),
        (|f| f.terminal.size = Some((79, 24)), "terminal", true, &["80 columns"]),
        (|f| f.nftables = refused(), "nftables", true, &["modprobe -a nf_tables"]),
        (
            |f| f.kvm = KvmFacts::Denied { owner: "root:kvm".into(), mode: 0o660, user: "me".into() },
            "kvm",
            true,
            &["usermod -aG kvm me"],
        ),
        (|f| f.kvm = KvmFacts::Missing, "kvm", true, &["kvm_intel", "nested"]),
        (|f| f.kvm = KvmFacts::Busy { why: "EBUSY".into() }, "kvm", true, &["VirtualBox"]),
        (|f| f.kvm = KvmFacts::Interprets { ms: 135 }, "kvm", true, &["use a host"]),
    ];
    for (change, id, ready, words) in cases {
        let mut facts = good();
        change(&mut facts);
        let findings = diagnose(&facts);
        assert_eq!(is_ready(&findings), *ready, "{id}");
        let finding = findings.iter().find(|finding| finding.id == *id).unwrap();
        assert_eq!(finding.verdict, Verdict::Fail, "{id}");
        let fix = finding.fix.join("\n");
        for word in *words {
            assert!(fix.contains(word), "{id}: {word:?} is not in {fix}");
        }
    }
}

#[test]
fn what_could_not_be_tested_is_no_pass() {
    let mut facts = good();
    facts.overlay = Tried::Untested("no user namespace".to_owned());
    let findings = diagnose(&facts);
    assert!(!is_ready(&findings));
    assert!(findings.iter().any(|f| f.id == "overlay" && f.verdict == Verdict::CouldNotTest));
}

#[test]
fn root_needs_no_subordinate_ids_and_odd_names_stay_out_of_commands() {
    let mut facts = good();
    facts.subordinate.uids = None;
    facts.uid = 0;
    let passes = |facts: &HostFacts| {
        diagnose(facts).into_iter().find(|finding| finding.id == "subordinate-ids").unwrap()
    };
    assert_eq!(passes(&facts).verdict, Verdict::Pass);
    facts.uid = 1000;
    facts.user = "x; rm -rf ~".to_owned();
    assert!(passes(&facts).fix.join("\n").contains(" \"$USER\" "));
}
