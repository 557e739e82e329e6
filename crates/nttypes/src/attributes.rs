//! FILE_ATTRIBUTE_* bits (wim-container 6.2). Unknown bits survive a round trip.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// File attributes as Windows stores them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileAttributes(pub u32);

impl FileAttributes {
    /// 0x1
    pub const READ_ONLY: Self = Self(0x1);
    /// 0x2
    pub const HIDDEN: Self = Self(0x2);
    /// 0x4
    pub const SYSTEM: Self = Self(0x4);
    /// 0x10
    pub const DIRECTORY: Self = Self(0x10);
    /// 0x20
    pub const ARCHIVE: Self = Self(0x20);
    /// 0x80: no other attribute is set.
    pub const NORMAL: Self = Self(0x80);
    /// 0x100
    pub const TEMPORARY: Self = Self(0x100);
    /// 0x200
    pub const SPARSE: Self = Self(0x200);
    /// 0x400: the file has reparse data.
    pub const REPARSE_POINT: Self = Self(0x400);
    /// 0x800: state of the source volume, see wim-container 6.2.
    pub const COMPRESSED: Self = Self(0x800);
    /// 0x1000
    pub const OFFLINE: Self = Self(0x1000);
    /// 0x2000
    pub const NOT_INDEXED: Self = Self(0x2000);
    /// 0x4000: content is EFS raw data.
    pub const ENCRYPTED: Self = Self(0x4000);

    /// True when every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without the bits of `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for FileAttributes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for FileAttributes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for FileAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileAttributes({:#x})", self.0)
    }
}
