//! What items cost under the current adaptive state, for the near-optimal parse.

use super::decisions::Class;

/// Costs are in units of 1/64 bit.
pub(super) const BIT: u32 = 64;

/// Cost of a result whose chance is so many of 64; 0 does not occur.
static CHANCES: [u16; 64] = [
    384, 384, 320, 283, 256, 235, 219, 204, 192, 181, 171, 163, 155, 147, 140, 134,
    128, 122, 117, 112, 107, 103, 99, 94, 91, 87, 83, 80, 76, 73, 70, 67,
    64, 61, 58, 56, 53, 51, 48, 46, 43, 41, 39, 37, 35, 33, 30, 29,
    27, 25, 23, 21, 19, 17, 16, 14, 12, 11, 9, 8, 6, 4, 3, 1,
];

/// Cost of `result` of `class` in `context`.
#[inline(always)]
pub(super) fn decision<const N: usize>(class: &Class<N>, context: u8, result: u32) -> u32 {
    let zero = class.probability_in(context);
    let chance = if result == 0 { zero } else { 64 - zero };
    u32::from(CHANCES[(chance & 63) as usize])
}

/// Cost of repeat `index` of the two decisions that choose it.
#[inline(always)]
pub(super) fn repeat(classes: &[Class<64>; 2], contexts: [u8; 2], index: usize) -> u32 {
    match index {
        0 => decision(&classes[0], contexts[0], 0),
        _ => {
            decision(&classes[0], contexts[0], 1) + decision(&classes[1], contexts[1], u32::from(index > 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_information_contents() {
        for (chance, &cost) in CHANCES.iter().enumerate().skip(1) {
            let exact = -(chance as f64 / 64.0).log2() * f64::from(BIT);
            assert!((f64::from(cost) - exact).abs() <= 0.5, "chance {chance}: {cost}");
        }
    }
}
