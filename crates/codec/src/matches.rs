//! Finding repeated bytes inside one chunk.

mod binary_trees;
mod cache;
mod hash_chains;
mod on_demand;

pub(crate) use binary_trees::BinaryTrees;
pub(crate) use cache::{Cached, MatchCache};
pub(crate) use hash_chains::HashChains;
pub(crate) use on_demand::OnDemand;

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

/// Bytes that must follow a position for it to be entered.
pub(crate) const LOOKAHEAD: usize = 4;

/// Finds for each position all matches worth a look: the nearest for each length. Positions are entered one by one in
/// ascending order, by `find` or `skip`; [`LOOKAHEAD`] bytes follow each.
pub(crate) trait MatchLists {
    /// How positions are stored.
    type Position: Position;

    /// Forgets all positions, for a chunk of `len` bytes.
    fn reset(&mut self, len: usize);

    /// Enters `pos` and appends its matches of at most `most` bytes to `found`, with ascending lengths and offsets.
    /// `most` bytes from `pos` on are in `data`.
    fn find(&mut self, data: &[u8], pos: usize, most: usize, limits: SearchLimits, found: &mut Vec<Match>);

    /// Enters `pos` without looking for matches.
    fn skip(&mut self, data: &[u8], pos: usize, limits: SearchLimits);
}

/// The matches of each position of a chunk, for a parse that goes through it block by block.
pub(crate) trait MatchSource {
    /// How positions are stored.
    type Position: Position;

    /// Goes over to the chunk `data`.
    fn begin_chunk(&mut self, data: &[u8]);

    /// Goes over to the block that starts at `start`, where the block before it ended.
    fn begin_block(&mut self, start: usize);

    /// Says that the block ends at `end`, before anything is asked of less than the whole chunk.
    fn end_block(&mut self, data: &[u8], end: usize);

    /// The matches of position `pos` of the block in the chunk `data`, with ascending lengths and offsets. Once the end of
    /// the block is known, `data` may end there.
    fn at(&mut self, data: &[u8], pos: usize) -> &[Match];

    /// A match of this length is taken without looking further.
    fn nice_length(&self) -> usize;
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
