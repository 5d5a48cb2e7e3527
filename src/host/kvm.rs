//! `/dev/kvm`, tried for real: a machine of one page that counts down. Opening the device is not enough, because some
//! kernels offer it and interpret what a guest executes, instruction by instruction.
#![expect(unsafe_code, reason = "KVM's ioctls have no wrapper in rustix")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::model::host::KvmFacts;

/// The device.
pub const DEVICE: &str = "/dev/kvm";
/// A loop of 100 000 rounds takes a processor well under one millisecond; an interpreter was measured at 135.
const TOO_SLOW: Duration = Duration::from_millis(10);

// Linux's include/uapi/linux/kvm.h.
const KVM_GET_API_VERSION: libc::c_ulong = 0xAE00;
const KVM_CREATE_VM: libc::c_ulong = 0xAE01;
const KVM_GET_VCPU_MMAP_SIZE: libc::c_ulong = 0xAE04;
const KVM_CREATE_VCPU: libc::c_ulong = 0xAE41;
const KVM_SET_USER_MEMORY_REGION: libc::c_ulong = 0x4020_AE46;
const KVM_RUN: libc::c_ulong = 0xAE80;
const KVM_SET_REGS: libc::c_ulong = 0x4090_AE82;
const KVM_GET_SREGS: libc::c_ulong = 0x8138_AE83;
const KVM_SET_SREGS: libc::c_ulong = 0x4138_AE84;
const KVM_EXIT_HLT: u32 = 5;

/// Where the page lies in the guest: reached by the reset state's real mode.
const PAGE: u64 = 0x1000;
/// `mov ecx, 100000; again: dec ecx; jnz again; hlt`, in real mode.
const CODE: [u8; 11] = [0x66, 0xb9, 0xa0, 0x86, 0x01, 0x00, 0x66, 0x49, 0x75, 0xfc, 0xf4];

/// Tries the device for `user`. Takes a few milliseconds where it works.
#[must_use]
pub fn probe(user: &str) -> KvmFacts {
    let meta = match std::fs::metadata(DEVICE) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return KvmFacts::Missing,
        Err(error) => return KvmFacts::Untested { why: error.to_string() },
    };
    let device = match std::fs::File::options().read(true).write(true).open(DEVICE) {
        Ok(file) => OwnedFd::from(file),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let owner = format!("{}:{}", name("/etc/passwd", meta.uid()), name("/etc/group", meta.gid()));
            return KvmFacts::Denied { owner, mode: meta.mode() & 0o7777, user: user.to_owned() };
        }
        // A node without a driver behind it.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return KvmFacts::Missing,
        Err(error) => return KvmFacts::Untested { why: error.to_string() },
    };
    match count_down(&device) {
        Ok(took) if took > TOO_SLOW => {
            KvmFacts::Interprets { ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
        }
        Ok(_) => KvmFacts::Works { dev: meta.dev(), ino: meta.ino(), mode: meta.mode() & 0o7777 },
        Err(error) => KvmFacts::Busy { why: error.to_string() },
    }
}

/// The name of an id in a file such as `/etc/passwd`, or the id.
fn name(file: &str, id: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| crate::model::sanitize::printable(name))
    });
    found.unwrap_or_else(|| id.to_string())
}

#[repr(C)]
#[derive(Default)]
struct Region {
    slot: u32,
    flags: u32,
    guest: u64,
    size: u64,
    host: u64,
}

/// `struct kvm_regs`: sixteen registers, then the instruction pointer and the flags.
#[repr(C)]
#[derive(Default)]
struct Regs {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

/// `struct kvm_sregs`, of which only the code segment's base and selector are looked at.
#[repr(C)]
struct Sregs {
    cs_base: u64,
    cs_limit: u32,
    cs_selector: u16,
    rest: [u8; 298],
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "C libraries disagree on the width of a request, which has 32 bits"
)]
fn ask(fd: &OwnedFd, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: every request given here takes a number, or a pointer to a live value of the size that the request's own
    // number states; the kernel checks the rest.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Memory shared with the kernel, unmapped in the end.
struct Map(*mut libc::c_void, usize);

impl Map {
    fn new(size: usize, fd: Option<&OwnedFd>) -> io::Result<Self> {
        let (flags, fd) = match fd {
            Some(fd) => (libc::MAP_SHARED, fd.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping at a place of the kernel's choice.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(at, size)) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nothing else points into it.
        unsafe {
            libc::munmap(self.0, self.1);
        }
    }
}

/// How long the machine takes.
fn count_down(device: &OwnedFd) -> io::Result<Duration> {
    let owned = |fd: i32| {
        // SAFETY: a new descriptor that KVM has just made for us.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    if ask(device, KVM_GET_API_VERSION, 0)? != 12 {
        return Err(io::Error::other("its interface is not version 12"));
    }
    let machine = owned(ask(device, KVM_CREATE_VM, 0)?);
    let page = Map::new(4096, None)?;
    // SAFETY: the page is ours, writable, and longer than the code.
    unsafe { std::ptr::copy_nonoverlapping(CODE.as_ptr(), page.0.cast::<u8>(), CODE.len()) };
    let region = Region { guest: PAGE, size: 4096, host: page.0 as u64, ..Region::default() };
    ask(&machine, KVM_SET_USER_MEMORY_REGION, &raw const region as libc::c_ulong)?;
    let processor = owned(ask(&machine, KVM_CREATE_VCPU, 0)?);
    let size = usize::try_from(ask(device, KVM_GET_VCPU_MMAP_SIZE, 0)?).unwrap_or(4096).max(4096);
    let shared = Map::new(size, Some(&processor))?;
    let mut sregs = Sregs { cs_base: 0, cs_limit: 0, cs_selector: 0, rest: [0; 298] };
    ask(&processor, KVM_GET_SREGS, &raw mut sregs as libc::c_ulong)?;
    (sregs.cs_base, sregs.cs_selector) = (0, 0);
    ask(&processor, KVM_SET_SREGS, &raw const sregs as libc::c_ulong)?;
    let regs = Regs { rip: PAGE, rflags: 2, ..Regs::default() };
    ask(&processor, KVM_SET_REGS, &raw const regs as libc::c_ulong)?;
    let begun = Instant::now();
    ask(&processor, KVM_RUN, 0)?;
    let took = begun.elapsed();
    // SAFETY: `exit_reason` lies at byte 8 of `struct kvm_run`, which the mapping begins with.
    let reason = unsafe { shared.0.cast::<u8>().add(8).cast::<u32>().read_volatile() };
    if reason == KVM_EXIT_HLT {
        Ok(took)
    } else {
        Err(io::Error::other(format!("its guest stopped with exit reason {reason}")))
    }
}
