//! `--solid`, `--pipable` and what goes with them: how the contents of a file are laid out.

use std::path::Path;

use gravure_codec::Level;
use gravure_imaging::{Compression, ErrorKind, Method};

use super::capture::{Compress, chunk_size};
use crate::exit::Failure;

/// Options of how contents are laid out.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Layout {
    /// Compress all files together: smaller, but a single file costs a whole chunk to read. Default for new files that end in
    /// .esd
    #[arg(long, conflicts_with = "pipable")]
    solid: bool,
    /// Method for the files of a solid image: xpress, lzx or lzms, with :fast or :best [default: lzms, which Windows reads]
    #[arg(long, value_name = "METHOD")]
    solid_compress: Option<Compress>,
    /// Size of a chunk of a solid image, bytes or with K, M: a power of two up to 64M [default: the largest of the method]
    #[arg(long, value_name = "SIZE", value_parser = chunk_size)]
    solid_chunk_size: Option<u32>,
    /// Write an image that can go through a pipe. wimlib reads it, Windows does not
    #[arg(long)]
    pipable: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing.
    Nothing,
    /// A file for a pipe.
    Pipable,
    /// A solid one.
    Solid {
        /// Of its contents.
        compression: Compression,
        /// How hard they are compressed.
        level: Level,
        /// What goes well with it for everything else, when nothing is said of that.
        beside: Option<Compress>,
    },
}

impl Layout {
    /// What was asked for, of a file that is solid anyway if `is_esd`.
    pub(super) fn wanted(&self, is_esd: bool) -> Result<Wanted, Failure> {
        let wants_solid = self.solid || self.solid_compress.is_some() || self.solid_chunk_size.is_some();
        match (self.pipable, wants_solid || is_esd) {
            (true, _) if wants_solid => {
                Err(Failure::new(ErrorKind::Usage, "an image is either solid or pipable"))
            }
            (true, _) => Ok(Wanted::Pipable),
            (false, false) => Ok(Wanted::Nothing),
            (false, true) => {
                let solid = self.solid_compress.unwrap_or(Compress::LZMS);
                let compression = solid.solid(self.solid_chunk_size)?;
                let beside = (compression.method() == Method::Lzms).then_some(Compress::LZMS);
                Ok(Wanted::Solid { compression, level: solid.level(), beside })
            }
        }
    }
}

/// Whether a file is of the kind that is solid.
pub(super) fn is_esd(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("esd"))
}
