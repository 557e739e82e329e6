//! What images are called on the command line: `FILE`, `FILE:3`, `FILE:name`, `-` for standard input.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use gravure_imaging::{ErrorKind, HttpAt, Image, ImageFile, PipedFile, RemoteOptions, Which};
use gravure_io::FileAt;
use gravure_model::Ctl;

use crate::exit::Failure;
use crate::{limits, patterns, stored};

/// How standard input is called on the command line, and in messages.
pub(crate) const STDIN: &str = "-";
const STDIN_NAME: &str = "standard input";

/// An image file, local or at an address, and which image of it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName {
    pub(crate) file: String,
    pub(crate) which: Which,
}

impl FromStr for ImageName {
    type Err = std::convert::Infallible;

    /// What follows the last colon is the image, unless a file of the whole name exists or it belongs to an address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = || Self { file: text.to_owned(), which: Which::Only };
        if Path::new(text).exists() {
            return Ok(whole());
        }
        let Some((file, image)) = text.rsplit_once(':') else { return Ok(whole()) };
        if file.is_empty() || image.is_empty() || image.starts_with("//") || image.contains('/') {
            return Ok(whole());
        }
        if stored::is_store(file) {
            // One name for an image in a store, so that what follows may say which image of a WIM in it is meant.
            return Ok(Self { file: format!("{file}#{image}"), which: Which::Only });
        }
        let which = image.parse().map_or_else(|_| Which::Name(image.to_owned()), Which::Number);
        Ok(Self { file: file.to_owned(), which })
    }
}

/// An opened image file.
pub(crate) enum Source {
    /// With random access.
    File(ImageFile),
    /// Standard input, which can be read once, front to back.
    Pipe(Box<PipedFile<'static>>),
}

impl ImageName {
    /// Opens the file or standard input, for commands that can work from a pipe.
    pub(crate) fn open_source(&self, references: &[PathBuf], ctl: &Ctl) -> Result<Source, Failure> {
        if self.file != STDIN || is_file(io::stdin().as_fd())? {
            return Ok(Source::File(self.open_file(references, ctl)?));
        }
        if !references.is_empty() {
            let message = "--ref does not go with an image from a pipe";
            return Err(Failure::new(ErrorKind::Usage, message));
        }
        let opened =
            PipedFile::open_within(io::stdin(), STDIN_NAME, &limits::current()).map_err(|error| {
                let is_unsupported = error.kind() == ErrorKind::Unsupported;
                let failure = Failure::from(error);
                match is_unsupported && failure.cure.is_none() {
                    true => failure.with_cure(
                        "name the file instead of piping it, or capture it with --pipable in the first place",
                    ),
                    false => failure,
                }
            })?;
        Ok(Source::Pipe(Box::new(opened)))
    }

    /// Whether the file is fetched from a web server.
    fn is_remote(&self) -> bool {
        stored::is_address(&self.file)
    }

    /// Opens the file, with other parts and references.
    pub(crate) fn open_file(&self, references: &[PathBuf], ctl: &Ctl) -> Result<ImageFile, Failure> {
        let mut file = open(&self.file, ctl)?;
        self.add_references(&mut file, references, ctl)?;
        Ok(file)
    }

    /// Adds files that content may lie in.
    pub(crate) fn add_references(
        &self,
        file: &mut ImageFile,
        references: &[PathBuf],
        ctl: &Ctl,
    ) -> Result<(), Failure> {
        expanded(references)?.iter().try_for_each(|reference| add_reference(file, reference, ctl))
    }

    /// Opens the image.
    pub(crate) fn open(&self, references: &[PathBuf], ctl: &Ctl) -> Result<Image, Failure> {
        let file = self.open_file(references, ctl)?;
        let index = file.find(&self.which)?;
        Ok(file.image(index)?)
    }

    /// The local path, for commands that cannot work from afar.
    pub(crate) fn local(&self) -> Result<&Path, Failure> {
        if self.is_remote() {
            let message = format!("{}: a local file is needed here", self.file);
            return Err(Failure::new(gravure_imaging::ErrorKind::Unsupported, message));
        }
        Ok(Path::new(&self.file))
    }
}

/// The files that `--ref` names: addresses as they are, files by path or by a pattern with `*`, `?` or `[a-z]`.
fn expanded(references: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for reference in references {
        if reference.to_str().is_some_and(stored::is_address) || reference.exists() {
            files.push(reference.clone());
            continue;
        }
        let found = patterns::expand(reference);
        if found.is_empty() {
            let message = format!("--ref={}: no file matches", reference.display());
            return Err(Failure::new(ErrorKind::NotFound, message));
        }
        files.extend(found);
    }
    Ok(files)
}

/// Opens a file by path or address, or standard input. A split set at an address has its other parts beside it.
pub(crate) fn open(name: &str, ctl: &Ctl) -> Result<ImageFile, Failure> {
    if name != STDIN && !stored::is_address(name) && !stored::is_block_name(name) {
        return Ok(ImageFile::open_path_within(Path::new(name), &limits::current())?);
    }
    let first = open_alone(name, ctl)?;
    if first.wim().header().parts == 1 || name == STDIN {
        return Ok(first);
    }
    Ok(first
        .with_parts(|url| Ok(Arc::new(HttpAt::unverified(gravure_imaging::agent(), url, &remote(ctl))?)))?)
}

/// Opens one file by path or address, or standard input, without the other parts of its set.
pub(crate) fn open_alone(name: &str, ctl: &Ctl) -> Result<ImageFile, Failure> {
    if name == STDIN {
        let stdin = io::stdin();
        let file = match is_file(stdin.as_fd())? {
            true => stdin.as_fd().try_clone_to_owned().map(File::from),
            false => return spool(ctl),
        };
        let file = file.and_then(FileAt::new);
        let file = file.map_err(|error| Failure::io("open", Path::new(STDIN_NAME), &error))?;
        return Ok(ImageFile::open_within(Arc::new(file), STDIN_NAME, &limits::current())?);
    }
    if stored::is_block_name(name) {
        let image = ImageName { file: name.to_owned(), which: Which::Only };
        return Ok(stored::open(&image, ctl)?.into_file_images()?);
    }
    match stored::is_address(name) {
        true => Ok(ImageFile::open_within(Arc::new(fetch(name, ctl)?), name, &limits::current())?),
        false => Ok(ImageFile::open_single(Path::new(name), &limits::current())?),
    }
}

/// Adds a file that content may lie in, by path or address.
pub(crate) fn add_reference(file: &mut ImageFile, reference: &Path, ctl: &Ctl) -> Result<(), Failure> {
    match reference.to_str().filter(|name| stored::is_address(name)) {
        Some(url) => Ok(file.add_reference_at(Arc::new(fetch(url, ctl)?), url)?),
        None => Ok(file.add_reference(reference)?),
    }
}

/// Bytes of a pipe that are put aside at a time.
const SPOOL_BYTES: usize = 1 << 20;

/// What comes from a pipe, put aside in a file without a name for commands that read here and there. Apply, extract, verify and
/// info, which can do with reading once, do not come here.
fn spool(ctl: &Ctl) -> Result<ImageFile, Failure> {
    let dir = std::env::temp_dir();
    let failed = |what: &'static str| {
        let dir = dir.clone();
        move |error: io::Error| {
            let failure = Failure::io(what, &dir, &error);
            failure.with_cure("the image in the pipe is put aside there: TMPDIR names a place with more room")
        }
    };
    let mut file = tempfile::tempfile().map_err(failed("make a temporary file in"))?;
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; SPOOL_BYTES];
    loop {
        ctl.check().map_err(gravure_imaging::Error::from)?;
        let read = match stdin.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| Failure::io("read", Path::new(STDIN_NAME), &error))?,
        };
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(failed("write to a temporary file in"))?;
    }
    let file = FileAt::new(file).map_err(failed("open a temporary file in"))?;
    Ok(ImageFile::open_within(Arc::new(file), STDIN_NAME, &limits::current())?)
}

pub(crate) fn fetch(url: &str, ctl: &Ctl) -> Result<HttpAt, Failure> {
    Ok(HttpAt::unverified(gravure_imaging::agent(), url, &remote(ctl))?)
}

/// How images on web servers are read.
pub(crate) fn remote(ctl: &Ctl) -> RemoteOptions {
    RemoteOptions { ctl: ctl.clone(), ..RemoteOptions::default() }
}

/// Whether a descriptor is a file that can be read at any place.
fn is_file(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool, Failure> {
    let kind = fd.try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let kind = kind.map_err(|error| Failure::io("look at", Path::new(STDIN_NAME), &error))?;
    Ok(kind.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_after_the_last_colon() {
        let cases = [
            ("x.wim", "x.wim", Which::Only),
            ("-", "-", Which::Only),
            ("-:2", "-", Which::Number(2)),
            ("x.wim:2", "x.wim", Which::Number(2)),
            ("x.wim:Windows 11 Pro", "x.wim", Which::Name("Windows 11 Pro".into())),
            ("http://server/x.wim", "http://server/x.wim", Which::Only),
            ("http://server:80/x.wim:3", "http://server:80/x.wim", Which::Number(3)),
            ("http://server:80/x.wim", "http://server:80/x.wim", Which::Only),
            ("x.wim:", "x.wim:", Which::Only),
            ("s.gim/:pro", "s.gim/#pro", Which::Only),
            ("s.gim/#pro", "s.gim/#pro", Which::Only),
            ("s.gim/#pro:2", "s.gim/#pro", Which::Number(2)),
            ("http://server/s.gim/#pro:2", "http://server/s.gim/#pro", Which::Number(2)),
        ];
        for (text, file, which) in cases {
            let Ok(name) = text.parse::<ImageName>();
            assert_eq!(name, ImageName { file: file.into(), which }, "{text}");
        }
    }
}
