//! What images are called on the command line: `FILE`, `FILE:3`, `FILE:name`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use gravure_imaging::{HttpAt, Image, ImageFile, RemoteOptions, Which};
use gravure_model::Ctl;

use crate::exit::Failure;

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
        let which = image.parse().map_or_else(|_| Which::Name(image.to_owned()), Which::Number);
        Ok(Self { file: file.to_owned(), which })
    }
}

impl ImageName {
    /// Whether the file is fetched from a web server.
    fn is_remote(&self) -> bool {
        is_address(&self.file)
    }

    /// Opens the file, with other parts and references.
    pub(crate) fn open_file(&self, references: &[PathBuf], ctl: &Ctl) -> Result<ImageFile, Failure> {
        let mut file = open(&self.file, ctl)?;
        for reference in references {
            file.add_reference(reference)?;
        }
        Ok(file)
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

fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Opens a file by path or address.
pub(crate) fn open(name: &str, ctl: &Ctl) -> Result<ImageFile, Failure> {
    if !is_address(name) {
        return Ok(ImageFile::open_path(Path::new(name))?);
    }
    let options = RemoteOptions { ctl: ctl.clone(), ..RemoteOptions::default() };
    let remote = HttpAt::unverified(gravure_imaging::agent(), name, &options)?;
    Ok(ImageFile::open(Arc::new(remote), name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_after_the_last_colon() {
        let cases = [
            ("x.wim", "x.wim", Which::Only),
            ("x.wim:2", "x.wim", Which::Number(2)),
            ("x.wim:Windows 11 Pro", "x.wim", Which::Name("Windows 11 Pro".into())),
            ("http://server/x.wim", "http://server/x.wim", Which::Only),
            ("http://server:80/x.wim:3", "http://server:80/x.wim", Which::Number(3)),
            ("http://server:80/x.wim", "http://server:80/x.wim", Which::Only),
            ("x.wim:", "x.wim:", Which::Only),
        ];
        for (text, file, which) in cases {
            let Ok(name) = text.parse::<ImageName>();
            assert_eq!(name, ImageName { file: file.into(), which }, "{text}");
        }
    }
}
