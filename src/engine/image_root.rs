//! A stored image made ready to be the root of a cube: its layers, what is laid over them, and what it says of how it is
//! run, looked up in it. Everything in it was made by a stranger: nothing is followed out of its layers.

use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Engine, host_base};
use crate::image::{Hold, ResolvedImage, Store};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind, ImageRef};
use crate::plan::changes::Kind;
use crate::plan::facts::{ImageFacts, ImageUser};
use crate::store::skeleton::SkeletonUser;
use crate::store::skeleton::over::{self, Over, field};
use crate::upper::lowers::Lowers;

/// The version of what is laid over an image: another one is made anew.
const OVER: &str = "2";
/// The largest passwd or group file that is read.
const ACCOUNTS_MAX: u64 = 1 << 20;

/// A found image, held: it is not collected while this lives.
#[derive(Debug)]
pub struct Found {
    /// The image.
    pub image: ResolvedImage,
    /// The hold.
    pub hold: Hold,
    /// It was made of a cube on `host`.
    pub on_host: bool,
}

/// Finds a stored image.
///
/// # Errors
/// There is none, or it is damaged.
pub fn find(engine: &Engine, reference: &ImageRef) -> Result<Found, Failure> {
    let store = Store::open(&engine.layout)?;
    let (image, hold) = store.resolve_held(reference, engine.unpacking)?;
    let machine = rustix::system::uname();
    let machine = machine.machine().to_string_lossy();
    if !image.config.platform.runs_on(&machine) {
        let platform = &image.config.platform;
        return Err(Failure::new(
            FailureKind::Unsupported,
            format!(
                "the image `{reference}` is for {}/{}, this host is {machine}",
                platform.os, platform.architecture
            ),
        ));
    }
    let on_host = image.config.labels.get(host_base::BASE).is_some_and(|base| base == "host");
    Ok(Found { image, hold, on_host })
}

impl Found {
    /// What the layers have in the host's system folders, topmost first.
    fn over_system(&self) -> Vec<(PathBuf, Vec<PathBuf>)> {
        let real = |path: &std::path::Path| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        let folder = |root: &std::path::Path, tree: &std::path::Path| {
            let mut path = root.to_path_buf();
            for part in tree.strip_prefix("/").unwrap_or(tree) {
                path.push(part);
                // A link would lead out of the layer.
                if !real(&path) {
                    return None;
                }
            }
            Some(path)
        };
        crate::store::skeleton::system_trees()
            .into_iter()
            .map(|tree| {
                let layers = self.image.layers.iter().rev();
                let over = layers.filter_map(|layer| folder(&layer.path, &tree)).collect::<Vec<_>>();
                (tree, over)
            })
            .filter(|(_, over)| !over.is_empty())
            .collect()
    }

    /// Folders of the image that a fresh home is seeded from, the lowest layer's first.
    #[must_use]
    pub fn seeds(&self) -> Vec<PathBuf> {
        let real = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        let mut seeds = Vec::new();
        if self.on_host {
            seeds.push(PathBuf::from("/etc/skel"));
        }
        for (above, folder) in [("etc", "skel"), (".tripmine", "seed")] {
            for layer in &self.image.layers {
                let above = layer.path.join(above);
                let folder = above.join(folder);
                // A link of the image would lead to the host's own files.
                if real(&above) && real(&folder) {
                    seeds.push(folder);
                }
            }
        }
        seeds
    }
}

/// What is remembered of an image beside its skeleton.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Noted {
    shell: String,
    /// Uid, gid and name that `User` stands for.
    user: Option<(u32, u32, Option<String>)>,
    /// Why `User` stands for nobody.
    #[serde(default)]
    odd_user: Option<String>,
}

/// What a launch needs to know. `user` is who will run inside; it becomes the image's own user if `own_user` and it has
/// one, and gets the image's shell.
///
/// # Errors
/// The layers cannot be read, or the image names a user that it does not have.
pub fn facts(
    engine: &Engine,
    found: &Found,
    user: &mut SkeletonUser,
    seed: &str,
    own_user: bool,
) -> Result<ImageFacts, Failure> {
    let ResolvedImage { reference, digest, config, layers, .. } = &found.image;
    let mut lowers: Vec<PathBuf> = layers.iter().rev().map(|layer| layer.path.clone()).collect();
    let mut notes = Vec::new();
    let mut image_user = None;
    let mut shell = user.shell.clone();
    if found.on_host {
        notes.extend(host_base::changed(&config.labels));
    } else {
        let dir = engine.layout.layers_dir();
        let key = key(&lowers, user, config.user.as_deref(), seed, own_user);
        let (folder, noted) = match over::find(&dir, &key) {
            Some((folder, note)) => (folder, serde_json::from_slice(&note).ok()),
            None => (PathBuf::new(), None),
        };
        let (folder, noted) = match noted {
            Some(noted) => (folder, noted),
            None => make(&dir, &key, &lowers, user, config.user.as_deref(), seed, own_user)?,
        };
        if let Some(why) = noted.odd_user.filter(|_| own_user) {
            return Err(Failure::new(
                FailureKind::Config,
                format!("the image `{}` cannot be run as its own user: {why}", printable(reference)),
            )
            .hint("`--user me` or `--user root` chooses one"));
        }
        if let Some((uid, gid, name)) = noted.user {
            image_user = Some(ImageUser { uid, gid, name });
        }
        shell = noted.shell;
        lowers.insert(0, folder);
    }
    shell.clone_into(&mut user.shell);
    Ok(ImageFacts {
        digest: digest.to_string(),
        lowers,
        on_host: found.on_host,
        over_system: if found.on_host { found.over_system() } else { Vec::new() },
        shell,
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        working_dir: config.working_dir.clone(),
        user: image_user,
        notes,
    })
}

fn key(lowers: &[PathBuf], user: &SkeletonUser, wanted: Option<&str>, seed: &str, own_user: bool) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(OVER.as_bytes());
    for lower in lowers {
        add(lower.as_os_str().as_encoded_bytes());
    }
    for text in [&user.name, &user.home, wanted.unwrap_or_default(), seed] {
        add(text.as_bytes());
    }
    for number in [user.uid, user.gid, u32::from(own_user)] {
        add(&number.to_le_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn make(
    dir: &std::path::Path,
    key: &str,
    layers: &[PathBuf],
    user: &SkeletonUser,
    wanted: Option<&str>,
    seed: &str,
    own_user: bool,
) -> Result<(PathBuf, Noted), Failure> {
    let mut lowers = Lowers::open(layers).map_err(|(path, errno)| {
        Failure::failed(format!("cannot open the layer `{}`", path.display())).because(&errno)
    })?;
    let accounts = |lowers: &mut Lowers, path: &[u8]| -> Vec<u8> {
        let mut bytes = Vec::new();
        // A link, or no file at all: then the image has no accounts that we know of.
        if let Ok(file) = lowers.file(path) {
            let _read = file.take(ACCOUNTS_MAX).read_to_end(&mut bytes);
        }
        bytes
    };
    let passwd = accounts(&mut lowers, b"etc/passwd");
    let group = accounts(&mut lowers, b"etc/group");
    let mut noted = Noted { shell: shell(&mut lowers), ..Noted::default() };
    match wanted.map(|wanted| look_up(wanted, &passwd, &group)) {
        Some(Ok(found)) => noted.user = found,
        Some(Err(why)) => noted.odd_user = Some(why),
        None => {}
    }
    let mut inside = user.clone();
    noted.shell.clone_into(&mut inside.shell);
    if let (Some((uid, gid, _)), true, true) = (&noted.user, own_user, user.uid != 0) {
        inside.uid = *uid;
        inside.gid = *gid;
    }
    let note = serde_json::to_vec(&noted).unwrap_or_default();
    let over = Over { key, user: &inside, seed, passwd: &passwd, group: &group, note: &note };
    Ok((over::make(dir, &over)?, noted))
}

/// The best shell in the image.
fn shell(lowers: &mut Lowers) -> String {
    let mut is = |path: &str| {
        let found = lowers.resolve(path.as_bytes());
        matches!(found, Ok(Some(entry)) if entry.kind == Kind::File && entry.mode & 0o111 != 0)
    };
    ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/busybox/sh"]
        .into_iter()
        .find(|path| is(path))
        .unwrap_or("/bin/sh")
        .to_owned()
}

type Looked = Option<(u32, u32, Option<String>)>;

/// What `User` of a config stands for; `None` is root.
fn look_up(wanted: &str, passwd: &[u8], group: &[u8]) -> Result<Looked, String> {
    let (user, of_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let lines =
        |file: &[u8]| -> Vec<Vec<u8>> { file.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u32>().ok());
    let known = |line: &[u8]| {
        let name = String::from_utf8(field(line, 0).to_vec()).ok();
        Some((number(field(line, 2))?, number(field(line, 3))?, name))
    };
    let all = lines(passwd);
    let (uid, mut gid, name) = match user.parse::<u32>() {
        Ok(uid) => all
            .iter()
            .filter_map(|line| known(line))
            .find(|(known, _, _)| *known == uid)
            .unwrap_or((uid, 0, None)),
        Err(_) if user.is_empty() => return Ok(None),
        Err(_) => all
            .iter()
            .filter(|line| field(line, 0) == user.as_bytes())
            .find_map(|line| known(line))
            .ok_or_else(|| format!("it has no user `{}`", printable(user)))?,
    };
    if let Some(wanted) = of_group {
        gid = match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => lines(group)
                .iter()
                .find(|line| field(line, 0) == wanted.as_bytes())
                .and_then(|line| number(field(line, 2)))
                .ok_or_else(|| format!("it has no group `{}`", printable(wanted)))?,
        };
    }
    // The last two numbers mean "no change" to the kernel, or nobody.
    if uid >= u32::MAX - 1 || gid >= u32::MAX - 1 {
        return Err(format!("{uid}:{gid} is no user"));
    }
    Ok((uid != 0).then_some((uid, gid, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_an_image() {
        let passwd = b"root:x:0:0::/root:/bin/sh\ndb:x:999:998::/db:/bin/sh\nbad:x:y:z::/:/\n";
        let group = b"root:x:0:\nwww:x:33:\n";
        let db = || Some("db".to_owned());
        for (wanted, want) in [
            ("", Ok(None)),
            ("root", Ok(None)),
            ("0", Ok(None)),
            ("db", Ok(Some((999, 998, db())))),
            ("999", Ok(Some((999, 998, db())))),
            ("5", Ok(Some((5, 0, None)))),
            ("5:6", Ok(Some((5, 6, None)))),
            ("db:www", Ok(Some((999, 33, db())))),
            ("bad", Err("it has no user `bad`")),
            ("no", Err("it has no user `no`")),
            ("db:no", Err("it has no group `no`")),
            ("4294967295", Err("4294967295:0 is no user")),
        ] {
            assert_eq!(look_up(wanted, passwd, group), want.map_err(str::to_owned), "{wanted}");
        }
    }
}
