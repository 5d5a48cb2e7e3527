//! Images, for every face: named, deleted, brought in, handed out, and made of a cube's changes.

use std::path::Path;

use super::Engine;
use super::carry::Done;
use super::registry::Way;
use super::request::SnapshotFor;
use super::snapshot::{self, Draft, ImageKind};
use crate::image::Store;
use crate::image::collect::Collected;
use crate::image::export::{self, Target};
use crate::image::import::{self, ImportOptions};
use crate::image::names::Entry;
use crate::image::registry::{pull, push};
use crate::model::image::remote::RemoteRef;
use crate::model::image::{Digest, ImageTarget, image_name};
use crate::model::{ByteSize, Failure, FailureKind, ImageRef, Keep, Machine, Name, Settings};
use crate::store::{cubes, machines};

fn reference(text: &str) -> Result<ImageRef, Failure> {
    ImageRef::parse(text).map_err(|error| Failure::usage(error.to_string()))
}

fn name_of(text: &str) -> Result<String, Failure> {
    image_name(text).map_err(|error| Failure::usage(error.to_string()))
}

fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The entries that go with `image`: a name with its history, a digest with all its names.
///
/// # Errors
/// There is no such image.
pub fn doomed(store: &Store, image: &str) -> Result<Vec<Entry>, Failure> {
    let reference = reference(image)?;
    let found = store.find(&reference)?;
    let mut all = store.entries()?;
    all.retain(|entry| match reference.target() {
        Some(ImageTarget::Name { generation: None, .. }) => entry.name == found.name,
        Some(ImageTarget::Name { .. }) => entry.name == found.name && entry.generation == found.generation,
        Some(ImageTarget::Short(_)) if found.name.as_deref() == Some(image) => entry.name == found.name,
        _ => entry.descriptor.digest == found.descriptor.digest,
    });
    Ok(all)
}

/// Images that cubes with a record need, running or kept.
///
/// # Errors
/// The records cannot be listed.
pub fn used(engine: &Engine, store: &Store) -> Result<Vec<Digest>, Failure> {
    let mut used = Vec::new();
    for entry in cubes::list(&engine.layout.mines_dir())? {
        let Ok(record) = &entry.record else { continue };
        let recorded = record.image_digest.as_deref().and_then(|digest| Digest::parse(digest).ok());
        match record.image.target() {
            Some(ImageTarget::Digest(digest)) => used.push(digest),
            // A name may name another image by now.
            Some(_) if recorded.is_some() => used.extend(recorded),
            // What it named then is not known; what it names now is a guess that only keeps more.
            Some(_) => used.extend(store.find(&record.image).ok().map(|entry| entry.descriptor.digest)),
            None => {}
        }
    }
    Ok(used)
}

/// A kept cube is a layer of changes and nothing without the image that it lies on.
fn refuse_beneath_kept(engine: &Engine, store: &Store, doomed: &[Entry]) -> Result<(), Failure> {
    let left = store.entries()?;
    let goes = |digest: &Digest| {
        let named = |entry: &Entry| entry.descriptor.digest == *digest;
        doomed.iter().any(named) && !left.iter().any(|entry| named(entry) && !doomed.contains(entry))
    };
    for entry in cubes::list(&engine.layout.mines_dir())? {
        let Ok(record) = &entry.record else { continue };
        let digest = record.image_digest.as_deref().and_then(|digest| Digest::parse(digest).ok());
        if record.keep == Keep::Durable
            && let (Some(name), Some(true)) = (&record.name, digest.as_ref().map(goes))
        {
            let failure = Failure::new(
                FailureKind::Busy,
                format!("the image `{}` is what the kept cube `{name}` lies on", record.image),
            );
            return Err(failure.hint(format!("`tripmine rm {name}` deletes the cube first")));
        }
    }
    Ok(())
}

/// Deletes entries, and the blobs and layers that nothing needs any more; what each line tells, and what was freed.
///
/// # Errors
/// The store cannot be changed.
pub fn remove(engine: &Engine, store: &Store, doomed: &[Entry]) -> Result<(Vec<String>, Collected), Failure> {
    refuse_beneath_kept(engine, store, doomed)?;
    let gone = store.forget(&|entry| doomed.contains(entry))?;
    let collected = store.collect(&used(engine, store)?, false)?;
    let left = store.entries()?;
    let told = gone.iter().map(|entry| {
        let digest = entry.descriptor.digest;
        let in_use =
            store.blob_path(&digest).exists() && !left.iter().any(|entry| entry.descriptor.digest == digest);
        let note =
            if in_use { " (a cube uses it: its layers stay until `tripmine prune` after that)" } else { "" };
        format!("deleted `{}`{note}", entry.reference())
    });
    Ok((told.collect(), collected))
}

/// Gives an image another name; the new entry.
///
/// # Errors
/// There is no such image, it cannot be used, or the name is none.
pub fn tag(store: &Store, image: &ImageRef, name: &str) -> Result<(Entry, Entry), Failure> {
    let name = name_of(name)?;
    let entry = store.find(image)?;
    // Names point at what can be used.
    store.read_image(&entry.descriptor, &entry.reference())?;
    let made = store.name(Some(&name), &entry.descriptor)?;
    Ok((entry, made))
}

/// Where a push of `entry` goes: what was said, else its name, else what it was called by.
///
/// # Errors
/// It is no place in a registry, or a digest: that is the image's own.
pub fn push_target(entry: &Entry, image: &str, to: Option<&str>) -> Result<RemoteRef, Failure> {
    let text = to.or(entry.name.as_deref()).unwrap_or(image);
    let target = RemoteRef::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
    match target.digest {
        Some(_) => Err(Failure::usage("a push names a tag: the digest is the image's own")),
        None => Ok(target),
    }
}

impl Engine {
    pub(super) fn image_tag(&self, image: &str, name: &str) -> Result<Done, Failure> {
        let (entry, made) = tag(&Store::open(&self.layout)?, &reference(image)?, name)?;
        let what = format!("{} {name}", entry.reference());
        let undo = format!("tripmine image rm {name}");
        let message = format!("`{}` is {}", made.reference(), made.descriptor.digest.short());
        Ok(self.done(message, "image tag", &what, Some(&undo)))
    }

    pub(super) fn image_remove(&self, image: &str) -> Result<Done, Failure> {
        let store = Store::open(&self.layout)?;
        let doomed = doomed(&store, image)?;
        let names: Vec<String> = doomed.iter().map(Entry::reference).collect();
        let (told, collected) = remove(self, &store, &doomed)?;
        let freed = format!("{} freed", ByteSize::bytes(collected.bytes));
        let what = format!("{}: {freed}", names.join(", "));
        Ok(self.done(format!("{}; {freed}", told.join(", ")), "image rm", &what, None))
    }

    pub(super) fn image_import(&self, path: &str, name: Option<&str>) -> Result<Done, Failure> {
        self.layout.ensure(self.uid)?;
        let options = ImportOptions {
            name: name.map(name_of).transpose()?,
            tag: None,
            compression: None,
            machine: machine(),
            now: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        };
        let entries = import::import(&Store::open(&self.layout)?, Path::new(path), &options, &mut |_| {})?;
        Ok(self.brought("import", &entries))
    }

    pub(super) fn image_pull(&self, text: &str, way: &Way) -> Result<Done, Failure> {
        self.layout.ensure(self.uid)?;
        let remote = RemoteRef::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
        let client = self.registry(&remote, way, false)?;
        let store = Store::open(&self.layout)?;
        let entry =
            pull::pull(&store, &client, &remote, None, &machine(), &|_, _, _| {}).map_err(|failure| {
                Failure { message: format!("cannot pull `{remote}`: {}", failure.message), ..failure }
            })?;
        Ok(self.brought("pull", &[entry]))
    }

    pub(super) fn image_push(&self, image: &str, to: Option<&str>, way: &Way) -> Result<Done, Failure> {
        let store = Store::open(&self.layout)?;
        let entry = store.find(&reference(image)?)?;
        let target = push_target(&entry, image, to)?;
        let client = self.registry(&target, way, true)?;
        push::push(&store, &client, &target, &entry, &|_, _, _| {}).map_err(|failure| Failure {
            message: format!("cannot push `{target}`: {}", failure.message),
            ..failure
        })?;
        let what = format!("{} {target}", entry.reference());
        Ok(self.done(format!("pushed `{}` to {target}", entry.reference()), "image push", &what, None))
    }

    fn brought(&self, act: &str, entries: &[Entry]) -> Done {
        let mut done = Done::say("");
        let mut told = Vec::new();
        for entry in entries {
            let reference = entry.reference();
            let undo = format!("tripmine image rm {reference}");
            done.warnings.extend(self.record(&format!("image {act}"), &reference, Some(&undo)));
            told.push(format!("`{reference}` is {}", entry.descriptor.digest.short()));
        }
        done.message = told.join(", ");
        done
    }

    pub(super) fn image_export(&self, image: &str, target: &str) -> Result<Done, Failure> {
        let store = Store::open(&self.layout)?;
        export::export(&store, &reference(image)?, &Target::parse(target)?, &mut |_| {})?;
        Ok(Done::say(format!("exported `{image}` to {target}")))
    }

    /// Makes the image `name` of a draft that was shown, and what else was asked for.
    ///
    /// # Errors
    /// The name is none, the machine is there already or not at all, or writing failed.
    pub fn keep_snapshot(&self, draft: &Draft, name: &str, purpose: &SnapshotFor) -> Result<Done, Failure> {
        let name = name_of(name)?;
        let image = ImageRef::parse(&name).map_err(|error| Failure::usage(error.to_string()))?;
        self.check_purpose(purpose)?;
        if let SnapshotFor::Create { name: new, carry } = purpose {
            super::home_copy::check(self, &draft.ground.machine, new, carry)?;
        }
        let kind = match purpose {
            SnapshotFor::Continuation => ImageKind::Continuation,
            _ => ImageKind::Template,
        };
        let reference = snapshot::commit(draft, &name, kind)?;
        let what = format!("{reference} of the cube {}", draft.ground.id.short());
        let mut done = self.done(format!("image `{reference}` is made"), "snapshot", &what, None);
        done.copy = Some(reference.clone());
        match purpose {
            SnapshotFor::Nothing => {}
            SnapshotFor::Continuation => {
                done.message.push_str(&format!("; `tripmine resume {reference}` goes on from it"));
            }
            SnapshotFor::Update(machine) => {
                machines::set_image(&self.layout, machine, &image)?;
                done.warnings.extend(self.record("set-image", &format!("{machine} {image}"), None));
                done.message.push_str(&format!("; machine `{machine}` starts from it now"));
            }
            SnapshotFor::Create { name: new, carry } => {
                let told = self.machine_of(&draft.ground.machine, new, image, carry)?;
                done.warnings.extend(self.record("create", &format!("machine {new}"), None));
                done.message.push_str(&format!("; machine `{new}` starts from it, {told}"));
            }
        }
        Ok(done)
    }

    /// Finds what a snapshot is for wanting before anything is copied.
    ///
    /// # Errors
    /// A machine to be made is there already, or one to be changed is not.
    pub fn check_purpose(&self, purpose: &SnapshotFor) -> Result<(), Failure> {
        match purpose {
            SnapshotFor::Create { name, .. } if machines::exists(&self.layout, name) => {
                let message = format!("there is a machine `{name}` already");
                Err(Failure::new(FailureKind::Busy, message)
                    .hint("`--update-machine` lets it start from the image"))
            }
            SnapshotFor::Update(machine) => machines::load(&self.layout, machine).map(drop),
            _ => Ok(()),
        }
    }

    /// A new machine like `like`, with a copy of its home; what was copied, for a person. Without a home yet, the new one
    /// is seeded at its first launch, as any.
    fn machine_of(
        &self,
        like: &Name,
        new: &Name,
        image: ImageRef,
        carry: &[String],
    ) -> Result<String, Failure> {
        let like = machines::load(&self.layout, like)?;
        let told = super::home_copy::copy(self, &like, new, carry)?;
        let settings = Settings { image: Some(image), ..like.settings };
        machines::create(&self.layout, &Machine { name: new.clone(), settings, ..like })?;
        Ok(told)
    }
}
