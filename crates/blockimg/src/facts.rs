//! What an image says of itself in words and numbers: JSON, so that it can grow. What a restore needs stands in the root.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::MAX_FACTS_BYTES;
use crate::{ChunkId, Error};

/// Version of the facts.
pub const FACTS_VERSION: u32 = 1;

/// Known before the first byte of content is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// [`FACTS_VERSION`].
    pub version: u32,
    /// Name of the image.
    pub name: String,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was made; absent where equal sources are to give equal bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_unix_seconds: Option<i64>,
    /// Program that made it.
    #[serde(default)]
    pub writer: String,
    /// What it was made of.
    pub source: Source,
    /// Whether it is a whole disk.
    pub scope: Scope,
    /// Partition table of a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<PartitionTable>,
    /// The partitions of a disk, or the one volume.
    pub volumes: Vec<Volume>,
    /// File images, where [`Scope::Files`] says that there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileImages>,
    /// Image this one was made after; both share content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChunkId>,
    /// The machine it was made on: what has to be alike for its system to start elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
}

/// The device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Source {
    /// Path or name.
    pub name: String,
    /// Bytes; the root says it too, at the end.
    pub size_bytes: u64,
    /// Unit in which it is addressed.
    pub sector_bytes: u32,
    /// Unit in which it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_sector_bytes: Option<u32>,
    /// As the disk calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// As the disk calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// What an image is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A whole disk with its table.
    Disk,
    /// One partition, or a disk without a table.
    #[default]
    Volume,
    /// The bytes of an uncompressed WIM file: file images.
    Files,
}

/// The WIM that file images came from, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileImages {
    /// How it was compressed: `none`, or method and chunk size as `lzx:32768`.
    pub compression: String,
    /// Contents were compressed together.
    #[serde(default)]
    pub is_solid: bool,
    /// In their order.
    pub images: Vec<FileImage>,
}

/// A file image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileImage {
    /// Its name.
    pub name: String,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Files in it.
    pub files: u64,
    /// Bytes of them, each name counted.
    pub bytes: u64,
}

/// A partition table, all in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTable {
    /// `gpt` or `mbr`.
    pub kind: String,
    /// GUID of the disk, or signature.
    pub identifier: String,
    /// Sectors in which it counts: other ones than the source's where the source is the copy of another disk. Images of versions that did
    /// not look do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_bytes: Option<u32>,
}

/// A partition and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Volume {
    /// Number in the table; `None` where there is no table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// First byte on the device.
    pub offset_bytes: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Type by the table: a GUID, or two hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_type: Option<String>,
    /// GUID by the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_guid: Option<String>,
    /// Name by the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_name: Option<String>,
    /// File system, or what else it is.
    pub content: String,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its UUID or serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The state it was left in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `allocation`: only what its file system uses was kept; `everything` otherwise.
    pub basis: String,
    /// Bytes kept, before zeros were found.
    pub used_bytes: u64,
    /// Bytes left out on purpose.
    pub excluded_bytes: u64,
    /// Bytes of a replayed journal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replayed_bytes: u64,
    /// Whether a Windows is on it, of NTFS volumes that could be looked into. Images of versions that did not look do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_windows: Option<bool>,
    /// More of the file system, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(String, String)>,
    /// What people should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A machine, as far as its systems care.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hardware {
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// `uefi` or `bios`.
    pub firmware: String,
    /// SMBIOS manufacturer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// SMBIOS product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Storage controllers: `pci:8086:a102 class 010601`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_controllers: Vec<String>,
    /// Those of them that the disk hangs on, its own first, or the first hardware ID that Windows has for what is on no PCI bus. Empty where
    /// that is not known, and in images of versions that did not look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk_controllers: Vec<String>,
    /// What else was said.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// Known when everything was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What could not be read. More than [`MAX_UNREADABLE`] are only counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// Bytes that could not be read in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable_bytes: u64,
    /// Bytes of data extents.
    pub data_bytes: u64,
    /// Bytes in use that are zero.
    pub zero_bytes: u64,
    /// Data extents.
    pub chunks: u64,
}

/// Unreadable places named at most; the tables have all of them.
pub const MAX_UNREADABLE: usize = 1000;

/// A place that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Absolute byte.
    pub offset_bytes: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Files it hits, or what else lies there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits: Vec<String>,
}

/// As stored.
pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, Error> {
    let unwritable = |reason: String| Error::Unwritable { what, reason };
    let bytes = serde_json::to_vec(value).map_err(|error| unwritable(error.to_string()))?;
    if bytes.len() > usize::try_from(MAX_FACTS_BYTES).unwrap_or(usize::MAX) {
        return Err(unwritable(format!("{} bytes are above the limit of {MAX_FACTS_BYTES}", bytes.len())));
    }
    Ok(bytes)
}

pub(crate) fn from_json<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
    offset: u64,
) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt(what, offset, "the JSON of this version", error))
}
