//! Which stored stream is which: types are not stored but follow from attributes and order (wim-container 6.5), and
//! current Windows setup insists on one order when writing (6.6).

use std::collections::HashSet;

use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{ContentRef, Node, Sha1Hash};

use super::disk::RawStream;
use crate::error::{Error, FileIssue};

/// Streams of a file by what they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) reparse: Option<Sha1Hash>,
    pub(super) data: Option<Sha1Hash>,
    pub(super) efs: Option<Sha1Hash>,
    pub(super) named: Vec<(NtName, Sha1Hash)>,
}

/// Tells the streams of a file with `attributes` apart; calls `issue` for those it cannot have.
pub(super) fn assign(
    attributes: FileAttributes,
    main: Sha1Hash,
    entries: &[RawStream<'_>],
    issue: &mut dyn FnMut(FileIssue),
) -> Streams {
    let is_directory = attributes.contains(FileAttributes::DIRECTORY);
    let mut streams = if attributes.contains(FileAttributes::ENCRYPTED) {
        assign_encrypted(is_directory, main, entries, issue)
    } else {
        assign_plain(attributes.contains(FileAttributes::REPARSE_POINT), main, entries, issue)
    };
    if is_directory {
        if let Some(extra) = streams.data.take().filter(|sha1| *sha1 != Sha1Hash::ZERO) {
            issue(FileIssue::ExtraStream(extra));
        }
    } else if streams.efs.is_none() {
        streams.data.get_or_insert(Sha1Hash::ZERO);
    }
    streams
}

fn assign_plain(
    is_reparse_point: bool,
    main: Sha1Hash,
    entries: &[RawStream<'_>],
    issue: &mut dyn FnMut(FileIssue),
) -> Streams {
    let mut streams = Streams::default();
    let mut unnamed = Vec::new();
    if main != Sha1Hash::ZERO {
        unnamed.push(main);
    }
    let mut names = HashSet::new();
    for entry in entries {
        let sha1 = Sha1Hash(entry.sha1);
        if entry.name.is_empty() {
            unnamed.push(sha1);
            continue;
        }
        // The length was found to be even.
        let name = NtName::from_le_bytes(entry.name).unwrap_or_default();
        if name.units().contains(&0) || !names.insert(entry.name) {
            issue(FileIssue::BadStreamName(name.to_string()));
        } else {
            streams.named.push((name, sha1));
        }
    }
    let mut unnamed = unnamed.into_iter();
    if is_reparse_point {
        streams.reparse = Some(unnamed.next().unwrap_or(Sha1Hash::ZERO));
    }
    streams.data = unnamed.next();
    unnamed.for_each(|extra| issue(FileIssue::ExtraStream(extra)));
    streams
}

/// The first unnamed stream with content is the raw EFS data, which holds all streams; the rest means nothing.
fn assign_encrypted(
    is_directory: bool,
    main: Sha1Hash,
    entries: &[RawStream<'_>],
    issue: &mut dyn FnMut(FileIssue),
) -> Streams {
    let unnamed = entries.iter().filter(|entry| entry.name.is_empty()).map(|entry| Sha1Hash(entry.sha1));
    let mut efs = None;
    for sha1 in std::iter::once(main).chain(unnamed).filter(|sha1| *sha1 != Sha1Hash::ZERO) {
        match efs {
            None => efs = Some(sha1),
            Some(_) => issue(FileIssue::ExtraStream(sha1)),
        }
    }
    for entry in entries.iter().filter(|entry| !entry.name.is_empty()) {
        issue(FileIssue::ExtraStream(Sha1Hash(entry.sha1)));
    }
    // A directory only passes the attribute on to new files; it may have no data of its own.
    let fallback = (!is_directory).then_some(Sha1Hash::ZERO);
    Streams { efs: efs.or(fallback), ..Streams::default() }
}

/// The streams of a node as they are written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredStreams<'a> {
    /// Goes into the dentry.
    pub(super) main: Sha1Hash,
    /// Stream entries, in order; `None` for unnamed ones.
    pub(super) entries: Vec<(Option<&'a NtName>, Sha1Hash)>,
    /// The non-empty ones, for reference counts.
    pub(super) used: Vec<Sha1Hash>,
}

/// Puts the node's streams into the order and the places that Windows setup and DISM expect. `Err` says why the node
/// cannot be written.
pub(super) fn store(node: &Node) -> Result<StoredStreams<'_>, &'static str> {
    let hash = |content: &ContentRef| match content.is_empty() {
        true => Ok(Sha1Hash::ZERO),
        false => content.sha1.ok_or("the hash of its content is not known"),
    };
    let mut streams: Vec<(Option<&NtName>, Sha1Hash)> = Vec::new();
    if node.attributes.contains(FileAttributes::ENCRYPTED) {
        let has_data = node.data.as_ref().is_some_and(|data| !data.is_empty());
        if has_data || !node.named_streams.is_empty() {
            return Err("an encrypted file can have raw EFS data only");
        }
        if let Some(efs) = &node.efs {
            streams.push((None, hash(efs)?));
        }
    } else {
        if node.efs.is_some() {
            return Err("raw EFS data without the encrypted attribute");
        }
        if let Some(reparse) = &node.reparse {
            streams.push((None, hash(&reparse.content)?));
        }
        match &node.data {
            Some(data) if !node.is_directory() => streams.push((None, hash(data)?)),
            Some(data) if !data.is_empty() => return Err("a directory with unnamed data"),
            // An empty stream counts.
            None if !node.is_directory() => streams.push((None, Sha1Hash::ZERO)),
            _ => {}
        }
        for stream in &node.named_streams {
            if stream.name.is_empty() || stream.name.units().contains(&0) {
                return Err("a stream name that is empty or has a zero unit");
            }
            streams.push((Some(&stream.name), hash(&stream.content)?));
        }
    }
    let used = streams.iter().map(|(_, sha1)| *sha1).filter(|sha1| *sha1 != Sha1Hash::ZERO).collect();
    match streams.as_slice() {
        [] => Ok(StoredStreams { main: Sha1Hash::ZERO, entries: Vec::new(), used }),
        [(None, sha1)] => Ok(StoredStreams { main: *sha1, entries: Vec::new(), used }),
        _ if streams.len() > usize::from(u16::MAX) => Err("more than 65535 streams"),
        _ => Ok(StoredStreams { main: Sha1Hash::ZERO, entries: streams, used }),
    }
}

/// For errors about a whole node.
pub(super) fn unwritable(path: String, reason: &'static str) -> Error {
    Error::unwritable(path, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Sha1Hash = Sha1Hash([0xa; 20]);
    const B: Sha1Hash = Sha1Hash([0xb; 20]);
    const C: Sha1Hash = Sha1Hash([0xc; 20]);
    const ZERO: Sha1Hash = Sha1Hash::ZERO;
    const X: &[u8] = &[b'x', 0];

    fn run(attributes: u32, main: Sha1Hash, entries: &[(&'static [u8], Sha1Hash)]) -> (Streams, usize) {
        let entries: Vec<RawStream<'_>> =
            entries.iter().map(|(name, sha1)| RawStream { name, sha1: sha1.0 }).collect();
        let mut issues = 0;
        let streams = assign(FileAttributes(attributes), main, &entries, &mut |_| issues += 1);
        (streams, issues)
    }

    #[test]
    fn old_and_new_layouts_mean_the_same() {
        let streams = |reparse, data, efs, named: &[Sha1Hash]| Streams {
            reparse,
            data,
            efs,
            named: named.iter().map(|sha1| (NtName::from("x"), *sha1)).collect(),
        };
        let (dir, link, dir_link, secret) = (0x10, 0x400, 0x410, 0x4000);
        type Case<'a> = (u32, Sha1Hash, &'a [(&'static [u8], Sha1Hash)], Streams, usize);
        let cases: &[Case<'_>] = &[
            (0, A, &[], streams(None, Some(A), None, &[]), 0),
            (0, ZERO, &[], streams(None, Some(ZERO), None, &[]), 0),
            (0, ZERO, &[(b"", A), (X, B)], streams(None, Some(A), None, &[B]), 0),
            (0, A, &[(X, B)], streams(None, Some(A), None, &[B]), 0),
            (0, ZERO, &[(b"", ZERO), (X, B)], streams(None, Some(ZERO), None, &[B]), 0),
            (0, A, &[(b"", B)], streams(None, Some(A), None, &[]), 1),
            (0, ZERO, &[(X, A), (X, B)], streams(None, Some(ZERO), None, &[A]), 1),
            (dir, ZERO, &[(X, A)], streams(None, None, None, &[A]), 0),
            (dir, ZERO, &[(b"", ZERO), (X, A)], streams(None, None, None, &[A]), 0),
            (dir, A, &[], streams(None, None, None, &[]), 1),
            (dir_link, A, &[], streams(Some(A), None, None, &[]), 0),
            (dir_link, ZERO, &[(b"", A), (b"", ZERO)], streams(Some(A), None, None, &[]), 0),
            (link, ZERO, &[(b"", A), (b"", ZERO), (X, B)], streams(Some(A), Some(ZERO), None, &[B]), 0),
            (link, A, &[], streams(Some(A), Some(ZERO), None, &[]), 0),
            (link, ZERO, &[(b"", A), (b"", B), (b"", C)], streams(Some(A), Some(B), None, &[]), 1),
            (link, ZERO, &[], streams(Some(ZERO), Some(ZERO), None, &[]), 0),
            (secret, A, &[], streams(None, None, Some(A), &[]), 0),
            (secret, ZERO, &[(b"", ZERO), (b"", A), (X, B)], streams(None, None, Some(A), &[]), 1),
            (secret, ZERO, &[], streams(None, None, Some(ZERO), &[]), 0),
            (secret | dir, ZERO, &[], streams(None, None, None, &[]), 0),
        ];
        for (attributes, main, entries, expected, issues) in cases {
            let found = run(*attributes, *main, entries);
            assert_eq!((&found.0, found.1), (expected, *issues), "{attributes:#x} {main} {entries:?}");
        }
    }
}
