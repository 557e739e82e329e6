//! What a volume is to be, and the numbers that follow from its size.

use std::ops::Range;

use gravure_nttypes::{FileTime, NtName};
use gravure_tree::{ContentRef, NodeId};

use crate::Error;
use crate::disk::{self, INDEX_BLOCK_BYTES, SMALL_VCN_BYTES};

/// Bytes of `$Boot`, all of which may be boot code.
pub const BOOT_FILE_LEN: usize = 8192;
const _: () = assert!(disk::BOOT_FILE_BYTES == 8192);
/// Longest label, units: more is not shown by Windows.
pub const MAX_LABEL_UNITS: usize = 32;
/// Largest stream, bytes: what NTFS of 4 KiB clusters and Windows before 10 hold.
pub(crate) const MAX_STREAM_BYTES: u64 = (1 << 44) - (1 << 16);
/// Largest cluster, bytes.
const MAX_CLUSTER_BYTES: u32 = 2 << 20;
/// Most clusters of a volume.
pub(crate) const MAX_CLUSTERS: u64 = (1 << 32) - 1;
/// Holes and compressed parts are counted in units of this, bytes.
pub(crate) const SPARSE_UNIT_BYTES: u64 = 64 << 10;

/// Unit in which the disk is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SectorSize {
    /// 512 bytes, also as a disk of larger physical sectors emulates them. File records of 1 KiB.
    #[default]
    Bytes512,
    /// 4096 bytes ("4Kn"). File records of 4 KiB.
    Bytes4096,
}

impl SectorSize {
    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Bytes512 => 512,
            Self::Bytes4096 => 4096,
        }
    }

    /// From bytes; `None` for sizes that NTFS is not written on.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::Bytes512),
            4096 => Some(Self::Bytes4096),
            _ => None,
        }
    }
}

/// Names in one directory that are equal but for case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collisions {
    /// The tree is refused: Windows finds only one of them.
    #[default]
    Refuse,
    /// All are written, and their directory is marked case-sensitive, so that Windows 10.0.17093 and later finds each, too.
    Keep,
}

/// What a volume is to be.
#[derive(Debug, Clone)]
pub struct VolumeOptions {
    /// Size of the partition, bytes. What does not fill a sector at the end is not used.
    pub volume_bytes: u64,
    /// Unit in which the disk is addressed.
    pub sector_size: SectorSize,
    /// Cluster size, bytes: a power of two from the sector size to 2 MiB. `None`: 4 KiB, more only from 16 TiB on.
    pub cluster_bytes: Option<u32>,
    /// Sectors before the volume on its disk; loaders of BIOS machines add it.
    pub hidden_sectors: u64,
    /// Boot code for BIOS machines: the first 8 KiB of a volume that has some, sectors of 512 bytes. Its parameters are replaced by
    /// those of the new volume, and the catalogue of shadow copies at its end is left out. Without one such a machine prints why it does not start.
    pub boot_code: Option<Box<[u8; BOOT_FILE_LEN]>>,
    /// Label, at most [`MAX_LABEL_UNITS`] units; none when empty.
    pub label: NtName,
    /// Decides the serial number. The same seed and tree give the same volume.
    pub seed: [u8; 32],
    /// The serial number, for a volume that takes the place of another; that of the seed when `None`.
    pub serial: Option<u64>,
    /// Time stamp of the system files.
    pub time: FileTime,
    /// What happens to names that are equal but for case.
    pub collisions: Collisions,
    /// Bytes of content that may stand in file records, and so in the engine's memory until the records are written. What
    /// is beyond gets clusters.
    pub max_resident_bytes: u64,
}

impl VolumeOptions {
    /// Usual options for a volume of `volume_bytes`.
    pub fn new(volume_bytes: u64) -> Self {
        Self {
            volume_bytes,
            sector_size: SectorSize::default(),
            cluster_bytes: None,
            hidden_sectors: 0,
            label: NtName::default(),
            seed: [0; 32],
            serial: None,
            boot_code: None,
            time: FileTime(0),
            collisions: Collisions::default(),
            max_resident_bytes: 256 << 20,
        }
    }

    /// The cluster size that the volume gets, bytes.
    pub fn cluster_len(&self) -> u32 {
        self.cluster_bytes.unwrap_or_else(|| default_cluster(self.volume_bytes))
    }
}

/// What only the engine knows of contents.
pub trait ContentGuide {
    /// Where the content comes in the archive: contents are laid out in this order, so that reading and writing both go
    /// forward. Equal positions keep the order of the tree.
    fn position(&self, content: &ContentRef) -> u64;

    /// In which form a file's unnamed stream is written.
    fn encoding(&self, node: NodeId, content: &ContentRef) -> Encoding {
        let _ = (node, content);
        Encoding::Plain
    }

    /// Parts of the unnamed stream of a file marked sparse that are zeros, in bytes, ascending: whole units of 64 KiB of them, or
    /// clusters when those are larger, get no clusters. Asked for no other files.
    fn zeros(&self, node: NodeId, content: &ContentRef) -> Vec<Range<u64>> {
        let _ = (node, content);
        Vec::new()
    }

    /// Whether a directory is marked case-sensitive, although it has no names that are equal but for case.
    fn is_case_sensitive(&self, node: NodeId) -> bool {
        let _ = node;
        false
    }
}

/// Contents in the order of the tree, all plain.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuide;

impl ContentGuide for NoGuide {
    fn position(&self, _content: &ContentRef) -> u64 {
        0
    }
}

/// Form of a file's unnamed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// The bytes themselves.
    Plain,
    /// Compressed behind a reparse point of the Windows overlay filter ("CompactOS", Windows 10 and later).
    Wof {
        /// How.
        algorithm: WofAlgorithm,
        /// Bytes of the compressed stream, chunk table included.
        stored_bytes: u64,
    },
}

/// Compression of the overlay filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WofAlgorithm {
    /// XPRESS with chunks of 4 KiB.
    Xpress4K,
    /// LZX with chunks of 32 KiB.
    Lzx,
    /// XPRESS with chunks of 8 KiB.
    Xpress8K,
    /// XPRESS with chunks of 16 KiB.
    Xpress16K,
}

impl WofAlgorithm {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Xpress4K => 0,
            Self::Lzx => 1,
            Self::Xpress8K => 2,
            Self::Xpress16K => 3,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Xpress4K, Self::Lzx, Self::Xpress8K, Self::Xpress16K]
            .into_iter()
            .find(|algorithm| algorithm.number() == number)
    }
}

/// Sizes of everything that the volume's size decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) sector_bytes: u32,
    pub(crate) cluster_bytes: u64,
    /// Sectors that the boot sector names: those of the partition but one.
    pub(crate) sectors: u64,
    pub(crate) clusters: u64,
    pub(crate) record_bytes: usize,
}

impl Geometry {
    pub(crate) fn new(options: &VolumeOptions) -> Result<Self, Error> {
        let sector_bytes = options.sector_size.bytes();
        let sectors = (options.volume_bytes / u64::from(sector_bytes)).saturating_sub(1);
        let cluster = options.cluster_len();
        if !cluster.is_power_of_two() || !(sector_bytes..=MAX_CLUSTER_BYTES).contains(&cluster) {
            let why = format!("{cluster} bytes; a power of two from {sector_bytes} to {MAX_CLUSTER_BYTES}");
            return Err(Error::invalid("cluster size", why));
        }
        let per_cluster = u64::from(cluster / sector_bytes);
        let clusters = sectors / per_cluster;
        if clusters > MAX_CLUSTERS {
            let why =
                format!("{cluster} bytes make {clusters} clusters; at most {MAX_CLUSTERS} are possible");
            return Err(Error::invalid("cluster size", why));
        }
        if options.boot_code.is_some() && options.sector_size != SectorSize::Bytes512 {
            let why = "code for BIOS machines is for sectors of 512 bytes".to_owned();
            return Err(Error::invalid("boot code", why));
        }
        if options.label.units().len() > MAX_LABEL_UNITS {
            let units = options.label.units().len();
            return Err(Error::invalid("label", format!("{units} units; at most {MAX_LABEL_UNITS}")));
        }
        let record_bytes = match options.sector_size {
            SectorSize::Bytes512 => 1024,
            SectorSize::Bytes4096 => 4096,
        };
        let cluster_bytes = u64::from(cluster);
        Ok(Self { sector_bytes, cluster_bytes, sectors, clusters, record_bytes })
    }

    /// Clusters that hold `bytes`.
    pub(crate) fn clusters_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_bytes)
    }

    /// Bytes of those clusters.
    pub(crate) fn rounded(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.cluster_bytes)
    }

    /// Clusters of a sparse stream of `bytes`, whole units.
    pub(crate) fn sparse_clusters(&self, bytes: u64) -> u64 {
        self.clusters_of(bytes.next_multiple_of(SPARSE_UNIT_BYTES.max(self.cluster_bytes)))
    }

    /// Unit of sparse streams, log2 of clusters.
    pub(crate) fn sparse_unit(&self) -> u8 {
        let units = SPARSE_UNIT_BYTES / self.cluster_bytes;
        u8::try_from(units.max(1).trailing_zeros()).unwrap_or(0)
    }

    /// Distance between the numbers of neighbouring index blocks.
    pub(crate) fn index_vcn_step(&self) -> u64 {
        let block = u64::try_from(INDEX_BLOCK_BYTES).unwrap_or(u64::MAX);
        if self.cluster_bytes <= block {
            block / self.cluster_bytes
        } else {
            block / u64::from(SMALL_VCN_BYTES)
        }
    }

    /// Where attributes start in a record: behind header and update sequence.
    pub(crate) fn first_attribute(&self) -> usize {
        let sequence = 2 * (1 + self.record_bytes / disk::GUARDED_BYTES);
        (size_of::<disk::RecordDisk>() + sequence).next_multiple_of(8)
    }

    /// Bytes for attributes in a record.
    pub(crate) fn record_room(&self) -> usize {
        self.record_bytes - self.first_attribute() - disk::END_MARK_BYTES
    }

    /// Offset of `lcn`, bytes.
    pub(crate) fn offset(&self, lcn: u64) -> u64 {
        lcn.saturating_mul(self.cluster_bytes)
    }
}

/// 4 KiB as long as the clusters can be counted.
fn default_cluster(volume_bytes: u64) -> u32 {
    let mut cluster = 4096u32;
    while volume_bytes / u64::from(cluster) > MAX_CLUSTERS && cluster < MAX_CLUSTER_BYTES {
        cluster *= 2;
    }
    cluster
}
