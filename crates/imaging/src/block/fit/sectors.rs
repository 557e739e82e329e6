//! File systems on sectors of another size: which do not mind, which only say it in their boot sectors, which have to be laid out anew.
//!
//! NTFS and FAT count clusters everywhere but in their boot sectors. Where clusters are whole sectors of the new size, and so is all that
//! lies in front of them, other numbers in the boot sector say the same.

use gravure_fsmap::{Kind, Probe};

/// Bytes of a boot sector that mean something.
pub(super) const BOOT_BYTES: usize = 512;
/// Sectors in front of the tables of FAT, bytes at most; formatters keep 16 KiB.
const MAX_RESERVED_BYTES: u64 = 1 << 20;
/// Where FAT32 has its count of free clusters, and the copy of the boot sector where there is room for it.
const INFO_SECTOR: u16 = 1;
const USUAL_COPY: u16 = 6;
const EARLY_COPY: u16 = 2;

/// What becomes of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does not know what a sector is, or has it right.
    Kept,
    /// Its boot sector is to say it otherwise.
    Converted,
    /// It cannot, for this reason, and may be laid out anew.
    Anew(String),
}

/// Boot sectors with other numbers: offset on the volume and bytes, whole sectors.
pub(super) type Pieces = Vec<(u64, Vec<u8>)>;

/// Judges what `probe` found on a partition of `len` bytes whose first bytes are `boot`.
pub(super) fn judge(
    number: u32,
    probe: Option<&Probe>,
    boot: &[u8],
    len: u64,
    sector: u32,
) -> Result<Fate, String> {
    let Some(probe) = probe else {
        return Err(format!(
            "the logical partitions in partition {number} count in sectors of another size than the target's {sector}"
        ));
    };
    let name = probe.kind.name();
    let made_for = match probe.kind {
        // Blocks of these are all that matters.
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Btrfs => probe.block_size,
        Kind::Unknown | Kind::Swap => return Ok(Fate::Kept),
        // Structures of a sector each, at the start of every group; blocks are what files have.
        Kind::Xfs if can_be_made_for(probe, sector) => {
            let own = probe.sector_size.unwrap_or(0);
            return Ok(Fate::Anew(format!(
                "it was made for sectors of {own} bytes, the target has {sector}"
            )));
        }
        Kind::Xfs => probe.sector_size,
        // Equal or nothing: firmware and Windows read them in their own sectors.
        _ if probe.sector_size == Some(sector) => return Ok(Fate::Kept),
        Kind::Ntfs | Kind::Fat16 | Kind::Fat32 => {
            let converted = convert(probe.kind, boot, len, sector, 0);
            return Ok(match converted {
                Ok(_) => Fate::Converted,
                Err(why) => Fate::Anew(format!(
                    "it was made for sectors of {} bytes, the target has {sector}, and {why}",
                    probe.sector_size.unwrap_or(0)
                )),
            });
        }
        _ => {
            let own = probe.sector_size;
            let own = own.map_or_else(|| "another size".to_owned(), |own| format!("{own} bytes"));
            return Err(format!(
                "the {name} volume on partition {number} was made for sectors of {own}, the target has {sector}"
            ));
        }
    };
    match made_for {
        Some(unit) if unit >= sector => Ok(Fate::Kept),
        unit => Err(format!(
            "the {name} volume on partition {number} has units of {} bytes, less than the target's sectors of {sector}",
            unit.unwrap_or(0)
        )),
    }
}

/// Whether an XFS volume for smaller sectors can be laid out anew for these, with the same blocks.
fn can_be_made_for(probe: &Probe, sector: u32) -> bool {
    probe.version.as_deref() == Some("5")
        && probe.sector_size.is_some_and(|own| own < sector)
        && probe.block_size.is_some_and(|block| block >= sector)
}

/// The boot sectors of a volume in a partition of `len` bytes for sectors of `sector` bytes, `hidden` of them in front of it; or what keeps
/// it from having any.
pub(super) fn convert(kind: Kind, boot: &[u8], len: u64, sector: u32, hidden: u64) -> Result<Pieces, String> {
    let boot = boot.get(..BOOT_BYTES).filter(|boot| boot[510..] == [0x55, 0xaa]);
    let boot = boot.ok_or_else(|| "its boot sector is none".to_owned())?;
    let hidden = u32::try_from(hidden).unwrap_or(u32::MAX);
    match kind {
        Kind::Ntfs => ntfs(boot, len, sector, hidden),
        Kind::Fat16 | Kind::Fat32 => fat(kind == Kind::Fat32, boot, len, sector, hidden),
        _ => Err("nobody knows how".to_owned()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// `bytes` in sectors of the new size, if they are whole ones.
fn whole(what: &str, bytes: u64, sector: u64) -> Result<u64, String> {
    match bytes % sector {
        0 => Ok(bytes / sector),
        _ => Err(format!("{what} of {bytes} bytes are no whole sectors")),
    }
}

fn narrow<T: TryFrom<u64>>(what: &str, value: u64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{what} cannot be counted in such sectors"))
}

fn ntfs(boot: &[u8], len: u64, sector: u32, hidden: u32) -> Result<Pieces, String> {
    let (old, new) = (u64::from(u16_at(boot, 0x0b)), u64::from(sector));
    let per_cluster = match boot[0x0d] {
        count @ 0..=0x80 => u64::from(count),
        power => 1u64.checked_shl(256 - u32::from(power)).unwrap_or(0),
    };
    let cluster = old.saturating_mul(per_cluster);
    let mut count = [0; 8];
    count.copy_from_slice(&boot[0x28..0x30]);
    let bytes = u64::from_le_bytes(count).saturating_mul(old);
    if cluster == 0 || bytes > len {
        return Err("its boot sector is none".to_owned());
    }
    let per_cluster = whole("clusters", cluster, new)?;
    // All sectors of the partition but one, as formatters have it, where that leaves the clusters that there are. Else what is cut off here
    // was behind the last cluster, as whole clusters are whole sectors.
    let usual = (len / new).saturating_sub(1);
    let is_usual = usual.saturating_mul(new) / cluster == bytes / cluster;
    let sectors = if is_usual { usual } else { bytes / new };
    let copy = sectors * new;
    if copy.saturating_add(new) > len {
        return Err("there is no whole sector for the copy of its boot sector".to_owned());
    }
    let mut out = boot.to_vec();
    put(&mut out, 0x0b, &narrow::<u16>("sectors", new)?.to_le_bytes());
    out[0x0d] = match per_cluster {
        0..=0x80 => per_cluster as u8,
        _ => (256 - per_cluster.trailing_zeros()) as u8,
    };
    put(&mut out, 0x1c, &hidden.to_le_bytes());
    put(&mut out, 0x28, &sectors.to_le_bytes());
    Ok(vec![(copy, out.clone()), (0, out)])
}

fn fat(is_32: bool, boot: &[u8], len: u64, sector: u32, hidden: u32) -> Result<Pieces, String> {
    let (old, new) = (u64::from(u16_at(boot, 0x0b)), u64::from(sector));
    let in_bytes = |count: u64| count.saturating_mul(old);
    let first_of = |short: u16, long: u32| if short != 0 { u64::from(short) } else { u64::from(long) };
    let (short_total, short_fat) = (u16_at(boot, 0x13), u16_at(boot, 0x16));
    let total = in_bytes(first_of(short_total, u32_at(boot, 0x20)));
    let table = in_bytes(first_of(short_fat, if is_32 { u32_at(boot, 0x24) } else { 0 }));
    let reserved = in_bytes(u64::from(u16_at(boot, 0x0e)));
    let cluster = in_bytes(u64::from(boot[0x0d]));
    if old == 0 || cluster == 0 || table == 0 || reserved == 0 || total > len {
        return Err("its boot sector is none".to_owned());
    }
    if reserved > MAX_RESERVED_BYTES {
        return Err(format!("{reserved} bytes stand in front of its tables"));
    }
    let per_cluster = whole("clusters", cluster, new)?;
    let tables = whole("tables", table, new)?;
    let in_front = whole("tables behind a start", reserved, new)?;
    whole("entries of its root directory", u64::from(u16_at(boot, 0x11)) * 32, new)?;
    if per_cluster > 128 {
        return Err(format!("clusters of {cluster} bytes have too many sectors"));
    }
    let sectors = total / new;
    // What is in front of the tables is made anew: it counts in sectors, too.
    let mut out = vec![0; reserved as usize];
    put(&mut out, 0, boot);
    put(&mut out, 0x0b, &narrow::<u16>("sectors", new)?.to_le_bytes());
    out[0x0d] = per_cluster as u8;
    put(&mut out, 0x0e, &narrow::<u16>("sectors in front", in_front)?.to_le_bytes());
    let is_short = !is_32 && sectors < 1 << 16;
    let (short, long) = if is_short { (sectors, 0) } else { (0, sectors) };
    put(&mut out, 0x13, &narrow::<u16>("sectors", short)?.to_le_bytes());
    put(&mut out, 0x20, &narrow::<u32>("sectors", long)?.to_le_bytes());
    put(&mut out, 0x1c, &hidden.to_le_bytes());
    if !is_32 {
        put(&mut out, 0x16, &narrow::<u16>("sectors of a table", tables)?.to_le_bytes());
        return Ok(vec![(0, out)]);
    }
    put(&mut out, 0x24, &narrow::<u32>("sectors of a table", tables)?.to_le_bytes());
    let copy = match in_front {
        0..=1 => return Err("there is no room for its count of free clusters".to_owned()),
        // Both the boot sector and what follows it are copied.
        2..=3 => 0,
        4..=7 => EARLY_COPY,
        _ => USUAL_COPY,
    };
    put(&mut out, 0x30, &INFO_SECTOR.to_le_bytes());
    put(&mut out, 0x32, &copy.to_le_bytes());
    // No count of free clusters: whoever mounts it counts.
    let mut info = [0; BOOT_BYTES];
    put(&mut info, 0, b"RRaA");
    put(&mut info, 484, b"rrAa");
    put(&mut info, 488, &[0xff; 8]);
    put(&mut info, 510, &[0x55, 0xaa]);
    let size = new as usize;
    put(&mut out, size * usize::from(INFO_SECTOR), &info);
    if copy > 0 {
        let first = out[..BOOT_BYTES].to_vec();
        put(&mut out, size * usize::from(copy), &first);
        put(&mut out, size * usize::from(copy + INFO_SECTOR), &info);
    }
    Ok(vec![(0, out)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntfs_boot(sector: u16, per_cluster: u8, sectors: u64) -> Vec<u8> {
        let mut boot = vec![0; BOOT_BYTES];
        put(&mut boot, 3, b"NTFS    ");
        put(&mut boot, 0x0b, &sector.to_le_bytes());
        boot[0x0d] = per_cluster;
        put(&mut boot, 0x28, &sectors.to_le_bytes());
        put(&mut boot, 510, &[0x55, 0xaa]);
        boot
    }

    #[test]
    fn ntfs_says_the_same_in_other_sectors_and_back() {
        let boot = ntfs_boot(512, 8, 81_919);
        let to = convert(Kind::Ntfs, &boot, 81_920 * 512, 4096, 256).unwrap();
        assert_eq!(to.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [10_239 * 4096, 0]);
        let mut expected = ntfs_boot(4096, 1, 10_239);
        put(&mut expected, 0x1c, &[0, 1]);
        assert_eq!(to[1].1, expected);
        let back = convert(Kind::Ntfs, &to[1].1, 81_920 * 512, 512, 0).unwrap();
        assert_eq!((back[0].0, &back[1].1), (81_919 * 512, &boot));
        // Clusters of 256 KiB are a power of two in sectors of 512 bytes, a count in those of 4096.
        let large = convert(Kind::Ntfs, &ntfs_boot(512, 0xf7, 1 << 20), (1 << 29) + 4096, 4096, 0).unwrap();
        assert_eq!(large[0].1[0x0d], 64);
        let again = convert(Kind::Ntfs, &large[0].1, (1 << 29) + 4096, 512, 0).unwrap();
        assert_eq!(again[0].1[0x0d], 0xf7);
        for (boot, len) in [
            (ntfs_boot(512, 4, 81_919), 81_920 * 512),
            // The copy would stand half outside.
            (ntfs_boot(512, 8, 81_920), 81_921 * 512),
            (ntfs_boot(512, 8, 81_920), 81_919 * 512),
            (vec![0; BOOT_BYTES], 1 << 20),
            (vec![], 1 << 20),
        ] {
            assert!(convert(Kind::Ntfs, &boot, len, 4096, 0).is_err());
        }
    }

    #[test]
    fn any_boot_sector_is_converted_or_refused() {
        let mut state = 5u64;
        for round in 0..20_000 {
            let mut boot: Vec<u8> = (0..BOOT_BYTES)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            put(&mut boot, 510, &[0x55, 0xaa]);
            let sector: u16 = if round % 2 == 0 { 512 } else { 4096 };
            put(&mut boot, 0x0b, &sector.to_le_bytes());
            if round % 3 == 0 {
                boot[0x10..0x20].fill(0);
            }
            for kind in [Kind::Ntfs, Kind::Fat16, Kind::Fat32] {
                for target in [512, 4096] {
                    let len = 1 << (10 + round % 50);
                    if let Ok(pieces) = convert(kind, &boot, len, target, 63) {
                        assert!(pieces.iter().all(|(at, bytes)| at + bytes.len() as u64 <= len));
                    }
                }
            }
        }
    }
}
