//! What stands on a device and in which state it was left: names and numbers for people and manifests, no map yet.

use gravure_disk::{Found, FoundKind, recognise};
use gravure_io::ReadAt;

use crate::{Error, Reason, btrfs, exfat, ext, fat, locked, lvm, ntfs, swap, xfs};

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// FAT with 12-bit entries.
    Fat12,
    /// FAT with 16-bit entries.
    Fat16,
    /// FAT with 28-bit entries.
    Fat32,
    /// exFAT.
    ExFat,
    /// NTFS.
    Ntfs,
    /// ext2: no journal.
    Ext2,
    /// ext3: a journal, nothing newer.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// Linux swap space.
    Swap,
    /// LVM2 physical volume.
    Lvm,
    /// LUKS version 1.
    Luks1,
    /// LUKS version 2.
    Luks2,
    /// BitLocker.
    BitLocker,
    /// Recognised, but there is no map of it: a RAID member, ZFS, F2FS.
    Other(FoundKind),
    /// No signature that is known: reserved and boot partitions, blank ones.
    Unknown,
}

impl Kind {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
            Self::ExFat => "exFAT",
            Self::Ntfs => "NTFS",
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "XFS",
            Self::Btrfs => "Btrfs",
            Self::Swap => "swap",
            Self::Lvm => "LVM",
            Self::Luks1 => "LUKS1",
            Self::Luks2 => "LUKS2",
            Self::BitLocker => "BitLocker",
            Self::Other(kind) => kind.name(),
            Self::Unknown => "unknown",
        }
    }

    /// Nothing inside can be told apart without a key.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Luks1 | Self::Luks2 | Self::BitLocker)
    }

    /// There is a map of it that says more than "everything".
    pub fn has_map(self) -> bool {
        !self.is_encrypted() && !matches!(self, Self::Other(_) | Self::Unknown)
    }
}

/// How a file system was left, as far as that matters for an image of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// What its maps say holds. Also for kinds that have no such state.
    Clean,
    /// [`crate::map`] replays its journal into an overlay, and its map is that of the result.
    NeedsReplay,
    /// [`crate::map`] refuses, unless told to take everything.
    Unclean(Reason),
}

/// A number or word worth telling, under a stable name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Stable, lower case, words joined by dashes.
    pub name: &'static str,
    /// Its value; numbers in decimal, sizes in bytes.
    pub value: String,
}

/// What stands on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What it is.
    pub kind: Kind,
    /// Its label.
    pub label: Option<String>,
    /// Its UUID or serial number as its own tools print it.
    pub uuid: Option<String>,
    /// Version of its format, where it has one.
    pub version: Option<String>,
    /// Bytes that it covers from the start of the device; the device's size where it says nothing.
    pub size: u64,
    /// Logical sector size it was made for, bytes; `None` where it does not say.
    pub sector_size: Option<u32>,
    /// Unit of allocation, bytes; `None` where it has none.
    pub block_size: Option<u32>,
    /// How it was left.
    pub state: State,
    /// More of it: features, counts.
    pub facts: Vec<Fact>,
}

/// A fact for [`Probe::facts`].
#[expect(clippy::needless_pass_by_value, reason = "numbers and texts made for the call")]
pub(crate) fn fact(name: &'static str, value: impl ToString) -> Fact {
    Fact { name, value: value.to_string() }
}

impl Probe {
    pub(crate) fn new(kind: Kind, size: u64) -> Self {
        Self {
            kind,
            label: None,
            uuid: None,
            version: None,
            size,
            sector_size: None,
            block_size: None,
            state: State::Clean,
            facts: Vec::new(),
        }
    }

    /// What the signature alone says.
    pub(crate) fn of_signature(found: Option<&Found>, size: u64) -> Self {
        let mut probe = Self::new(found.map_or(Kind::Unknown, |found| Kind::Other(found.kind)), size);
        probe.label = found.and_then(|found| found.label.clone());
        probe.uuid = found.and_then(|found| found.uuid.clone());
        probe
    }

    /// The value of a fact.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
    }
}

/// Says what stands on `dev`, a partition or a volume. A structure that breaks its own format is an error, as is a place that
/// cannot be read.
pub fn probe(dev: &dyn ReadAt) -> Result<Probe, Error> {
    let found = signatures(dev)?;
    probe_found(dev, &found)
}

/// The signatures on `dev`, with those left out that the format around them owns.
pub(crate) fn signatures(dev: &dyn ReadAt) -> Result<Vec<Found>, Error> {
    let mut found = recognise(dev).map_err(|error| match error {
        gravure_disk::Error::Io { offset, source, .. } => Error::Io { what: "signatures", offset, source },
        other => Error::corrupt("signatures", 0, "a device that can be read", other),
    })?;
    // A mirrored member looks like what the array holds; the array's own block at its end would be lost.
    if let Some(raid) = found.iter().find(|found| found.kind == FoundKind::Raid).cloned() {
        found = vec![raid];
    }
    if found.is_empty() && swap::is_suspended(dev)? {
        found.push(Found { kind: FoundKind::Swap, label: None, uuid: None });
    }
    Ok(found)
}

/// Probes what the signatures say is there.
pub(crate) fn probe_found(dev: &dyn ReadAt, found: &[Found]) -> Result<Probe, Error> {
    let [one] = found else {
        let mut probe = Probe::of_signature(found.first(), dev.size());
        if !found.is_empty() {
            let names: Vec<&str> = found.iter().map(|found| found.kind.name()).collect();
            probe.facts.push(fact("signatures", names.join(", ")));
            probe.state = State::Unclean(Reason::Ambiguous);
        }
        return Ok(probe);
    };
    match one.kind {
        FoundKind::Ext2 | FoundKind::Ext3 | FoundKind::Ext4 => ext::probe(dev, one),
        FoundKind::Fat => fat::probe(dev, one),
        FoundKind::ExFat => exfat::probe(dev, one),
        FoundKind::Xfs => xfs::probe(dev, one),
        FoundKind::Btrfs => btrfs::probe(dev, one),
        FoundKind::Lvm => lvm::probe(dev, one),
        FoundKind::Ntfs => ntfs::probe(dev, one),
        FoundKind::Swap => swap::probe(dev, one),
        FoundKind::Luks | FoundKind::BitLocker => locked::probe(dev, one),
        _ => Ok(Probe::of_signature(Some(one), dev.size())),
    }
}
