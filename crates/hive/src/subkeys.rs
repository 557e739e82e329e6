//! Lists of subkeys: leaves (`li`, `lf`, `lh`) and the index root above several of them (`ri`).

use crate::cells::ListDisk;
use crate::error::{Error, corrupt};
use crate::image::{Cell, Image, u32_at};
use zerocopy::FromBytes as _;

/// Kind of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafKind {
    /// Cells only.
    Plain,
    /// With the first four characters of the name.
    Hinted,
    /// With a hash of the name.
    Hashed,
}

impl LeafKind {
    pub(crate) fn signature(self) -> [u8; 2] {
        match self {
            Self::Plain => *b"li",
            Self::Hinted => *b"lf",
            Self::Hashed => *b"lh",
        }
    }

    pub(crate) fn from_signature(signature: [u8; 2]) -> Option<Self> {
        [Self::Plain, Self::Hinted, Self::Hashed].into_iter().find(|kind| kind.signature() == signature)
    }

    /// Bytes of an entry.
    pub(crate) fn entry_bytes(self) -> usize {
        match self {
            Self::Plain => 4,
            Self::Hinted | Self::Hashed => 8,
        }
    }
}

/// An entry of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Cell,
    /// Hint or hash; 0 in leaves without.
    pub(crate) tag: u32,
}

/// A leaf with all its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) cell: Cell,
    pub(crate) kind: LeafKind,
    pub(crate) entries: Vec<Entry>,
}

/// All subkeys of a key, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subkeys {
    /// The index root, when there is one.
    pub(crate) root: Option<Cell>,
    pub(crate) leaves: Vec<Leaf>,
}

impl Subkeys {
    /// Reads the list at `cell`; more than `most` entries are an error, so that a leaf named many times cannot fill
    /// the memory.
    pub(crate) fn read(image: &Image, cell: Cell, most: usize) -> Result<Self, Error> {
        let (signature, count, entries) = list(image, cell)?;
        let mut left = most;
        if let Some(kind) = LeafKind::from_signature(signature) {
            let leaf = leaf(cell, kind, count, entries, &mut left)?;
            return Ok(Self { root: None, leaves: vec![leaf] });
        }
        if signature != *b"ri" {
            return Err(bad_signature(cell, signature, "\"lh\", \"lf\", \"li\" or \"ri\""));
        }
        let cells = entries.get(..usize::from(count).saturating_mul(4)).ok_or_else(|| {
            let expected = format!("at most {} entries", entries.len() >> 2);
            corrupt("index root", cell.offset(), expected, count)
        })?;
        let mut leaves = Vec::new();
        for entry in cells.chunks_exact(4) {
            let at = Cell(u32_at(entry, 0).unwrap_or(u32::MAX));
            let (signature, count, entries) = list(image, at)?;
            let kind = LeafKind::from_signature(signature).ok_or_else(|| {
                bad_signature(at, signature, "\"lh\", \"lf\" or \"li\" below an index root")
            })?;
            leaves.push(leaf(at, kind, count, entries, &mut left)?);
        }
        Ok(Self { root: Some(cell), leaves })
    }

    /// Entries of all leaves.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.leaves.iter().flat_map(|leaf| leaf.entries.iter().copied())
    }

    pub(crate) fn len(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.entries.len()).sum()
    }
}

fn list(image: &Image, cell: Cell) -> Result<([u8; 2], u16, &[u8]), Error> {
    let content = image.cell(cell, "list of subkeys")?;
    let (disk, entries) = ListDisk::ref_from_prefix(content).map_err(|_| {
        corrupt("list of subkeys", cell.offset(), "at least 4 bytes", format_args!("{} bytes", content.len()))
    })?;
    Ok((disk.signature, disk.count.get(), entries))
}

fn leaf(cell: Cell, kind: LeafKind, count: u16, entries: &[u8], left: &mut usize) -> Result<Leaf, Error> {
    let size = kind.entry_bytes();
    let count = usize::from(count);
    *left = left.checked_sub(count).ok_or_else(|| {
        corrupt("list of subkeys", cell.offset(), format!("at most {left} more entries"), count)
    })?;
    let bytes = count.checked_mul(size).and_then(|len| entries.get(..len)).ok_or_else(|| {
        let most = entries.len().checked_div(size).unwrap_or(0);
        corrupt("list of subkeys", cell.offset(), format!("at most {most} entries"), count)
    })?;
    let entry = |bytes: &[u8]| Entry {
        key: Cell(u32_at(bytes, 0).unwrap_or(u32::MAX)),
        tag: u32_at(bytes, 4).unwrap_or(0),
    };
    Ok(Leaf { cell, kind, entries: bytes.chunks_exact(size).map(entry).collect() })
}

fn bad_signature(cell: Cell, found: [u8; 2], expected: &'static str) -> Error {
    corrupt("list of subkeys", cell.offset(), expected, format_args!("\"{}\"", found.escape_ascii()))
}
