//! Image descriptors: what an image file must look like, byte range by byte range.
//!
//! SHA-1, which the WIM format brings, is no trust anchor. A descriptor holds BLAKE3 of every range of the file, is
//! signed with the plan, and lets bulk content travel over plain HTTP (DESIGN section 8).

use serde::{Deserialize, Serialize};

/// Version of this document.
pub const DESCRIPTOR_VERSION: u32 = 1;

/// Length of a range in bytes; the last one of a file is shorter.
pub const RANGE_BYTES: u32 = 4 << 20;

/// A BLAKE3 hash; text form 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Digest {
    type Err = crate::identity::BadIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || crate::identity::BadIdentity {
            expected: "digest of 64 hexadecimal digits",
            found: text.to_owned(),
        };
        if text.len() != 64 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut out = [0; 32];
        for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an image file consists of. The digest of an image is BLAKE3 over the exact bytes of this document as signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDescriptor {
    /// [`DESCRIPTOR_VERSION`].
    pub version: u32,
    /// Format of the file: `wim`.
    pub format: String,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// Length of each range but the last, bytes.
    pub range_bytes: u32,
    /// BLAKE3 of each range, in order.
    pub ranges: Vec<Digest>,
    /// BLAKE3 over header, blob table, XML and metadata resources, in this order.
    pub tables: Digest,
    /// Whether every content was decoded and found to have its SHA-1 when this was made. Bytes that are as described may then
    /// be used without decoding them. Not said by descriptors of earlier versions of this program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contents_checked: bool,
    /// The images in the file.
    pub images: Vec<DescribedImage>,
}

impl ImageDescriptor {
    /// Of an image that is yet to be made: it stands for no bytes at all, so nothing can pass for it.
    pub fn of_nothing(format: &str) -> Self {
        Self {
            version: DESCRIPTOR_VERSION,
            format: format.to_owned(),
            size_bytes: 0,
            range_bytes: RANGE_BYTES,
            ranges: Vec::new(),
            tables: Digest([0; 32]),
            contents_checked: false,
            images: Vec::new(),
        }
    }
}

/// One image of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedImage {
    /// Name in the file; empty when it has none.
    pub name: String,
    /// Operating system it holds.
    pub system: SystemKind,
    /// Nodes other than directories.
    pub file_count: u64,
    /// Directories, the root included.
    pub directory_count: u64,
    /// Bytes that applying it writes, each content counted once per file (hard links once).
    pub content_bytes: u64,
    /// Which Windows it says it holds. Not told by descriptors of earlier versions of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<DescribedWindows>,
    /// Bytes that a disk must have at least for an image of a disk, with file systems made smaller where they can be. Not told of images of
    /// files, nor by descriptors of earlier versions of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_disk_bytes: Option<u64>,
}

/// A Windows system as the image's XML document names it, or the registry of one on the image of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedWindows {
    /// Version, `major.minor.build`.
    pub version: String,
    /// Processor: `amd64`, `arm64`, `x86`.
    pub arch: String,
    /// It is a server.
    #[serde(default)]
    pub server: bool,
    /// It brings a recovery environment.
    #[serde(default)]
    pub has_recovery: bool,
}

/// What kind of system an image holds; decides how it is made to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemKind {
    /// Linux with GRUB files in the image.
    Linux,
    /// Windows.
    Windows,
    /// Neither was recognised.
    Unknown,
}
