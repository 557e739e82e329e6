//! The decisions of the range code: which there are, and how their probabilities adapt.

/// Bits of a probability: it counts how many of the last 64 results were 0.
pub(super) const PROBABILITY_BITS: u32 = 6;

/// The last results of one kind of decision in one context.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// The last 64 results, the newest in bit 0.
    history: u64,
    /// Zeros among them.
    zeros: u32,
    /// The same, 1 to 63; ready before it is wanted.
    probability: u32,
}

impl Cell {
    const NEW: Self = Self { history: 0x5555_5555, zeros: 48, probability: 48 };

    /// Chance of a 0 out of 64; 1 to 63.
    #[inline(always)]
    pub(super) fn probability(self) -> u32 {
        self.probability
    }

    #[inline(always)]
    pub(super) fn update(&mut self, result: u32) {
        self.zeros = self.zeros.wrapping_add((self.history >> 63) as u32).wrapping_sub(result);
        self.history = self.history << 1 | u64::from(result);
        self.probability = self.zeros.clamp(1, 63);
    }
}

/// One class of decisions: a cell for each of the possible last results of this class.
#[derive(Debug, Clone)]
pub(super) struct Class<const N: usize> {
    cells: [Cell; N],
    /// The last results, the newest in bit 0; below `N`.
    context: usize,
}

impl<const N: usize> Class<N> {
    const NEW: Self = Self { cells: [Cell::NEW; N], context: 0 };

    /// The cell of the current context.
    #[inline(always)]
    pub(super) fn cell(&mut self) -> &mut Cell {
        &mut self.cells[self.context & (N - 1)]
    }

    /// The probability of a 0 in another context.
    #[inline(always)]
    pub(super) fn probability_in(&self, context: u8) -> u32 {
        self.cells[usize::from(context) & (N - 1)].probability()
    }

    /// Takes a result into the cell and the context.
    #[inline(always)]
    pub(super) fn update(&mut self, result: u32) {
        self.cell().update(result);
        self.context = (self.context << 1 | result as usize) & (N - 1);
    }

    /// The current context.
    #[inline(always)]
    pub(super) fn context(&self) -> u8 {
        self.context as u8
    }
}

/// All classes. Of `repeat` decisions the first asks "repeat 0?", the second "repeat 1?", where 0 means yes.
#[derive(Debug, Clone)]
pub(super) struct Decisions {
    /// 0 literal, 1 match.
    pub(super) main: Class<16>,
    /// 0 LZ match, 1 delta match.
    pub(super) kind: Class<32>,
    /// 0 explicit offset, 1 repeated.
    pub(super) lz: Class<64>,
    pub(super) lz_repeats: [Class<64>; 2],
    /// 0 explicit source, 1 repeated.
    pub(super) delta: Class<64>,
    pub(super) delta_repeats: [Class<64>; 2],
}

impl Decisions {
    pub(super) const NEW: Self = Self {
        main: Class::NEW,
        kind: Class::NEW,
        lz: Class::NEW,
        lz_repeats: [Class::NEW; 2],
        delta: Class::NEW,
        delta_repeats: [Class::NEW; 2],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_count_the_zeros_of_their_history() {
        let mut cell = Cell::NEW;
        let mut state = 1u64;
        for step in 0..10_000u32 {
            assert_eq!(cell.zeros, cell.history.count_zeros());
            assert_eq!(cell.probability(), cell.zeros.clamp(1, 63));
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step.into());
            // Stretches of equal results reach both ends of the range.
            let result = if step / 200 % 3 == 2 { (state >> 40) as u32 & 1 } else { step / 200 % 3 };
            cell.update(result);
        }
    }
}
