//! Where partitions go: pure arithmetic from the shape of a disk and a list of requests. Nothing is read or written.
//!
//! Everything starts and ends at multiples of 1 MiB, which suits every sector size, erase block and RAID stripe in use.
//! The last whole MiB before the backup table is kept free for the journal of an apply (DESIGN section 7).

use std::ops::Range;

use gravure_nttypes::Guid;

use crate::{Error, Identity, guid};

/// Partitions start and end at multiples of this.
pub const ALIGN_BYTES: u64 = 1 << 20;
/// Room for the journal of an apply before the backup table.
pub const JOURNAL_BYTES: u64 = 1 << 20;
/// Entries in every table we write: the least that UEFI 2.10 (5.3.1) allows, and all that Windows reads.
pub const ENTRY_COUNT: u32 = 128;
/// Bytes of one entry.
pub const ENTRY_BYTES: u32 = 128;
/// Characters (UTF-16 units) of a partition's name.
pub const MAX_NAME_UNITS: usize = 36;

/// A disk's size and unit of addressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskShape {
    /// Size in bytes; a part of a sector at the end is not used.
    pub size_bytes: u64,
    /// Logical sector size in bytes: 512 or 4096.
    pub sector_bytes: u32,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// EFI system partition.
    Esp,
    /// GRUB's core image for BIOS machines.
    BiosBoot,
    /// Root of a Linux system on x86-64.
    LinuxRoot,
    /// Any other Linux volume.
    LinuxData,
    /// Linux swap space.
    LinuxSwap,
    /// Microsoft reserved partition.
    MicrosoftReserved,
    /// Windows volume.
    MicrosoftData,
    /// Windows recovery environment.
    WindowsRecovery,
    /// Something with this type GUID.
    Other(Guid),
}

impl Role {
    /// Its type GUID.
    pub fn type_guid(self) -> Guid {
        match self {
            Self::Esp => guid::ESP,
            Self::BiosBoot => guid::BIOS_BOOT,
            Self::LinuxRoot => guid::LINUX_ROOT_X86_64,
            Self::LinuxData => guid::LINUX_DATA,
            Self::LinuxSwap => guid::LINUX_SWAP,
            Self::MicrosoftReserved => guid::MICROSOFT_RESERVED,
            Self::MicrosoftData => guid::MICROSOFT_DATA,
            Self::WindowsRecovery => guid::WINDOWS_RECOVERY,
            Self::Other(guid) => guid,
        }
    }

    /// Attribute bits that systems expect of this kind: recovery partitions are required (bit 0) and get no drive
    /// letter (bit 63).
    fn attributes(self) -> u64 {
        match self {
            Self::WindowsRecovery => 1 << 63 | 1,
            _ => 0,
        }
    }
}

/// How large a partition is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionSize {
    /// This many bytes, rounded up to whole MiB.
    Bytes(u64),
    /// All that the others leave, but not less than this many bytes. At most one request may ask for it; it may
    /// stand anywhere.
    Rest {
        /// Smallest size in bytes that is of any use.
        at_least: u64,
    },
}

/// One partition to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRequest {
    /// What it is for.
    pub role: Role,
    /// How large.
    pub size: PartitionSize,
    /// Name in the table, at most 36 UTF-16 units.
    pub name: String,
}

/// One partition with its place and identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number, from 1: the place in the table and in the kernel's device names.
    pub number: u32,
    /// What it is for.
    pub role: Role,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive as in the table.
    pub last_lba: u64,
    /// Place in bytes.
    pub range: Range<u64>,
    /// Unique GUID.
    pub unique_guid: Guid,
    /// Attribute bits of the table entry.
    pub attributes: u64,
    /// Name in the table.
    pub name: String,
}

impl Partition {
    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Zero-based place in the list of requests, for `Identity`.
    pub fn index(&self) -> u32 {
        self.number.saturating_sub(1)
    }
}

/// A whole disk, computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The disk it is for.
    pub shape: DiskShape,
    /// Whole sectors of the disk.
    pub sectors: u64,
    /// GUID of the disk.
    pub disk_guid: Guid,
    /// First sector that a partition may use.
    pub first_usable_lba: u64,
    /// Last sector that a partition may use, the journal's included.
    pub last_usable_lba: u64,
    /// Partitions in the order of the requests, which is also their order on the disk.
    pub partitions: Vec<Partition>,
    /// Bytes kept for the journal of an apply.
    pub journal: Range<u64>,
}

impl Layout {
    /// Places `requests` on a disk of this shape. Pure: the same arguments give the same layout.
    pub fn compute(
        shape: DiskShape,
        identity: &Identity,
        requests: &[PartitionRequest],
    ) -> Result<Self, Error> {
        check_requests(requests)?;
        let frame = Frame::of(shape)?;
        let sizes = sizes(requests, &frame)?;
        let sector = u64::from(shape.sector_bytes);
        let mut partitions = Vec::with_capacity(requests.len());
        let mut start = frame.area.start;
        for ((request, size), number) in requests.iter().zip(sizes).zip(1u32..) {
            // Cannot overflow: `sizes` has checked that the sum fits the area.
            let end = start.saturating_add(size);
            partitions.push(Partition {
                number,
                role: request.role,
                first_lba: start.checked_div(sector).unwrap_or(0),
                last_lba: end.checked_div(sector).unwrap_or(0).saturating_sub(1),
                range: start..end,
                unique_guid: identity.partition_guid(number.saturating_sub(1)),
                attributes: request.role.attributes(),
                name: request.name.clone(),
            });
            start = end;
        }
        Ok(Self {
            shape,
            sectors: frame.sectors,
            disk_guid: identity.disk_guid(),
            first_usable_lba: frame.first_usable_lba,
            last_usable_lba: frame.last_usable_lba,
            partitions,
            journal: frame.area.end..frame.area.end.saturating_add(JOURNAL_BYTES),
        })
    }

    /// A table that is known already: partitions with their numbers at their places. No room is kept for a journal.
    pub fn of_partitions(
        shape: DiskShape,
        disk_guid: Guid,
        partitions: Vec<Partition>,
    ) -> Result<Self, Error> {
        let frame = Frame::of(shape)?;
        let mut sorted: Vec<&Partition> = partitions.iter().collect();
        sorted.sort_by_key(|partition| partition.first_lba);
        let mut free = frame.first_usable_lba;
        for partition in sorted {
            let (first, last) = (partition.first_lba, partition.last_lba);
            if first < free || last < first || last > frame.last_usable_lba {
                let why = format!(
                    "sectors {first:#x}..={last:#x} are not within {free:#x}..={:#x}, which is free",
                    frame.last_usable_lba
                );
                return Err(Error::invalid(format!("partition {}", partition.number), why));
            }
            free = last.saturating_add(1);
        }
        Ok(Self {
            shape,
            sectors: frame.sectors,
            disk_guid,
            first_usable_lba: frame.first_usable_lba,
            last_usable_lba: frame.last_usable_lba,
            partitions,
            journal: frame.area.end..frame.area.end,
        })
    }

    /// The first partition of this role.
    pub fn first(&self, role: Role) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.role == role)
    }

    /// Sectors that one copy of the table's entries takes.
    pub fn entry_sectors(&self) -> u64 {
        entry_sectors(self.shape.sector_bytes)
    }
}

/// What a table leaves of a disk.
struct Frame {
    sectors: u64,
    first_usable_lba: u64,
    last_usable_lba: u64,
    /// Bytes for partitions, aligned at both ends, the journal taken off.
    area: Range<u64>,
}

impl Frame {
    fn of(shape: DiskShape) -> Result<Self, Error> {
        let sector = u64::from(shape.sector_bytes);
        if sector != 512 && sector != 4096 {
            return Err(Error::Unsupported { what: "sector size", value: format!("{sector} bytes") });
        }
        let sectors = shape.size_bytes.checked_div(sector).unwrap_or(0);
        // Both ends: header and entries; at the start the protective MBR too.
        let tail = entry_sectors(shape.sector_bytes).saturating_add(1);
        let usable_end = sectors.saturating_sub(tail);
        let end = usable_end.saturating_mul(sector);
        let end = end.saturating_sub(end.checked_rem(ALIGN_BYTES).unwrap_or(0)).saturating_sub(JOURNAL_BYTES);
        if end <= ALIGN_BYTES {
            return Err(Error::DoesNotFit {
                what: "partition table, journal and one MiB for partitions".into(),
                wanted: ALIGN_BYTES.saturating_mul(3).saturating_add(tail.saturating_mul(sector)),
                available: shape.size_bytes,
            });
        }
        Ok(Self {
            sectors,
            first_usable_lba: tail.saturating_add(1),
            last_usable_lba: usable_end.saturating_sub(1),
            area: ALIGN_BYTES..end,
        })
    }

    fn room(&self) -> u64 {
        self.area.end.saturating_sub(self.area.start)
    }
}

/// First and last sector that partitions may use on a disk of `shape`.
pub(crate) fn usable(shape: DiskShape) -> Result<Range<u64>, Error> {
    let frame = Frame::of(shape)?;
    Ok(frame.first_usable_lba..frame.last_usable_lba)
}

fn entry_sectors(sector_bytes: u32) -> u64 {
    u64::from(ENTRY_COUNT.saturating_mul(ENTRY_BYTES).div_ceil(sector_bytes.max(1)))
}

fn check_requests(requests: &[PartitionRequest]) -> Result<(), Error> {
    let invalid = |index: usize, why: String| {
        let name = requests.get(index).map(|request| request.name.as_str()).unwrap_or_default();
        Error::invalid(format!("partition {} {name:?}", index.saturating_add(1)), why)
    };
    if requests.len() > usize::try_from(ENTRY_COUNT).unwrap_or(0) {
        let why = format!("{} partitions, the table has room for {ENTRY_COUNT}", requests.len());
        return Err(Error::invalid("layout", why));
    }
    let mut rest = None;
    for (index, request) in requests.iter().enumerate() {
        let units = request.name.encode_utf16().count();
        if units > MAX_NAME_UNITS {
            return Err(invalid(index, format!("name of {units} UTF-16 units, {MAX_NAME_UNITS} fit")));
        }
        if request.name.contains('\0') {
            return Err(invalid(index, "name contains NUL".into()));
        }
        if request.role.type_guid() == Guid::default() {
            return Err(invalid(index, "type GUID zero means an unused entry".into()));
        }
        match (request.size, rest) {
            (PartitionSize::Bytes(0), _) => return Err(invalid(index, "size 0".into())),
            (PartitionSize::Rest { .. }, Some(first)) => {
                let first = usize::saturating_add(first, 1);
                return Err(invalid(index, format!("asks for the rest, as partition {first} does already")));
            }
            (PartitionSize::Rest { .. }, None) => rest = Some(index),
            (PartitionSize::Bytes(_), _) => {}
        }
    }
    Ok(())
}

/// Sizes in bytes, multiples of the alignment, whose sum fits the area.
fn sizes(requests: &[PartitionRequest], frame: &Frame) -> Result<Vec<u64>, Error> {
    let whole = |bytes: u64| bytes.checked_next_multiple_of(ALIGN_BYTES).unwrap_or(u64::MAX);
    let least = |request: &PartitionRequest| match request.size {
        PartitionSize::Bytes(bytes) => whole(bytes),
        PartitionSize::Rest { at_least } => whole(at_least.max(1)),
    };
    let wanted = requests.iter().fold(0u64, |sum, request| sum.saturating_add(least(request)));
    let available = frame.room();
    if wanted > available {
        let names: Vec<String> =
            requests.iter().map(|request| format!("{} {}", request.name, least(request))).collect();
        return Err(Error::DoesNotFit {
            what: format!("partitions ({})", names.join(", ")),
            wanted,
            available,
        });
    }
    let spare = available.saturating_sub(wanted);
    Ok(requests
        .iter()
        .map(|request| match request.size {
            PartitionSize::Bytes(_) => least(request),
            PartitionSize::Rest { .. } => least(request).saturating_add(spare),
        })
        .collect())
}

#[cfg(test)]
mod tests;
