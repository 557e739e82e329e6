//! Finding repeated bytes inside one chunk.

mod binary_trees;
mod cache;
mod hash_chains;

pub(crate) use binary_trees::{BinaryTrees, TREE_LOOKAHEAD};
pub(crate) use cache::MatchCache;
pub(crate) use hash_chains::HashChains;

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchLimits {
    /// Candidates looked at.
    pub(crate) depth: u32,
    /// A match of this length ends the search.
    pub(crate) nice_length: usize,
}

/// A repetition: the `length` bytes at the position asked about also stand `offset` bytes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Match {
    pub(crate) length: u32,
    pub(crate) offset: u32,
}

/// A position in a chunk, as narrow as the chunk allows: the tables of small chunks then stay in the inner caches.
pub(crate) trait Position: Copy + Default + 'static {
    /// `pos` is below the chunk size the tables were made for.
    fn from_usize(pos: usize) -> Self;
    fn to_usize(self) -> usize;
}

impl Position for u16 {
    #[inline(always)]
    fn from_usize(pos: usize) -> Self {
        pos as u16
    }

    #[inline(always)]
    fn to_usize(self) -> usize {
        usize::from(self)
    }
}

impl Position for u32 {
    #[inline(always)]
    fn from_usize(pos: usize) -> Self {
        pos as u32
    }

    #[inline(always)]
    fn to_usize(self) -> usize {
        self as usize
    }
}

#[inline(always)]
fn load4(data: &[u8], pos: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&data[pos..pos + 4]);
    u32::from_le_bytes(bytes)
}

/// The hash of `bits` as an index of `log2_size` bits (multiplicative, Fibonacci).
#[inline(always)]
fn hash(bits: u32, log2_size: u32) -> usize {
    (bits.wrapping_mul(0x9e37_79b1) >> (32 - log2_size)) as usize
}

/// How many bytes from `a` on equal those from `b` on, at most `most`; `a < b` and `b + most` is in `data`.
#[inline(always)]
pub(crate) fn common_length(data: &[u8], a: usize, b: usize, known: usize, most: usize) -> usize {
    let left = &data[a..a + most];
    let right = &data[b..b + most];
    let mut length = known;
    while length + 8 <= most {
        let (mut x, mut y) = ([0; 8], [0; 8]);
        x.copy_from_slice(&left[length..length + 8]);
        y.copy_from_slice(&right[length..length + 8]);
        let differing = u64::from_le_bytes(x) ^ u64::from_le_bytes(y);
        if differing != 0 {
            return length + (differing.trailing_zeros() >> 3) as usize;
        }
        length += 8;
    }
    while length < most && left[length] == right[length] {
        length += 1;
    }
    length
}
