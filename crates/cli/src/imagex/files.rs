//! Image files as this syntax names them: a file, further files by pattern, and an image by number, name or `all`.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gravure_imaging::{ErrorKind, ImageFile, check_integrity};
use gravure_model::Ctl;
use gravure_wim::ImageIndex;

use super::options::{Given, Opt, alias, flag, value};
use super::{Console, mistake, unsupported};
use crate::exit::Failure;
use crate::patterns;
use crate::stored::is_address;
use crate::target::{self, STDIN};

/// Options of everything that reads an image file.
pub(super) const CHECK: Opt = flag("check");
pub(super) const REF: Opt = value("ref");
pub(super) const REFS: Opt = alias("refs", REF);

/// Opens `path`, an address, or `-` for standard input, with what `--ref` names, and checks integrity tables when `--check`
/// asks for it.
pub(super) fn open(path: &OsStr, given: &Given, console: &Console) -> Result<ImageFile, Failure> {
    let file = open_with(path, &references(given)?, &console.ctl)?;
    if given.has("check") {
        check(&file, console)?;
    }
    Ok(file)
}

/// Opens `path` and, of the files `references`, those that it does not bring itself.
fn open_with(path: &OsStr, references: &[PathBuf], ctl: &Ctl) -> Result<ImageFile, Failure> {
    let mut file = match open_whole(path, ctl) {
        // Another part is not where it is looked for: it may be among the references.
        Err(failure) if failure.is(ErrorKind::NotFound) && !references.is_empty() => {
            target::open_alone(text(path)?, ctl)?.first_part()?
        }
        opened => opened?,
    };
    let identity = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let mut known: Vec<_> = file.wims().filter_map(|(name, _)| identity(Path::new(name))).collect();
    for reference in references {
        let own = identity(reference);
        let is_there = file.wims().any(|(name, _)| Path::new(name) == reference);
        if is_there || own.is_some_and(|own| known.contains(&own)) {
            continue;
        }
        known.extend(own);
        target::add_reference(&mut file, reference, ctl)?;
    }
    Ok(file)
}

/// Opens a file, an address or standard input, with the other parts of its set.
pub(super) fn open_whole(path: &OsStr, ctl: &Ctl) -> Result<ImageFile, Failure> {
    target::open(text(path)?, ctl)
}

/// Opens `path` to look at what it says of itself: any part of a set.
pub(super) fn open_alone(path: &OsStr, console: &Console) -> Result<ImageFile, Failure> {
    target::open_alone(text(path)?, &console.ctl)
}

/// A file that is to be changed, which cannot be done from afar.
pub(super) fn local(path: &OsStr) -> Result<&Path, Failure> {
    match path.to_str() {
        Some(name) if name == STDIN || is_address(name) => {
            Err(unsupported(format!("{name}: a file that is changed must be a local one")))
        }
        _ => Ok(Path::new(path)),
    }
}

fn text(path: &OsStr) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| mistake(format!("{path:?} is not text")))
}

/// Checks the integrity tables of `file`; where there is none, that is told.
pub(super) fn check(file: &ImageFile, console: &Console) -> Result<(), Failure> {
    for name in check_integrity(file, &console.ctl, &console.reporter)? {
        console.warn(&format!("{name} has no integrity table to check"));
    }
    Ok(())
}

/// The files that the patterns of `--ref` name.
pub(super) fn references(given: &Given) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for pattern in given.values("ref") {
        if pattern.to_str().is_some_and(is_address) {
            files.push(PathBuf::from(pattern));
            continue;
        }
        let found = patterns::expand(Path::new(pattern));
        if found.is_empty() {
            let message = format!("--ref={}: no file matches", Path::new(pattern).display());
            return Err(Failure::new(ErrorKind::NotFound, message));
        }
        files.extend(found);
    }
    Ok(files)
}

/// Which images are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Images {
    One(ImageIndex),
    All,
}

/// Finds the image `which`: a number, a name, or `all`. Nothing stands for the only image.
pub(super) fn images(file: &ImageFile, which: Option<&str>) -> Result<Images, Failure> {
    let none = |which: &str| {
        let message = format!("{which:?} is no image of {}", file.name());
        Failure::new(ErrorKind::NotFound, message).with_cure("`gravure wim info FILE` lists the images")
    };
    let Some(which) = which else {
        return match file.image_count() {
            1 => ImageIndex::from_number(1).map(Images::One).ok_or_else(|| none("1")),
            0 => Err(Failure::new(ErrorKind::NotFound, format!("{} has no images", file.name()))),
            count => Err(mistake(format!("{} has {count} images: which one is meant?", file.name()))),
        };
    };
    if which.eq_ignore_ascii_case("all") || which == "*" {
        return Ok(Images::All);
    }
    if let Ok(number) = which.parse::<u32>()
        && (1..=file.image_count()).contains(&number)
    {
        return ImageIndex::from_number(number).map(Images::One).ok_or_else(|| none(which));
    }
    let names = file.wim().info().images().zip(file.wim().images());
    let found =
        names.into_iter().find(|(info, _)| !which.is_empty() && info.name().as_deref() == Some(which));
    found.map(|(_, index)| Images::One(index)).ok_or_else(|| none(which))
}

/// As [`images`] where `all` means nothing.
pub(super) fn image(file: &ImageFile, which: Option<&str>) -> Result<ImageIndex, Failure> {
    match images(file, which)? {
        Images::One(index) => Ok(index),
        Images::All if file.image_count() == 1 => image(file, None),
        Images::All => Err(mistake("one image is needed here, not all")),
    }
}

/// The images that are meant, in order.
pub(super) fn list(file: &ImageFile, images: Images) -> Vec<ImageIndex> {
    match images {
        Images::One(index) => vec![index],
        Images::All => file.wim().images().collect(),
    }
}
