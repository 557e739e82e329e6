//! New hives: one bin with a root key and its descriptor.

use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::base::{BaseDisk, TYPE_PRIMARY};
use crate::cells::{KeyDisk, SecurityDisk};
use crate::error::{Error, invalid};
use crate::hive::Hive;
use crate::image::{BIN_HEADER_BYTES, CELL_HEADER_BYTES, Cell};
use crate::limits::{BLOCK_BYTES, MAX_KEY_NAME_UNITS};
use crate::name;

/// What a new hive is to be.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Minor version: 3 for boot stores and user hives, 5 for system hives, 4 and 6 exist.
    pub minor: u32,
    /// Name of the root key; Windows does not use it.
    pub root_name: NtName,
    /// Descriptor of the root key, which all keys below it share at first.
    pub security: SecurityDescriptor,
    /// Time of the root key and of the hive.
    pub now: FileTime,
}

impl Hive {
    /// A hive with nothing but a root key.
    pub fn create(options: &CreateOptions) -> Result<Self, Error> {
        if !(3..=6).contains(&options.minor) {
            return Err(Error::Unsupported { what: "hive version", value: format!("1.{}", options.minor) });
        }
        let units = options.root_name.units().len();
        if units == 0 || units > MAX_KEY_NAME_UNITS {
            return Err(invalid("root key name", format!("1 to {MAX_KEY_NAME_UNITS} units"), units));
        }
        let descriptor = options
            .security
            .to_bytes()
            .map_err(|error| invalid("security descriptor", "one that can be written", error))?;
        let (stored_name, is_latin1) = name::to_stored(&options.root_name);
        let key_len = cell_len(size_of::<KeyDisk>().saturating_add(stored_name.len()));
        let root = Cell(BIN_HEADER_BYTES);
        let security = Cell(root.0.saturating_add(key_len));
        let flags = KeyDisk::FLAG_ROOT | KeyDisk::FLAG_NO_DELETE;
        let key = KeyDisk {
            signature: KeyDisk::SIGNATURE,
            flags: U16::new(flags | if is_latin1 { KeyDisk::FLAG_LATIN1 } else { 0 }),
            written: U64::new(options.now.0),
            access: U32::new(0),
            parent: U32::new(Cell::NIL.0),
            subkey_count: U32::new(0),
            volatile_subkey_count: U32::new(0),
            subkey_list: U32::new(Cell::NIL.0),
            volatile_subkey_list: U32::new(Cell::NIL.0),
            value_count: U32::new(0),
            value_list: U32::new(Cell::NIL.0),
            security: U32::new(security.0),
            class: U32::new(Cell::NIL.0),
            max_subkey_name_bytes: U16::new(0),
            user_flags: [0; 2],
            max_subkey_class_bytes: U32::new(0),
            max_value_name_bytes: U32::new(0),
            max_value_bytes: U32::new(0),
            work: U32::new(0),
            name_bytes: U16::new(u16::try_from(stored_name.len()).unwrap_or(u16::MAX)),
            class_bytes: U16::new(0),
        };
        let security_disk = SecurityDisk {
            signature: SecurityDisk::SIGNATURE,
            spare: U16::new(0),
            next: U32::new(security.0),
            previous: U32::new(security.0),
            references: U32::new(1),
            descriptor_bytes: U32::new(u32::try_from(descriptor.len()).unwrap_or(u32::MAX)),
        };
        let cells =
            [[key.as_bytes(), &stored_name].concat(), [security_disk.as_bytes(), &descriptor].concat()];
        let mut bins = Vec::new();
        for content in cells {
            let len = cell_len(content.len());
            let end = bins.len().saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
            bins.extend_from_slice(&0u32.wrapping_sub(len).to_le_bytes());
            bins.extend(content);
            bins.resize(end, 0);
        }
        finish(options, &bins, root)
    }
}

/// Base block and bin header before the cells, free space after them.
fn finish(options: &CreateOptions, cells: &[u8], root: Cell) -> Result<Hive, Error> {
    let used = u32::try_from(cells.len()).unwrap_or(u32::MAX).saturating_add(BIN_HEADER_BYTES);
    let bins_bytes = used.saturating_add(8).next_multiple_of(BLOCK_BYTES);
    let mut base = BaseDisk::new_zeroed();
    base.signature = BaseDisk::SIGNATURE;
    (base.primary_sequence, base.secondary_sequence) = (U32::new(1), U32::new(1));
    base.written = U64::new(options.now.0);
    (base.major, base.minor) = (U32::new(1), U32::new(options.minor));
    (base.file_type, base.format) = (U32::new(TYPE_PRIMARY), U32::new(1));
    base.root = U32::new(root.0);
    base.bins_bytes = U32::new(bins_bytes);
    base.clustering = U32::new(1);
    base.seal();
    let mut out = base.as_bytes().to_vec();
    out.resize(usize::try_from(BLOCK_BYTES).unwrap_or_default(), 0);
    out.extend_from_slice(b"hbin\0\0\0\0");
    out.extend_from_slice(&bins_bytes.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&options.now.0.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(cells);
    out.extend_from_slice(&bins_bytes.saturating_sub(used).to_le_bytes());
    out.resize(usize::try_from(bins_bytes.saturating_add(BLOCK_BYTES)).unwrap_or_default(), 0);
    Hive::parse(out)
}

fn cell_len(content: usize) -> u32 {
    u32::try_from(content).unwrap_or(u32::MAX).saturating_add(CELL_HEADER_BYTES).next_multiple_of(8)
}
