//! Machines as data: what a host lacks, what a launch gets.

use super::*;
use crate::model::{ImageRef, JailChoice, Layer};
use crate::plan::facts::{IdRange, SubordinateIds};
use crate::plan::launch::{IdMap, LandlockAccess, UpperPlan};
use crate::plan::resolve::{Typed, resolve};
use crate::plan::samples;
use crate::plan::{Facts, landlock, seccomp};

fn found() -> VmFacts {
    let file = |name: &str| FileFacts { path: name.into(), identity: FileIdentity { dev: 1, ino: 7 } };
    VmFacts {
        architecture: true,
        kvm: KvmFacts::Works { dev: 5, ino: 6, mode: 0o660 },
        engine: None,
        vmm: Ok(VmmFacts {
            program: "/usr/bin/qemu-system-x86_64".into(),
            version: (10, 0, 2),
            microvm: true,
            qboot: Some("/usr/share/qemu/qboot.rom".into()),
        }),
        share: Ok(ShareFacts {
            program: "/usr/libexec/virtiofsd".into(),
            kind: ShareKind::Rust,
            version: (1, 13, 2),
        }),
        kernel: Ok(KernelFacts {
            release: "6.12.1".into(),
            source: "/boot/vmlinuz".into(),
            image: file("/cache/vmlinux"),
            initramfs: file("/cache/initramfs"),
            initramfs_net: file("/cache/initramfs-net"),
            pci: false,
        }),
        program: file("/usr/bin/tripmine"),
        cpus: 8,
        open_files: 1 << 20,
        agent: 7,
    }
}

fn planned(change: impl Fn(&mut Typed, &mut Facts)) -> Result<LaunchPlan, Failure> {
    let mut facts = samples::facts();
    facts.vm = Some(found());
    facts.landlock = landlock::rules;
    let mut typed = Typed::default();
    typed.settings.image = Some(ImageRef::Host);
    typed.settings.jail = Some(JailChoice::Microvm);
    change(&mut typed, &mut facts);
    resolve(&typed, &facts)
}

fn vm(facts: &mut Facts) -> &mut VmFacts {
    facts.vm.as_mut().expect("looked up")
}

#[test]
fn what_a_host_lacks_is_refused_with_the_fix_and_never_emulated_in_silence() {
    let lacks = |kvm: KvmFacts| planned(move |_, f| vm(f).kvm = kvm.clone()).expect_err("no kvm");
    for (kvm, part, fix) in [
        (KvmFacts::Missing, "no /dev/kvm", "kvm_intel"),
        (
            KvmFacts::Denied { owner: "root:kvm".into(), mode: 0o660, user: "ann".into() },
            "root:kvm, mode 0660",
            "usermod -aG kvm ann",
        ),
        (KvmFacts::Busy { why: "EBUSY".into() }, "EBUSY", "VirtualBox"),
        (KvmFacts::Interprets { ms: 135 }, "135 ms", "whose processor"),
    ] {
        let failure = lacks(kvm);
        assert!(failure.message.contains(part), "{failure}");
        assert!(failure.hints[0].contains(fix), "{:?}", failure.hints);
        assert!(
            failure.hints.last().is_some_and(|hint| hint.contains("--vm-accel tcg")),
            "{:?}",
            failure.hints
        );
    }
    for (missing, change) in [
        ("no qemu", (|f: &mut VmFacts, why: Failure| f.vmm = Err(why)) as fn(&mut VmFacts, Failure)),
        ("no share", |f, why| f.share = Err(why)),
        ("no kernel", |f, why| f.kernel = Err(why)),
    ] {
        let failure = planned(|_, f| change(vm(f), Failure::failed(missing))).expect_err(missing);
        assert_eq!(failure.message, missing);
    }
}

#[test]
fn emulation_has_to_be_named_and_is_said_loudly() {
    let plan = planned(|t, f| {
        t.settings.vm.accel = Some(VmAccel::Tcg);
        vm(f).kvm = KvmFacts::Missing;
    })
    .expect("named");
    let machine = plan.vm.as_ref().expect("a machine");
    assert_eq!((machine.spec.accel, machine.spec.cpus), (VmAccel::Tcg, 1));
    assert!(plan.warnings.iter().any(|warning| warning.contains("EMULATED")), "{:?}", plan.warnings);
    assert!(crate::plan::explain::explain(&plan).join("\n").contains("EMULATED, SLOW"));
    assert!(machine.spec.words().contains("EMULATED"));
    assert!(!machine.files.iter().any(|file| file.target == "/dev/kvm"), "no device is shown for it");
    let fast = planned(|_, _| {}).expect("kvm works").vm.expect("a machine");
    assert_eq!((fast.spec.accel, fast.spec.cpus), (VmAccel::Kvm, 4));
    let device = fast.files.iter().find(|file| file.target == "/dev/kvm").expect("the device");
    assert_eq!(device.identity, FileIdentity { dev: 5, ino: 6 }, "the one that was tried");
}

#[test]
fn limits_are_the_guests_and_the_jail_has_a_little_more() {
    let with = |memory: &str, cpus: Option<&str>| {
        let (memory, cpus) = (memory.to_owned(), cpus.map(str::to_owned));
        planned(move |t, _| {
            t.settings.limits.memory = Some(crate::model::limits::parse_size(&memory).expect("a size"));
            t.settings.limits.cpus_milli =
                cpus.as_deref().map(|text| crate::model::limits::parse_cpus(text).expect("a number"));
        })
    };
    let plan = with("512M", Some("1.5")).expect("enough");
    let spec = &plan.vm.as_ref().expect("a machine").spec;
    assert_eq!((spec.memory, spec.cpus), (ByteSize::mib(512), 2));
    assert_eq!(plan.limits.memory.map(|(size, _)| size), Some(ByteSize::mib(512 + 256)));
    let around = plan.limits.pids.map(|(count, _)| count).expect("a number");
    assert_eq!((spec.pids, spec.open_files), (Some(around - ALLOWED_PIDS), crate::plan::limits::OPEN_FILES));
    let failure = with("32M", None).expect_err("too little");
    assert!(failure.message.contains("96M at least"), "{failure}");
}

#[test]
fn the_jail_around_it_is_a_cube_of_its_own() {
    let plan = planned(|_, _| {}).expect("a plan");
    let machine = plan.vm.as_ref().expect("a machine");
    assert!(plan.layers.contains(&Layer::Microvm) && plan.layers.contains(&Layer::Seccomp));
    assert!(machine.jail_root.system.iter().all(|tree| !tree.writable));
    assert!(matches!(machine.jail_root.upper, UpperPlan::Tmpfs { .. }));
    let writable: Vec<_> = plan
        .landlock
        .rules
        .iter()
        .filter(|rule| rule.access == LandlockAccess::ReadWrite)
        .map(|rule| rule.path.as_str())
        .collect();
    assert_eq!(writable, ["/run", "/tmp", GUEST]);
    // One id is all there is: the daemon that translates needs no capability, the old one needs some.
    assert!(plan.user.capabilities.is_empty(), "{:?}", plan.user.capabilities);
    assert_eq!(machine.spec.squash, Some((plan.user.uid, plan.user.gid)));
    let of_old = |ids: bool| {
        planned(move |_, f| {
            vm(f).share = Ok(ShareFacts { program: "/x".into(), kind: ShareKind::C, version: (7, 2, 0) });
            let range = IdRange { start: 100_000, count: 65_536 };
            f.subordinate = ids.then_some(SubordinateIds { uids: range, gids: range });
            f.id_helpers = true;
        })
    };
    let failure = of_old(false).expect_err("one id is too few");
    assert!(failure.hints.iter().any(|hint| hint.contains("written in Rust")), "{failure:?}");
    let old = of_old(true).expect("a plan");
    assert!(old.user.capabilities.contains(&"CAP_SYS_CHROOT".to_owned()));
    assert!(!old.user.capabilities.iter().any(|name| name == "CAP_SYS_ADMIN" || name == "CAP_MKNOD"));
    assert!(old.user.uid_map.contains(&IdMap { inside: 1000, outside: 1000, count: 1 }));
    assert_eq!(old.user.uid_map.iter().map(|map| map.count).sum::<u32>(), 65_537, "{:?}", old.user.uid_map);
    let strict = planned(|t, _| t.settings.seccomp = Some(SeccompProfile::Strict)).expect_err("strict");
    assert!(strict.message.contains("a kernel of their own"), "{strict}");
}

#[test]
fn the_shim_stands_in_for_whatever_is_started() {
    let plan = planned(|t, _| t.settings.user = Some(RunAs::Root)).expect("a plan");
    let (words, cwd) = entry_words(&plan);
    assert_eq!(
        (words[0].as_str(), words[1].as_str(), cwd.as_str()),
        ("/run/tripmine/vm/shim", SHIM_WORD, "/")
    );
    assert_eq!(words[4..], plan.entry.argv);
    let task: ShimTask = serde_json::from_str(&words[2]).expect("a task");
    let ShimTask::Run { process, .. } = task else { panic!("{words:?}") };
    assert!(process.capable);
    let (words, _) = exec_words(&plan, &["ls".into(), "-l".into()], "/work");
    assert_eq!(words[4..], ["ls", "-l"]);
    let container = planned(|t, _| t.settings.jail = Some(JailChoice::Container)).expect("a plan");
    assert_eq!(exec_words(&container, &["ls".into()], "/work"), (vec!["ls".into()], "/work".into()));
}

#[test]
fn the_filter_around_a_machine_lets_a_thread_have_a_folder_and_no_namespace() {
    use seccomp::{Answer, Arch, EPERM};
    for (chroot, answer) in [(true, Answer::Allow), (false, Answer::Errno(EPERM))] {
        let rules = seccomp::rules(SeccompProfile::Default, RunAs::Me, Arch::X86_64).around_a_machine(chroot);
        let ask = |name, first| {
            let number = seccomp::number(Arch::X86_64, name).expect("a number");
            rules.answer(Arch::X86_64.audit_arch(), number, &[first, 0, 0, 0, 0, 0])
        };
        assert_eq!(ask("unshare", 0x200), Answer::Allow);
        for flags in [0x1000_0000, 0x2_0000, 0x200 | 0x1000_0000, 0x400] {
            assert_eq!(ask("unshare", flags), Answer::Errno(EPERM), "{flags:x}");
        }
        assert_eq!(ask("chroot", 0), answer);
        assert_eq!(ask("mount", 0), Answer::Errno(EPERM));
        assert_eq!(ask("ptrace", 0), Answer::Errno(EPERM));
    }
}

#[test]
fn roots_cubes_are_nobody_and_need_a_device_that_is_open_to_nobody_in_particular() {
    let of_root = |mode| {
        planned(move |_, f| {
            f.caller.uid = 0;
            vm(f).kvm = KvmFacts::Works { dev: 5, ino: 6, mode };
        })
    };
    let failure = of_root(0o660).expect_err("closed");
    assert!(failure.hints.iter().any(|hint| hint.contains("chmod 0666 /dev/kvm")), "{:?}", failure.hints);
    of_root(0o666).expect("open");
}

#[test]
fn what_cannot_be_paused_is_told_with_what_can() {
    let kept = |change: fn(&mut Typed, &mut Facts)| {
        let plan = planned(|t, f| {
            t.keep = crate::model::Name::parse("box").ok();
            change(t, f);
        });
        cannot_pause(&plan.expect("a plan"))
    };
    assert_eq!(kept(|_, _| {}), None);
    for (change, why, fix) in [
        (
            (|_, f| vm(f).vmm.as_mut().expect("there").version = (7, 2, 22)) as fn(&mut Typed, &mut Facts),
            "QEMU 7.2.22",
            "vm setup --engine",
        ),
        (|_, f| vm(f).share.as_mut().expect("there").version = (1, 12, 9), "virtiofsd 1.12.9", "Debian 13"),
        (
            |_, f| {
                vm(f).share.as_mut().expect("there").kind = ShareKind::C;
                // Root's cubes have ids enough for it.
                f.caller.uid = 0;
                vm(f).kvm = KvmFacts::Works { dev: 5, ino: 6, mode: 0o666 };
            },
            "written in Rust",
            "Debian 13",
        ),
        (|t, _| t.keep = None, "a throwaway", "--keep NAME"),
        (|t, _| t.ephemeral = true, "--ephemeral", "without `--ephemeral`"),
        (|t, _| t.settings.jail = Some(JailChoice::Container), "only a microvm", "--jail microvm"),
    ] {
        let (said, hint) = kept(change).expect(why);
        assert!(said.contains(why) && hint.contains(fix), "{said}: {hint}");
    }
}

#[test]
fn a_machine_goes_on_only_as_the_machine_that_was_saved() {
    let mut machine = planned(|_, _| {}).expect("a plan").vm.expect("a machine");
    let saved = FileFacts { path: "/mines/x/memory/state".into(), identity: FileIdentity { dev: 1, ino: 9 } };
    let was = machine.spec.clone();
    machine.restore(&saved, &was).expect("the same");
    let file = machine.files.last().expect("a file");
    assert_eq!((file.target.as_str(), file.read_only), ("/run/tripmine/vm/saved", true));
    assert!(machine.restore);
    for (change, what) in [
        ((|s| s.memory = ByteSize::mib(7)) as fn(&mut VmSpec), "the memory"),
        (|s| s.vmm.version = (10, 1, 0), "QEMU"),
        (|s| s.agent = 8, "tripmine"),
        (|s| s.squash = None, "the user ids"),
    ] {
        let mut other = was.clone();
        change(&mut other);
        let failure = machine.clone().restore(&saved, &other).expect_err(what);
        assert!(failure.message.contains(what), "{failure}");
    }
}
