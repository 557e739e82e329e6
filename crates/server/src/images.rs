//! The images a site can deploy: files of the image directory and images of the store, with their descriptors. An image of the store
//! is called as its manifest, `NAME.gim`; a file of that name comes first.
//!
//! Making a descriptor reads the whole file, so it is kept beside it and made again only when length or time of change
//! differ. Descriptors are signed when they are handed out, not when they are made.
//!
//! What is in the store is asked for now and then and remembered, since the store may be on another machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use gravure_deploy::{CatalogImage, stored_path};
use gravure_model::Ctl;
use gravure_model::descriptor::{DescribedImage, Digest, ImageDescriptor};
use gravure_model::event::Silent;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, RwLock};

use crate::Error;
use crate::error::chain;
use crate::site_store::SiteStore;

/// Endings of files that are images.
const ENDINGS: [&str; 2] = ["wim", "gim"];
/// Ending of manifests in the store.
const STORED: &str = ".gim";
/// Ending of the file that keeps a descriptor.
const KEPT: &str = "descriptor";
/// Longest name of an image in the store: with its ending it is a file name everywhere.
const MAX_STORED_NAME_BYTES: usize = 100;

/// Makes the descriptor of an image file. Blocks.
pub type Describe = dyn Fn(&Path) -> Result<ImageDescriptor, String> + Send + Sync;

/// An image ready to be deployed.
#[derive(Debug, Clone)]
pub(crate) struct ReadyImage {
    /// For the planner.
    pub(crate) catalog: CatalogImage,
    /// The exact bytes the digest is of.
    pub(crate) descriptor_bytes: Arc<Vec<u8>>,
}

impl ReadyImage {
    /// What is said of one image of the file, counted from 0.
    pub(crate) fn described(&self, index: u32) -> Option<&DescribedImage> {
        self.catalog.descriptor.images.get(usize::try_from(index).ok()?)
    }

    /// The image `name` of the store before there is one: the descriptor of nothing stands for it.
    pub(crate) fn to_be_made(name: &str) -> Result<Self, serde_json::Error> {
        let descriptor = ImageDescriptor::of_nothing(gravure_imaging::BLOCK_FORMAT);
        let bytes = serde_json::to_vec(&descriptor)?;
        let digest = Digest(*blake3::hash(&bytes).as_bytes());
        let catalog = CatalogImage { path: stored_path(name), digest, descriptor };
        Ok(Self { catalog, descriptor_bytes: Arc::new(bytes) })
    }
}

/// An image as `GET /v1/images` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageListing {
    /// File name; of an image in the store that of its manifest.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// It lies in the site's store.
    #[serde(default)]
    pub stored: bool,
    /// Bytes of content in it, once that is known.
    #[serde(default)]
    pub content_bytes: Option<u64>,
    /// Digest of the descriptor; `None` while it is being made or if it cannot be.
    pub digest: Option<Digest>,
    /// Why there is no descriptor.
    pub problem: Option<String>,
    /// Names of the images in the file.
    pub images: Vec<String>,
}

/// What is kept beside an image.
#[derive(Serialize, Deserialize)]
struct Kept {
    size_bytes: u64,
    /// As the stamp has it.
    #[serde(rename = "modified_ns")]
    changed: u64,
    /// The descriptor as text, so that its bytes stay what they were.
    descriptor: String,
}

/// What a file or manifest looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its length.
    pub(crate) size_bytes: u64,
    /// Another number when it is replaced: of a file the nanoseconds since 1970.
    pub(crate) changed: u64,
}

/// What an image file of this size and time turned out to be.
type Judged = (Stamp, Result<ReadyImage, String>);

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Located {
    /// In this file.
    File(PathBuf),
    /// In the store, by this name.
    Stored(String),
}

/// The image directory and the store.
pub(crate) struct Images {
    dir: PathBuf,
    store: Arc<SiteStore>,
    /// Manifests in the store, by file name, as of the last look.
    stored: std::sync::RwLock<BTreeMap<String, Stamp>>,
    describe: Arc<Describe>,
    ready: RwLock<BTreeMap<String, Judged>>,
    /// One descriptor at a time: making it uses the whole disk anyway.
    making: Mutex<()>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({})", self.dir.display())
    }
}

impl Images {
    /// Files of `dir` and what is in `store`; the store is not looked into yet.
    pub(crate) fn new(dir: PathBuf, store: Arc<SiteStore>, describe: Arc<Describe>) -> Self {
        let stored = std::sync::RwLock::default();
        Self { dir, store, stored, describe, ready: RwLock::default(), making: Mutex::default() }
    }

    /// Looks what is in the store.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let store = Arc::clone(&self.store);
        let found = tokio::task::spawn_blocking(move || store.manifests()).await;
        let found = found.unwrap_or_else(|error| Err(Error::Store { message: error.to_string() }))?;
        let found = found.into_iter().filter(|(name, _)| Self::stored_name(name).is_some());
        *self.stored.write().unwrap_or_else(PoisonError::into_inner) = found.collect();
        Ok(())
    }

    async fn refresh_if_possible(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "cannot look into the store; what was in it before counts");
        }
    }

    /// Looks into the store for `name` where that is no file.
    pub(crate) async fn look_for(&self, name: &str) -> Result<(), Error> {
        match self.locate(name) {
            Ok(Some((Located::File(_), _))) => Ok(()),
            _ => self.refresh().await,
        }
    }

    fn stored(&self, name: &str) -> Option<Stamp> {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Where the files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a name can be that of an image: a plain file name with the right ending.
    pub(crate) fn is_image_name(name: &str) -> bool {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        !name.starts_with('.')
            && !name.contains(['/', '\\', '\0'])
            && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
    }

    /// The name in the store of an image that is called `name`.
    pub(crate) fn stored_name(name: &str) -> Option<&str> {
        name.strip_suffix(STORED).filter(|stem| is_stored_name(stem))
    }

    /// The image `name`, if it is there: a file comes before an image of the store.
    fn locate(&self, name: &str) -> Result<Option<(Located, Stamp)>, Error> {
        let path = self.dir.join(name);
        match std::fs::metadata(&path) {
            Ok(facts) => Ok(Stamp::of(&facts).map(|stamp| (Located::File(path), stamp))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let stem = Self::stored_name(name).map(str::to_owned);
                Ok(stem.and_then(|stem| Some((Located::Stored(stem), self.stored(name)?))))
            }
            Err(source) => Err(Error::io("read", &path, source)),
        }
    }

    /// Whether there is an image of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        Self::is_image_name(name) && matches!(self.locate(name), Ok(Some(_)))
    }

    /// Whether it is in the store.
    pub(crate) fn is_stored(&self, name: &str) -> bool {
        matches!(self.locate(name), Ok(Some((Located::Stored(_), _))))
    }

    /// The image `name`, described now if it was not before.
    pub(crate) async fn get(&self, name: &str) -> Result<ReadyImage, Error> {
        let problem = |message: String| Error::Image { image: name.to_owned(), message };
        if !Self::is_image_name(name) {
            return Err(problem(
                "not the name of an image (*.wim or *.gim in the image directory, *.gim in the store)".into(),
            ));
        }
        self.look_for(name).await?;
        let found = self.locate(name)?;
        let (located, stamp) =
            found.ok_or_else(|| problem(format!("neither in {} nor in the store", self.dir.display())))?;
        if let Some(ready) = self.known(name, stamp).await {
            return ready.map_err(problem);
        }
        let _alone = self.making.lock().await;
        if let Some(ready) = self.known(name, stamp).await {
            return ready.map_err(problem);
        }
        let (store, describe, owned) = (Arc::clone(&self.store), Arc::clone(&self.describe), name.to_owned());
        let kept = self.dir.join(format!("{name}.{KEPT}"));
        let made = tokio::task::spawn_blocking(move || {
            prepare(&owned, stamp, &kept, matches!(located, Located::Stored(_)), || match &located {
                Located::File(path) => describe(path),
                Located::Stored(stem) => describe_stored(&store, stem, stamp.size_bytes),
            })
        });
        let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
        self.ready.write().await.insert(name.to_owned(), (stamp, made.clone()));
        made.map_err(problem)
    }

    /// The descriptor of an image that was described before; nothing is made for the asking.
    pub(crate) async fn described_before(&self, name: &str) -> Option<ReadyImage> {
        let (located, stamp) = self.locate(name).ok()??;
        if let Some(known) = self.known(name, stamp).await {
            return known.ok();
        }
        let descriptor = kept(&self.dir.join(format!("{name}.{KEPT}")), stamp)?;
        ready(name, matches!(located, Located::Stored(_)), descriptor).ok()
    }

    async fn known(&self, name: &str, stamp: Stamp) -> Option<Result<ReadyImage, String>> {
        let ready = self.ready.read().await;
        ready.get(name).filter(|(of, _)| *of == stamp).map(|(_, ready)| ready.clone())
    }

    /// Names of all images, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = std::fs::read_dir(&self.dir).map_err(|source| Error::io("read", &self.dir, source))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| Self::is_image_name(name)).collect();
        names.extend(self.stored.read().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What is there, described or not.
    pub(crate) async fn list(&self) -> Result<Vec<ImageListing>, Error> {
        self.refresh_if_possible().await;
        let mut list = Vec::new();
        for name in self.names()? {
            let Ok(Some((located, stamp))) = self.locate(&name) else { continue };
            let known = self.known(&name, stamp).await;
            let ready = known.as_ref().and_then(|known| known.as_ref().ok());
            let images = ready.map(|ready| &ready.catalog.descriptor.images[..]).unwrap_or_default();
            list.push(ImageListing {
                size_bytes: stamp.size_bytes,
                stored: matches!(located, Located::Stored(_)),
                content_bytes: ready.map(|_| images.iter().map(|image| image.content_bytes).sum()),
                digest: ready.map(|ready| ready.catalog.digest),
                problem: known.as_ref().and_then(|known| known.as_ref().err().cloned()),
                images: images.iter().map(|image| image.name.clone()).collect(),
                name,
            });
        }
        Ok(list)
    }

    /// Describes what is new in the directory and the store, so that the first machine need not wait for it.
    pub(crate) async fn describe_new(&self) {
        self.refresh_if_possible().await;
        for name in self.names().unwrap_or_default() {
            let Ok(Some((_, stamp))) = self.locate(&name) else { continue };
            if self.known(&name, stamp).await.is_none() {
                match self.get(&name).await {
                    Ok(ready) => {
                        tracing::info!(image = name, digest = %ready.catalog.digest, "image is ready")
                    }
                    Err(error) => tracing::warn!(image = name, %error, "image cannot be used"),
                }
            }
        }
    }
}

/// Names that are the same in every kind of store, and in addresses.
fn is_stored_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_STORED_NAME_BYTES
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn describe_stored(store: &SiteStore, stem: &str, size_bytes: u64) -> Result<ImageDescriptor, String> {
    let opened = store.store().map_err(|error| chain(&error))?;
    gravure_imaging::describe_stored_image(Arc::new(opened), stem, size_bytes, &Ctl::default(), &Silent)
        .map_err(|error| chain(&error))
}

fn prepare(
    name: &str,
    stamp: Stamp,
    kept_path: &Path,
    is_stored: bool,
    describe: impl FnOnce() -> Result<ImageDescriptor, String>,
) -> Result<ReadyImage, String> {
    if let Some(descriptor) = kept(kept_path, stamp)
        && let Ok(ready) = ready(name, is_stored, descriptor)
    {
        return Ok(ready);
    }
    let descriptor = serde_json::to_string(&describe()?).map_err(|error| error.to_string())?;
    let keep = Kept { size_bytes: stamp.size_bytes, changed: stamp.changed, descriptor: descriptor.clone() };
    let stored = serde_json::to_vec(&keep).map_err(|error| error.to_string());
    // Only a saving of time: a directory that cannot be written serves as well, slower.
    if let Err(error) = stored.and_then(|bytes| replace(kept_path, &bytes).map_err(|error| error.to_string()))
    {
        tracing::warn!(image = name, %error, "the descriptor cannot be kept");
    }
    ready(name, is_stored, descriptor)
}

fn kept(path: &Path, stamp: Stamp) -> Option<String> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (kept.size_bytes == stamp.size_bytes && kept.changed == stamp.changed).then_some(kept.descriptor)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

fn ready(name: &str, stored: bool, descriptor: String) -> Result<ReadyImage, String> {
    let bytes = descriptor.into_bytes();
    let parsed: ImageDescriptor = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let digest = Digest(*blake3::hash(&bytes).as_bytes());
    let path = match Images::stored_name(name).filter(|_| stored) {
        Some(stem) => stored_path(stem),
        None => format!("/images/{name}"),
    };
    let catalog = CatalogImage { path, digest, descriptor: parsed };
    Ok(ReadyImage { catalog, descriptor_bytes: Arc::new(bytes) })
}
