//! QEMU as an engine: its command line, and its process. The lines of the console and of QEMU itself are kept, a bounded
//! number of bytes of them.

mod monitor;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::child::{self, Daemon};
use super::engine::{Engine, From, Machine, Plugs, VmError};
use crate::model::VmAccel;
use crate::model::sanitize::printable;
use crate::plan::vm::{FOLDER, VmSpec};
use monitor::Monitor;

/// How much is kept of what console and VMM say, in bytes.
const KEPT: usize = 16 * 1024;

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Qemu;

/// How much of a guest's code stays translated when the processor is emulated, in MiB. QEMU's own default grows with the
/// guest's memory, and would be most of what a machine takes beyond it; a boot is no slower with this.
const TRANSLATED_MIB: u32 = 32;

impl Engine for Qemu {
    fn describe(&self, spec: &VmSpec, khz: Option<u64>, restored: bool) -> Vec<String> {
        // Named once, so that there is no second to be taken in silence when it fails.
        let accel = match spec.accel {
            VmAccel::Kvm => spec.accel.word().to_owned(),
            VmAccel::Tcg => format!("{},tb-size={TRANSLATED_MIB}", spec.accel.word()),
        };
        let memory = spec.memory.get() >> 20;
        // Devices of the plain machine hang on its memory-mapped bus; every other machine has PCI.
        let bus = if spec.pci { "pci" } else { "device" };
        let machine = match spec.pci {
            false => "microvm,acpi=on,x-option-roms=off,memory-backend=mem",
            true => "q35,memory-backend=mem,smbus=off,sata=off,vmport=off,usb=off",
        };
        let mut words: Vec<String> =
            vec![spec.vmm.program.clone(), "-M".into(), machine.into(), "-accel".into(), accel];
        let mut add = |words_: &[&str]| words.extend(words_.iter().map(ToString::to_string));
        if let (false, Some(qboot)) = (spec.pci, &spec.vmm.qboot) {
            add(&["-bios", qboot]);
        }
        add(&["-cpu", if spec.accel == VmAccel::Kvm { "host" } else { "max" }]);
        add(&["-smp", &spec.cpus.to_string(), "-m", &format!("{memory}M")]);
        // Shared, because the share daemon reads and writes the guest's memory itself.
        add(&["-object", &format!("memory-backend-memfd,id=mem,size={memory}M,share=on")]);
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
        add(&["-chardev", "socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]);
        add(&["-chardev", "socket,id=console,fd={console}", "-serial", "chardev:console"]);
        if !spec.pci {
            // The default, legacy transport ends backends of vhost-user.
            add(&["-global", "virtio-mmio.force-legacy=false"]);
        }
        add(&["-device", &format!("virtio-serial-{bus},id=ports,max_ports=2")]);
        add(&["-chardev", "socket,id=agent,fd={agent}"]);
        add(&["-device", "virtserialport,bus=ports.0,chardev=agent,name=agent"]);
        add(&["-chardev", "socket,id=share,fd={share}"]);
        add(&["-device", &format!("vhost-user-fs-{bus},chardev=share,tag=root,queue-size=1024")]);
        add(&["-kernel", &format!("{FOLDER}/vmlinux"), "-initrd", &format!("{FOLDER}/initramfs")]);
        let mut line =
            "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests 8250.nr_uarts=1 tripmine_agent=1"
                .to_owned();
        if let (VmAccel::Tcg, Some(khz)) = (spec.accel, khz) {
            // Without it a guest that is emulated on a busy host finds no clock to count by, and hangs.
            line.push_str(&format!(" tsc_early_khz={khz} tsc=reliable"));
        }
        add(&["-append", &line]);
        if restored {
            add(&["-incoming", "fd:{saved}"]);
        }
        words
    }

    fn start(&self, spec: &VmSpec, plugs: Plugs, from: From) -> Result<Box<dyn Machine>, VmError> {
        let fail = |source: io::Error| VmError::Start { program: spec.vmm.program.clone(), source };
        let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (monitor, its_monitor) = pair().map_err(|e| fail(e.into()))?;
        let (console, its_console) = pair().map_err(|e| fail(e.into()))?;
        let (errors, its_errors) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
        let saved = match from {
            From::Boot => None,
            From::Saved(file) => Some(file),
        };
        let khz = match spec.accel {
            VmAccel::Tcg => crate::host::tsc::khz(),
            VmAccel::Kvm => None,
        };
        let words = self.describe(spec, khz, saved.is_some());
        let mut handed = vec![
            ("{agent}", &plugs.agent),
            ("{share}", &plugs.share),
            ("{monitor}", &its_monitor),
            ("{console}", &its_console),
        ];
        handed.extend(saved.iter().map(|file| ("{saved}", file)));
        let words: Vec<String> = words
            .into_iter()
            .map(|word| {
                handed.iter().fold(word, |word, (name, fd)| word.replace(name, &fd.as_raw_fd().to_string()))
            })
            .collect();
        let fds: Vec<BorrowedFd<'_>> = handed.iter().map(|(_, fd)| fd.as_fd()).collect();
        let daemon = child::start(&words, &fds, its_errors, true).map_err(fail)?;
        for fd in [&console, &errors] {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| fail(e.into()))?;
        }
        Ok(Box::new(Running {
            daemon,
            console: console.into(),
            errors: errors.into(),
            said: VecDeque::new(),
            monitor: Monitor::new(monitor),
        }))
    }
}

struct Running {
    daemon: Daemon,
    console: std::fs::File,
    errors: std::fs::File,
    said: VecDeque<u8>,
    monitor: Monitor,
}

impl Machine for Running {
    fn ended(&self) -> BorrowedFd<'_> {
        self.daemon.pidfd()
    }

    fn console(&self) -> BorrowedFd<'_> {
        self.console.as_fd()
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        for source in [&mut self.console, &mut self.errors] {
            // Bounded: a guest that floods its console is heard again at the next turn.
            for _ in 0..16 {
                match source.read(&mut buffer) {
                    Ok(count) if count > 0 => self.said.extend(&buffer[..count]),
                    _ => break,
                }
            }
        }
        let surplus = self.said.len().saturating_sub(KEPT);
        self.said.drain(..surplus);
    }

    fn last_lines(&mut self, most: usize) -> Vec<String> {
        self.listen();
        let bytes: Vec<u8> = self.said.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .split(['\n', '\r'])
            .map(|line| printable(line.trim_end()))
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(most)..].to_vec()
    }

    fn wait_ready(&mut self, patience: Duration) -> Result<VmAccel, VmError> {
        let kvm = self.monitor.ask("query-kvm", None, patience)?;
        let enabled = kvm.get("enabled").and_then(serde_json::Value::as_bool);
        Ok(if enabled == Some(true) { VmAccel::Kvm } else { VmAccel::Tcg })
    }

    fn pause(&mut self) -> Result<(), VmError> {
        self.monitor.ask("stop", None, monitor::PATIENCE).map(drop)
    }

    fn go_on(&mut self) -> Result<(), VmError> {
        self.monitor.ask("cont", None, monitor::PATIENCE).map(drop)
    }

    fn save(&mut self, file: BorrowedFd<'_>, patience: Duration) -> Result<(), VmError> {
        self.monitor.hand("saved", file)?;
        self.monitor.ask("migrate", Some(serde_json::json!({"uri": "fd:saved"})), monitor::PATIENCE)?;
        self.monitor.migrated(patience)
    }

    fn restored(&mut self, patience: Duration) -> Result<(), VmError> {
        self.monitor.arrived(patience)
    }

    fn stop(&mut self) -> Option<String> {
        match self.daemon.take_end() {
            Some(status) => Some(how(status)),
            None => {
                self.daemon.kill();
                None
            }
        }
    }
}

/// How a process ended, in words.
#[must_use]
pub fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

impl From {
    /// It begins where another was saved.
    #[must_use]
    pub const fn is_saved(&self) -> bool {
        matches!(self, Self::Saved(_))
    }
}
