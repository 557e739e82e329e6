//! The working end: decodes chunks, checks hashes, delivers.

use std::sync::atomic::Ordering;

use gravure_codec::Decoder;
use gravure_model::Ctl;
use gravure_tree::Sha1Hash;
use gravure_wim::{ChunkEncoding, Compression};
use sha1::Digest;

use super::plan::ReadPlan;
use super::{Buffers, ChunkIn, Done, Failure, Job, Packed, Parked, Target};
use crate::chain::sha1_of;
use crate::meter::Meter;
use crate::stage::{Item, Outbox, Work};

/// One thread's decoders, one for each compression met. Archives have one, sets of them a few.
#[derive(Debug, Default)]
pub(crate) struct Decoders {
    made: Vec<(Compression, Decoder)>,
}

impl Decoders {
    /// Fills `plain`, which has the chunk's plain length. The error says what is wrong with the chunk.
    pub(crate) fn decode(
        &mut self,
        encoding: ChunkEncoding,
        stored: &[u8],
        plain: &mut [u8],
    ) -> Result<(), String> {
        match encoding {
            ChunkEncoding::Raw => {
                plain.copy_from_slice(stored);
                Ok(())
            }
            ChunkEncoding::Compressed(compression) => {
                let decoder = self.get(compression)?;
                decoder.decode(stored, plain).map_err(|error| error.to_string())
            }
        }
    }

    fn get(&mut self, compression: Compression) -> Result<&mut Decoder, String> {
        if let Some(at) = self.made.iter().position(|(known, _)| *known == compression) {
            return Ok(&mut self.made[at].1);
        }
        let decoder = compression.decoder().map_err(|error| error.to_string())?;
        self.made.push((compression, decoder));
        let last = self.made.len() - 1;
        Ok(&mut self.made[last].1)
    }
}

pub(super) struct Worker<'a, T: Target> {
    ctl: &'a Ctl,
    meter: &'a Meter<'a>,
    plan: &'a ReadPlan,
    target: &'a T,
    handles: T::Handles,
    decoders: Decoders,
}

impl<'a, T: Target> Worker<'a, T> {
    pub(super) fn new(ctl: &'a Ctl, meter: &'a Meter<'a>, plan: &'a ReadPlan, target: &'a T) -> Self {
        Self { ctl, meter, plan, target, handles: target.handles(), decoders: Decoders::default() }
    }

    /// Decodes `chunks` one behind the other into `plain`.
    fn decode(&mut self, chunks: &[ChunkIn], stored: &[u8], plain: &mut [u8]) -> Result<(), String> {
        let mut rest = plain;
        for (number, chunk) in chunks.iter().enumerate() {
            let (now, after) = rest.split_at_mut(chunk.plain_len);
            let stored = &stored[chunk.stored.clone()];
            let decoded = self.decoders.decode(chunk.encoding, stored, now);
            decoded.map_err(|error| format!("chunk {number} of this part: {error}"))?;
            rest = after;
        }
        Ok(())
    }

    fn packed(&mut self, packed: &Packed, buffers: &mut Buffers) -> Result<(), Failure> {
        let blob = &self.plan.blobs[packed.blob];
        let damaged = |found| Failure::Content { blob: packed.blob, found };
        let plain = &mut buffers.plain[packed.plain.clone()];
        self.decode(&buffers.chunks[packed.chunks.clone()], &buffers.stored, plain).map_err(damaged)?;
        let found = sha1_of(plain);
        if found != blob.sha1 {
            return Err(damaged(format!("SHA-1 {found}")));
        }
        self.target.whole(&mut self.handles, &blob.uses, plain).map_err(Failure::Other)?;
        self.meter.add(blob.size);
        Ok(())
    }

    fn pack(&mut self, blobs: &[Packed], plain_len: usize, buffers: &mut Buffers) -> Vec<Failure> {
        grow(&mut buffers.plain, plain_len);
        let mut failures = Vec::new();
        for packed in blobs {
            let done = self.ctl.check().map_err(|error| Failure::Other(error.into()));
            if let Err(failure) = done.and_then(|()| self.packed(packed, buffers)) {
                let is_other = matches!(failure, Failure::Other(_));
                failures.push(failure);
                if is_other {
                    break;
                }
            }
        }
        failures
    }

    /// Decodes and writes a piece; hashing is the chain's business.
    fn piece(
        &mut self,
        large: &super::Large<T::Open>,
        offset: u64,
        plain_len: usize,
        buffers: &mut Buffers,
    ) -> Option<Failure> {
        grow(&mut buffers.plain, plain_len);
        if large.broken.load(Ordering::Relaxed) {
            return None;
        }
        let plain = &mut buffers.plain[..plain_len];
        let uses = &self.plan.blobs[large.blob].uses;
        let done = self
            .decode(&buffers.chunks, &buffers.stored, plain)
            .map_err(|found| Failure::Content { blob: large.blob, found })
            .and_then(|()| self.target.piece(uses, &large.open, offset, plain).map_err(Failure::Other));
        if done.is_err() {
            large.broken.store(true, Ordering::Relaxed);
        }
        done.err()
    }

    /// The last piece was hashed.
    fn close(&mut self, large: &super::Large<T::Open>, found: Sha1Hash) -> Option<Failure> {
        let blob = &self.plan.blobs[large.blob];
        if large.broken.load(Ordering::Relaxed) {
            return None;
        }
        if found != blob.sha1 {
            return Some(Failure::Content { blob: large.blob, found: format!("SHA-1 {found}") });
        }
        self.target
            .finish(&mut self.handles, &blob.uses, &large.open, blob.size)
            .map_err(Failure::Other)
            .err()
    }

    fn nodes(&mut self, range: std::ops::Range<usize>) -> Result<(), Failure> {
        for node in &self.plan.nodes[range] {
            self.target.node(&mut self.handles, *node).map_err(Failure::Other)?;
        }
        Ok(())
    }

    fn inline(&mut self, index: usize) -> Result<(), Failure> {
        let inline = &self.plan.inline[index];
        self.target.whole(&mut self.handles, &[inline.wanted], &inline.bytes).map_err(Failure::Other)?;
        self.meter.add(inline.bytes.len() as u64);
        Ok(())
    }
}

/// Makes room; what was there before is never read.
fn grow(buf: &mut Vec<u8>, len: usize) {
    if buf.len() < len {
        buf.resize(len, 0);
    }
}

impl<T: Target> Work<Job<T::Open>, Buffers, Done> for Worker<'_, T> {
    fn work(&mut self, item: Item<Job<T::Open>, Buffers>, out: &Outbox<Done, Buffers>) {
        let Item { ticket, job, permit: mut buffers } = item;
        let failures = match job {
            Job::Piece { large, number, is_last, offset, plain_len } => {
                let failure = self.piece(&large, offset, plain_len, &mut buffers);
                let parked = Parked { ticket, buffers, plain_len, is_last, failure };
                large.chain.bring(number, parked, |hasher, parked| {
                    hasher.update(&parked.buffers.plain[..parked.plain_len]);
                    let mut failures = Vec::from_iter(parked.failure);
                    if parked.is_last {
                        let found = Sha1Hash(hasher.finalize_reset().into());
                        failures.extend(self.close(&large, found));
                    }
                    self.meter.add(parked.plain_len as u64);
                    out.done(parked.ticket, Done { failures }, parked.buffers);
                });
                return;
            }
            Job::Pack { blobs, plain_len } => self.pack(&blobs, plain_len, &mut buffers),
            Job::Inline(index) => Vec::from_iter(self.inline(index).err()),
            Job::Nodes(range) => Vec::from_iter(self.nodes(range).err()),
            Job::Damaged(failure) => vec![failure],
        };
        out.done(ticket, Done { failures }, buffers);
    }
}
