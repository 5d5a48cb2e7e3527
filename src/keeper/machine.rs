//! A guest held still: by a process of the cube that asks the bridge for it, and for as long as that one is let run. What
//! the guest has written is on the share then.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use super::connection::start;
use super::output::{self, Read};
use super::state::{Keeper, Start};
use crate::jail::spawn::SpawnSpec;
use crate::plan::vm::{self, FROZEN, ShimTask};

/// How long a guest may take: an emulated one on a busy host writes much out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Dropped, the guest goes on.
#[derive(Debug)]
pub struct Hold {
    _stdin: Option<OwnedFd>,
}

/// Holds the guest still.
///
/// # Errors
/// One line.
pub async fn hold(keeper: &Rc<Keeper>) -> Result<Hold, String> {
    let fail = |why: &str| format!("cannot hold the guest still: {why}");
    let words = vm::shim_words(&ShimTask::Freeze, &[]);
    let spec = SpawnSpec::new(&words, &[], "/").map_err(|error| fail(&error.to_string()))?;
    let session = keeper.number();
    let (ours, started, _ended) =
        start(keeper, session, &spec, [None, None, None], 0, 0).map_err(|error| fail(&error.to_string()))?;
    match started.await {
        Ok(Start::Running(..)) => {}
        Ok(Start::Refused { errno, .. }) => {
            return Err(fail(&rustix::io::Errno::from_raw_os_error(errno).to_string()));
        }
        Err(_) => return Err(fail("the cube has ended")),
    }
    let [stdin, stdout, stderr] = ours;
    let said = async {
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else { return Err(fail("it has no streams")) };
        let (stdout, stderr) = (output::watched(stdout), output::watched(stderr));
        let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
            return Err(fail("its streams cannot be watched"));
        };
        let mut buffer = [0; 512];
        match output::read(&stdout, &mut buffer).await {
            Read::Bytes(count) | Read::End(count) if buffer[..count] == *FROZEN => Ok(()),
            _ => {
                let (Read::Bytes(count) | Read::End(count)) = output::read(&stderr, &mut buffer).await;
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                Err(fail(&crate::model::sanitize::printable(text.trim_end())))
            }
        }
    };
    match tokio::time::timeout(PATIENCE, said).await {
        Ok(Ok(())) => Ok(Hold { _stdin: stdin }),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(fail(&format!("it did not answer within {} s", PATIENCE.as_secs()))),
    }
}
