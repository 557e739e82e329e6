//! Base block: the first 4,096 bytes of a hive. Logs start with its first 512 bytes.

use gravure_nttypes::{FileTime, NtName};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, corrupt};
use crate::limits::{BLOCK_BYTES, MAX_BINS_BYTES};

/// What the file is: a hive.
pub(crate) const TYPE_PRIMARY: u32 = 0;

/// Bytes the checksum covers.
const CHECKED_BYTES: usize = 508;

/// The part that hives and logs share.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone)]
#[repr(C)]
pub(crate) struct BaseDisk {
    pub(crate) signature: [u8; 4],      // 0x000  "regf"
    pub(crate) primary_sequence: U32,   // 0x004  raised before a write
    pub(crate) secondary_sequence: U32, // 0x008  raised after it
    pub(crate) written: U64,            // 0x00c  FILETIME
    pub(crate) major: U32,              // 0x014  1
    pub(crate) minor: U32,              // 0x018
    pub(crate) file_type: U32,          // 0x01c  0 hive, 1 and 2 old log, 6 new log
    pub(crate) format: U32,             // 0x020  1
    pub(crate) root: U32,               // 0x024  cell of the root key
    pub(crate) bins_bytes: U32,         // 0x028
    pub(crate) clustering: U32,         // 0x02c  sector size / 512
    pub(crate) file_name: [u8; 64],     // 0x030  UTF-16LE, end of the path
    pub(crate) rm_id: [u8; 16],         // 0x070
    pub(crate) log_id: [u8; 16],        // 0x080
    pub(crate) flags: U32,              // 0x090
    pub(crate) rest: [u8; 0x168],       // 0x094  TM id, reorganisation time, reserved
    pub(crate) checksum: U32,           // 0x1fc
} // 0x200
const _: () = assert!(size_of::<BaseDisk>() == 512);
const _: () = assert!(std::mem::offset_of!(BaseDisk, flags) == 0x90);
const _: () = assert!(std::mem::offset_of!(BaseDisk, checksum) == 0x1fc);

impl BaseDisk {
    pub(crate) const SIGNATURE: [u8; 4] = *b"regf";

    /// XOR of the words before it, which never is 0 or all ones.
    pub(crate) fn computed_checksum(&self) -> u32 {
        let checked = self.as_bytes().get(..CHECKED_BYTES).unwrap_or_default();
        let sum = checked.chunks_exact(4).fold(0, |sum, word| match word {
            [a, b, c, d] => sum ^ u32::from_le_bytes([*a, *b, *c, *d]),
            _ => sum,
        });
        match sum {
            0 => 1,
            u32::MAX => u32::MAX - 1,
            other => other,
        }
    }

    pub(crate) fn seal(&mut self) {
        self.checksum = U32::new(self.computed_checksum());
    }
}

/// Whether a hive was written completely.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Both sequence numbers agree and the checksum is right.
    Clean,
    /// A write was begun and not finished; what is missing stands in the logs.
    Unfinished {
        /// Raised before the write.
        primary: u32,
        /// Raised after it.
        secondary: u32,
    },
    /// The base block itself was not written completely.
    BadChecksum {
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
}

impl State {
    /// How it shows that the hive is dirty; empty for a clean one.
    pub fn reason(&self) -> String {
        match self {
            Self::Clean => String::new(),
            Self::Unfinished { primary, secondary } => {
                format!("sequence numbers {primary} and {secondary} differ")
            }
            Self::BadChecksum { stored, computed } => {
                format!("base block checksum {stored:#010x} should be {computed:#010x}")
            }
        }
    }
}

/// What a base block says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBlock {
    /// Raised before and after each write: equal in a clean hive.
    pub sequences: (u32, u32),
    /// Last write of the hive.
    pub written: FileTime,
    /// Minor version: 3 to 6.
    pub minor: u32,
    /// Cell of the root key.
    pub(crate) root: u32,
    /// Bytes of all bins.
    pub bins_bytes: u32,
    /// End of the path the hive was loaded from.
    pub file_name: NtName,
    /// Bit 0: transactions pending in separate files; bit 1: defragmented.
    pub flags: u32,
    /// Written completely or not.
    pub state: State,
}

impl BaseBlock {
    /// Checks the first bytes of a hive.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (disk, _) = BaseDisk::ref_from_prefix(bytes)
            .map_err(|_| corrupt("base block", 0, "512 bytes", format_args!("{} bytes", bytes.len())))?;
        if disk.signature != BaseDisk::SIGNATURE {
            return Err(corrupt("hive signature", 0, "\"regf\"", format_args!("{:02x?}", disk.signature)));
        }
        let (major, minor) = (disk.major.get(), disk.minor.get());
        if major != 1 || !(3..=6).contains(&minor) {
            return Err(Error::Unsupported { what: "hive version", value: format!("{major}.{minor}") });
        }
        if disk.file_type.get() != TYPE_PRIMARY {
            return Err(corrupt("file type", 0x1c, "0 (a hive, not a log)", disk.file_type.get()));
        }
        if disk.format.get() != 1 {
            return Err(Error::Unsupported { what: "hive format", value: disk.format.get().to_string() });
        }
        let bins_bytes = disk.bins_bytes.get();
        if bins_bytes == 0 || !bins_bytes.is_multiple_of(BLOCK_BYTES) || bins_bytes > MAX_BINS_BYTES {
            let expected = format!("a multiple of {BLOCK_BYTES} up to {MAX_BINS_BYTES}");
            return Err(corrupt("size of the bins", 0x28, expected, bins_bytes));
        }
        let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let need = u64::from(bins_bytes).saturating_add(u64::from(BLOCK_BYTES));
        if have < need {
            return Err(corrupt("hive", have, format!("{need} bytes"), format_args!("{have} bytes")));
        }
        let sequences = (disk.primary_sequence.get(), disk.secondary_sequence.get());
        let (stored, computed) = (disk.checksum.get(), disk.computed_checksum());
        let state = if stored != computed {
            State::BadChecksum { stored, computed }
        } else if sequences.0 != sequences.1 {
            State::Unfinished { primary: sequences.0, secondary: sequences.1 }
        } else {
            State::Clean
        };
        Ok(Self {
            sequences,
            written: FileTime(disk.written.get()),
            minor,
            root: disk.root.get(),
            bins_bytes,
            file_name: crate::value::text(&disk.file_name),
            flags: disk.flags.get(),
            state,
        })
    }
}
