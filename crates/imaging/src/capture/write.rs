//! The ordered half of a capture: takes what the cores made and writes each new content once. Exports, edits and the like
//! store their contents this way too.

use std::collections::HashSet;

use gravure_codec::Level;
use gravure_tree::{NodeId, Origin, Sha1Hash, Tree};
use gravure_wim::{BlobOutcome, ChunkData, Compression, Error as WimError, WimWriter};

use super::contents::{Content, Reader, State};
use super::copy;
use super::encode::{Buffers, Claims, Done, Purpose, Results, Source, Worker, piece_bytes};
use super::hash::{Equal, duplicates};
use super::known::Known;
use super::solid;
use crate::meter::{Context, Meter};
use crate::reading::permits;
use crate::{Error, ErrorKind, stage, uses};

/// What the contents of a capture are written to, one after the other.
pub(crate) trait BlobOutput {
    fn compression(&self) -> Option<Compression>;
    fn contains(&self, sha1: &Sha1Hash) -> bool;
    /// Starts content `number` of the list, of `size` bytes.
    fn begin(&mut self, number: usize, size: u64) -> Result<(), WimError>;
    fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), WimError>;
    /// Ends it; true if it was not there before.
    fn finish_blob(&mut self, sha1: Sha1Hash) -> Result<bool, WimError>;
    /// Which hash content `number` must have, because it was written already.
    fn promised(&self, number: usize) -> Option<Sha1Hash>;
}

impl BlobOutput for WimWriter<'_> {
    fn compression(&self) -> Option<Compression> {
        WimWriter::compression(self)
    }

    fn contains(&self, sha1: &Sha1Hash) -> bool {
        WimWriter::contains(self, sha1)
    }

    fn begin(&mut self, _: usize, size: u64) -> Result<(), WimError> {
        WimWriter::begin(self, size)
    }

    fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), WimError> {
        WimWriter::append_chunk(self, chunk)
    }

    fn finish_blob(&mut self, sha1: Sha1Hash) -> Result<bool, WimError> {
        WimWriter::finish_blob(self, sha1).map(|outcome| matches!(outcome, BlobOutcome::Stored(_)))
    }

    fn promised(&self, _: usize) -> Option<Sha1Hash> {
        None
    }
}

/// How contents are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreOptions<'a> {
    /// Method, chunk size and effort; `None` in files without compression.
    pub(crate) settings: Option<(Compression, Level)>,
    /// Whether what archives hold is copied as it is stored, where the format allows it.
    pub(crate) reuse: Reuse,
    /// What becomes of content that none of the opened files has.
    pub(crate) missing: Missing,
    /// Where goes what is not copied.
    pub(crate) placing: Placing<'a>,
    /// The file that is written, for messages.
    pub(crate) name: &'a str,
}

/// Where contents go that are encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placing<'a> {
    /// Each into a resource of its own.
    Single,
    /// All into a solid resource of this method, sorted by names: one for each content.
    Solid(Compression, Level, &'a [String]),
}

/// Whether stored bytes are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Copied where method and chunk size agree, solid resources as a whole.
    Stored,
    /// The same without solid resources.
    Single,
    /// Only solid resources of this method and chunk size.
    Solid(Compression),
    /// Everything is decoded and encoded anew.
    Nothing,
}

/// What becomes of content that none of the opened files has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// An error.
    Refuse,
    /// The images refer to it as before: delta files.
    Keep,
}

/// What became of a list of contents.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Hash of each; `None` for files that could not be read, which were told of.
    pub(crate) hashes: Vec<Option<Sha1Hash>>,
    /// New blobs that were encoded.
    pub(crate) encoded: u64,
    /// New blobs that were copied as they were stored.
    pub(crate) copied: u64,
}

/// Writes those of the contents `list` that are not known yet. What was known before is known to be in the file or in
/// one it is used with; what is written is added.
pub(crate) fn store(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    list: &[Content],
    known: &mut Known,
    writer: &mut WimWriter<'_>,
    options: StoreOptions<'_>,
) -> Result<Stored, Error> {
    let mut stored = Stored { hashes: vec![None; list.len()], ..Stored::default() };
    let mut wanted = Vec::new();
    for (number, content) in list.iter().enumerate() {
        let found = content.sha1.filter(|sha1| known.hashes().contains(sha1) || writer.contains(sha1));
        match (found, &content.origin) {
            (Some(_), _) => stored.hashes[number] = found,
            (None, Origin::Missing) if options.missing == Missing::Keep => {
                stored.hashes[number] = content.sha1;
            }
            (None, Origin::Missing) => return Err(missing(reader, content)),
            _ => wanted.push(number),
        }
    }
    meter.expect_more(wanted.iter().map(|number| list[*number].size).sum());
    if options.reuse != Reuse::Nothing {
        wanted = copy::copy(context, meter, reader, list, wanted, known, writer, &mut stored, options)?;
    }
    if let Placing::Solid(compression, level, names) = options.placing {
        let (order, settings) = (solid::sorted(wanted, names), (compression, level));
        let numbers = order.clone();
        let new = solid::store(context, meter, reader, list, order, known, writer, settings, options.name)?;
        for number in numbers {
            let sha1 = new.hashes[number];
            stored.hashes[number] = sha1;
            sha1.into_iter().for_each(|sha1| known.add(sha1, list[number].size));
        }
        return Ok(Stored { encoded: new.encoded, ..stored });
    }
    let piece_bytes = piece_bytes(options.settings.map(|(compression, _)| compression));
    let equal = duplicates(context, meter, reader, list, &wanted, known, piece_bytes)?;
    let Stored { hashes, copied, .. } = stored;
    let mut sink = Sink::new(meter, reader, list, writer, options.name);
    sink.hashes = hashes;
    let purpose = Purpose::Store(options.settings);
    let first = wanted.into_iter().filter(|number| !equal.contains_key(number)).collect();
    run(context, &mut sink, purpose, piece_bytes, known, first)?;
    let mut again = Vec::new();
    let mut numbers: Vec<_> = equal.into_iter().collect();
    numbers.sort_unstable_by_key(|(number, _)| *number);
    for (number, (equal, sha1)) in numbers {
        // The earlier one may have changed since it was hashed; then this one needs a blob of its own.
        let is_there = match equal {
            Equal::Earlier(earlier) => sink.hashes[earlier] == Some(sha1),
            Equal::Stored => true,
        };
        if is_there {
            sink.hashes[number] = Some(sha1);
        } else {
            again.push(number);
        }
    }
    run(context, &mut sink, purpose, piece_bytes, known, again)?;
    Ok(Stored { encoded: sink.blobs, copied: copied + sink.copied, hashes: sink.hashes })
}

fn missing(reader: &Reader<'_>, content: &Content) -> Error {
    Error::Other {
        what: reader.name(content),
        source: "it is in none of the opened files; name the file that has it as a reference".into(),
        kind: ErrorKind::NotFound,
    }
}

/// Encodes the contents `numbers` of `list` and gives them to `output`, which messages call `name`, in this order. All of them must
/// be readable.
#[expect(clippy::too_many_arguments, reason = "what contents are read with, and where they go")]
pub(crate) fn encode_contents(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    list: &[Content],
    numbers: Vec<usize>,
    settings: (Compression, Level),
    output: &mut dyn BlobOutput,
    name: &str,
) -> Result<(), Error> {
    let piece_bytes = piece_bytes(Some(settings.0));
    let mut sink = Sink::new(meter, reader, list, output, name);
    let wanted = numbers.clone();
    run(context, &mut sink, Purpose::Store(Some(settings)), piece_bytes, &Known::default(), numbers)?;
    match wanted.into_iter().find(|number| sink.hashes[*number].is_none()) {
        None => Ok(()),
        Some(number) => Err(missing(reader, &list[number])),
    }
}

pub(super) fn run(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    purpose: Purpose,
    piece_bytes: usize,
    known: &Known,
    numbers: Vec<usize>,
) -> Result<(), Error> {
    let claims = Claims::new(known.hashes());
    let (meter, reader, list) = (sink.meter, sink.reader, sink.list);
    let threads = context.threads.max(1);
    let worker = |_| Worker::new(context.ctl, meter, reader, list, &claims, purpose);
    let workers = (0..threads).map(worker).collect::<Result<Vec<_>, _>>()?;
    let buffers = (0..permits(threads, piece_bytes)).map(|_| Buffers::default()).collect();
    let mut source = Source::new(reader, list, numbers, piece_bytes);
    stage::run(
        context.ctl,
        buffers,
        workers,
        |_| Ok(source.next()),
        |results: Results, buffers| results.into_iter().try_for_each(|result| sink.take(result, buffers)),
    )
}

pub(super) struct Sink<'a> {
    meter: &'a Meter<'a>,
    reader: &'a Reader<'a>,
    list: &'a [Content],
    writer: &'a mut dyn BlobOutput,
    name: &'a str,
    pub(super) hashes: Vec<Option<Sha1Hash>>,
    /// Contents that were encoded.
    pub(super) blobs: u64,
    /// Contents that were written as an archive holds them.
    pub(super) copied: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        meter: &'a Meter<'a>,
        reader: &'a Reader<'a>,
        list: &'a [Content],
        writer: &'a mut dyn BlobOutput,
        name: &'a str,
    ) -> Self {
        Self { meter, reader, list, writer, name, hashes: vec![None; list.len()], blobs: 0, copied: 0 }
    }

    fn take(&mut self, result: Result<Done, (usize, Error)>, buffers: &Buffers) -> Result<(), Error> {
        let done = match result {
            Ok(done) => done,
            // A piece that fails comes after others of its content: `hashes` alone does not tell, the kind does, as
            // only opening can meet these.
            Err((number, error)) if is_unreadable(&error) && self.writer.promised(number).is_none() => {
                self.meter.skip(|| format!("{}; left out", chain(&error)));
                return Ok(());
            }
            Err((_, error)) => return Err(error),
        };
        if let (Some(promised), Some(found)) = (self.writer.promised(done.content), done.sha1)
            && promised != found
        {
            return Err(Error::Differs {
                path: self.reader.name(&self.list[done.content]),
                what: "SHA-1 at second reading",
                expected: promised.to_string(),
                found: found.to_string(),
                more: 0,
            });
        }
        if done.state == State::Changed {
            let name = self.reader.name(&self.list[done.content]);
            self.meter.skip(|| format!("{name}: changed while it was captured"));
        }
        if let (Some(expected), Some(found)) = (self.list[done.content].sha1, done.sha1)
            && expected != found
        {
            return Err(Error::Differs {
                path: self.reader.name(&self.list[done.content]),
                what: "SHA-1",
                expected: expected.to_string(),
                found: found.to_string(),
                more: 0,
            });
        }
        let failed = || Error::wim(self.name);
        let is_new = match (done.is_first, done.sha1) {
            // A whole content: its hash is known before anything is written.
            (true, Some(sha1)) => !self.writer.contains(&sha1),
            _ => true,
        };
        if let (Some((stored, chunks)), true) = (&done.stored, is_new) {
            if done.is_first {
                self.writer.begin(done.content, self.list[done.content].size).map_err(failed())?;
            }
            if self.writer.compression().is_none() {
                self.writer
                    .append_chunk(ChunkData::Raw(&buffers.plain[done.plain.clone()]))
                    .map_err(failed())?;
            }
            let mut at = stored.start;
            for (len, plain_len) in &buffers.chunks[chunks.clone()] {
                let bytes = &buffers.stored[at..at + len];
                let chunk =
                    if len == plain_len { ChunkData::Raw(bytes) } else { ChunkData::Compressed(bytes) };
                self.writer.append_chunk(chunk).map_err(failed())?;
                at += len;
            }
            if let Some(sha1) = done.sha1 {
                let is_new = self.writer.finish_blob(sha1).map_err(failed())?;
                let count = if done.is_copied { &mut self.copied } else { &mut self.blobs };
                *count += u64::from(is_new);
            }
        }
        if let Some(sha1) = done.sha1 {
            self.hashes[done.content] = Some(sha1);
        }
        Ok(())
    }
}

/// Errors that opening a file meets, which spoil this file only.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Permission | ErrorKind::NotFound)
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Notes hashes in the tree, and takes out what has none.
pub(crate) fn settle(tree: &mut Tree, list: &[Content], hashes: &[Option<Sha1Hash>]) -> Result<(), Error> {
    let mut unreadable: HashSet<NodeId> = HashSet::new();
    for (content, hash) in list.iter().zip(hashes) {
        for wanted in &content.uses {
            match hash {
                Some(sha1) => {
                    if let Some(content) = uses::part_mut(tree.node_mut(wanted.node), wanted.part) {
                        content.sha1 = Some(*sha1);
                    }
                }
                None => {
                    unreadable.insert(wanted.node);
                }
            }
        }
    }
    if unreadable.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = tree
        .walk()
        .filter(|step| unreadable.contains(&step.entry.node))
        .map(|step| (step.parent, step.entry.name.clone()))
        .collect();
    for (parent, name) in names {
        tree.remove(parent, &name).map_err(|error| Error::Other {
            what: name.to_string(),
            source: Box::new(error),
            kind: ErrorKind::Failed,
        })?;
    }
    Ok(())
}
