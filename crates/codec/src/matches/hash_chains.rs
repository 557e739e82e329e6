//! Match finder of the fast levels: chains of earlier positions with the same four bytes, and the last position
//! with the same three.

use super::{Match, Position, SearchLimits, common_length, hash, load4};

/// Sizes of the tables of last positions, of three and of four bytes, as powers of two.
#[derive(Debug, Clone, Copy)]
struct TableSizes {
    heads3: u32,
    heads4: u32,
}

/// For chunks that mostly have the same size.
const FIXED_SIZES: TableSizes = TableSizes { heads3: 12, heads4: 15 };

impl TableSizes {
    /// About an entry per position of a chunk of `len` bytes, within limits.
    fn scaled(len: usize) -> Self {
        let log2 = usize::BITS - len.leading_zeros();
        Self { heads3: log2.clamp(8, 16), heads4: log2.clamp(8, 20) }
    }
}

/// Positions are entered one by one in ascending order, by [`HashChains::longest`] or [`HashChains::skip`].
///
/// An empty head reads as position 0, which is a candidate like any other: it is compared before use. Chains end
/// where positions stop descending.
#[derive(Debug)]
pub(crate) struct HashChains<P> {
    heads3: Box<[P]>,
    heads4: Box<[P]>,
    /// For each position, the one before it in its chain.
    next: Box<[P]>,
    /// How much of the tables is in use.
    sizes: TableSizes,
    is_scaled: bool,
}

impl<P: Position> HashChains<P> {
    pub(crate) fn new(chunk_size: usize) -> Self {
        Self::with_sizes(chunk_size, FIXED_SIZES, false)
    }

    /// For chunks whose sizes differ by orders of magnitude: the tables adapt to each. Memory that no chunk needed was
    /// never touched.
    pub(crate) fn scaled(chunk_size: usize) -> Self {
        Self::with_sizes(chunk_size, TableSizes::scaled(chunk_size), true)
    }

    fn with_sizes(chunk_size: usize, sizes: TableSizes, is_scaled: bool) -> Self {
        let table = |len: usize| vec![P::default(); len].into_boxed_slice();
        Self {
            heads3: table(1 << sizes.heads3),
            heads4: table(1 << sizes.heads4),
            next: table(chunk_size),
            sizes,
            is_scaled,
        }
    }

    /// Forgets all positions, for a chunk of `len` bytes.
    pub(crate) fn reset(&mut self, len: usize) {
        if self.is_scaled {
            self.sizes = TableSizes::scaled(len);
        }
        self.heads3[..1 << self.sizes.heads3].fill(P::default());
        self.heads4[..1 << self.sizes.heads4].fill(P::default());
    }

    /// Enters `pos` and returns the candidates for three and for four bytes.
    #[inline(always)]
    fn enter(&mut self, bytes: u32, pos: usize) -> (usize, usize) {
        let head3 = &mut self.heads3[hash(bytes << 8, self.sizes.heads3)];
        let head4 = &mut self.heads4[hash(bytes, self.sizes.heads4)];
        let candidates = (head3.to_usize(), head4.to_usize());
        self.next[pos] = *head4;
        *head3 = P::from_usize(pos);
        *head4 = P::from_usize(pos);
        candidates
    }

    /// Enters `pos` and finds the longest match there, if it is longer than `at_least` (2 or more), of equally long
    /// ones the nearest. At least four bytes follow `pos`, and `most >= 4` is within `data`.
    #[inline(always)]
    pub(crate) fn longest(
        &mut self,
        data: &[u8],
        pos: usize,
        at_least: usize,
        most: usize,
        limits: SearchLimits,
    ) -> Option<Match> {
        let bytes = load4(data, pos);
        let (candidate3, candidate4) = self.enter(bytes, pos);
        if at_least >= most {
            return None;
        }
        let mut best = at_least;
        let mut best_offset = 0;
        if best < 3 && candidate3 < pos && (load4(data, candidate3) ^ bytes) << 8 == 0 {
            best = 3;
            best_offset = pos - candidate3;
        }
        let nice_length = limits.nice_length.min(most);
        let mut candidate = candidate4;
        let mut nearest = pos;
        let mut tail = best.max(3) - 3;
        let mut wanted = load4(data, pos + tail);
        for _ in 0..limits.depth {
            if candidate >= nearest {
                break;
            }
            if load4(data, candidate + tail) == wanted && load4(data, candidate) == bytes {
                let length = common_length(data, candidate, pos, 4, most);
                if length > best {
                    best = length;
                    best_offset = pos - candidate;
                    if length >= nice_length {
                        break;
                    }
                    tail = best - 3;
                    wanted = load4(data, pos + tail);
                }
            }
            nearest = candidate;
            candidate = self.next[candidate].to_usize();
        }
        (best_offset != 0).then_some(Match { length: best as u32, offset: best_offset as u32 })
    }

    /// Enters the `count` positions from `pos` on without searching; four bytes follow each.
    #[inline(always)]
    pub(crate) fn skip(&mut self, data: &[u8], pos: usize, count: usize) {
        for at in pos..pos + count {
            self.enter(load4(data, at), at);
        }
    }
}
