//! Capturing into a solid resource: contents are sorted so that like stands by like, laid end to end, cut into chunks,
//! and the chunks compressed by all cores.
//!
//! The order is that of extensions, then names, then the walk, so it depends on the directory alone, and so do the bytes.
//! One thread reads and hashes, which keeps up with any number of compressing ones; equal contents are found before
//! they get into a chunk.
//!
//! **Memory:** of large chunks one a thread, plain and compressed, and what encoders need: 9 bytes for each of a chunk with
//! LZMS. While a chunk is filled, which takes a hundredth of what compressing it does, one thread waits.

use std::collections::{HashMap, HashSet};

use gravure_codec::{Encoder, Level};
use gravure_model::Ctl;
use gravure_tree::{Sha1Hash, Tree};
use gravure_wim::{ChunkData, Compression, WimWriter};
use sha1::{Digest, Sha1};

use super::contents::{Content, Open, Reader, ReaderHandles, State};
use super::encode::small;
use super::hash::{Equal, duplicates};
use super::known::Known;
use super::write::{Stored, chain, is_unreadable};
use crate::chain::sha1_of;
use crate::meter::{Context, Meter, affordable_threads};
use crate::reading::{ITEM_BYTES, permits};
use crate::stage::{Item, Outbox, Work};
use crate::{Error, stage};

/// Bytes read at a time of a large content.
const STEP_BYTES: usize = 1 << 20;
/// Chunks that are expensive to hold and take seconds to compress.
const LARGE_CHUNK_BYTES: usize = 8 << 20;
/// Memory that a thread takes, in chunks: what is on its way, and an LZMS encoder (wim-container 12).
const CHUNKS_PER_THREAD: u64 = 12;

/// Writes those of the contents `list` that `order` numbers and that are not known yet into one solid resource, in that
/// order. Their hashes come back; none for files that could not be read, which were told of, and for others.
#[expect(clippy::too_many_arguments, reason = "two call sites; the arguments are what a capture consists of")]
pub(super) fn store(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    list: &[Content],
    order: Vec<usize>,
    known: &Known,
    writer: &mut WimWriter<'_>,
    (compression, level): (Compression, Level),
    name: &str,
) -> Result<Stored, Error> {
    let mut hashes = vec![None; list.len()];
    let mut wanted = Vec::new();
    for number in order {
        match list[number].sha1.filter(|sha1| known.hashes().contains(sha1)) {
            Some(sha1) => hashes[number] = Some(sha1),
            None => wanted.push(number),
        }
    }
    let mut encoded = 0;
    if wanted.is_empty() {
        return Ok(Stored { hashes, ..Stored::default() });
    }
    let total = wanted.iter().map(|number| list[*number].size).sum();
    let mut numbers = wanted.clone();
    numbers.sort_unstable();
    let equal = duplicates(context, meter, reader, list, &numbers, known, ITEM_BYTES)?;
    let failed = || Error::wim(name);
    writer.begin_solid(compression, total).map_err(failed())?;
    let chunk_bytes = compression.chunk_size() as usize;
    let per_thread = CHUNKS_PER_THREAD * chunk_bytes as u64;
    let threads = affordable_threads(context.threads, per_thread);
    let workers = (0..threads)
        .map(|_| Ok(Worker { encoder: compression.encoder(level).map_err(failed())? }))
        .collect::<Result<Vec<_>, Error>>()?;
    // Of large chunks no more than threads: another one would only wait, full, for its turn.
    let count = if chunk_bytes > LARGE_CHUNK_BYTES { threads } else { permits(threads, chunk_bytes) };
    let buffers = (0..count).map(|_| Buffers::default()).collect();
    let order = wanted.into_iter().filter(|number| !equal.contains_key(number)).collect();
    let mut filler = Filler::new(context.ctl, meter, reader, list, order, &equal, chunk_bytes);
    // What another file holds is not stored again.
    filler.seen.clone_from(known.hashes());
    stage::run(
        context.ctl,
        buffers,
        workers,
        |buffers| filler.fill(buffers),
        |events: Vec<Event>, buffers| {
            for event in events {
                match event {
                    Event::Blob { number, sha1, offset } => {
                        let size = list[number].size;
                        writer.note_solid_blob(sha1, offset, size).map_err(failed())?;
                        encoded += 1;
                        hashes[number] = Some(sha1);
                    }
                    Event::Known { number, sha1 } => hashes[number] = Some(sha1),
                }
            }
            if buffers.plain.is_empty() {
                return Ok(());
            }
            let plain_len = u32::try_from(buffers.plain.len()).unwrap_or(u32::MAX);
            let chunk = match buffers.stored_len {
                Some(len) => ChunkData::Compressed(&buffers.stored[..len]),
                None => ChunkData::Raw(&buffers.plain),
            };
            writer.append_solid_chunk(chunk, plain_len).map_err(failed())
        },
    )?;
    writer.finish_solid().map_err(failed())?;
    Ok(Stored { hashes, encoded, copied: 0 })
}

/// The name by which each of the contents `list` of `tree` is sorted.
pub(crate) fn names(tree: &Tree, list: &[Content]) -> Vec<String> {
    let mut names: Vec<Option<String>> = vec![None; tree.node_count()];
    for step in tree.walk() {
        names[step.entry.node.index()].get_or_insert_with(|| step.entry.name.to_string().to_lowercase());
    }
    let first = |content: &Content| content.uses.first().map(|wanted| wanted.node.index());
    list.iter()
        .map(|content| first(content).and_then(|node| names[node].clone()).unwrap_or_default())
        .collect()
}

/// The numbers `order` of contents that are called `names`, like by like.
pub(super) fn sorted(mut order: Vec<usize>, names: &[String]) -> Vec<usize> {
    let key = |number: &usize| {
        let name = names[*number].as_str();
        let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ext)| ext);
        (extension, name, *number)
    };
    order.sort_by(|a, b| key(a).cmp(&key(b)));
    order
}

/// One chunk.
#[derive(Debug, Default)]
struct Buffers {
    plain: Vec<u8>,
    stored: Vec<u8>,
    /// Bytes of `stored` that count; `None` when the chunk does not shrink.
    stored_len: Option<usize>,
}

/// What became known while a chunk was filled, in order.
#[derive(Debug)]
enum Event {
    /// A content ended here that began at this place of the resource.
    Blob { number: usize, sha1: Sha1Hash, offset: u64 },
    /// A content that is in the resource already.
    Known { number: usize, sha1: Sha1Hash },
}

struct Worker {
    encoder: Encoder,
}

impl Work<Vec<Event>, Buffers, Vec<Event>> for Worker {
    fn work(&mut self, item: Item<Vec<Event>, Buffers>, out: &Outbox<Vec<Event>, Buffers>) {
        let Item { ticket, job, permit: mut buffers } = item;
        let Buffers { plain, stored, .. } = &mut buffers;
        if stored.len() < plain.len() {
            // Memory that is zero because nobody has touched it: of that only what a chunk shrinks to is ever used.
            *stored = vec![0; plain.len()];
        }
        let stored = &mut stored[..plain.len()];
        buffers.stored_len = match plain.is_empty() {
            // Nothing but news of contents that were there already.
            true => None,
            false => self.encoder.encode(plain, stored).filter(|len| *len < plain.len()),
        };
        out.done(ticket, job, buffers);
    }
}

/// Reads contents one after the other into chunks.
struct Filler<'a> {
    ctl: &'a Ctl,
    meter: &'a Meter<'a>,
    reader: &'a Reader<'a>,
    list: &'a [Content],
    order: std::vec::IntoIter<usize>,
    /// Contents that were equal to an earlier one, or to a stored one, before the capture began.
    equal: &'a HashMap<usize, (Equal, Sha1Hash)>,
    is_last_round: bool,
    handles: ReaderHandles,
    chunk_bytes: usize,
    /// Plain bytes of the resource so far.
    offset: u64,
    hashes: HashMap<usize, Sha1Hash>,
    seen: HashSet<Sha1Hash>,
    large: Option<Large>,
    /// A small content, and how much of it is in a chunk.
    small: Vec<u8>,
    small_done: usize,
}

/// A content that goes straight into chunks.
struct Large {
    number: usize,
    open: Open,
    done: u64,
    start: u64,
    hasher: Sha1,
    state: State,
}

impl<'a> Filler<'a> {
    fn new(
        ctl: &'a Ctl,
        meter: &'a Meter<'a>,
        reader: &'a Reader<'a>,
        list: &'a [Content],
        order: Vec<usize>,
        equal: &'a HashMap<usize, (Equal, Sha1Hash)>,
        chunk_bytes: usize,
    ) -> Self {
        Self {
            ctl,
            meter,
            reader,
            list,
            order: order.into_iter(),
            equal,
            is_last_round: false,
            handles: reader.handles(),
            chunk_bytes,
            offset: 0,
            hashes: HashMap::new(),
            seen: HashSet::new(),
            large: None,
            small: Vec::new(),
            small_done: 0,
        }
    }

    /// Fills the next chunk; only the last one is short.
    fn fill(&mut self, buffers: &mut Buffers) -> Result<Option<Vec<Event>>, Error> {
        buffers.plain.clear();
        let mut events = Vec::new();
        while buffers.plain.len() < self.chunk_bytes {
            self.ctl.check()?;
            if self.small_done < self.small.len() {
                let rest = &self.small[self.small_done..];
                let len = rest.len().min(self.chunk_bytes - buffers.plain.len());
                buffers.plain.extend_from_slice(&rest[..len]);
                self.small_done += len;
            } else if self.large.is_some() {
                self.step(&mut buffers.plain, &mut events)?;
            } else {
                let Some(number) = self.next(&mut events) else { break };
                match self.start(number, &mut events) {
                    Err(error) if is_unreadable(&error) => {
                        self.meter.skip(|| format!("{}; left out", chain(&error)));
                    }
                    other => other?,
                }
            }
        }
        Ok((!buffers.plain.is_empty() || !events.is_empty()).then_some(events))
    }

    fn next(&mut self, events: &mut Vec<Event>) -> Option<usize> {
        if let Some(number) = self.order.next() {
            return Some(number);
        }
        if std::mem::replace(&mut self.is_last_round, true) {
            return None;
        }
        let mut again = Vec::new();
        for (number, (equal, sha1)) in self.equal {
            // The earlier one may have changed since it was hashed; then this one needs a place of its own.
            let is_there = match equal {
                Equal::Earlier(earlier) => self.hashes.get(earlier) == Some(sha1),
                Equal::Stored => true,
            };
            match is_there {
                true => events.push(Event::Known { number: *number, sha1: *sha1 }),
                false => again.push(*number),
            }
        }
        again.sort_unstable();
        self.order = again.into_iter();
        self.order.next()
    }

    /// Reads a small content and looks whether it is new, or opens a large one.
    fn start(&mut self, number: usize, events: &mut Vec<Event>) -> Result<(), Error> {
        let content = &self.list[number];
        let open = self.reader.open(content, &mut self.handles)?;
        let Some(size) = small(content.size, ITEM_BYTES) else {
            let (start, hasher) = (self.offset, Sha1::new());
            self.offset += content.size;
            self.large = Some(Large { number, open, done: 0, start, hasher, state: State::Same });
            return Ok(());
        };
        self.small_done = size;
        self.small.resize(size, 0);
        let mut state = self.reader.read(content, &open, 0, &mut self.small, &mut self.handles)?;
        if state == State::Same {
            state = self.reader.check(content, &open)?;
        }
        self.warn_changed(number, state);
        let sha1 = sha1_of(&self.small);
        self.hashes.insert(number, sha1);
        self.meter.add(content.size);
        if self.seen.insert(sha1) {
            self.small_done = 0;
            events.push(Event::Blob { number, sha1, offset: self.offset });
            self.offset += content.size;
        } else {
            events.push(Event::Known { number, sha1 });
        }
        Ok(())
    }

    /// Reads on in a large content.
    fn step(&mut self, plain: &mut Vec<u8>, events: &mut Vec<Event>) -> Result<(), Error> {
        let Some(mut large) = self.large.take() else { return Ok(()) };
        let content = &self.list[large.number];
        let left = usize::try_from(content.size - large.done).unwrap_or(usize::MAX);
        let len = left.min(self.chunk_bytes - plain.len()).min(STEP_BYTES);
        let at = plain.len();
        plain.resize(at + len, 0);
        if self.reader.read(content, &large.open, large.done, &mut plain[at..], &mut self.handles)?
            == State::Changed
        {
            large.state = State::Changed;
        }
        large.hasher.update(&plain[at..]);
        large.done += len as u64;
        self.meter.add(len as u64);
        if large.done < content.size {
            self.large = Some(large);
            return Ok(());
        }
        if large.state == State::Same {
            large.state = self.reader.check(content, &large.open)?;
        }
        let (number, sha1) = (large.number, Sha1Hash(large.hasher.finalize().into()));
        self.warn_changed(number, large.state);
        self.hashes.insert(number, sha1);
        // Equal ones were found before; this is one that became equal meanwhile, and its bytes belong to nobody.
        match self.seen.insert(sha1) {
            true => events.push(Event::Blob { number, sha1, offset: large.start }),
            false => events.push(Event::Known { number, sha1 }),
        }
        Ok(())
    }

    fn warn_changed(&self, number: usize, state: State) {
        if state == State::Changed {
            let name = self.reader.name(&self.list[number]);
            self.meter.skip(|| format!("{name}: changed while it was captured"));
        }
    }
}
