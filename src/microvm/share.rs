//! The share daemon: virtiofsd, which serves the guest's tree to the guest. Owns its command line, for the two programs of
//! that name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::child::{self, Daemon};
use crate::plan::vm::{FOLDER, GUEST, ShareKind, VmSpec};

/// Ids that a squashing rule covers: all but the one that means nobody.
const ALL_IDS: u32 = u32::MAX - 1;

/// Its command line, `{share}` where the number of the listening socket goes. Pure.
#[must_use]
pub fn describe(spec: &VmSpec) -> Vec<String> {
    let mut words = vec![spec.share.program.clone(), "--fd={share}".to_owned()];
    let mut add = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
    let left_out = if spec.no_file_capabilities { "-mknod:-setfcap" } else { "-mknod" };
    match spec.share.kind {
        ShareKind::Rust => {
            // The jail is its sandbox; what it would build itself needs rights that nobody has here.
            add(&["--shared-dir", GUEST, "--sandbox", "none", "--cache", "auto", "--xattr"]);
            // The jail has raised the limit already, as far as it goes.
            add(&["--rlimit-nofile", "0", "--log-level", "error"]);
            // As root of the jail it takes on the capabilities that it is used to, and these nobody here has.
            add(&[&format!("--modcaps={left_out}")]);
            if spec.share.version >= (1, 13, 0) {
                // Files may be renamed by the host while the machine is being saved; what it deleted while a cube was
                // paused is an error for whoever uses that file, and no reason to give the whole memory up.
                add(&["--migration-on-error", "guest-error", "--migration-confirm-paths"]);
            }
            if let Some((uid, gid)) = spec.squash {
                for (word, own) in [("--translate-uid", uid), ("--translate-gid", gid)] {
                    // Whoever writes in the guest is the one id of the jail, and that one is seen as itself; what belongs
                    // to the host's root, nobody here, is root's in the guest.
                    let everybody = format!("squash-guest:0:{own}:{ALL_IDS}");
                    let mine = format!("squash-host:{own}:{own}:1");
                    let nobody = "squash-host:65534:0:1";
                    add(&[word, &everybody, word, &mine, word, nobody]);
                }
            }
        }
        ShareKind::C => {
            let source = format!(
                "source={GUEST},sandbox=chroot,cache=auto,xattr,announce_submounts,modcaps={left_out}"
            );
            add(&["-o", &source, "--rlimit-nofile=0"]);
        }
    }
    words
}

/// A daemon that runs, and the stream to it for the VMM.
#[derive(Debug)]
pub(super) struct Share {
    /// It.
    pub(super) daemon: Daemon,
    /// What it says when it fails.
    pub(super) errors: std::fs::File,
    /// A connected stream.
    pub(super) stream: OwnedFd,
}

/// Starts it.
///
/// # Errors
/// Its socket cannot be made, or it cannot be executed.
pub(super) fn start(spec: &VmSpec) -> io::Result<Share> {
    use rustix::net::{SocketAddrUnix, bind, connect, listen, socket_with};
    let address = SocketAddrUnix::new(format!("{FOLDER}/share.sock"))?;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let listener = socket()?;
    bind(&listener, &address)?;
    listen(&listener, 1)?;
    // Connected before anybody accepts: the daemon finds it waiting.
    let stream = socket()?;
    connect(&stream, &address)?;
    std::fs::remove_file(format!("{FOLDER}/share.sock"))?;
    let (errors, its_errors) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&errors, true)?;
    let number = listener.as_raw_fd().to_string();
    let words: Vec<String> =
        describe(spec).into_iter().map(|word| word.replace("{share}", &number)).collect();
    let daemon = child::start(&words, &[listener.as_fd()], its_errors, false)?;
    Ok(Share { daemon, errors: errors.into(), stream })
}
