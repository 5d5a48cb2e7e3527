//! What a cube changed: found for a running cube and for an ended one, told change by change, taken over.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Engine;
use super::client::{Client, unexpected};
use crate::host::fdpass;
use crate::jail::prepare::map_text;
use crate::keeper::ground::FILE;
use crate::keeper::protocol::{Answer, Ask};
use crate::model::sanitize::printable_bytes;
use crate::model::{Failure, FailureKind, Jail, Keep};
use crate::plan::changes::{GROUND_VERSION, Ground, Region};
use crate::plan::launch::MapWriter;
use crate::store::cubes::{self, CubeEntry};
use crate::upper::apply::{Applied, ApplyError, Review};
use crate::upper::helper;
use crate::upper::ids::Shift;
use crate::upper::wire::{Bytes, Fate, Ids, Line, Request, Told, Want};

/// How long an ended cube's keeper may take to let go.
const SETTLE: Duration = Duration::from_secs(3);

/// The cube as it is once a keeper whose cube has ended is gone: it clears up a moment longer.
///
/// # Errors
/// It cannot be read.
pub fn settled(engine: &Engine, entry: CubeEntry) -> Result<CubeEntry, Failure> {
    let (mut entry, patience) = (entry, Instant::now() + SETTLE);
    while entry.live && entry.record.as_ref().is_ok_and(|r| r.state.is_over()) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(2));
        entry = cubes::load(&engine.layout.mines_dir(), &entry.id)?;
    }
    Ok(entry)
}

/// The newest ended cube of the project `name` that holds changes under review.
///
/// # Errors
/// The cubes cannot be listed.
pub fn under_review(engine: &Engine, name: &str) -> Result<Option<CubeEntry>, Failure> {
    let entries = cubes::list(&engine.layout.mines_dir())?;
    Ok(entries.into_iter().rev().find(|entry| {
        entry.record.as_ref().is_ok_and(|record| record.project.as_deref() == Some(name))
            && entry.path.join("review/upper").is_dir()
    }))
}

/// The largest ground that is read.
const GROUND_MAX: u64 = 4 << 20;
/// The most changes that are taken over at once.
const APPLY_MAX: u64 = 200_000;

/// Where a cube's changes are, opened.
#[derive(Debug)]
pub struct Source {
    /// What is known of the cube.
    pub ground: Ground,
    /// The regions that are still there.
    pub regions: Vec<Region>,
    /// Holds the system's uppers.
    store: Option<OwnedFd>,
    userns: Option<OwnedFd>,
    ids: Ids,
}

impl Source {
    /// Opens the changes of `entry`, with the connection to its keeper when it runs.
    ///
    /// # Errors
    /// It has ended and kept nothing, or cannot be reached.
    pub fn open(engine: &Engine, entry: &CubeEntry) -> Result<(Self, Option<Client>), Failure> {
        if entry.record.as_ref().is_ok_and(|record| record.jail == Jail::Landlock) {
            return Err(Failure::new(
                FailureKind::Unsupported,
                "the jail `landlock` cannot give changes or a snapshot: it has no layer of its own above the system, which it never writes",
            )
            .hint("what it wrote stands in its home and its project already")
            .hint("launch with `--jail container` for a throwaway layer, where this host allows user namespaces"));
        }
        if entry.live {
            let (source, client) = Self::running(engine, entry)?;
            return Ok((source, Some(client)));
        }
        Ok((Self::ended(entry)?, None))
    }

    fn running(engine: &Engine, entry: &CubeEntry) -> Result<(Self, Client), Failure> {
        let fail = |error: &dyn std::error::Error| {
            Failure::failed("cannot get at the running cube's changes").because(error)
        };
        let (ours, its) = UnixStream::pair().map_err(|error| fail(&error))?;
        let socket = cubes::socket_path(&engine.layout.run, &entry.id);
        let mut client = Client::connect(&socket, [Some(its.as_fd()), None, None])?;
        drop(its);
        client.ask(&Ask::Ground)?;
        let ground = match client.answer()? {
            Answer::Ground(ground) => *ground,
            other => return Err(unexpected(&other)),
        };
        let (_, fds) = fdpass::receive(&ours, &mut [0]).map_err(|error| fail(&error))?;
        let [store, userns] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_| Failure::failed("the cube's keeper passed no upper layer"))?;
        let ids = match ground.user.map_writer {
            MapWriter::Keeper => Ids::Own {
                shift: Shift { uids: ground.user.uid_map.clone(), gids: ground.user.gid_map.clone() },
            },
            MapWriter::Own | MapWriter::Helper | MapWriter::Nobody => Ids::Enter,
        };
        let regions = ground.regions();
        Ok((Self { ground, regions, store: Some(store), userns: Some(userns), ids }, client))
    }

    fn ended(entry: &CubeEntry) -> Result<Self, Failure> {
        let shown = entry.id.short();
        let durable = entry.record.as_ref().is_ok_and(|record| record.keep == Keep::Durable);
        let file = entry.path.join(FILE);
        let Some(bytes) = read(&file)? else {
            return Err(Failure::new(
                FailureKind::Missing,
                format!("the cube {shown} has ended, and its changes went with it"),
            )
            .hint("`--keep NAME` keeps the changes to the system, `--review` those to the project"));
        };
        let broken = || Failure::failed(format!("what is known of the changes of {shown} cannot be read"));
        let version: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| broken().because(&e))?;
        if version.get("version").and_then(serde_json::Value::as_u64) != Some(u64::from(GROUND_VERSION)) {
            return Err(broken().hint("it was written by another version of tripmine"));
        }
        let ground: Ground = serde_json::from_slice(&bytes).map_err(|error| broken().because(&error))?;
        let store = if durable {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = entry.path.join("system-copy");
            Some(openat(CWD, &folder, flags, Mode::empty()).map_err(|errno| broken().because(&errno))?)
        } else {
            None
        };
        let text = |map: &[crate::plan::launch::IdMap]| map_text(map);
        let ids = match ground.user.map_writer {
            MapWriter::Keeper => Ids::Own { shift: Shift::default() },
            writer => Ids::Fresh {
                uid_map: text(&ground.user.uid_map),
                gid_map: text(&ground.user.gid_map),
                by_helper: writer == MapWriter::Helper,
            },
        };
        let mut regions = ground.regions();
        regions.retain(|region| region.project || store.is_some());
        // A review that was empty has been cleared away.
        regions.retain(|region| !region.project || entry.path.join("review/upper").is_dir());
        if regions.is_empty() {
            return Ok(Self { ground, regions, store: None, userns: None, ids });
        }
        Ok(Self { ground, regions, store, userns: None, ids })
    }

    /// Asks the helper.
    ///
    /// # Errors
    /// It fails, or `hear` does.
    pub fn ask(
        &self,
        regions: Vec<Region>,
        want: Want,
        target: Option<BorrowedFd<'_>>,
        hear: &mut dyn FnMut(Line) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let store = self.store.as_ref().map(AsFd::as_fd);
        let userns = self.userns.as_ref().map(AsFd::as_fd).filter(|_| self.ids == Ids::Enter);
        let fds: Vec<_> = [store, userns, target].into_iter().flatten().collect();
        let request = Request { ids: self.ids.clone(), store: store.is_some(), regions, want };
        helper::run(&request, &fds, hear)
    }

    /// Tells every change beneath `only` (none: all), at most `most`.
    ///
    /// # Errors
    /// The changes cannot be read, or `hear` fails.
    pub fn list(
        &self,
        diffs: bool,
        only: Vec<Bytes>,
        most: u64,
        hear: &mut dyn FnMut(Line) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.regions.is_empty() {
            return Ok(());
        }
        self.ask(self.regions.clone(), Want::List { diffs, only, most }, None, hear)
    }

    /// The path inside of a change.
    #[must_use]
    pub fn inside(&self, told: &Told) -> Vec<u8> {
        let prefix = self.regions.get(told.region).map(|region| region.prefix.as_str()).unwrap_or_default();
        let mut path = b"/".to_vec();
        path.extend(crate::plan::changes::join(prefix.as_bytes(), &told.path.0));
        path
    }

    /// A path as a person gives it, relative ones from the project, as the helper wants it.
    #[must_use]
    pub fn place(&self, text: &str) -> Bytes {
        let base = self.ground.review().map(|mount| mount.target.as_str()).unwrap_or_default();
        let whole = if text.starts_with('/') { text.to_owned() } else { format!("{base}/{text}") };
        let parts: Vec<_> = whole.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        Bytes(parts.join("/").into_bytes())
    }
}

fn read(file: &std::path::Path) -> Result<Option<Vec<u8>>, Failure> {
    use std::io::Read;
    let fail =
        |error: &std::io::Error| Failure::failed(format!("cannot read `{}`", file.display())).because(error);
    let open = match std::fs::File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
    };
    let mut bytes = Vec::new();
    open.take(GROUND_MAX).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    Ok(Some(bytes))
}

/// Takes the changes of a review beneath `paths` (none: all) over into the project.
///
/// # Errors
/// The cube runs, has no review, or an original was changed meanwhile: nothing is written then.
pub fn apply(engine: &Engine, entry: &CubeEntry, paths: &[String], force: bool) -> Result<Applied, Failure> {
    if entry.live {
        return Err(Failure::new(
            FailureKind::Busy,
            format!("the cube {} runs: what you saw may change", entry.id.short()),
        )
        .hint("end it first: its changes are kept until they are taken over or dropped"));
    }
    let (source, _) = Source::open(engine, entry)?;
    let Some(mount) = source.ground.review().cloned() else {
        return Err(Failure::new(
            FailureKind::Missing,
            format!("the cube {} was launched without `--review`", entry.id.short()),
        )
        .hint("what it wrote to its project is in the project already"));
    };
    let Some(region) = source.regions.iter().position(|region| region.project) else {
        return Ok(Applied::default());
    };
    let only: Vec<Bytes> = paths.iter().map(|path| source.place(path)).collect();
    let mut picked: Vec<Told> = Vec::new();
    let mut seen = vec![false; only.len()];
    source.ask(
        vec![source.regions[region].clone()],
        Want::List { diffs: false, only: only.clone(), most: APPLY_MAX },
        None,
        &mut |line| match line {
            Line::Change(told) => {
                let inside =
                    crate::plan::changes::join(source.regions[region].prefix.as_bytes(), &told.path.0);
                for (place, seen) in only.iter().zip(&mut seen) {
                    *seen |= crate::plan::changes::within(&inside, &place.0);
                }
                picked.push(*told);
                Ok(())
            }
            Line::More => Err(Failure::failed(format!("more than {APPLY_MAX} changes"))
                .hint("take them over in parts: name folders")),
            Line::TooDeep { path, .. } => Err(Failure::failed(format!(
                "the folder `{}` is too deep to be taken over",
                printable_bytes(&path.0[..path.0.len().min(200)])
            ))),
            _ => Ok(()),
        },
    )?;
    if let Some(index) = seen.iter().position(|seen| !seen) {
        return Err(Failure::new(FailureKind::Missing, format!("nothing changed at `{}`", paths[index]))
            .hint(format!("`tripmine changes {}` lists what did", entry.id.short())));
    }
    let dir = entry.path.join("review");
    let expected = (mount.identity.dev, mount.identity.ino);
    let review = Review::open(&mount.source, expected, &dir).map_err(Failure::failed)?;
    // Deleted folders stand for all that was in them; nothing else is told of those.
    picked.sort_by_key(|told| told.fate != Fate::Deleted);
    review.apply(&picked, force).map_err(|error| refused(error, entry))
}

fn refused(error: ApplyError, entry: &CubeEntry) -> Failure {
    /// Conflicts that are named.
    const NAMED: usize = 12;
    match error {
        ApplyError::Conflicts(conflicts) => {
            let count = conflicts.len();
            let mut message =
                format!("nothing was taken over: {count} of the changes do not fit the project as it is now");
            for conflict in conflicts.iter().take(NAMED) {
                message.push_str(&format!("\n  {}: {}", printable_bytes(&conflict.path), conflict.why));
            }
            if count > NAMED {
                message.push_str(&format!("\n  … and {} more", count - NAMED));
            }
            let cube = entry.id.short();
            Failure::new(FailureKind::Busy, message)
                .hint(format!("`tripmine apply {cube} PATH…` takes over the others"))
                .hint(format!("`tripmine changes --diff {cube} PATH…` shows the cube's side; `--force` puts it over yours"))
        }
        ApplyError::Failed { done, message } => {
            let failure = Failure::failed(message);
            if done.paths.is_empty() {
                failure
            } else {
                failure.hint(format!("{} changes before it are taken over", done.paths.len()))
            }
        }
    }
}
