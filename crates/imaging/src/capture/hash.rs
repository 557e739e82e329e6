//! Hashing contents without storing them: for the check of a directory, and to find equal large files before they are
//! compressed.

use std::collections::HashMap;

use gravure_tree::Sha1Hash;

use super::contents::{Content, Reader, State};
use super::encode::{Buffers, Claims, Purpose, Results, Source, Worker, small};
use crate::meter::{Context, Meter};
use crate::reading::{ITEM_BYTES, permits};
use crate::{Error, stage};

/// Hashes all `contents` and hands each hash to `each`, in order. A file that is changed meanwhile is an error.
pub(crate) fn hash_all(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    contents: &[Content],
    mut each: impl FnMut(usize, Result<Sha1Hash, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let all = (0..contents.len()).collect();
    hash_some(context, meter, reader, contents, all, |number, result| {
        each(
            number,
            result.and_then(|(sha1, state)| match state {
                State::Same => Ok(sha1),
                State::Changed => Err(Error::Differs {
                    path: reader.name(&contents[number]),
                    what: "size and time of last write while it was read",
                    expected: "unchanged".to_owned(),
                    found: "changed".to_owned(),
                    more: 0,
                }),
            }),
        )
    })
}

pub(super) fn hash_some(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    contents: &[Content],
    numbers: Vec<usize>,
    mut each: impl FnMut(usize, Result<(Sha1Hash, State), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let claims = Claims::default();
    let threads = context.threads.max(1);
    let worker = |_| Worker::new(context.ctl, meter, reader, contents, &claims, Purpose::Hash);
    let workers = (0..threads).map(worker).collect::<Result<Vec<_>, _>>()?;
    let buffers = (0..permits(threads, ITEM_BYTES)).map(|_| Buffers::default()).collect();
    let mut source = Source::new(reader, contents, numbers, ITEM_BYTES);
    stage::run(
        context.ctl,
        buffers,
        workers,
        |_| Ok(source.next()),
        |results: Results, _| {
            for result in results {
                match result {
                    Err((number, error)) => each(number, Err(error))?,
                    Ok(done) => {
                        if let Some(sha1) = done.sha1 {
                            each(done.content, Ok((sha1, done.state)))?;
                        }
                    }
                }
            }
            Ok(())
        },
    )
}

/// Finds large contents that are equal to an earlier one, so that they need not be compressed: those of equal size are
/// hashed. Returns, for each such content, the earlier one and its hash. Unreadable ones are left to the capture.
pub(super) fn duplicates(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    contents: &[Content],
    piece_bytes: usize,
) -> Result<HashMap<usize, (usize, Sha1Hash)>, Error> {
    let large = |content: &Content| small(content.size, piece_bytes).is_none();
    let mut by_size: HashMap<u64, usize> = HashMap::new();
    for content in contents.iter().filter(|content| large(content)) {
        *by_size.entry(content.size).or_default() += 1;
    }
    let candidates: Vec<usize> = (0..contents.len())
        .filter(|number| {
            large(&contents[*number]) && by_size.get(&contents[*number].size).is_some_and(|count| *count > 1)
        })
        .collect();
    let mut first: HashMap<Sha1Hash, usize> = HashMap::new();
    let mut found = HashMap::new();
    hash_some(context, meter, reader, contents, candidates, |number, result| {
        match result {
            Ok((sha1, State::Same)) => match first.get(&sha1) {
                Some(earlier) => {
                    found.insert(number, (*earlier, sha1));
                }
                None => {
                    first.insert(sha1, number);
                }
            },
            Err(error @ Error::Interrupted(_)) => return Err(error),
            // Left to the capture, which tells about it.
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}
