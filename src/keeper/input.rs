//! Bytes on their way into the cube.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Writes all of `bytes`, waiting as long as the other side does not read.
///
/// # Errors
/// EPIPE or EIO when nobody reads any more.
pub async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut guard = fd.writable().await.map_err(|_| Errno::IO)?;
        match rustix::io::write(fd.get_ref(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
