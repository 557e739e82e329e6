//! Boot entries of UEFI firmware (UEFI 2.10, 3.1 and 10): the bytes of `Boot####`, `BootOrder` and `BootNext`. Reading and
//! writing the variables is the platform's business.

use gravure_io::Cursor;
use gravure_nttypes::Guid;

use crate::{Error, Layout, Partition};

/// The entry may be booted without being asked for.
pub const LOAD_OPTION_ACTIVE: u32 = 1;
/// Where firmware looks on a disk without an entry, on x86-64.
pub const FALLBACK_X86_64: &str = "/EFI/BOOT/BOOTX64.EFI";
/// Largest entry read. Real ones have some hundred bytes.
const MAX_OPTION_BYTES: usize = 64 << 10;
/// Characters of a description that firmware menus show without harm.
const MAX_DESCRIPTION_UNITS: usize = 128;

const MEDIA: u8 = 4;
const MEDIA_HARD_DRIVE: u8 = 1;
const MEDIA_FILE_PATH: u8 = 4;
const MESSAGING: u8 = 3;
/// MAC address, IPv4, IPv6, URI, Wi-Fi and DNS (UEFI 2.10, table 10.4): what firmware builds network entries of.
const MESSAGING_NETWORK: [u8; 6] = [11, 12, 13, 24, 28, 31];
const BIOS_BOOT: u8 = 5;
/// Device types of the BIOS Boot Specification (section 10.3.5): an embedded network, and a boot ROM, as network cards have.
const BIOS_NETWORK: [u16; 2] = [6, 0x80];
const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;

/// A boot entry (`EFI_LOAD_OPTION`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// `LOAD_OPTION_*` bits.
    pub attributes: u32,
    /// Text in the firmware's menu.
    pub description: String,
    /// What to load: the nodes of the first device path, without its end.
    pub path: Vec<PathNode>,
    /// Whatever follows; handed to the program that is loaded.
    pub optional_data: Vec<u8>,
}

/// A node of a device path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathNode {
    /// A partition of a GPT.
    HardDrive {
        /// Number, from 1.
        number: u32,
        /// First sector.
        first_lba: u64,
        /// Count of sectors.
        sectors: u64,
        /// Unique GUID of the partition: what firmware really looks for.
        guid: Guid,
    },
    /// A file on what the nodes before name; separated by backslashes.
    File(String),
    /// Any other node, kept as it is.
    Other {
        /// Type.
        kind: u8,
        /// Subtype.
        subkind: u8,
        /// What follows the four bytes of its header.
        data: Vec<u8>,
    },
}

impl LoadOption {
    /// An active entry that loads the file `path` (slashes or backslashes) from `partition`.
    pub fn for_file(description: &str, partition: &Partition, path: &str) -> Result<Self, Error> {
        let units = description.encode_utf16().count();
        if units == 0 || units > MAX_DESCRIPTION_UNITS || description.contains('\0') {
            let why = format!("1 to {MAX_DESCRIPTION_UNITS} UTF-16 units without NUL are allowed");
            return Err(Error::invalid(format!("boot entry {description:?}"), why));
        }
        let path = path.replace('/', "\\");
        if !path.starts_with('\\') || path.contains('\0') {
            return Err(Error::invalid(format!("boot file {path:?}"), "a path from the root is wanted"));
        }
        let sectors = partition.last_lba.saturating_sub(partition.first_lba).saturating_add(1);
        let drive = PathNode::HardDrive {
            number: partition.number,
            first_lba: partition.first_lba,
            sectors,
            guid: partition.unique_guid,
        };
        Ok(Self {
            attributes: LOAD_OPTION_ACTIVE,
            description: description.to_owned(),
            path: vec![drive, PathNode::File(path)],
            optional_data: Vec::new(),
        })
    }

    /// The partition the entry loads from.
    pub fn partition_guid(&self) -> Option<Guid> {
        self.path.iter().find_map(|node| match node {
            PathNode::HardDrive { guid, .. } => Some(*guid),
            _ => None,
        })
    }

    /// Whether it starts from the network, as far as the device path tells: some firmware lists its network boot under a path of its own.
    pub fn is_network(&self) -> bool {
        self.path.iter().any(|node| match node {
            PathNode::Other { kind: MESSAGING, subkind, .. } => MESSAGING_NETWORK.contains(subkind),
            PathNode::Other { kind: BIOS_BOOT, subkind: 1, data } => {
                data.first_chunk().is_some_and(|device| BIOS_NETWORK.contains(&u16::from_le_bytes(*device)))
            }
            _ => false,
        })
    }

    /// Whether it points to a partition of `layout`: such entries are ours to replace on a retry.
    pub fn points_into(&self, layout: &Layout) -> bool {
        let guid = self.partition_guid();
        layout.partitions.iter().any(|partition| guid == Some(partition.unique_guid))
    }

    /// Whether it has the same title and file as `other`, on whichever partition: an entry that an earlier deployment of
    /// the same system left.
    pub fn is_same_loader(&self, other: &Self) -> bool {
        let file = |option: &Self| {
            option.path.iter().find_map(|node| match node {
                PathNode::File(path) => Some(path.to_lowercase()),
                _ => None,
            })
        };
        self.description == other.description && file(self).is_some() && file(self) == file(other)
    }

    /// The variable's data.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut path = Vec::new();
        for node in &self.path {
            path.extend_from_slice(&node.to_bytes()?);
        }
        path.extend_from_slice(&[END, END_ENTIRE, 4, 0]);
        let path_len = u16::try_from(path.len()).map_err(|_| Error::DoesNotFit {
            what: "device path of a boot entry".into(),
            wanted: u64::try_from(path.len()).unwrap_or(u64::MAX),
            available: u64::from(u16::MAX),
        })?;
        let mut bytes = self.attributes.to_le_bytes().to_vec();
        bytes.extend_from_slice(&path_len.to_le_bytes());
        bytes.extend(utf16(&self.description));
        bytes.extend_from_slice(&path);
        bytes.extend_from_slice(&self.optional_data);
        Ok(bytes)
    }

    /// Reads a variable's data. Further device paths after the first are dropped, as firmware does when it boots.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |expected: &str| {
            Error::corrupt("boot entry", 0, expected, format!("{} bytes that lack it", bytes.len()))
        };
        if bytes.len() > MAX_OPTION_BYTES {
            return Err(corrupt("at most 64 KiB"));
        }
        let mut rest = Cursor::new(bytes);
        let attributes = rest.u32().map_err(|_| corrupt("attributes"))?;
        let path_len = rest.u16().map_err(|_| corrupt("the length of a device path"))?;
        let mut units = Vec::new();
        loop {
            match rest.u16().map_err(|_| corrupt("a description with NUL at its end"))? {
                0 => break,
                unit => units.push(unit),
            }
        }
        let path =
            rest.take(usize::from(path_len)).map_err(|_| corrupt("a device path of the stated length"))?;
        Ok(Self {
            attributes,
            description: String::from_utf16_lossy(&units),
            path: parse_path(path)?,
            optional_data: rest.rest().to_vec(),
        })
    }
}

impl std::fmt::Display for LoadOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description)?;
        for (node, mark) in self.path.iter().zip([" "].into_iter().chain(std::iter::repeat("/"))) {
            f.write_str(mark)?;
            match node {
                PathNode::HardDrive { number, first_lba, sectors, guid } => {
                    write!(f, "HD({number},GPT,{guid},{first_lba:#x},{sectors:#x})")?;
                }
                PathNode::File(path) => f.write_str(path)?,
                PathNode::Other { kind, subkind, data } => {
                    write!(f, "Path({kind},{subkind},{} bytes)", data.len())?
                }
            }
        }
        Ok(())
    }
}

impl PathNode {
    fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let (kind, subkind, data) = match self {
            Self::HardDrive { number, first_lba, sectors, guid } => {
                let mut data = number.to_le_bytes().to_vec();
                data.extend_from_slice(&first_lba.to_le_bytes());
                data.extend_from_slice(&sectors.to_le_bytes());
                data.extend_from_slice(&guid.0);
                data.extend_from_slice(&[2, 2]); // GPT, signature is a GUID
                (MEDIA, MEDIA_HARD_DRIVE, data)
            }
            Self::File(path) => (MEDIA, MEDIA_FILE_PATH, utf16(path).collect()),
            Self::Other { kind, subkind, data } => (*kind, *subkind, data.clone()),
        };
        let len = data.len().saturating_add(4);
        let len = u16::try_from(len).map_err(|_| Error::DoesNotFit {
            what: "node of a device path".into(),
            wanted: u64::try_from(len).unwrap_or(u64::MAX),
            available: u64::from(u16::MAX),
        })?;
        let mut bytes = vec![kind, subkind];
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&data);
        Ok(bytes)
    }

    fn parse(kind: u8, subkind: u8, data: &[u8]) -> Self {
        let known = match (kind, subkind) {
            (MEDIA, MEDIA_HARD_DRIVE) => Self::parse_hard_drive(data),
            (MEDIA, MEDIA_FILE_PATH) => Self::parse_file(data),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other { kind, subkind, data: data.to_vec() })
    }

    /// `None` for partitions of a classic table and for odd lengths.
    fn parse_hard_drive(data: &[u8]) -> Option<Self> {
        let mut rest = Cursor::new(data);
        let node = Self::HardDrive {
            number: rest.u32().ok()?,
            first_lba: rest.u64().ok()?,
            sectors: rest.u64().ok()?,
            guid: Guid(rest.array().ok()?),
        };
        (rest.rest() == [2, 2]).then_some(node)
    }

    /// `None` when writing it again would give other bytes.
    fn parse_file(data: &[u8]) -> Option<Self> {
        let units: Vec<u16> =
            data.chunks_exact(2).filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?))).collect();
        let text = String::from_utf16(units.strip_suffix(&[0])?).ok()?;
        (data.len() & 1 == 0 && !text.contains('\0')).then_some(Self::File(text))
    }
}

fn parse_path(bytes: &[u8]) -> Result<Vec<PathNode>, Error> {
    let corrupt = |at: usize, expected: &str| {
        let offset = u64::try_from(at).unwrap_or(u64::MAX);
        Error::corrupt("device path", offset, expected, format!("{} bytes that lack it", bytes.len()))
    };
    let mut nodes = Vec::new();
    let mut rest = Cursor::new(bytes);
    loop {
        let at = rest.pos();
        let header: [u8; 4] = rest.array().map_err(|_| corrupt(at, "a node or an end"))?;
        let [kind, subkind, low, high] = header;
        let len = usize::from(u16::from_le_bytes([low, high]));
        let data = len.checked_sub(4).and_then(|len| rest.take(len).ok());
        let data = data.ok_or_else(|| corrupt(at, "a node of the stated length"))?;
        if kind == END {
            return Ok(nodes);
        }
        nodes.push(PathNode::parse(kind, subkind, data));
    }
}

/// UTF-16LE with NUL at the end.
fn utf16(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes)
}

/// The name of the variable of entry `number`.
pub fn boot_variable(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// The number in the name of a variable like `Boot000A`; `None` for other names, also `BootOrder`.
pub fn boot_number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("Boot").filter(|digits| digits.len() == 4)?;
    // Firmware writes capitals; others are a different variable.
    let sound = digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    sound.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// The data of `BootOrder` as numbers; an odd byte at the end is dropped, as firmware does.
pub fn parse_order(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?))).collect()
}

/// The data of `BootOrder`, and with one number that of `BootNext`.
pub fn order_bytes(order: &[u16]) -> Vec<u8> {
    order.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// `order` with `number` once, behind the entries at its head that `is_kept` says yes to.
pub fn with_first_after(order: &[u16], number: u16, is_kept: impl Fn(u16) -> bool) -> Vec<u16> {
    let mut rest: Vec<u16> = order.iter().copied().filter(|other| *other != number).collect();
    let head = rest.iter().take_while(|other| is_kept(**other)).count();
    rest.insert(head, number);
    rest
}

/// The lowest number no entry has; `None` when all 65536 are taken.
pub fn free_number(taken: &[u16]) -> Option<u16> {
    (0..=u16::MAX).find(|number| !taken.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiskShape, Identity, PartitionRequest, PartitionSize, Role};

    fn layout() -> Layout {
        let shape = DiskShape { size_bytes: 1 << 30, sector_bytes: 512 };
        let request =
            PartitionRequest { role: Role::Esp, size: PartitionSize::Bytes(100 << 20), name: "esp".into() };
        Layout::compute(shape, &Identity::new([1; 32]), &[request]).unwrap()
    }

    #[test]
    fn an_entry_has_the_bytes_of_the_specification() {
        let layout = layout();
        let option = LoadOption::for_file("Hi", &layout.partitions[0], FALLBACK_X86_64).unwrap();
        let bytes = option.to_bytes().unwrap();
        assert_eq!(&bytes[..4], &[1, 0, 0, 0]);
        assert_eq!(&bytes[6..12], &[b'H', 0, b'i', 0, 0, 0]);
        let path = &bytes[12..];
        assert_eq!(usize::from(u16::from_le_bytes([bytes[4], bytes[5]])), path.len());
        assert_eq!(&path[..4], &[4, 1, 42, 0]);
        assert_eq!(&path[4..24], &[1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x20, 3, 0, 0, 0, 0, 0]);
        assert_eq!(&path[24..40], &layout.partitions[0].unique_guid.0);
        assert_eq!(&path[40..42], &[2, 2]);
        assert_eq!(&path[42..50], &[4, 4, 48, 0, b'\\', 0, b'E', 0]);
        assert_eq!(&path[path.len() - 4..], &[0x7f, 0xff, 4, 0]);
        assert_eq!(LoadOption::parse(&bytes).unwrap(), option);
        assert!(option.points_into(&layout));
        assert!(option.to_string().ends_with(r",0x800,0x32000)/\EFI\BOOT\BOOTX64.EFI"), "{option}");
    }

    #[test]
    fn every_cut_is_an_error_until_only_optional_data_is_missing() {
        let option = LoadOption::for_file("Gravure", &layout().partitions[0], "/a").unwrap();
        let bytes = option.to_bytes().unwrap();
        for len in 0..bytes.len() {
            assert!(LoadOption::parse(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [&bytes[..], b"options"].concat();
        assert_eq!(LoadOption::parse(&longer).unwrap().optional_data, b"options");
    }

    #[test]
    fn unknown_nodes_survive() {
        let nodes = [
            PathNode::Other { kind: 1, subkind: 1, data: vec![0, 5] },
            PathNode::Other { kind: 4, subkind: 1, data: vec![0; 38] }, // MBR partition
            PathNode::Other { kind: 4, subkind: 4, data: vec![b'a', 0] }, // no NUL
        ];
        let option = LoadOption {
            attributes: 0x107,
            description: "x".into(),
            path: nodes.to_vec(),
            optional_data: vec![9],
        };
        assert_eq!(LoadOption::parse(&option.to_bytes().unwrap()).unwrap(), option);
        assert_eq!(option.partition_guid(), None);
    }

    #[test]
    fn network_entries_are_told_by_their_path() {
        let entry = |path: Vec<PathNode>| LoadOption {
            attributes: 1,
            description: "x".into(),
            path,
            optional_data: vec![],
        };
        let other = |kind, subkind, data: &[u8]| PathNode::Other { kind, subkind, data: data.to_vec() };
        // As OVMF writes them: PciRoot/Pci/MAC/IPv4, PciRoot/Pci/MAC/IPv6/Uri, PciRoot/Pci/Sata.
        let card = [other(2, 1, &[0; 8]), other(1, 1, &[0, 3])];
        let with = |more: &[PathNode]| entry([&card[..], more].concat());
        assert!(with(&[other(3, 11, &[0; 33]), other(3, 12, &[0; 23])]).is_network());
        assert!(with(&[other(3, 11, &[0; 33]), other(3, 13, &[0; 56]), other(3, 24, b"")]).is_network());
        assert!(!with(&[other(3, 18, &[0; 6])]).is_network() && !with(&[other(3, 5, &[0; 2])]).is_network());
        assert!(entry(vec![other(5, 1, &[6, 0, 0, 0, b'n', 0])]).is_network());
        assert!(entry(vec![other(5, 1, &[0x80, 0, 0, 0, b'n', 0])]).is_network());
        assert!(!entry(vec![other(5, 1, &[2, 0, 0, 0, b'd', 0])]).is_network());
        assert!(!entry(vec![other(5, 1, &[6])]).is_network() && !entry(vec![]).is_network());
        assert!(!LoadOption::for_file("x", &layout().partitions[0], "/a").unwrap().is_network());
    }

    #[test]
    fn the_same_loader_on_another_disk_is_recognised() {
        let ours =
            LoadOption::for_file("debian", &layout().partitions[0], "/EFI/debian/shimx64.efi").unwrap();
        let mut partition = layout().partitions[0].clone();
        partition.unique_guid = Guid([9; 16]);
        let old = LoadOption::for_file("debian", &partition, "\\EFI\\Debian\\SHIMX64.EFI").unwrap();
        assert!(ours.is_same_loader(&old) && !old.points_into(&layout()));
        let other = LoadOption::for_file("debian", &partition, "/EFI/debian/grubx64.efi").unwrap();
        assert!(!ours.is_same_loader(&other));
        let titled = LoadOption { description: "Windows".into(), ..old };
        assert!(!ours.is_same_loader(&titled));
        let bare = LoadOption { path: Vec::new(), ..ours.clone() };
        assert!(!bare.is_same_loader(&bare));
    }

    #[test]
    fn numbers_and_order() {
        assert_eq!((boot_variable(0x1a), boot_number("Boot001A")), ("Boot001A".into(), Some(0x1a)));
        for name in ["BootOrder", "Boot001a", "Boot1", "BootNext", "Boot00001", "Bo"] {
            assert_eq!(boot_number(name), None, "{name}");
        }
        assert_eq!(parse_order(&[1, 0, 0, 1, 7]), [1, 0x100]);
        assert_eq!(order_bytes(&with_first_after(&[1, 3, 2, 3], 3, |_| false)), [3, 0, 1, 0, 2, 0]);
        assert_eq!(with_first_after(&[3, 1, 2, 3, 5], 3, |other| other < 3), [1, 2, 3, 5]);
        assert_eq!(with_first_after(&[5, 1], 3, |other| other < 3), [3, 5, 1]);
        assert_eq!(with_first_after(&[1, 2], 3, |_| true), [1, 2, 3]);
        assert_eq!(free_number(&[0, 1, 3]), Some(2));
    }

    #[test]
    fn refuses_what_firmware_would_misread() {
        let partition = &layout().partitions[0];
        assert!(LoadOption::for_file("", partition, "/a").is_err());
        assert!(LoadOption::for_file("a\0b", partition, "/a").is_err());
        assert!(LoadOption::for_file("a", partition, "relative").is_err());
        assert!(LoadOption::for_file(&"x".repeat(129), partition, "/a").is_err());
    }
}
