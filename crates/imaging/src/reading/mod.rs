//! Reading blobs: decoding and checking with all cores, delivery to a target (DESIGN section 4).
//!
//! One thread reads the archives in order ([`source`]), workers decode, hash and deliver ([`worker`]). Small blobs travel
//! many to an item; a large blob is cut into items, and its hash goes from piece to piece ([`crate::chain`]).
//!
//! **Memory:** `permits` items of at most [`source::ITEM_BYTES`] plain and as many stored bytes, see [`permits`].

mod plan;
mod source;
mod worker;

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use gravure_tree::NodeId;
use gravure_wim::ChunkEncoding;

pub(crate) use plan::{BlobRead, ReadPlan};
pub(crate) use source::ITEM_BYTES;
pub(crate) use worker::Decoders;

use crate::archive::Archives;
use crate::chain::Chain;
use crate::meter::{Context, Meter};
use crate::stage::{self, Ticket};
use crate::uses::Use;
use crate::{Error, ErrorKind};

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
}

/// What an item is to do.
#[derive(Debug)]
enum Job<O> {
    /// Small blobs as a whole.
    Pack { blobs: Vec<Packed>, plain_len: usize },
    /// A piece of a large blob.
    Piece { large: std::sync::Arc<Large<O>>, number: u64, is_last: bool, offset: u64, plain_len: usize },
    /// Content `n` of the plan's inline ones.
    Inline(usize),
    /// A range of the plan's nodes.
    Nodes(Range<usize>),
    /// A blob that cannot be read.
    Damaged(Failure),
}

/// A blob on its way in pieces.
#[derive(Debug)]
struct Large<O> {
    blob: usize,
    open: O,
    chain: Chain<Parked>,
    /// Set with the first failure, so that the wrong hash that follows is not reported too.
    broken: AtomicBool,
}

impl<O> Large<O> {
    fn new(blob: usize, open: O) -> Self {
        Self { blob, open, chain: Chain::default(), broken: AtomicBool::new(false) }
    }
}

/// A decoded piece that waits for its turn to be hashed.
#[derive(Debug)]
struct Parked {
    ticket: Ticket,
    buffers: Buffers,
    plain_len: usize,
    is_last: bool,
    failure: Option<Failure>,
}

/// Why an item did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The content of blob `blob` of the plan is damaged.
    Content {
        blob: usize,
        found: String,
    },
    Other(Error),
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
}

/// Reads everything in `plan`. Returns damaged blobs, in the order of the plan, when told to go on.
pub(crate) fn run<T: Target>(
    context: &Context<'_>,
    meter: &Meter<'_>,
    archives: &Archives,
    plan: &ReadPlan,
    target: &T,
    on_damage: OnDamage,
) -> Result<Vec<(usize, String)>, Error> {
    let threads = context.threads.max(1);
    let buffers = (0..permits(threads, ITEM_BYTES)).map(|_| Buffers::default()).collect();
    let workers = (0..threads).map(|_| worker::Worker::new(context.ctl, meter, plan, target)).collect();
    let mut source = source::Source::new(plan, archives, target);
    let mut damaged = Vec::new();
    stage::run(
        context.ctl,
        buffers,
        workers,
        |buffers| source.next(buffers),
        |done: Done, _| {
            for failure in done.failures {
                match failure {
                    Failure::Other(error) => return Err(error),
                    Failure::Content { blob, found } => damaged.push((blob, found)),
                }
            }
            let stop = on_damage == OnDamage::Stop && !damaged.is_empty();
            if stop || damaged.len() >= MAX_FAILURES { Err(stopped()) } else { Ok(()) }
        },
    )
    .or_else(|error| if damaged.is_empty() { Err(error) } else { Ok(()) })?;
    Ok(damaged)
}

/// Ends the stage from within; never leaves this module.
fn stopped() -> Error {
    Error::Other { what: "damaged blob".to_owned(), source: "stopped".into(), kind: ErrorKind::Integrity }
}
