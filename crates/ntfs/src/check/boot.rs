//! The boot sector and its copy.

use gravure_io::ReadAt;
use zerocopy::FromBytes;

use super::finding::{Spot, Teller};
use crate::Error;
use crate::disk::BootDisk;
use crate::read::boot::{BOOT_SECTOR_BYTES, BootSector};
use crate::read::bytes::at;
use crate::rule::Rule;

/// Checks both; the numbers of the volume when one of them can be used.
pub(super) fn check(source: &dyn ReadAt, teller: &mut Teller<'_>) -> Result<Option<BootSector>, Error> {
    let size = source.size();
    let len = at(size).min(BOOT_SECTOR_BYTES);
    let first = source.read_vec_at(0, len).map_err(Error::read(0))?;
    let boot = match BootSector::parse(&first, size) {
        Ok(boot) => boot,
        Err(fault) => {
            teller.fault(Spot::default(), 0, &fault);
            return from_copy(source);
        }
    };
    check_constants(&first, &boot, size, teller);
    // The copy stands behind the last sector that is counted.
    let offset = boot.sectors.saturating_mul(u64::from(boot.sector_bytes));
    if offset.saturating_add(u64::from(boot.sector_bytes)) > size {
        teller.tell(
            Rule::BootCopy,
            Spot::volume(offset),
            "a copy of the boot sector",
            "the end of the volume",
        );
        return Ok(Some(boot));
    }
    let copy = source.read_vec_at(offset, BOOT_SECTOR_BYTES).map_err(Error::read(offset))?;
    if let Some(pos) = first.iter().zip(&copy).position(|(first, copy)| first != copy) {
        let byte = |bytes: &[u8]| format!("{:#04x}", bytes.get(pos).copied().unwrap_or(0));
        let spot = Spot::volume(offset.saturating_add(crate::read::bytes::wide(pos)));
        teller.tell(Rule::BootCopy, spot, byte(&first), byte(&copy));
    }
    Ok(Some(boot))
}

/// Fields that are the same on every volume.
fn check_constants(first: &[u8], boot: &BootSector, size: u64, teller: &mut Teller<'_>) {
    let Ok((disk, _)) = BootDisk::read_from_prefix(first) else { return };
    let zeros: [(u64, bool); 3] =
        [(0x0e, disk.zeros == [0; 7]), (0x16, disk.zeros2 == [0; 2]), (0x20, disk.zeros3 == [0; 4])];
    for (offset, is_zero) in zeros {
        if !is_zero {
            teller.tell(Rule::BootZeros, Spot::volume(offset), "zeros where FAT has its numbers", "others");
        }
    }
    if disk.media != 0xf8 {
        teller.tell(Rule::BootMedia, Spot::volume(0x15), "0xf8", format!("{:#04x}", disk.media));
    }
    if disk.jump.first() != Some(&0xeb) && disk.jump.first() != Some(&0xe9) {
        teller.tell(Rule::BootJump, Spot::volume(0), "a jump", format!("{:02x?}", disk.jump));
    }
    if disk.drive != [0x80, 0, 0x80, 0] {
        teller.tell(Rule::BootDrive, Spot::volume(0x24), "80 00 80 00", format!("{:02x?}", disk.drive));
    }
    if disk.checksum.get() != 0 {
        teller.tell(Rule::BootChecksum, Spot::volume(0x50), 0, format!("{:#x}", disk.checksum.get()));
    }
    let most = size.checked_div(u64::from(boot.sector_bytes)).unwrap_or(0).saturating_sub(1);
    if boot.sectors != most {
        teller.tell(
            Rule::BootSlack,
            Spot::volume(0x28),
            format!("{most} sectors, those of the partition but one"),
            boot.sectors,
        );
    }
}

/// The boot sector from its copy in the last sector, when the first is unusable.
fn from_copy(source: &dyn ReadAt) -> Result<Option<BootSector>, Error> {
    let size = source.size();
    for sector in [512u64, 4096] {
        let Some(offset) =
            size.checked_div(sector).and_then(|count| count.checked_sub(1)?.checked_mul(sector))
        else {
            continue;
        };
        let copy = source.read_vec_at(offset, BOOT_SECTOR_BYTES).map_err(Error::read(offset))?;
        if let Ok(boot) = BootSector::parse(&copy, size)
            && u64::from(boot.sector_bytes) == sector
        {
            return Ok(Some(boot));
        }
    }
    Ok(None)
}
