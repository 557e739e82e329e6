//! What items are expected to cost, for the near-optimal parse.

use super::write::{Freqs, match_symbols};
use super::{
    ALIGNED_SYMBOLS, EXTRA_BITS, FIRST_ALIGNED_SLOT, LITERALS, MAX_MAIN_SYMBOLS, MAX_SLOTS, RECENT_SLOTS,
};
use super::{LENGTH_SYMBOLS, MIN_MATCH};

/// Costs are in units of 1/16 bit.
const UNIT_LOG2: u32 = 4;

/// Longest match of the format.
pub(super) const MAX_MATCH: usize = 257;

/// Costs under the statistics of one pass.
#[derive(Debug)]
pub(super) struct Costs {
    literals: [u16; LITERALS],
    /// For each slot, what a match of each length costs, its offset's extra bits included unless `aligned` counts
    /// three of them.
    matches: Box<[[u16; MAX_MATCH + 1]; MAX_SLOTS]>,
    /// What the low three offset bits cost, for slots that have an aligned part.
    aligned: [u16; ALIGNED_SYMBOLS],
}

impl Costs {
    pub(super) fn new() -> Self {
        Self {
            literals: [0; LITERALS],
            matches: Box::new([[0; MAX_MATCH + 1]; MAX_SLOTS]),
            aligned: [0; ALIGNED_SYMBOLS],
        }
    }

    #[inline(always)]
    pub(super) fn literal(&self, byte: u8) -> u32 {
        u32::from(self.literals[usize::from(byte)])
    }

    /// Costs of matches by length, for a slot.
    #[inline(always)]
    pub(super) fn lengths(&self, slot: usize) -> &[u16; MAX_MATCH + 1] {
        &self.matches[slot]
    }

    /// What is to be added to [`Self::lengths`] for an explicit offset.
    #[inline(always)]
    pub(super) fn offset(&self, offset: u32, slot: usize) -> u32 {
        // The bases of these slots are 2 less than a multiple of 8.
        if slot >= FIRST_ALIGNED_SLOT { u32::from(self.aligned[((offset + 2) & 7) as usize]) } else { 0 }
    }

    /// Takes over the frequencies of a pass for an alphabet of `slots` slots.
    pub(super) fn fit(&mut self, freqs: &Freqs, slots: usize) {
        let mut main = [0; MAX_MAIN_SYMBOLS];
        let main_symbols = LITERALS + 8 * slots;
        entropies(&freqs.main[..main_symbols], &mut main[..main_symbols]);
        let mut length = [0; LENGTH_SYMBOLS];
        entropies(&freqs.length, &mut length);
        let verbatim = 3 << UNIT_LOG2;
        entropies(&freqs.aligned, &mut self.aligned);
        let aligned_total: u32 =
            freqs.aligned.iter().zip(&self.aligned).map(|(&freq, &cost)| freq * u32::from(cost)).sum();
        let verbatim_total: u32 = freqs.aligned.iter().map(|&freq| freq * u32::from(verbatim)).sum();
        if aligned_total + (24 << UNIT_LOG2) >= verbatim_total {
            self.aligned.fill(verbatim);
        }
        self.literals.copy_from_slice(&main[..LITERALS]);
        for (slot, costs) in self.matches.iter_mut().enumerate().take(slots) {
            let plain_bits = u16::from(EXTRA_BITS[slot]) - if slot >= FIRST_ALIGNED_SLOT { 3 } else { 0 };
            for (len, cost) in costs.iter_mut().enumerate().skip(MIN_MATCH) {
                let (main_symbol, length_symbol) = match_symbols(len as u32, slot);
                *cost = main[main_symbol]
                    + length_symbol.map_or(0, |symbol| length[symbol])
                    + (plain_bits << UNIT_LOG2);
            }
        }
    }
}

/// Sets `costs` to the information content of each symbol. Symbols that do not occur count as if they did half a
/// time, so that they can come back.
fn entropies(freqs: &[u32], costs: &mut [u16]) {
    let total: u32 = freqs.iter().sum::<u32>() * 2 + freqs.len() as u32;
    let total_log2 = log2(total);
    for (cost, &freq) in costs.iter_mut().zip(freqs) {
        *cost = (total_log2 - log2((2 * freq).max(1))).max(1 << UNIT_LOG2) as u16;
    }
}

/// Logarithm to base 2 in cost units, rounded.
fn log2(value: u32) -> u32 {
    let whole = value.ilog2();
    // The top eight bits behind the leading one, and the parabola that meets the logarithm at both ends: its error is
    // below 1/100 bit.
    let fraction = (u64::from(value) << 32 >> whole) as u32 >> 16;
    let (x, one) = (u64::from(fraction), 1 << 16);
    let bent = x + x * (one - x) / one * 22_500 / 65_536;
    (whole << UNIT_LOG2) + (((bent << UNIT_LOG2) + one / 2) / one) as u32
}

const _: () = assert!(RECENT_SLOTS < FIRST_ALIGNED_SLOT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_within_a_unit() {
        for value in (1..5000).chain([65_535, 65_536, 1 << 20, u32::MAX / 3]) {
            let exact = f64::from(value).log2() * f64::from(1 << UNIT_LOG2);
            assert!((f64::from(log2(value)) - exact).abs() < 0.7, "log2 of {value}");
        }
    }
}
