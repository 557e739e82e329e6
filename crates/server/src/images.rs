//! The images a site can deploy: files of the image directory and images of the store, with their descriptors. An image of the store
//! is called as its manifest, `NAME.gim`; a file of that name comes first.
//!
//! Making a descriptor reads the whole file, so it is kept beside it and made again only when length or time of change
//! differ. Descriptors are signed when they are handed out, not when they are made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gravure_deploy::{CatalogImage, stored_path};
use gravure_model::descriptor::{Digest, ImageDescriptor};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, RwLock};

use crate::Error;

/// Endings of files that are images.
const ENDINGS: [&str; 2] = ["wim", "gim"];
/// Ending of manifests in the store.
const STORED: &str = ".gim";
/// Folder of manifests in the store.
const MANIFESTS: &str = "images";
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
    modified_ns: u64,
    /// The descriptor as text, so that its bytes stay what they were.
    descriptor: String,
}

/// What a file looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size_bytes: u64,
    modified_ns: u64,
}

/// What an image file of this size and time turned out to be.
type Judged = (Stamp, Result<ReadyImage, String>);

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// The file, or the manifest in the store.
    pub(crate) path: PathBuf,
    /// It is in the store.
    pub(crate) stored: bool,
}

/// The image directory and the store.
pub(crate) struct Images {
    dir: PathBuf,
    store: PathBuf,
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
    pub(crate) fn new(dir: PathBuf, store: PathBuf, describe: Arc<Describe>) -> Self {
        Self { dir, store, describe, ready: RwLock::default(), making: Mutex::default() }
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

    /// Where the image `name` is, or would be.
    pub(crate) fn locate(&self, name: &str) -> Located {
        let file = self.dir.join(name);
        let manifest = Self::stored_name(name).map(|_| self.store.join(MANIFESTS).join(name));
        match manifest.filter(|manifest| !file.exists() && manifest.is_file()) {
            Some(path) => Located { path, stored: true },
            None => Located { path: file, stored: false },
        }
    }

    /// Whether there is an image of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        Self::is_image_name(name) && self.locate(name).path.is_file()
    }

    fn stamp(&self, name: &str) -> Result<Stamp, Error> {
        let path = self.locate(name).path;
        let facts = std::fs::metadata(&path).map_err(|source| Error::io("read", &path, source))?;
        let modified = facts.modified().map_err(|source| Error::io("read", &path, source))?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        if !facts.is_file() {
            return Err(Error::Image { image: name.to_owned(), message: "not a regular file".into() });
        }
        Ok(Stamp { size_bytes: facts.len(), modified_ns })
    }

    /// The image `name`, described now if it was not before.
    pub(crate) async fn get(&self, name: &str) -> Result<ReadyImage, Error> {
        let problem = |message: String| Error::Image { image: name.to_owned(), message };
        if !Self::is_image_name(name) {
            return Err(problem(
                "not the name of an image (*.wim or *.gim in the image directory, *.gim in the store)".into(),
            ));
        }
        let stamp = self.stamp(name)?;
        if let Some(ready) = self.known(name, stamp).await {
            return ready.map_err(problem);
        }
        let _alone = self.making.lock().await;
        if let Some(ready) = self.known(name, stamp).await {
            return ready.map_err(problem);
        }
        let (located, describe, owned) = (self.locate(name), Arc::clone(&self.describe), name.to_owned());
        let kept = self.dir.join(format!("{name}.{KEPT}"));
        let made = tokio::task::spawn_blocking(move || prepare(&located, &kept, &owned, stamp, &*describe));
        let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
        self.ready.write().await.insert(name.to_owned(), (stamp, made.clone()));
        made.map_err(problem)
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
        match std::fs::read_dir(self.store.join(MANIFESTS)) {
            Ok(entries) => {
                let stored = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                names.extend(stored.filter(|name| Self::stored_name(name).is_some()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::io("read", &self.store, source)),
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What is there, described or not.
    pub(crate) async fn list(&self) -> Result<Vec<ImageListing>, Error> {
        let mut list = Vec::new();
        for name in self.names()? {
            let Ok(stamp) = self.stamp(&name) else { continue };
            let known = self.known(&name, stamp).await;
            let ready = known.as_ref().and_then(|known| known.as_ref().ok());
            let images = ready.map(|ready| &ready.catalog.descriptor.images[..]).unwrap_or_default();
            list.push(ImageListing {
                size_bytes: stamp.size_bytes,
                stored: self.locate(&name).stored,
                content_bytes: ready.map(|_| images.iter().map(|image| image.content_bytes).sum()),
                digest: ready.map(|ready| ready.catalog.digest),
                problem: known.as_ref().and_then(|known| known.as_ref().err().cloned()),
                images: images.iter().map(|image| image.name.clone()).collect(),
                name,
            });
        }
        Ok(list)
    }

    /// Describes what is new in the directory, so that the first machine need not wait for it.
    pub(crate) async fn describe_new(&self) {
        for name in self.names().unwrap_or_default() {
            let Ok(stamp) = self.stamp(&name) else { continue };
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

fn prepare(
    located: &Located,
    kept_path: &Path,
    name: &str,
    stamp: Stamp,
    describe: &Describe,
) -> Result<ReadyImage, String> {
    if let Some(descriptor) = kept(kept_path, stamp)
        && let Ok(ready) = ready(name, located.stored, descriptor)
    {
        return Ok(ready);
    }
    let made = describe(&located.path)?;
    let descriptor = serde_json::to_string(&made).map_err(|error| error.to_string())?;
    let keep =
        Kept { size_bytes: stamp.size_bytes, modified_ns: stamp.modified_ns, descriptor: descriptor.clone() };
    let stored = serde_json::to_vec(&keep).map_err(|error| error.to_string());
    // Only a saving of time: a directory that cannot be written serves as well, slower.
    if let Err(error) = stored.and_then(|bytes| replace(kept_path, &bytes).map_err(|error| error.to_string()))
    {
        tracing::warn!(image = name, %error, "the descriptor cannot be kept");
    }
    ready(name, located.stored, descriptor)
}

fn kept(path: &Path, stamp: Stamp) -> Option<String> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (kept.size_bytes == stamp.size_bytes && kept.modified_ns == stamp.modified_ns).then_some(kept.descriptor)
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
