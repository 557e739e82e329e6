//! The ordered half of a capture: takes what the cores made and writes each new content once.

use std::collections::HashSet;

use gravure_codec::Level;
use gravure_tree::{NodeId, Sha1Hash, Tree};
use gravure_wim::{BlobOutcome, ChunkData, Compression, Error as WimError, WimWriter};

use super::CaptureReport;
use super::contents::{self, Content, Reader, State};
use super::encode::{Buffers, Claims, Done, Purpose, Results, Source, Worker, piece_bytes};
use super::hash::duplicates;
use crate::meter::{Context, Meter};
use crate::reading::permits;
use crate::{Error, ErrorKind, stage, uses};

/// What the contents of a capture are written to, one after the other.
pub(super) trait BlobOutput {
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

/// Writes all contents of `tree` and notes their hashes in it. Files that cannot be read are taken out of the tree.
#[expect(clippy::too_many_arguments, reason = "one call site; the arguments are what a capture consists of")]
pub(super) fn contents(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    tree: &mut Tree,
    writer: &mut WimWriter<'_>,
    settings: Option<(Compression, Level)>,
    name: &str,
    report: &mut CaptureReport,
) -> Result<(), Error> {
    let list = contents::contents(tree);
    let piece_bytes = piece_bytes(settings.map(|(compression, _)| compression));
    meter.expect(list.iter().map(|content| content.size).sum());
    let equal = duplicates(context, meter, reader, &list, piece_bytes)?;
    let mut sink = Sink::new(meter, reader, &list, writer, name);
    let purpose = Purpose::Store(settings);
    let first = (0..list.len()).filter(|number| !equal.contains_key(number)).collect();
    run(context, &mut sink, purpose, piece_bytes, first)?;
    let mut again = Vec::new();
    let mut numbers: Vec<_> = equal.into_iter().collect();
    numbers.sort_unstable();
    for (number, (earlier, sha1)) in numbers {
        // The earlier one may have changed since it was hashed; then this one needs a blob of its own.
        if sink.hashes[earlier] == Some(sha1) {
            sink.hashes[number] = Some(sha1);
        } else {
            again.push(number);
        }
    }
    run(context, &mut sink, purpose, piece_bytes, again)?;
    report.blobs = sink.blobs;
    let hashes = sink.hashes;
    settle(tree, &list, &hashes)
}

pub(super) fn run(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    purpose: Purpose,
    piece_bytes: usize,
    numbers: Vec<usize>,
) -> Result<(), Error> {
    let claims = Claims::default();
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
    pub(super) blobs: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        meter: &'a Meter<'a>,
        reader: &'a Reader<'a>,
        list: &'a [Content],
        writer: &'a mut dyn BlobOutput,
        name: &'a str,
    ) -> Self {
        Self { meter, reader, list, writer, name, hashes: vec![None; list.len()], blobs: 0 }
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
                self.blobs += u64::from(is_new);
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

pub(super) fn chain(error: &Error) -> String {
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
pub(super) fn settle(tree: &mut Tree, list: &[Content], hashes: &[Option<Sha1Hash>]) -> Result<(), Error> {
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
