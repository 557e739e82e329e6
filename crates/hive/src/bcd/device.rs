//! Device elements: partitions, the device the firmware started from, files on other devices (RAM disks).

use std::fmt;
use std::str::FromStr;

use gravure_nttypes::{Guid, NtName};
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes as _, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, invalid};
use crate::image::wide;
use crate::value;

/// Levels of devices inside devices that are read: a file on a partition is two.
const MAX_NESTING: usize = 4;

const KIND_FILE: u32 = 0;
const KIND_BOOT: u32 = 5;
const KIND_PARTITION: u32 = 6;
const STYLE_GPT: u32 = 0;
const STYLE_MBR: u32 = 1;

/// Where an element begins; the record that follows may stand inside another one too.
#[derive(zerocopy::FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone)]
#[repr(C)]
struct RecordDisk {
    kind: U32,  // 0x00
    flags: U32, // 0x04
    len: U32,   // 0x08  bytes from `kind`
    spare: U32, // 0x0c
} // 0x10

#[derive(zerocopy::FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone)]
#[repr(C)]
struct PartitionDisk {
    record: RecordDisk,  // 0x00
    partition: [u8; 16], // 0x10  GPT: GUID; MBR: first byte on the disk, u64
    parent_kind: U32,    // 0x20  0: hard disk
    style: U32,          // 0x24
    disk: [u8; 16],      // 0x28  GPT: GUID; MBR: signature, u32
    rest: [u8; 16],      // 0x38
} // 0x48
const PARTITION_BYTES: usize = 0x48;
const _: () = assert!(size_of::<PartitionDisk>() == PARTITION_BYTES);

#[derive(zerocopy::FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone)]
#[repr(C)]
struct FileDisk {
    record: RecordDisk, // 0x00
    block_kind: U32,    // 0x10  3: RAM disk
    spare_1: [u8; 8],   // 0x14
    path_offset: U32,   // 0x1c  of the path in the element on installation media, 0 in installed stores
    spare_2: [u8; 8],   // 0x20
    version: U32,       // 0x28  1
    len: U32,           // 0x2c  bytes from `version`
    path_kind: U32,     // 0x30  5
} // 0x34  then the record of the device the file is on, then the path
const FILE_BYTES: usize = 0x34;
const _: () = assert!(size_of::<FileDisk>() == FILE_BYTES);

/// A device element.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The device the boot manager was started from.
    Boot,
    /// A partition of a GPT disk.
    Gpt {
        /// GUID of the disk.
        disk: Guid,
        /// GUID of the partition.
        partition: Guid,
    },
    /// A partition of an MBR disk.
    Mbr {
        /// Signature of the disk.
        signature: u32,
        /// First byte of the partition on the disk.
        offset: u64,
    },
    /// A RAM disk read from a file.
    Ramdisk {
        /// Object with the RAM disk's options; all zeros for none.
        options: Guid,
        /// The file.
        file: Box<FilePath>,
    },
    /// Any other: kept byte for byte.
    Raw(Vec<u8>),
}

/// A file on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// What it is on.
    pub device: Device,
    /// Its path, with backslashes, from the root.
    pub path: NtName,
    /// As installation media have it: the record tells where the path starts.
    pub has_path_offset: bool,
}

impl Device {
    /// Reads the bytes of an element. What this crate would not write byte for byte alike becomes [`Device::Raw`].
    pub fn parse(bytes: &[u8]) -> Self {
        let parsed =
            bytes.split_at_checked(16).and_then(|(options, record)| parse_record(options, record, 0));
        match parsed {
            Some(device) if device.to_bytes().as_deref() == Ok(bytes) => device,
            _ => Self::Raw(bytes.to_vec()),
        }
    }

    /// The bytes of an element.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DeviceError> {
        if let Self::Raw(bytes) = self {
            return Ok(bytes.clone());
        }
        let options = match self {
            Self::Ramdisk { options, .. } => options.0,
            _ => [0; 16],
        };
        Ok([options.as_slice(), &self.record()?].concat())
    }

    fn record(&self) -> Result<Vec<u8>, DeviceError> {
        let mut disk = PartitionDisk::new_zeroed();
        disk.record.len = U32::new(number(PARTITION_BYTES)?);
        match self {
            Self::Boot => disk.record.kind = U32::new(KIND_BOOT),
            Self::Gpt { disk: guid, partition } => {
                disk.record.kind = U32::new(KIND_PARTITION);
                disk.partition = partition.0;
                disk.style = U32::new(STYLE_GPT);
                disk.disk = guid.0;
            }
            Self::Mbr { signature, offset } => {
                disk.record.kind = U32::new(KIND_PARTITION);
                disk.style = U32::new(STYLE_MBR);
                disk.partition.iter_mut().zip(offset.to_le_bytes()).for_each(|(to, from)| *to = from);
                disk.disk.iter_mut().zip(signature.to_le_bytes()).for_each(|(to, from)| *to = from);
            }
            Self::Ramdisk { file, .. } => return file.record(),
            Self::Raw(_) => return Err(DeviceError("a device inside another must be known".to_owned())),
        }
        Ok(disk.as_bytes().to_vec())
    }
}

impl FilePath {
    fn record(&self) -> Result<Vec<u8>, DeviceError> {
        let nested = self.device.record()?;
        let path = value::text_bytes(&self.path);
        let path_at = FILE_BYTES.saturating_add(nested.len());
        let len = path_at.saturating_add(path.len());
        let mut disk = FileDisk::new_zeroed();
        disk.record.kind = U32::new(KIND_FILE);
        disk.record.flags = U32::new(1);
        disk.record.len = U32::new(number(len)?);
        disk.block_kind = U32::new(3);
        // Offsets of the record count from behind the GUID; this one counts from its start.
        let stated = if self.has_path_offset { path_at.saturating_add(16) } else { 0 };
        disk.path_offset = U32::new(number(stated)?);
        disk.version = U32::new(1);
        disk.len = U32::new(number(len.saturating_sub(0x28))?);
        disk.path_kind = U32::new(5);
        Ok([disk.as_bytes(), &nested, &path].concat())
    }
}

fn number(len: usize) -> Result<u32, DeviceError> {
    u32::try_from(len).map_err(|_| DeviceError(format!("a record of {len} bytes is too long")))
}

fn parse_record(options: &[u8], record: &[u8], level: usize) -> Option<Device> {
    let (head, _) = RecordDisk::ref_from_prefix(record).ok()?;
    match head.kind.get() {
        KIND_BOOT => Some(Device::Boot),
        KIND_PARTITION => {
            let (disk, _) = PartitionDisk::ref_from_prefix(record).ok()?;
            match disk.style.get() {
                STYLE_GPT => Some(Device::Gpt { disk: Guid(disk.disk), partition: Guid(disk.partition) }),
                STYLE_MBR => Some(Device::Mbr {
                    signature: disk.disk.first_chunk().copied().map(u32::from_le_bytes)?,
                    offset: disk.partition.first_chunk().copied().map(u64::from_le_bytes)?,
                }),
                _ => None,
            }
        }
        KIND_FILE if level < MAX_NESTING => {
            let (disk, rest) = FileDisk::ref_from_prefix(record).ok()?;
            let (inner, _) = RecordDisk::ref_from_prefix(rest).ok()?;
            let (nested, path) = rest.split_at_checked(wide(inner.len.get()))?;
            let device = parse_record(&[], nested, level.saturating_add(1))?;
            let file =
                FilePath { device, path: value::text(path), has_path_offset: disk.path_offset.get() != 0 };
            let options = options.first_chunk().map_or_else(Guid::default, |guid| Guid(*guid));
            Some(Device::Ramdisk { options, file: Box::new(file) })
        }
        _ => None,
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => f.write_str("boot"),
            Self::Gpt { disk, partition } => write!(f, "gpt:{disk}:{partition}"),
            Self::Mbr { signature, offset } => write!(f, "mbr:{signature:#010x}:{offset}"),
            Self::Ramdisk { options, file } => {
                write!(f, "ramdisk:[{}]{}", file.device, file.path)?;
                if *options == Guid::default() { Ok(()) } else { write!(f, ",{{{options}}}") }
            }
            Self::Raw(bytes) => {
                f.write_str("hex:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Text that is no device, or a device that has no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(String);

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        invalid("device", "boot, gpt:DISK:PARTITION, mbr:SIGNATURE:OFFSET or ramdisk:[DEVICE]PATH", error)
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    /// What [`Device`] prints.
    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let bad = || DeviceError(format!("{text:?}"));
        if text == "boot" {
            return Ok(Self::Boot);
        }
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        match (kind, rest.split_once(':')) {
            ("gpt", Some((disk, partition))) => {
                let guid = |text: &str| text.parse::<Guid>().map_err(|_| bad());
                Ok(Self::Gpt { disk: guid(disk)?, partition: guid(partition)? })
            }
            ("mbr", Some((signature, offset))) => {
                let signature = match signature.strip_prefix("0x") {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => signature.parse(),
                };
                let offset = offset.parse().map_err(|_| bad())?;
                Ok(Self::Mbr { signature: signature.map_err(|_| bad())?, offset })
            }
            ("ramdisk", _) => {
                let inner = rest.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')).ok_or_else(bad)?;
                let (device, file) = (inner.0.parse()?, inner.1);
                let with_options = file.strip_suffix('}').and_then(|file| file.rsplit_once(",{"));
                let (path, options) = match with_options {
                    Some((path, options)) => (path, options.parse().map_err(|_| bad())?),
                    None => (file, Guid::default()),
                };
                if !path.starts_with('\\') {
                    return Err(bad());
                }
                let file = FilePath { device, path: NtName::from(path), has_path_offset: false };
                Ok(Self::Ramdisk { options, file: Box::new(file) })
            }
            ("hex", None) => {
                let (pairs, odd) = rest.as_bytes().as_chunks::<2>();
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let bytes: Option<Vec<u8>> =
                    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect();
                bytes.filter(|_| odd.is_empty()).map(|bytes| Self::parse(&bytes)).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_texts_are_two_ways() {
        let gpt = "gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:6cdfcd69-de75-4490-8f99-5a84bf264917";
        for text in [
            "boot".to_owned(),
            gpt.to_owned(),
            "mbr:0x12345678:1048576".to_owned(),
            format!(
                "ramdisk:[{gpt}]\\Recovery\\WindowsRE\\Winre.wim,{{733b62e7-f608-11eb-825c-c112f60133ab}}"
            ),
            "ramdisk:[boot]\\sources\\boot.wim".to_owned(),
            "hex:0102".to_owned(),
        ] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
            assert_eq!(Device::parse(&device.to_bytes().unwrap()), device);
        }
    }

    #[test]
    fn a_partition_is_88_bytes_with_the_fields_in_place() {
        let bytes = Device::Mbr { signature: 0x1122_3344, offset: 1 << 20 }.to_bytes().unwrap();
        assert_eq!(bytes.len(), 88);
        assert_eq!(bytes[0x10..0x1c], [6, 0, 0, 0, 0, 0, 0, 0, 0x48, 0, 0, 0]);
        assert_eq!(bytes[0x20..0x28], (1u64 << 20).to_le_bytes());
        assert_eq!(bytes[0x34..0x3c], [1, 0, 0, 0, 0x44, 0x33, 0x22, 0x11]);
    }

    #[test]
    fn what_is_not_understood_stays_as_it_is() {
        let mut bytes = Device::Boot.to_bytes().unwrap();
        for len in 0..bytes.len() {
            assert_eq!(Device::parse(&bytes[..len]), Device::Raw(bytes[..len].to_vec()));
        }
        bytes[0x40] = 9;
        assert_eq!(Device::parse(&bytes), Device::Raw(bytes));
    }

    #[test]
    fn says_which_text_is_no_device() {
        for text in
            ["", "boot:", "boot:x", "gpt:1:2", "mbr:zz:1", "ramdisk:[boot]x", "ramdisk:boot", "hex:0", "C:"]
        {
            assert_eq!(text.parse::<Device>(), Err(DeviceError(format!("{text:?}"))));
        }
    }
}
