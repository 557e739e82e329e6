//! Image descriptors on the command line: read from a file, or found beside the image as `gravure image describe` leaves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_imaging::{ErrorKind, HttpAt, ImageFile, agent, is_described_by};
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;

use crate::exit::Failure;
use crate::target::{ImageName, remote};

/// Largest descriptor read, bytes: that of an image of some terabytes.
const MAX_BYTES: u64 = 256 << 20;
/// What its name has behind that of the image.
const SUFFIX: &str = ".descriptor";

/// An opened image file.
pub(crate) struct Opened {
    pub(crate) file: ImageFile,
    /// Whether it is read by a descriptor.
    pub(crate) is_described: bool,
    /// Why the descriptor beside it is not used.
    pub(crate) note: Option<String>,
}

/// Where the descriptor of `image` is by default.
pub(crate) fn beside(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// Reads the descriptor `path`.
fn read(path: &Path) -> Result<ImageDescriptor, Failure> {
    let failed = |error: &std::io::Error| Failure::io("read", path, error);
    let len = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if len > MAX_BYTES {
        let message =
            format!("{}: expected a descriptor of at most {MAX_BYTES} bytes, found {len}", path.display());
        return Err(Failure::new(ErrorKind::Integrity, message));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(ErrorKind::Integrity, format!("{}: no image descriptor: {error}", path.display()))
    })
}

/// Opens `image` so that no byte is used that is not as in the descriptor `explicit`. Without one the descriptor beside the image
/// serves, if it is of the image as it is now; it is no condition.
pub(crate) fn open(
    image: &ImageName,
    explicit: Option<&Path>,
    references: &[PathBuf],
    ctl: &Ctl,
) -> Result<Opened, Failure> {
    let plain = |file, note| Opened { file, is_described: false, note };
    let local = image.local().ok();
    let Some(path) = explicit else {
        let file = image.open_file(references, ctl)?;
        let Some(path) = local.map(beside).filter(|path| path.is_file()) else {
            return Ok(plain(file, None));
        };
        let descriptor = read(&path)?;
        if !is_described_by(&file, &descriptor)? {
            let why = format!("{} is of another state of the image, so it is not used", path.display());
            return Ok(plain(file, Some(why)));
        }
        let file = open_with(image, &descriptor, references, ctl)?;
        return Ok(Opened { file, is_described: true, note: None });
    };
    let descriptor = read(path)?;
    let file = open_with(image, &descriptor, references, ctl).map_err(|failure| not_of(path, failure))?;
    if !is_described_by(&file, &descriptor)? {
        let message = format!("{}: tables are not those of the descriptor", image.file);
        return Err(not_of(path, Failure::new(ErrorKind::Integrity, message)));
    }
    Ok(Opened { file, is_described: true, note: None })
}

/// The likely cause is another file, not damage.
fn not_of(path: &Path, failure: Failure) -> Failure {
    let is_integrity = failure.code == ErrorKind::Integrity.exit_code();
    let cure = format!(
        "{} is of another image, or of an earlier state of this one: make it anew with `gravure image describe`, or take \
        another copy of the image",
        path.display()
    );
    if is_integrity { failure.with_cure(cure) } else { failure }
}

fn open_with(
    image: &ImageName,
    descriptor: &ImageDescriptor,
    references: &[PathBuf],
    ctl: &Ctl,
) -> Result<ImageFile, Failure> {
    let mut file = match image.local() {
        Ok(path) => ImageFile::open_path_described(path, descriptor)?,
        Err(_) => {
            let source = HttpAt::verified(agent(), &image.file, descriptor, &remote(ctl))?;
            ImageFile::open_verified(Arc::new(source), &image.file, descriptor)?
        }
    };
    image.add_references(&mut file, references, ctl)?;
    Ok(file)
}
