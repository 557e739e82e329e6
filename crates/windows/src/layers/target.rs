//! What rules for files work on: an image of Windows or of Linux.

use gravure_nttypes::FileTime;
use gravure_tree::ContentRef;

use super::Platform;
use crate::Error;
use crate::drivers::Placed;
use crate::image::WindowsImage;
use crate::linux_image::LinuxImage;

/// Largest file of this machine that goes into a Linux image: it is in memory until the image is written.
const MAX_LINUX_FILE_BYTES: u64 = 512 << 20;

/// Files of an image. Paths are those that [`Platform::path`] gives.
pub(super) trait Target {
    fn platform(&self) -> Platform;
    fn exists(&self, path: &str) -> Result<bool, Error>;
    fn size(&self, path: &str) -> Result<Option<u64>, Error>;
    fn written(&self, path: &str) -> Result<Option<FileTime>, Error>;
    fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error>;
    fn write_file(&mut self, path: &str, bytes: Vec<u8>, mode: Option<u32>) -> Result<(), Error>;
    fn put(&mut self, path: &str, placed: Placed, mode: Option<u32>) -> Result<(), Error>;
    fn remove_file(&mut self, path: &str) -> Result<bool, Error>;
    fn make_directory(&mut self, path: &str, mode: Option<u32>) -> Result<(), Error>;
    /// The bytes of a content of the layer.
    fn bytes_of(&self, content: &ContentRef, max: u64) -> Result<Vec<u8>, Error>;
}

const OF_LAYER: &str = "file of a layer";

impl Target for WindowsImage<'_> {
    fn platform(&self) -> Platform {
        Platform::Windows
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(Self::exists(self, path))
    }

    fn size(&self, path: &str) -> Result<Option<u64>, Error> {
        Ok(self.content_of(path).map(|content| content.size))
    }

    fn written(&self, path: &str) -> Result<Option<FileTime>, Error> {
        Ok(Self::written(self, path))
    }

    fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        Self::read_file(self, path, max)
    }

    fn write_file(&mut self, path: &str, bytes: Vec<u8>, _mode: Option<u32>) -> Result<(), Error> {
        Self::write_file(self, path, bytes)
    }

    fn put(&mut self, path: &str, placed: Placed, _mode: Option<u32>) -> Result<(), Error> {
        self.add_placed(path, placed)
    }

    fn remove_file(&mut self, path: &str) -> Result<bool, Error> {
        Self::remove_file(self, path)
    }

    fn make_directory(&mut self, path: &str, _mode: Option<u32>) -> Result<(), Error> {
        Self::make_directory(self, path).map(drop)
    }

    fn bytes_of(&self, content: &ContentRef, max: u64) -> Result<Vec<u8>, Error> {
        Self::bytes_of(self, content, OF_LAYER, max)
    }
}

impl Target for LinuxImage<'_> {
    fn platform(&self) -> Platform {
        Platform::Linux
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        Self::exists(self, path)
    }

    fn size(&self, path: &str) -> Result<Option<u64>, Error> {
        Self::size(self, path)
    }

    fn written(&self, path: &str) -> Result<Option<FileTime>, Error> {
        Self::written(self, path)
    }

    fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        Self::read_file(self, path, max)
    }

    fn write_file(&mut self, path: &str, bytes: Vec<u8>, mode: Option<u32>) -> Result<(), Error> {
        Self::put(self, path, ContentRef::inline(bytes), mode)
    }

    fn put(&mut self, path: &str, placed: Placed, mode: Option<u32>) -> Result<(), Error> {
        let content = match placed {
            Placed::Content(content) => content,
            Placed::File(source) => {
                let facts = std::fs::metadata(&source).map_err(Error::io("read", &source))?;
                if facts.len() > MAX_LINUX_FILE_BYTES {
                    return Err(Error::Unsupported {
                        what: "size of a file that a layer puts into a Linux image",
                        value: format!(
                            "{}: {} bytes, more than {MAX_LINUX_FILE_BYTES}",
                            source.display(),
                            facts.len()
                        ),
                    });
                }
                ContentRef::inline(std::fs::read(&source).map_err(Error::io("read", &source))?)
            }
        };
        Self::put(self, path, content, mode)
    }

    fn remove_file(&mut self, path: &str) -> Result<bool, Error> {
        Self::remove_file(self, path)
    }

    fn make_directory(&mut self, path: &str, mode: Option<u32>) -> Result<(), Error> {
        Self::make_directory(self, path, mode).map(drop)
    }

    fn bytes_of(&self, content: &ContentRef, max: u64) -> Result<Vec<u8>, Error> {
        Self::bytes_of(self, content, OF_LAYER, max)
    }
}
