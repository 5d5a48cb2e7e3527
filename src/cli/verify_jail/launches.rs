//! Promises that no probe inside a cube can try, because they are about more than one launch: a destroyed system, links in a
//! project, and a project that is exchanged while its cube starts.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::cli::ctx::Ctx;
use crate::engine::client::{Heard, refused};
use crate::engine::launch;
use crate::keeper::protocol::Answer;
use crate::model::{Failure, Name, RunAs, SeccompProfile, Settings};
use crate::plan::Typed;
use crate::plan::battery::{F08, F09, F10, Observation};
use crate::plan::diagnose::Verdict;
use crate::plan::launch::StdioPlan;
use crate::plan::resolve::What;

/// What is looked at: enough of it for a system that works.
const WHOLE: &str = "test -s /etc/passwd && test -d /var/tmp && test -d /srv && ls /usr/bin >/dev/null";

/// Tries them with cubes of this kind, one line of JSON for each.
pub(super) fn observe(ctx: &Ctx, run_as: RunAs, profile: SeccompProfile) -> String {
    let kind = Settings { user: Some(run_as), seccomp: Some(profile), ..Settings::default() };
    let cubes = Cubes { ctx, kind };
    let untested = |error: &dyn std::fmt::Display| (Verdict::CouldNotTest, error.to_string());
    let rows = [
        (F08, cubes.destroyed().unwrap_or_else(|error| untested(&error))),
        (F09, cubes.link().unwrap_or_else(|error| untested(&error))),
        (F10, cubes.exchanged().unwrap_or_else(|error| untested(&error))),
    ];
    let line = |(row, (verdict, detail))| {
        serde_json::to_string(&Observation::new(row, verdict, detail)).unwrap_or_default() + "\n"
    };
    rows.into_iter().map(line).collect()
}

type Seen = (Verdict, String);

struct Cubes<'a> {
    ctx: &'a Ctx,
    kind: Settings,
}

impl Cubes<'_> {
    /// F08: what one cube deletes is there for the next.
    fn destroyed(&self) -> Result<Seen, Failure> {
        let destroy = format!("rm -rf /etc/* /var/* /srv 2>/dev/null; {WHOLE}");
        if self.code(None, &destroy, || Ok(()))? == 0 {
            return Ok((Verdict::CouldNotTest, "a cube could not delete its own system".to_owned()));
        }
        Ok(if self.code(None, WHOLE, || Ok(()))? == 0 {
            (Verdict::Pass, "deleted in one cube, whole in the next".to_owned())
        } else {
            (Verdict::Fail, "what one cube deleted is missing in the next".to_owned())
        })
    }

    /// F09: a link in a project leads to nothing of the host's.
    fn link(&self) -> Result<Seen, Failure> {
        let (folder, project) = project()?;
        symlink(folder.path().join("secret"), project.join("link")).map_err(|error| lost(&error))?;
        let script = "test -L link || exit 9; test ! -e link && ! cat link 2>/dev/null";
        Ok(match self.code(Some(&project), script, || Ok(()))? {
            0 => (Verdict::Pass, "shown as a link that leads nowhere".to_owned()),
            9 => (Verdict::CouldNotTest, "the link is not seen inside".to_owned()),
            _ => (Verdict::Fail, "it leads to a file of the host".to_owned()),
        })
    }

    /// F10: a folder that was planned, and is a link to another one when it is mounted.
    fn exchanged(&self) -> Result<Seen, Failure> {
        let (folder, project) = project()?;
        let exchange = || {
            fs::remove_dir(&project)?;
            symlink(folder.path(), &project)
        };
        if self.code(Some(&project), "test ! -e secret", || Ok(()))? != 0 {
            return Ok((Verdict::CouldNotTest, "the project is not seen as it is".to_owned()));
        }
        Ok(match self.code(Some(&project), "test -e secret", exchange) {
            Err(failure) => (Verdict::Pass, failure.message),
            Ok(0) => (Verdict::Fail, "the folder that took its place was mounted".to_owned()),
            Ok(_) => (Verdict::Fail, "the cube was started although its project was exchanged".to_owned()),
        })
    }

    /// The exit code of a shell script in a cube, with `between` done when the launch is planned and before it is carried out.
    fn code(
        &self,
        project: Option<&Path>,
        script: &str,
        between: impl FnOnce() -> io::Result<()>,
    ) -> Result<i32, Failure> {
        let engine = self.ctx.engine();
        let typed = Typed {
            machine: Some(Name::default_machine()),
            what: What::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]),
            settings: self.kind.clone(),
            mount: project.map(Path::to_path_buf),
            ephemeral: true,
            tty: Some(false),
            ..Typed::default()
        };
        let mut planned = launch::plan(&engine, &typed, Vec::new(), false)?;
        planned.plan.stdio =
            StdioPlan::Pipes { stdin_direct: false, stdout_direct: false, stderr_direct: false };
        between().map_err(|error| lost(&error))?;
        let mut client = launch::launch(&engine, &planned, launch::start_keeper()?, true)?;
        loop {
            match client.hear().map_err(|error| lost(&error))? {
                None => return Err(Failure::failed("the cube's keeper went away")),
                Some(Heard::Answer(Answer::Refused { message, hints })) => {
                    return Err(refused(message, hints));
                }
                Some(Heard::Answer(Answer::Exited(exit))) => return Ok(exit.code),
                Some(_) => {}
            }
        }
    }
}

/// An empty project, and beside it a file that no cube may see.
fn project() -> Result<(tempfile::TempDir, std::path::PathBuf), Failure> {
    let make = || {
        let folder = tempfile::Builder::new().prefix("tripmine-verify-").tempdir()?;
        fs::write(folder.path().join("secret"), "host only")?;
        let project = folder.path().join("project");
        fs::create_dir(&project)?;
        Ok((folder, project))
    };
    make().map_err(|error: io::Error| lost(&error))
}

fn lost(error: &io::Error) -> Failure {
    Failure::failed("the launch could not be tried").because(error)
}
