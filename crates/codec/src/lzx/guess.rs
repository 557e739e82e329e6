//! The first guess at the statistics of a block, before any path is found: a greedy parse by rough estimates, blended with
//! what is typical. The blend matters: what a guess never uses looks so dear that no pass after it would use it either.

use super::optimal::EXPLICIT;
use super::write::{Freqs, Recent, offset_slot};
use super::{EXTRA_BITS, LENGTH_HEADERS, LITERALS, MIN_MATCH};
use crate::matches::{Match, common_length};

/// Estimated cost of a literal in bits.
const LITERAL_BITS: i32 = 6;

/// Estimated cost of a match's symbols in bits, with a recent or an explicit offset (without its extra bits).
const RECENT_BITS: i32 = 5;
const EXPLICIT_BITS: i32 = 8;

/// Shares of the guess in the blend: of its literals and of its matches. The typical matches come on top with about as much
/// as the guessed ones.
const LITERAL_SHARE: u32 = 2400;
const MATCH_SHARE: u32 = 1500;

/// How often of about ten thousand matches the length headers occur in near-optimal parses of programs: with the last
/// offset, with offsets below some 250 and with farther ones (each slot).
const RECENT: [u32; LENGTH_HEADERS] = [410, 630, 230, 170, 170, 250, 80, 490];
const NEAR: [u32; LENGTH_HEADERS] = [70, 70, 30, 20, 10, 12, 10, 25];
const FAR: [u32; LENGTH_HEADERS] = [2, 80, 65, 42, 25, 20, 25, 70];
const FIRST_FAR_SLOT: usize = 14;

/// What seems best at a position: length (1 for a literal) and offset code.
pub(super) fn choose(
    data: &[u8],
    pos: usize,
    recent: &Recent,
    matches: &[Match],
    longest: usize,
) -> (u32, u32) {
    let most = (data.len() - pos).min(longest);
    let (mut best, mut best_score) = ((1, 0), 0);
    for (slot, &offset) in recent.iter().enumerate() {
        let Some(from) = pos.checked_sub(offset as usize) else { continue };
        if most < MIN_MATCH || data[from..from + MIN_MATCH] != data[pos..pos + MIN_MATCH] {
            continue;
        }
        let length = common_length(data, from, pos, MIN_MATCH, most);
        let score = length as i32 * LITERAL_BITS - RECENT_BITS - slot as i32;
        if score > best_score {
            (best, best_score) = ((length as u32, slot as u32), score);
        }
    }
    for &Match { length, offset } in matches {
        let cost = EXPLICIT_BITS + i32::from(EXTRA_BITS[offset_slot(offset)]);
        let score = length as i32 * LITERAL_BITS - cost;
        if score > best_score {
            (best, best_score) = ((length, offset + EXPLICIT), score);
        }
    }
    best
}

/// Blends guessed frequencies with typical ones, for an alphabet of `slots` slots.
pub(super) fn blend(freqs: &mut Freqs, slots: usize) {
    let (literals, matches) = freqs.main.split_at_mut(LITERALS);
    // A block has at most 2^16 items, so the shares fit by far.
    for freq in literals {
        *freq *= LITERAL_SHARE;
    }
    let total: u32 = matches.iter().sum();
    for (slot, headers) in matches.as_chunks_mut::<LENGTH_HEADERS>().0.iter_mut().enumerate().take(slots) {
        let (typical, divisor) = match slot {
            0 => (&RECENT, 1),
            1 => (&RECENT, 4),
            2 => (&RECENT, 8),
            3..FIRST_FAR_SLOT => (&NEAR, 1),
            _ => (&FAR, 1),
        };
        for (freq, typical) in headers.iter_mut().zip(typical) {
            *freq = *freq * MATCH_SHARE + total * (typical / divisor) / 10;
        }
    }
}
