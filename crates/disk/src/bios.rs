//! Where GRUB's BIOS boot code goes (`i386-pc`): `boot.img` into the first sector, `core.img` into the BIOS boot
//! partition, each told where the next one is.
//!
//! Both files come out of the image that is deployed; no code is ours. GRUB finds its core image by absolute sector
//! numbers of 512 bytes, so both files are patched here. Offsets are in `FORMAT.md`; the tests boot the result.

use crate::{Error, Partition, mbr::BOOT_CODE_BYTES};

/// GRUB's BIOS code addresses sectors of this size only.
const SECTOR_BYTES: usize = 512;
/// In `boot.img`: sector number of the core image, u64.
const KERNEL_SECTOR: usize = 0x5c;
/// In `boot.img`: BIOS drive to load from; 0xff for the one it was started from.
const BOOT_DRIVE: usize = 0x64;
/// In `boot.img`: a jump over the workaround for BIOSes that state no drive number. Two `nop`s switch the workaround on, as a hard disk needs.
const DRIVE_CHECK: usize = 0x66;
/// In the first sector of `core.img`: start u64, count u16 and segment u16 of what follows.
const BLOCK_LIST: usize = 0x1f4;
/// Segment at which the rest of the core image is loaded: 0x8200, behind its first sector at 0x8000.
const LOAD_SEGMENT: u16 = 0x820;
/// Largest core image read at once by the first sector's code: real-mode memory from 0x8200 up to 0x78000, where
/// the code unpacks itself.
const MAX_CORE_BYTES: usize = 0x78000 - 0x8000;

/// GRUB's boot code, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrubPlacement {
    /// For the first sector of the disk, beside the table (`TableImage::new`).
    pub boot_code: [u8; BOOT_CODE_BYTES],
    /// For the start of the BIOS boot partition, whole sectors.
    pub core: Vec<u8>,
}

/// Patches `boot_img` (512 bytes) and `core_img` for the BIOS boot `partition` of a disk with sectors of
/// `sector_bytes`.
pub fn place_grub(
    boot_img: &[u8],
    core_img: &[u8],
    partition: &Partition,
    sector_bytes: u32,
) -> Result<GrubPlacement, Error> {
    if sector_bytes != 512 {
        return Err(Error::Unsupported {
            what: "BIOS boot from sectors",
            value: format!("of {sector_bytes} bytes"),
        });
    }
    Ok(GrubPlacement {
        boot_code: patch_boot(boot_img, partition.first_lba)?,
        core: patch_core(core_img, partition.first_lba, partition.size_bytes())?,
    })
}

fn patch_boot(boot_img: &[u8], core_lba: u64) -> Result<[u8; BOOT_CODE_BYTES], Error> {
    let what = "GRUB boot.img";
    if boot_img.len() != SECTOR_BYTES {
        return Err(Error::corrupt(what, 0, "512 bytes", format!("{} bytes", boot_img.len())));
    }
    check_bytes(what, boot_img, 510, &[&[0x55, 0xaa]])?;
    // A short jump, or what an earlier installation made of it.
    check_bytes(what, boot_img, DRIVE_CHECK, &[&[0xeb], &[0x90, 0x90]])?;
    check_bytes(what, boot_img, BOOT_DRIVE, &[&[0xff]])?;
    let mut code = [0; BOOT_CODE_BYTES];
    for (to, from) in code.iter_mut().zip(boot_img) {
        *to = *from;
    }
    put(&mut code, KERNEL_SECTOR, &core_lba.to_le_bytes());
    put(&mut code, DRIVE_CHECK, &[0x90, 0x90]);
    Ok(code)
}

fn patch_core(core_img: &[u8], core_lba: u64, room: u64) -> Result<Vec<u8>, Error> {
    let what = "GRUB core.img";
    if core_img.len() <= SECTOR_BYTES || core_img.len() > MAX_CORE_BYTES {
        let expected = format!("{} to {MAX_CORE_BYTES} bytes", SECTOR_BYTES.saturating_add(1));
        return Err(Error::corrupt(what, 0, expected, format!("{} bytes", core_img.len())));
    }
    // grub-mkimage leaves the list with the segment and a length of its own; an image for another
    // platform (network boot, CD) has none.
    check_bytes(what, core_img, BLOCK_LIST.saturating_add(10), &[&LOAD_SEGMENT.to_le_bytes()])?;
    let sectors = core_img.len().div_ceil(SECTOR_BYTES);
    let wanted = u64::try_from(sectors.saturating_mul(SECTOR_BYTES)).unwrap_or(u64::MAX);
    if wanted > room {
        return Err(Error::DoesNotFit {
            what: "GRUB core.img in the BIOS boot partition".into(),
            wanted,
            available: room,
        });
    }
    let mut core = core_img.to_vec();
    core.resize(sectors.saturating_mul(SECTOR_BYTES), 0);
    // At most MAX_CORE_BYTES / 512, far below 2^16.
    let rest = u16::try_from(sectors.saturating_sub(1)).unwrap_or(u16::MAX);
    let start = core_lba.saturating_add(1).to_le_bytes();
    put(&mut core, BLOCK_LIST, &[&start[..], &rest.to_le_bytes(), &LOAD_SEGMENT.to_le_bytes()].concat());
    Ok(core)
}

/// Checks that one of `allowed` stands at `at`.
fn check_bytes(what: &'static str, bytes: &[u8], at: usize, allowed: &[&[u8]]) -> Result<(), Error> {
    let tail = bytes.get(at..).unwrap_or_default();
    if allowed.iter().any(|wanted| tail.starts_with(wanted)) {
        return Ok(());
    }
    let found = tail.get(..2.min(tail.len())).unwrap_or_default();
    let offset = u64::try_from(at).unwrap_or(u64::MAX);
    Err(Error::corrupt(what, offset, format!("one of {allowed:02x?}"), format!("{found:02x?}")))
}

/// Copies `value` to `at`; the callers have checked the sizes.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests;
