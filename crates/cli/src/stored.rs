//! Block images and stores by their names on the command line: `FILE.gim`, `STORE/`, `STORE:NAME` or `STORE#NAME`, addresses,
//! `s3://BUCKET/PREFIX/`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gravure_fetch::Patience;
use gravure_imaging::{
    BlockImage, ErrorKind, HttpAt, RemoteOptions, Which, agent, is_block_image, store_error_kind,
};
use gravure_io::FileAt;
use gravure_model::{Ctl, Secret};
use gravure_store::{
    CachedObjects, FailoverObjects, HttpObjects, LocalObjects, Objects, S3Config, S3Objects, Store,
};

use crate::exit::{Failure, chain};
use crate::target::ImageName;

/// Whether a name is that of a block image or of a store of them.
pub(crate) fn is_block_name(name: &str) -> bool {
    if split(name).is_some() {
        return true;
    }
    let plain = name.trim_end_matches('/');
    plain.to_ascii_lowercase().ends_with(".gim") || is_block_image(Path::new(plain))
}

/// Whether a name is that of a store: a directory, or an address that ends in a slash.
pub(crate) fn is_store(name: &str) -> bool {
    name.ends_with('/') || Path::new(name).is_dir()
}

/// Store and image of a name of the form `STORE#NAME`.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('#').filter(|(store, image)| is_store(store) && !image.is_empty())
}

/// Whether an image is one of a device, or a whole store. File images in a store are handled as WIM files are.
pub(crate) fn is_of_device(image: &ImageName, ctl: &Ctl) -> Result<bool, Failure> {
    if !is_block_name(&image.file) {
        return Ok(false);
    }
    if is_store(&image.file) && image.which == Which::Only {
        return Ok(true);
    }
    Ok(!open(image, ctl)?.holds_files())
}

/// What `IMAGE:PART/path`, or `IMAGE:PART` and a path beside it, mean: image, partition, path. A volume without a table has no number:
/// `IMAGE:/path`. `None` for anything else.
pub(crate) fn split_part(
    image: &ImageName,
    path: &str,
    ctl: &Ctl,
) -> Result<Option<(ImageName, Option<u32>, String)>, Failure> {
    let whole = |file: &str| ImageName { file: file.to_owned(), which: Which::Only };
    if let Which::Number(number) = image.which {
        if is_block_name(&image.file) && is_of_device(&whole(&image.file), ctl)? {
            return Ok(Some((whole(&image.file), Some(number), path.to_owned())));
        }
        return Ok(None);
    }
    // The last colon whose left side is an image: paths may have colons, too.
    for (at, _) in image.file.rmatch_indices(':') {
        let (file, rest) = (&image.file[..at], &image.file[at + 1..]);
        let (number, path) = rest.split_once('/').unwrap_or((rest, ""));
        let number = match number {
            "" => None,
            number => match number.parse() {
                Ok(number) => Some(number),
                Err(_) => continue,
            },
        };
        let is_file = split(file).is_some() || is_address(file) || Path::new(file).is_file();
        if is_file && is_block_name(file) && is_of_device(&whole(file), ctl)? {
            return Ok(Some((whole(file), number, format!("/{path}"))));
        }
    }
    Ok(None)
}

pub(crate) fn is_address(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
pub(crate) fn store_failure(error: gravure_store::Error) -> Failure {
    Failure::new(store_error_kind(&error), chain(&error))
}

/// What [`open_store`] reads besides the store itself: said once, to the process, as limits are.
#[derive(Debug, Default)]
struct Places {
    /// Where copies are kept.
    cache: Option<PathBuf>,
    /// Other places of the store.
    copies: Vec<String>,
}

/// Set before a command runs.
static PLACES: OnceLock<Places> = OnceLock::new();

/// Says where else stores are, and where copies of what is read are kept.
pub(crate) fn set_places(cache: Option<&Path>, copies: &[String]) {
    // A second time would be a second command line.
    let _ = PLACES.set(Places { cache: cache.map(Path::to_owned), copies: copies.to_vec() });
}

/// Opens the store that a name says, with its other places and the cache.
pub(crate) fn open_store(name: &str) -> Result<Arc<Store>, Failure> {
    let (none, own) = (Places::default(), objects(name));
    let places = PLACES.get().unwrap_or(&none);
    let mut all: Arc<dyn Objects> =
        if places.copies.is_empty() { own? } else { with_copies(present(name, own), &places.copies)? };
    if let Some(cache) = &places.cache {
        all = Arc::new(CachedObjects::new(all, Arc::new(LocalObjects::new(cache))));
    }
    let store = Store::open(all).map_err(store_failure)?;
    store.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(Arc::new(store))
}

/// The place that a name says.
fn objects(name: &str) -> Result<Arc<dyn Objects>, Failure> {
    if let Some(place) = name.strip_prefix("s3://") {
        return Ok(Arc::new(bucket(place)?));
    }
    if is_address(name) {
        let opened = HttpObjects::open(agent(), name, Patience::default());
        return Ok(Arc::new(opened.map_err(store_failure)?));
    }
    Ok(Arc::new(LocalObjects::new(Path::new(name))))
}

/// The same, but a directory that is not there is not taken for an empty store.
fn present(name: &str, opened: Result<Arc<dyn Objects>, Failure>) -> Result<Arc<dyn Objects>, Failure> {
    let is_there = is_address(name) || name.starts_with("s3://") || Path::new(name).is_dir();
    match is_there {
        true => opened,
        false => Err(Failure::new(ErrorKind::NotFound, format!("{name}: no such directory"))),
    }
}

/// The store `own` with its copies. Those that cannot be reached are told and left out; without the store itself nothing can be written.
fn with_copies(
    own: Result<Arc<dyn Objects>, Failure>,
    copies: &[String],
) -> Result<Arc<dyn Objects>, Failure> {
    let mut places = Vec::new();
    let mut others = Vec::new();
    for copy in copies {
        if !is_store(copy) {
            let message = format!("--store-copy {copy}: no store");
            return Err(Failure::new(ErrorKind::Usage, message)
                .with_cure("name a directory, or an address that ends in a slash"));
        }
        match present(copy, objects(copy)) {
            Ok(objects) => others.push(objects),
            Err(failure) => eprintln!("warning: {copy} is left out: {}", failure.message),
        }
    }
    let is_there = own.is_ok();
    match own {
        Ok(own) => places.push(own),
        Err(failure) if others.is_empty() => return Err(failure),
        Err(failure) => eprintln!("warning: read from its copies: {}", failure.message),
    }
    places.extend(others);
    let joined = if is_there { FailoverObjects::new(places) } else { FailoverObjects::read_only(places) };
    let joined =
        joined.ok_or_else(|| Failure::new(ErrorKind::NotFound, "no place of the store".to_owned()))?;
    Ok(Arc::new(joined))
}

/// A store in a bucket, `BUCKET/PREFIX/`; where the server is and who asks is in the variables that other programs use.
fn bucket(place: &str) -> Result<S3Objects, Failure> {
    let variable = |name: &str| {
        std::env::var(name).map_err(|_| {
            Failure::new(ErrorKind::Usage, format!("s3://{place}: {name} is not set")).with_cure(
                "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION where it is not us-east-1",
            )
        })
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let config = S3Config {
        endpoint: variable("AWS_ENDPOINT_URL")?,
        bucket: bucket.to_owned(),
        prefix: prefix.trim_matches('/').to_owned(),
        region: std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned()),
        access_key: variable("AWS_ACCESS_KEY_ID")?,
        secret_key: Secret::new(&variable("AWS_SECRET_ACCESS_KEY")?),
    };
    Ok(S3Objects::new(agent(), config, Patience::default()))
}

/// What a name of an image says within a store.
pub(crate) fn stored_name(store: &Store, which: &Which) -> Result<String, Failure> {
    match which {
        Which::Name(name) => Ok(name.clone()),
        Which::Number(number) => Ok(number.to_string()),
        _ => {
            let images = store.images().map_err(store_failure)?;
            match images.as_slice() {
                [only] => Ok(only.name.clone()),
                [] => Err(Failure::new(
                    ErrorKind::NotFound,
                    format!("{}: no image in this store", store.name()),
                )),
                several => {
                    let names: Vec<&str> = several.iter().take(10).map(|image| image.name.as_str()).collect();
                    let message = format!("{} holds {} images", store.name(), several.len());
                    Err(Failure::new(ErrorKind::Usage, message)
                        .with_cure(format!("say which, as STORE:NAME, of: {}", names.join(", "))))
                }
            }
        }
    }
}

/// Opens an image.
pub(crate) fn open(image: &ImageName, ctl: &Ctl) -> Result<BlockImage, Failure> {
    if let Some((store, name)) = split(&image.file) {
        return Ok(BlockImage::open_stored(open_store(store)?, name)?);
    }
    if is_store(&image.file) {
        let store = open_store(&image.file)?;
        let name = stored_name(&store, &image.which)?;
        return Ok(BlockImage::open_stored(store, &name)?);
    }
    let source: Arc<dyn gravure_io::ReadAt> = if is_address(&image.file) {
        let options = RemoteOptions { ctl: ctl.clone(), ..RemoteOptions::default() };
        Arc::new(HttpAt::unverified(agent(), &image.file, &options)?)
    } else {
        let path = Path::new(&image.file);
        Arc::new(FileAt::open(path).map_err(|error| Failure::io("open", path, &error))?)
    };
    Ok(BlockImage::open(source, &image.file)?)
}

/// The text of a small file, such as a key.
pub(crate) fn small_file(path: &Path, most: u64) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::io("read", path, &error);
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > most {
        let message = format!("{}: expected at most {most} bytes, found {len}", path.display());
        return Err(Failure::new(ErrorKind::Usage, message));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Refuses an image that the key in the file `key` has not signed.
pub(crate) fn check_signature(image: &BlockImage, key: &Path) -> Result<(), Failure> {
    let text = small_file(key, 4096)?;
    let key = gravure_trust::PublicKey::from_text(&text)
        .map_err(|error| Failure::new(ErrorKind::Usage, format!("{}: {}", key.display(), chain(&error))))?;
    let refuse = |why: String| {
        Failure::new(ErrorKind::Refused, format!("refused: {}: {why}", image.name()))
            .with_cure("sign it with `gravure image sign`, or give the key that did")
    };
    let Some(signature) = image.signature() else {
        return Err(refuse(format!("it is not signed, expected a signature of key {}", key.id())));
    };
    gravure_trust::accept_block_image(&key, signature, &image.id().0).map_err(|error| refuse(chain(&error)))
}

/// As [`check_signature`] for an image by its name, where a key is given.
pub(crate) fn check_trust(image: &ImageName, key: Option<&Path>, ctl: &Ctl) -> Result<(), Failure> {
    let Some(key) = key else { return Ok(()) };
    if !is_block_name(&image.file) {
        let message = format!("{}: --trust is for images in stores and .gim files", image.file);
        return Err(
            Failure::new(ErrorKind::Usage, message).with_cure("WIM files are vouched for by descriptors")
        );
    }
    check_signature(&open(image, ctl)?, key)
}
