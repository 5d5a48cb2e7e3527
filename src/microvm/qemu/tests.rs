//! The command line, as data.

use super::*;
use crate::model::ByteSize;
use crate::plan::vm::{ShareFacts, ShareKind, VmmFacts};

fn spec(accel: VmAccel, pci: bool) -> VmSpec {
    VmSpec {
        accel,
        vmm: VmmFacts {
            program: "/usr/bin/qemu-system-x86_64".into(),
            version: (7, 2, 22),
            microvm: !pci,
            qboot: (!pci).then(|| "/usr/share/qemu/qboot.rom".into()),
        },
        share: ShareFacts {
            program: "/usr/libexec/virtiofsd".into(),
            kind: ShareKind::Rust,
            version: (1, 13, 2),
        },
        squash: Some((1000, 1000)),
        no_file_capabilities: false,
        pci,
        memory: ByteSize::mib(256),
        cpus: 2,
        release: "6.1.0".into(),
        capture: false,
        hostname: "cube".into(),
        agent: 1,
        pids: Some(64),
        open_files: 1024,
    }
}

#[test]
fn an_accelerator_is_never_a_wish() {
    for accel in [VmAccel::Kvm, VmAccel::Tcg] {
        let words = Qemu.describe(&spec(accel, false), Some(2_000_000), false);
        // Two accelerators would mean that the second is taken in silence when the first fails.
        let named: Vec<_> = words.iter().skip_while(|word| *word != "-accel").nth(1).into_iter().collect();
        assert!(named.len() == 1 && named[0].split(',').next() == Some(accel.word()), "{named:?}");
        assert_eq!(words.iter().filter(|word| *word == "-accel").count(), 1);
        assert!(!words[2].contains("accel") && !named[0].contains(':'), "{words:?}");
        let line = words.iter().find(|word| word.contains("console=")).expect("a kernel line");
        assert_eq!(line.contains("tsc_early_khz=2000000 tsc=reliable"), accel == VmAccel::Tcg);
        assert!(line.contains("tripmine_agent=1"));
    }
}

#[test]
fn the_vmm_is_shut_in_and_finds_nothing_by_itself() {
    for pci in [false, true] {
        let words = Qemu.describe(&spec(VmAccel::Tcg, pci), None, false);
        for word in [
            "-nodefaults",
            "-no-user-config",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ] {
            assert!(words.iter().any(|have| have == word), "{word}");
        }
        assert!(
            !words.iter().any(|word| word.contains("netdev") || word.contains("-nic")),
            "no network device"
        );
        let bus = if pci { "vhost-user-fs-pci" } else { "vhost-user-fs-device" };
        assert!(words.iter().any(|word| word.starts_with(bus)), "{bus}");
        assert_eq!(words.iter().any(|word| word == "virtio-mmio.force-legacy=false"), !pci);
        assert_eq!(words.iter().any(|word| word == "-bios"), !pci);
    }
}

#[test]
fn a_machine_that_goes_on_is_the_same_machine() {
    let (boot, saved) = (
        Qemu.describe(&spec(VmAccel::Kvm, false), None, false),
        Qemu.describe(&spec(VmAccel::Kvm, false), None, true),
    );
    assert_eq!(saved[..boot.len()], boot[..]);
    assert_eq!(saved[boot.len()..], ["-incoming".to_owned(), "fd:{saved}".to_owned()]);
}
