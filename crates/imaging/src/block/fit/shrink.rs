//! An ext2/3/4 file system made smaller than the one that an image was made of, while it is restored: the source is never touched.
//!
//! What of it fits stands on the target already; `resize2fs` sees that and the image's end as one file (`straddling.rs`) and moves blocks from
//! behind the end to the front. The first block, without which there is no file system, comes last. No driver of the kernel's for the file
//! system is needed, FUSE is.

use gravure_model::Ctl;

use super::anew::Volume;
use super::program::run;
use super::shown::with_file;
use super::straddling::Straddling;
use crate::volume::VolumeDevice;
use crate::{Error, ErrorKind};

const PROGRAM: &str = "resize2fs";
/// What `resize2fs -P` says before the number of blocks.
const MINIMUM: &str = "minimum size of the filesystem:";
/// The page of the super block: the first.
const HELD: &[u64] = &[0];

/// Bytes that the file system in `image`, of blocks of `block_bytes`, needs at least, as `resize2fs` says.
pub(super) fn least_bytes(image: &Volume, block_bytes: u32) -> Result<u64, Error> {
    let ctl = Ctl::default();
    let whole = Straddling::of_image(image, PROGRAM, &ctl);
    let said = with_file(&whole, |file| run(PROGRAM, &["-P"], file, None, &[0]))?;
    let blocks = said.lines().find_map(|line| line.split_once(MINIMUM)?.1.trim().parse::<u64>().ok());
    let blocks = blocks.ok_or_else(|| Error::Other {
        what: "resize2fs -P".to_owned(),
        source: format!("expected a size, found {said:?}").into(),
        kind: ErrorKind::Failed,
    })?;
    Ok(blocks.saturating_mul(block_bytes.into()))
}

/// Makes the file system in `image`, of which as much as fits stands on `target`, as large as that is. Returns the bytes that were written
/// for it.
pub(super) fn shrink(
    target: &dyn VolumeDevice,
    image: &Volume,
    block_bytes: u32,
    is_verified: bool,
    ctl: &Ctl,
) -> Result<u64, Error> {
    let straddling = Straddling::take(target, image, HELD, PROGRAM, ctl)?;
    let blocks = straddling.len() / u64::from(block_bytes);
    with_file(&straddling, |file| {
        // 1: it corrected something that needs no questions, such as counts.
        run("e2fsck", &["-f", "-p"], file, None, &[0, 1])?;
        run(PROGRAM, &[], file, Some(blocks.to_string()), &[0])?;
        run("e2fsck", &["-f", "-n"], file, None, &[0])
    })?;
    straddling.finish(target, is_verified)
}
