//! Reading blobs: decoding and checking with all cores, delivery to a target (DESIGN section 4).
//!
//! One thread reads the archives in order ([`source`]), workers decode, hash and deliver ([`worker`]). Small blobs travel
//! many to an item; a large blob is cut into items, and its hash goes from piece to piece ([`crate::chain`]). Of solid
//! resources the chunks that hold something wanted travel, each decoded once for all blobs in it ([`solid`]).
//!
//! **Memory:** `permits` items of at most [`source::ITEM_BYTES`] plain and as many stored bytes, see [`permits`]; with
//! larger chunks (solid resources: 64 MiB) at most (threads + 1) times two chunks.

mod gather;
mod pipe;
mod plan;
mod solid;
mod source;
mod turns;
mod worker;

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use gravure_tree::NodeId;
use gravure_wim::ChunkEncoding;

pub(crate) use gather::{gather, nowhere};
pub(crate) use pipe::{PipeOutcome, Unwanted, run_pipe};
pub(crate) use plan::{BlobRead, Copying, ReadPlan, missing};
pub(crate) use source::ITEM_BYTES;
pub(crate) use worker::Decoders;

use crate::archive::Archives;
use crate::chain::Chain;
use crate::meter::{Context, Meter, affordable_threads};
use crate::stage::{self, Ticket};
use crate::uses::Use;
use crate::{Error, ErrorKind};
use turns::Turns;

/// Bytes in flight of a stage, stored and plain together, as long as no chunk is larger than an item. With the tables
/// of decoders (below 1 MiB a thread) and a window of the reader this keeps the whole below 64 MiB.
pub(crate) const MAX_BYTES_IN_FLIGHT: usize = 32 << 20;
/// Failures that are listed; the rest is counted.
pub(crate) const MAX_FAILURES: usize = 1000;

/// Items in flight for so many threads: enough that none waits for the reader or for the item before its own.
pub(crate) fn permits(threads: usize, item_bytes: usize) -> usize {
    let affordable = MAX_BYTES_IN_FLIGHT / (2 * item_bytes);
    (3 * threads + 2).min(affordable).max(threads + 1)
}

/// Where contents go. Called from many threads.
pub(crate) trait Target: Sync {
    /// What each thread keeps for itself, such as open directories.
    type Handles: Send;
    /// A content that arrives in pieces.
    type Open: Send + Sync;

    fn handles(&self) -> Self::Handles;

    /// Takes a content that is here as a whole and whose hash is right.
    fn whole(&self, handles: &mut Self::Handles, uses: &[Use], bytes: &[u8]) -> Result<(), Error>;

    /// Prepares for a content in pieces.
    fn open(&self, handles: &mut Self::Handles, uses: &[Use]) -> Result<Self::Open, Error>;

    /// Whether pieces of one content come one at a time: two writers of one file only wait for its lock, with all their might.
    fn wants_turns(&self) -> bool {
        false
    }

    /// Takes a piece. Pieces come in any order, from any thread, each once, before the hash is known.
    fn piece(&self, uses: &[Use], open: &Self::Open, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// All pieces came and the hash is right.
    fn finish(
        &self,
        handles: &mut Self::Handles,
        uses: &[Use],
        open: &Self::Open,
        size: u64,
    ) -> Result<(), Error>;

    /// Takes stored bytes of a blob that is to be copied ([`Copying`]); `offset` is in its resource, whose table of chunks
    /// comes first. Those of a small blob come as a whole once its hash is right, those of a large one piece by piece.
    fn stored(
        &self,
        handles: &mut Self::Handles,
        uses: &[Use],
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let _ = (handles, uses, offset, bytes);
        Ok(())
    }

    /// Makes a node that waits for no content.
    fn node(&self, handles: &mut Self::Handles, node: NodeId) -> Result<(), Error>;
}

/// Buffers of one item.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    stored: Vec<u8>,
    chunks: Vec<ChunkIn>,
    plain: Vec<u8>,
}

/// A chunk in [`Buffers::stored`].
#[derive(Debug, Clone)]
struct ChunkIn {
    stored: Range<usize>,
    plain_len: usize,
    encoding: ChunkEncoding,
}

/// A small blob in an item.
#[derive(Debug)]
struct Packed {
    blob: usize,
    /// In [`Buffers::chunks`].
    chunks: Range<usize>,
    /// In [`Buffers::plain`].
    plain: Range<usize>,
    /// In [`Buffers::stored`]: its whole resource if it is to be copied, else nothing.
    stored: Range<usize>,
}

/// What an item is to do.
#[derive(Debug)]
enum Job<O> {
    /// Small blobs as a whole.
    Pack { blobs: Vec<Packed>, plain_len: usize },
    /// A piece of a large blob.
    Piece { piece: Piece<O>, plain_len: usize },
    /// Chunks of a solid resource.
    Solid { blobs: SolidBlobs<O>, plain_len: usize },
    /// Content `n` of the plan's inline ones.
    Inline(usize),
    /// A range of the plan's nodes.
    Nodes(Range<usize>),
    /// Blobs that cannot be read.
    Damaged(Vec<Failure>),
}

/// The blobs that lie in some chunks of a solid resource.
#[derive(Debug)]
struct SolidBlobs<O> {
    /// One that began in an earlier item.
    continued: Option<Piece<O>>,
    /// Those that are here as a whole, without chunks of their own.
    whole: Vec<Packed>,
    /// One that goes on in a later item.
    begun: Option<Piece<O>>,
}

/// A piece of a blob that comes in several items.
#[derive(Debug)]
struct Piece<O> {
    large: Arc<Large<O>>,
    /// From 0.
    number: u64,
    is_last: bool,
    /// In the blob.
    offset: u64,
    /// In [`Buffers::plain`].
    plain: Range<usize>,
    /// Stored bytes of a blob that is to be copied.
    copied: Option<Copied>,
}

/// Stored bytes of a piece.
#[derive(Debug)]
struct Copied {
    /// In the blob's resource.
    offset: u64,
    /// In [`Buffers::stored`].
    stored: Range<usize>,
}

/// A blob on its way in pieces.
#[derive(Debug)]
struct Large<O> {
    blob: usize,
    size: u64,
    open: Arriving<O>,
    turns: Turns<(Piece<O>, Parked)>,
    chain: Chain<Parked>,
    /// Set with the first failure, so that the wrong hash that follows is not reported too.
    broken: AtomicBool,
}

/// Where pieces go.
#[derive(Debug)]
enum Arriving<O> {
    /// To the target, one by one.
    Target(O),
    /// Together first: a small blob that happens to lie across the border of two items. Targets may count on small
    /// contents, link targets among them, to come as a whole.
    Together(Mutex<Vec<u8>>),
}

impl<O> Large<O> {
    fn new(blob: usize, size: u64, open: Arriving<O>) -> Self {
        let (turns, chain) = (Turns::default(), Chain::default());
        Self { blob, size, open, turns, chain, broken: AtomicBool::new(false) }
    }
}

/// A decoded piece that waits for its turn to be hashed, and the item it came in.
#[derive(Debug)]
struct Parked {
    ticket: Ticket,
    buffers: Buffers,
    plain: Range<usize>,
    is_last: bool,
    failures: Vec<Failure>,
}

/// Why an item did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    Content(Damaged),
    Other(Error),
}

/// A blob whose content is not what it should be.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// Index in the plan.
    pub(crate) blob: usize,
    pub(crate) found: String,
    /// Whether the target was given what could be read of it.
    pub(crate) is_kept: bool,
}

/// Result of one item.
#[derive(Debug, Default)]
struct Done {
    failures: Vec<Failure>,
}

/// What happens when a blob is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// Stop.
    Stop,
    /// Note it and go on.
    GoOn,
    /// Give the target what decodes, with zeros where nothing does; note it and go on.
    Keep,
}

/// Reads everything in `plan`. Returns damaged blobs, in the order of the plan, when told to go on.
pub(crate) fn run<T: Target>(
    context: &Context<'_>,
    meter: &Meter<'_>,
    archives: &Archives,
    plan: &ReadPlan,
    target: &T,
    on_damage: OnDamage,
) -> Result<Vec<Damaged>, Error> {
    let item_bytes = usize::try_from(plan.largest_chunk(archives)).unwrap_or(usize::MAX).max(ITEM_BYTES);
    let mut source = source::Source::new(plan, archives, target);
    run_source(context, meter, plan, target, on_damage, item_bytes, |buffers| source.next(buffers))
}

/// As [`run`] for jobs that `source` hands out, of at most `item_bytes` plain bytes each.
fn run_source<T: Target>(
    context: &Context<'_>,
    meter: &Meter<'_>,
    plan: &ReadPlan,
    target: &T,
    on_damage: OnDamage,
    item_bytes: usize,
    source: impl FnMut(&mut Buffers) -> Result<Option<Job<T::Open>>, Error> + Send,
) -> Result<Vec<Damaged>, Error> {
    let threads = affordable_threads(context.threads, 2 * item_bytes as u64);
    let buffers = (0..permits(threads, item_bytes)).map(|_| Buffers::default()).collect();
    let workers = (0..threads).map(|_| worker::Worker::new(context.ctl, meter, plan, target, on_damage));
    let mut damaged = Vec::new();
    stage::run(context.ctl, buffers, workers.collect(), source, |done: Done, _| {
        for failure in done.failures {
            match failure {
                Failure::Other(error) => return Err(error),
                Failure::Content(found) => damaged.push(found),
            }
        }
        let stop = match on_damage {
            OnDamage::Stop => !damaged.is_empty(),
            OnDamage::GoOn => damaged.len() >= MAX_FAILURES,
            OnDamage::Keep => false,
        };
        if stop { Err(stopped()) } else { Ok(()) }
    })
    .or_else(|error| if is_stopped(&error) { Ok(()) } else { Err(error) })?;
    Ok(damaged)
}

/// Ends the stage from within; never leaves this module.
fn stopped() -> Error {
    Error::Other { what: STOPPED.to_owned(), source: "stopped".into(), kind: ErrorKind::Integrity }
}

const STOPPED: &str = "stopped at a damaged blob";

fn is_stopped(error: &Error) -> bool {
    matches!(error, Error::Other { what, .. } if what == STOPPED)
}
