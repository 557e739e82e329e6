//! Where files marked sparse are zeros. An image does not say so: their contents are decoded once more, before the volume is laid out,
//! since what is there and what not decides every place. Other files are not looked at: Windows marks what has holes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use gravure_nttypes::FileAttributes;
use gravure_tree::{ContentRef, NodeId};

use super::compact::Compaction;
use crate::meter::{Context, Meter};
use crate::reading::{self, Damaged, OnDamage, ReadPlan, Target};
use crate::uses::{self, Part, Use};
use crate::{Error, Image, damage};

/// What one bit stands for. Holes are made of whole units of 64 KiB.
const UNIT_BYTES: u64 = 64 << 10;

/// For each sparse file with a content of more than nothing, which of its units have a byte other than zero.
#[derive(Debug, Default)]
pub(super) struct Holes {
    used: HashMap<NodeId, Units>,
}

/// A bit for each unit.
#[derive(Debug)]
struct Units(Vec<AtomicU64>);

impl Units {
    fn new(size: u64) -> Self {
        let words = size.div_ceil(UNIT_BYTES).div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Looks at a part of the content; parts come from any thread.
    fn look(&self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = usize::try_from(UNIT_BYTES - at % UNIT_BYTES).unwrap_or(rest.len());
            let (now, later) = rest.split_at(left.min(rest.len()));
            if !is_zeros(now) {
                let unit = at / UNIT_BYTES;
                let word = usize::try_from(unit / 64).ok().and_then(|word| self.0.get(word));
                if let Some(word) = word {
                    word.fetch_or(1 << (unit % 64), Ordering::Relaxed);
                }
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    fn zeros(&self, size: u64) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        for unit in 0..size.div_ceil(UNIT_BYTES) {
            let word = usize::try_from(unit / 64).ok().and_then(|word| self.0.get(word));
            if word.is_none_or(|word| word.load(Ordering::Relaxed) & (1 << (unit % 64)) != 0) {
                continue;
            }
            let (start, end) = (unit * UNIT_BYTES, ((unit + 1) * UNIT_BYTES).min(size));
            match found.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => found.push(start..end),
            }
        }
        found
    }
}

/// By words, which compilers turn into wide compares.
fn is_zeros(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| word.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

impl Holes {
    /// Reads the contents of all files marked sparse that are written plain.
    pub(super) fn find(
        image: &Image,
        compaction: &Compaction,
        on_damage: OnDamage,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        let mut this = Self::default();
        for id in uses::nodes(image.tree()) {
            let node = image.tree().node(id);
            let is_sparse = node.attributes.contains(FileAttributes::SPARSE) && !node.is_directory();
            if let Some(data) = node.data.as_ref().filter(|data| is_sparse && data.size > 0)
                && compaction.is_plain(id)
            {
                this.used.insert(id, Units::new(data.size));
            }
        }
        if this.used.is_empty() {
            return Ok(this);
        }
        let wants = |wanted: Use| wanted.part == Part::Data && this.used.contains_key(&wanted.node);
        let reads = ReadPlan::new(image.tree(), image.archives(), wants, |_| false)?;
        let meter = Meter::start(context, "look for holes");
        meter.expect(reads.total_bytes);
        let damaged = reading::run(context, &meter, image.archives(), &reads, &this, on_damage)
            .map_err(|error| damage::explain(error, image.archives(), Some(image.tree()), &reads))?;
        // What is kept of it is told when it is written; what cannot be read are zeros.
        if let Some(Damaged { blob, found, .. }) = damaged.into_iter().next()
            && on_damage == OnDamage::Stop
        {
            return Err(damage::blob_error(image.archives(), Some(image.tree()), &reads.blobs[blob], found));
        }
        meter.finish();
        Ok(this)
    }

    /// The zeros of a file's content.
    pub(super) fn zeros(&self, node: NodeId, content: &ContentRef) -> Vec<Range<u64>> {
        self.used.get(&node).map(|units| units.zeros(content.size)).unwrap_or_default()
    }

    fn look(&self, uses: &[Use], offset: u64, bytes: &[u8]) {
        for units in uses.iter().filter_map(|wanted| self.used.get(&wanted.node)) {
            units.look(offset, bytes);
        }
    }
}

impl Target for Holes {
    type Handles = ();
    type Open = ();

    fn handles(&self) {}

    fn whole(&self, (): &mut (), uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        self.look(uses, 0, bytes);
        Ok(())
    }

    fn open(&self, (): &mut (), _: &[Use]) -> Result<(), Error> {
        Ok(())
    }

    fn piece(&self, uses: &[Use], (): &(), offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.look(uses, offset, bytes);
        Ok(())
    }

    fn finish(&self, (): &mut (), _: &[Use], (): &(), _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn node(&self, (): &mut (), _: NodeId) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_zeros_when_no_piece_had_a_byte() {
        let size = 5 * UNIT_BYTES + 10;
        let units = Units::new(size);
        // Pieces that end and begin anywhere: the byte of unit 1 is its last, that of unit 4 its first.
        units.look(0, &vec![0; 100_000]);
        let mut piece = vec![0; 100_000];
        piece[usize::try_from(2 * UNIT_BYTES).unwrap() - 1 - 100_000] = 1;
        units.look(100_000, &piece);
        let mut piece = vec![0; usize::try_from(size - 200_000).unwrap()];
        piece[usize::try_from(4 * UNIT_BYTES - 200_000).unwrap()] = 9;
        units.look(200_000, &piece);
        let expected = [0..UNIT_BYTES, 2 * UNIT_BYTES..4 * UNIT_BYTES, 5 * UNIT_BYTES..size].to_vec();
        assert_eq!(units.zeros(size), expected);
    }
}
