//! SHA-1 of many ranges of a file at once: integrity tables (wim-container section 8).

use std::ops::Range;

use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;

use crate::Error;
use crate::meter::Context;
use crate::stage::{self, Item, Outbox, Work};

struct Hasher<'a> {
    source: &'a dyn ReadAt,
    name: &'a str,
}

/// Permit without buffers: hashing reads in small steps of its own.
#[derive(Debug, Clone)]
struct Permit;

impl Work<Range<u64>, Permit, Result<Sha1Hash, Error>> for Hasher<'_> {
    fn work(&mut self, item: Item<Range<u64>, Permit>, out: &Outbox<Result<Sha1Hash, Error>, Permit>) {
        let hash = gravure_wim::hash_range(self.source, item.job).map_err(Error::wim(self.name));
        out.done(item.ticket, hash, item.permit);
    }
}

/// Hashes `ranges` of `source`, which messages call `name`; `each` is given the hashes in order.
pub(crate) fn hash_ranges(
    context: &Context<'_>,
    source: &dyn ReadAt,
    name: &str,
    ranges: &mut (dyn Iterator<Item = Range<u64>> + Send),
    mut each: impl FnMut(Sha1Hash),
) -> Result<(), Error> {
    let threads = context.threads.max(1);
    let workers = (0..threads).map(|_| Hasher { source, name }).collect();
    stage::run(
        context.ctl,
        vec![Permit; threads + 1],
        workers,
        |_| Ok(ranges.next()),
        |hash: Result<Sha1Hash, Error>, _| {
            each(hash?);
            Ok(())
        },
    )
}
