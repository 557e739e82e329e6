//! The working end: decodes chunks, checks hashes, delivers.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use gravure_codec::Decoder;
use gravure_model::Ctl;
use gravure_tree::Sha1Hash;
use gravure_wim::{ChunkEncoding, Compression};
use sha1::{Digest, Sha1};

use super::plan::{BlobRead, Copying, ReadPlan};
use super::{
    Arriving, Buffers, ChunkIn, Damaged, Done, Failure, Job, Large, OnDamage, Packed, Parked, Piece,
    SolidBlobs, Target,
};
use crate::chain::sha1_of;
use crate::meter::Meter;
use crate::stage::{Item, Outbox, Ticket, Work};
use crate::uses::{Part, Use};

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
    on_damage: OnDamage,
}

/// Chunks of an item that could not be decoded: their plain bytes, which are zeros now, and why.
type BadChunks = Vec<(Range<usize>, String)>;

impl<'a, T: Target> Worker<'a, T> {
    pub(super) fn new(
        ctl: &'a Ctl,
        meter: &'a Meter<'a>,
        plan: &'a ReadPlan,
        target: &'a T,
        on_damage: OnDamage,
    ) -> Self {
        let (handles, decoders) = (target.handles(), Decoders::default());
        Self { ctl, meter, plan, target, handles, decoders, on_damage }
    }

    /// Decodes `chunks` one behind the other into `plain`, zeros where that fails.
    fn decode(&mut self, chunks: &[ChunkIn], stored: &[u8], plain: &mut [u8]) -> BadChunks {
        let mut bad = Vec::new();
        let mut at = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            let range = at..at + chunk.plain_len;
            at = range.end;
            let now = &mut plain[range.clone()];
            if let Err(error) = self.decoders.decode(chunk.encoding, &stored[chunk.stored.clone()], now) {
                now.fill(0);
                bad.push((range, format!("chunk {number} of this part: {error}")));
            }
        }
        bad
    }

    /// Checks a blob that is here as a whole and hands it over. `bad` says what could not be decoded of it.
    fn whole(&mut self, blob: usize, plain: &[u8], bad: Option<&str>) -> Result<(), Failure> {
        let BlobRead { sha1, uses, .. } = &self.plan.blobs[blob];
        let found = match bad {
            Some(bad) => Some(bad.to_owned()),
            None => Some(sha1_of(plain)).filter(|found| found != sha1).map(|found| format!("SHA-1 {found}")),
        };
        if found.is_none() {
            self.target.whole(&mut self.handles, uses, plain).map_err(Failure::Other)?;
            self.meter.add(plain.len() as u64);
        }
        match found {
            None => Ok(()),
            Some(found) => {
                let is_kept = self.on_damage == OnDamage::Keep && self.keep_whole(uses, plain)?;
                Err(Failure::Content(Damaged { blob, found, is_kept }))
            }
        }
    }

    /// Hands over a damaged blob. A link with a wrong target is worse than none. True if anything was kept.
    fn keep_whole(&mut self, uses: &[Use], plain: &[u8]) -> Result<bool, Failure> {
        let files: Vec<Use> = uses.iter().copied().filter(|wanted| wanted.part != Part::Reparse).collect();
        if !files.is_empty() {
            self.target.whole(&mut self.handles, &files, plain).map_err(Failure::Other)?;
            self.meter.add(plain.len() as u64);
        }
        Ok(files.len() == uses.len())
    }

    fn pack(&mut self, blobs: &[Packed], plain_len: usize, buffers: &mut Buffers) -> Vec<Failure> {
        let copying = |packed: &Packed| self.plan.blobs[packed.blob].copying;
        if blobs.iter().any(|packed| copying(packed) != Copying::Trusted) {
            grow(&mut buffers.plain, plain_len);
        }
        let Buffers { stored, chunks, plain } = buffers;
        let mut failures = Vec::new();
        for packed in blobs {
            let mut done = self.ctl.check().map_err(|error| Failure::Other(error.into()));
            let copying = self.plan.blobs[packed.blob].copying;
            if copying == Copying::Trusted {
                self.meter.add(packed.plain.len() as u64);
            } else if done.is_ok() {
                let plain = &mut plain[packed.plain.clone()];
                let bad = self.decode(&chunks[packed.chunks.clone()], stored, plain);
                done = self.whole(packed.blob, plain, bad.first().map(|(_, found)| found.as_str()));
            }
            if copying != Copying::Not {
                done = done.and_then(|()| self.copied(packed.blob, 0, &stored[packed.stored.clone()]));
            }
            if !note(&mut failures, done) {
                break;
            }
        }
        failures
    }

    /// Hands over stored bytes.
    fn copied(&mut self, blob: usize, offset: u64, stored: &[u8]) -> Result<(), Failure> {
        let uses = &self.plan.blobs[blob].uses;
        self.target.stored(&mut self.handles, uses, offset, stored).map_err(Failure::Other)
    }

    /// Decodes the chunks of a solid resource, then takes care of all blobs and parts of blobs in them.
    fn solid(
        &mut self,
        ticket: Ticket,
        blobs: SolidBlobs<T::Open>,
        plain_len: usize,
        mut buffers: Buffers,
        out: &Outbox<Done, Buffers>,
    ) {
        grow(&mut buffers.plain, plain_len);
        let Buffers { stored, chunks, plain } = &mut buffers;
        let bad = self.decode(chunks, stored, &mut plain[..plain_len]);
        let bad_in = |range: &Range<usize>| {
            let hit = bad.iter().find(|(at, _)| at.start < range.end && range.start < at.end);
            hit.map(|(_, found)| found.as_str())
        };
        let mut failures = Vec::new();
        for packed in &blobs.whole {
            let checked = self.ctl.check().map_err(|error| Failure::Other(error.into()));
            let (plain, bad) = (&buffers.plain[packed.plain.clone()], bad_in(&packed.plain));
            if !note(&mut failures, checked.and_then(|()| self.whole(packed.blob, plain, bad))) {
                break;
            }
        }
        if let Some(piece) = &blobs.begun {
            let (plain, bad) = (&buffers.plain[piece.plain.clone()], bad_in(&piece.plain));
            failures.extend(self.deliver(piece, plain, bad));
            self.meter.add(plain.len() as u64);
            // The first piece is due at once, so the item need not wait for it; others may have waited for this one.
            let large = &*piece.large;
            large
                .chain
                .start(|hasher| hasher.update(plain), |hasher, parked| self.hash(large, hasher, parked, out));
        }
        match blobs.continued {
            Some(piece) => {
                failures.extend(self.deliver(
                    &piece,
                    &buffers.plain[piece.plain.clone()],
                    bad_in(&piece.plain),
                ));
                self.park(piece, Parked { ticket, buffers, plain: 0..0, is_last: false, failures }, out);
            }
            None => out.done(ticket, Done { failures }, buffers),
        }
    }

    /// Decodes and writes a piece of a blob that has a resource of its own.
    fn piece(
        &mut self,
        ticket: Ticket,
        piece: Piece<T::Open>,
        plain_len: usize,
        mut buffers: Buffers,
        out: &Outbox<Done, Buffers>,
    ) {
        if self.plan.blobs[piece.large.blob].copying == Copying::Trusted {
            let failures = self.copied_piece(&piece, &buffers.stored);
            self.meter.add(plain_len as u64);
            return out.done(ticket, Done { failures: Vec::from_iter(failures) }, buffers);
        }
        grow(&mut buffers.plain, plain_len);
        let Buffers { stored, chunks, plain } = &mut buffers;
        let mut failures = Vec::new();
        failures.extend(self.copied_piece(&piece, stored));
        if self.on_damage == OnDamage::Keep || !piece.large.broken.load(Ordering::Relaxed) {
            let plain = &mut plain[..plain_len];
            let bad = self.decode(chunks, stored, plain);
            if bad.is_empty() && self.target.wants_turns() {
                let parked = Parked { ticket, buffers, plain: 0..0, is_last: false, failures };
                return self.take_turn(piece, parked, out);
            }
            failures.extend(self.deliver(&piece, plain, bad.first().map(|(_, found)| found.as_str())));
        }
        self.park(piece, Parked { ticket, buffers, plain: 0..0, is_last: false, failures }, out);
    }

    /// Delivers a piece that is whole, and others of its blob that wait, when nobody else does; then hashes them.
    fn take_turn(&mut self, piece: Piece<T::Open>, parked: Parked, out: &Outbox<Done, Buffers>) {
        let large = Arc::clone(&piece.large);
        // Both want the worker, one after the other.
        let worker = RefCell::new(self);
        let deliver = |(piece, parked): &mut (Piece<T::Open>, Parked)| {
            let plain = &parked.buffers.plain[piece.plain.clone()];
            parked.failures.extend(worker.borrow_mut().deliver(piece, plain, None));
        };
        large.turns.bring((piece, parked), deliver, |(piece, parked)| {
            worker.borrow_mut().park(piece, parked, out);
        });
    }

    /// Gives the stored bytes of a piece to where they go, if they are wanted.
    fn copied_piece(&mut self, piece: &Piece<T::Open>, stored: &[u8]) -> Option<Failure> {
        let copied = piece.copied.as_ref()?;
        self.copied(piece.large.blob, copied.offset, &stored[copied.stored.clone()]).err()
    }

    /// Gives a piece to where it goes. `bad` says what could not be decoded of it; the first failure of a blob counts.
    fn deliver(&mut self, piece: &Piece<T::Open>, plain: &[u8], bad: Option<&str>) -> Option<Failure> {
        let large = &*piece.large;
        let keeps = self.on_damage == OnDamage::Keep;
        let written = match &large.open {
            _ if (bad.is_some() || large.broken.load(Ordering::Relaxed)) && !keeps => Ok(()),
            Arriving::Target(open) => {
                self.target.piece(&self.plan.blobs[large.blob].uses, open, piece.offset, plain)
            }
            Arriving::Together(all) => {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let at = usize::try_from(piece.offset).unwrap_or(usize::MAX);
                all[at..at + plain.len()].copy_from_slice(plain);
                Ok(())
            }
        };
        let damaged = |bad: &str| {
            let is_kept = keeps && self.keeps_pieces(large);
            Failure::Content(Damaged { blob: large.blob, found: bad.to_owned(), is_kept })
        };
        let failure = written.map_err(Failure::Other).err().or_else(|| bad.map(damaged))?;
        let is_first = !large.broken.swap(true, Ordering::Relaxed);
        (is_first || matches!(failure, Failure::Other(_))).then_some(failure)
    }

    /// Whether a damaged blob in pieces is kept for all its uses.
    fn keeps_pieces(&self, large: &Large<T::Open>) -> bool {
        let uses = &self.plan.blobs[large.blob].uses;
        matches!(large.open, Arriving::Target(_)) || uses.iter().all(|wanted| wanted.part != Part::Reparse)
    }

    /// Hashes a piece when it is its turn, with those that waited for it.
    fn park(&mut self, piece: Piece<T::Open>, parked: Parked, out: &Outbox<Done, Buffers>) {
        let Piece { large, number, is_last, plain, .. } = piece;
        self.meter.add(plain.len() as u64);
        let parked = Parked { plain, is_last, ..parked };
        large.chain.bring(number, parked, |hasher, parked| self.hash(&large, hasher, parked, out));
    }

    fn hash(
        &mut self,
        large: &Large<T::Open>,
        hasher: &mut Sha1,
        parked: Parked,
        out: &Outbox<Done, Buffers>,
    ) {
        let Parked { ticket, buffers, plain, is_last, mut failures } = parked;
        hasher.update(&buffers.plain[plain]);
        if is_last {
            let found = Sha1Hash(hasher.finalize_reset().into());
            failures.extend(self.close(large, found));
        }
        out.done(ticket, Done { failures }, buffers);
    }

    /// The last piece was hashed.
    fn close(&mut self, large: &Large<T::Open>, found: Sha1Hash) -> Option<Failure> {
        let blob = &self.plan.blobs[large.blob];
        let was_broken = large.broken.load(Ordering::Relaxed);
        let is_sound = !was_broken && found == blob.sha1;
        let keeps = self.on_damage == OnDamage::Keep;
        if is_sound || keeps {
            let done = match &large.open {
                Arriving::Target(open) => self
                    .target
                    .finish(&mut self.handles, &blob.uses, open, large.size)
                    .map_err(Failure::Other),
                Arriving::Together(all) => {
                    let all = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
                    if is_sound {
                        self.target.whole(&mut self.handles, &blob.uses, &all).map_err(Failure::Other)
                    } else {
                        self.keep_whole(&blob.uses, &all).map(drop)
                    }
                }
            };
            if let Err(failure) = done {
                return Some(failure);
            }
        }
        (!is_sound && !was_broken).then(|| {
            let is_kept = keeps && self.keeps_pieces(large);
            Failure::Content(Damaged { blob: large.blob, found: format!("SHA-1 {found}"), is_kept })
        })
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

/// Notes a failure. False when nothing further makes sense.
fn note(failures: &mut Vec<Failure>, done: Result<(), Failure>) -> bool {
    let goes_on = !matches!(done, Err(Failure::Other(_)));
    failures.extend(done.err());
    goes_on
}

impl<T: Target> Work<Job<T::Open>, Buffers, Done> for Worker<'_, T> {
    fn work(&mut self, item: Item<Job<T::Open>, Buffers>, out: &Outbox<Done, Buffers>) {
        let Item { ticket, job, permit: mut buffers } = item;
        let failures = match job {
            Job::Piece { piece, plain_len } => return self.piece(ticket, piece, plain_len, buffers, out),
            Job::Solid { blobs, plain_len } => return self.solid(ticket, blobs, plain_len, buffers, out),
            Job::Pack { blobs, plain_len } => self.pack(&blobs, plain_len, &mut buffers),
            Job::Inline(index) => Vec::from_iter(self.inline(index).err()),
            Job::Nodes(range) => Vec::from_iter(self.nodes(range).err()),
            Job::Damaged(failures) => failures,
        };
        out.done(ticket, Done { failures }, buffers);
    }
}
