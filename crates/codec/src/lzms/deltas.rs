//! Finding delta matches: places where the differences of bytes a power of two apart repeat.

use super::write::DeltaSource;

/// Powers searched: differences over 1, 2, 4, 8, 16 and 32 bytes.
pub(super) const SEARCHED_POWERS: usize = 6;

/// Differences hashed, and so the shortest match found.
const HASHED: usize = 3;

/// Most entries of the table of last positions, as a power of two.
const MAX_LOG2_HEADS: u32 = 15;

/// The last position for each hash of successive differences.
#[derive(Debug)]
pub(super) struct DeltaFinder {
    /// Positions plus one; zero means none.
    heads: Box<[u32]>,
    log2_heads: u32,
}

impl DeltaFinder {
    pub(super) fn new(chunk_size: usize) -> Self {
        let log2_heads = log2_heads(chunk_size);
        Self { heads: vec![0; 1 << log2_heads].into_boxed_slice(), log2_heads }
    }

    /// Forgets all positions, for a chunk of `len` bytes.
    pub(super) fn reset(&mut self, len: usize) {
        self.log2_heads = log2_heads(len);
        self.heads[..1 << self.log2_heads].fill(0);
    }

    /// Enters `pos` and returns, for each power, the candidate there, if any. Its first differences are likely to
    /// match but not checked. The source lies within the data before `pos`.
    #[inline(always)]
    pub(super) fn find(&mut self, data: &[u8], pos: usize) -> [Option<DeltaSource>; SEARCHED_POWERS] {
        let mut found = [None; SEARCHED_POWERS];
        for (power, found) in found.iter_mut().enumerate() {
            let span = 1 << power;
            let Some(differences) = differences(data, pos, span) else { break };
            let phase = (pos & (span - 1)) as u32;
            let bits = differences << 8 | (phase << 3 | power as u32);
            let hash = (bits.wrapping_mul(0x9e37_79b1) >> (32 - self.log2_heads)) as usize;
            let last = std::mem::replace(&mut self.heads[hash], pos as u32 + 1);
            let Some(candidate) = (last as usize).checked_sub(1) else { continue };
            let distance = pos - candidate;
            let offset = (distance >> power) as u32;
            // Other powers share the table: the distance may be anything, even 0.
            let is_multiple = distance & (span - 1) == 0 && distance > 0;
            if is_multiple && distance + span <= pos && offset < DeltaSource::MAX_OFFSET {
                *found = Some(DeltaSource::new(power as u32, offset));
            }
        }
        found
    }
}

fn log2_heads(len: usize) -> u32 {
    (usize::BITS - len.leading_zeros() + 1).clamp(8, MAX_LOG2_HEADS)
}

/// Three differences from `pos` on, packed; `None` if some byte is not in `data`.
#[inline(always)]
fn differences(data: &[u8], pos: usize, span: usize) -> Option<u32> {
    let from = pos.checked_sub(span)?;
    let (new, old) = (data.get(pos..pos + HASHED)?, data.get(from..from + HASHED)?);
    let difference = |at: usize| u32::from(new[at].wrapping_sub(old[at]));
    Some(difference(0) | difference(1) << 8 | difference(2) << 16)
}

/// How many bytes from `pos` on, at most `most`, a delta match with `source` gives; 0 if its source is not in the data
/// before `pos`.
#[inline(always)]
pub(super) fn delta_length(data: &[u8], pos: usize, source: DeltaSource, most: usize) -> usize {
    let (span, distance) = (source.span(), source.distance());
    let Some(start) = pos.checked_sub(distance + span) else { return 0 };
    let whole = &data[start..pos + most];
    // From here on `at` counts from `start`; the byte to be predicted stands at `at + distance + span`.
    let (old, model, near, real) =
        (&whole[..most], &whole[span..span + most], &whole[distance..distance + most], &whole[distance + span..]);
    let mut length = 0;
    while length < most {
        let predicted = near[length].wrapping_add(model[length]).wrapping_sub(old[length]);
        if predicted != real[length] {
            break;
        }
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_every_width_are_found() {
        for power in 0..SEARCHED_POWERS as u32 {
            let span = 1 << power;
            // Records of `span` bytes that differ by the same from each to the next.
            let step: Vec<u8> = (0..span).map(|at| (at * 29 + 7) as u8).collect();
            let mut data = vec![0u8; span];
            while data.len() < 700 {
                let next = data[data.len() - span].wrapping_add(step[data.len() % span]);
                data.push(next);
            }
            let mut finder = DeltaFinder::new(1 << 15);
            finder.reset(data.len());
            let mut best = 0;
            for pos in 0..data.len() {
                for source in finder.find(&data, pos).into_iter().flatten() {
                    let length = delta_length(&data, pos, source, data.len() - pos);
                    if source.power() == power && pos == 300 {
                        best = best.max(length);
                    }
                }
            }
            assert_eq!(best, 400, "span {span}");
        }
    }
}
