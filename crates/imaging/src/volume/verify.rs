//! Reading a volume back before it becomes one: metadata byte for byte, contents against their SHA-1, those that were copied
//! compressed against BLAKE3 of what was written.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use gravure_ntfs::{Piece, Place, ResidentBytes, VolumePlan};
use gravure_tree::{NodeId, Sha1Hash, Tree};
use sha1::{Digest, Sha1};

use super::device::VolumeDevice;
use super::target::place;
use crate::Error;
use crate::meter::Context;
use crate::reading::ReadPlan;
use crate::uses;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What was written to a place and is known by the BLAKE3 of its bytes: a content that was copied compressed, contents of another volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct CopiedPart {
    /// On the volume.
    pub(super) offset: u64,
    pub(super) len: u64,
    /// The file, or the first one, for messages.
    pub(super) node: NodeId,
    /// Of what was written.
    pub(super) blake3: [u8; 32],
}

/// A content on the volume.
enum Written {
    /// Plain, with its blob in the plan of reading.
    Plain { offset: u64, blob: usize },
    /// The same with holes, by what is not one.
    Pieces { pieces: Vec<Piece>, blob: usize },
    /// As it is stored in the image.
    Copied(CopiedPart),
}

impl Written {
    fn offset(&self) -> u64 {
        match self {
            Self::Plain { offset, .. } => *offset,
            Self::Pieces { pieces, .. } => pieces.first().map_or(0, |piece| piece.offset),
            Self::Copied(part) => part.offset,
        }
    }

    fn size(&self, reads: &ReadPlan) -> u64 {
        match self {
            Self::Plain { blob, .. } | Self::Pieces { blob, .. } => reads.blobs[*blob].size,
            Self::Copied(part) => part.len,
        }
    }
}

/// Reads everything back from the medium, but for the blobs `spoiled`, which were not what the image says. The first difference is an
/// error. Returns how many bytes were right.
#[expect(clippy::too_many_arguments, reason = "what was written, and what it is compared with")]
pub(super) fn read_back(
    plan: &VolumePlan<'_>,
    reads: &ReadPlan,
    spoiled: &HashSet<usize>,
    resident: &dyn ResidentBytes,
    copied: Vec<CopiedPart>,
    tree: &Tree,
    device: &dyn VolumeDevice,
    context: &Context<'_>,
) -> Result<u64, Error> {
    device.drop_cache()?;
    let mut verified = 0u64;
    let mut found = Vec::new();
    for write in plan.metadata(resident) {
        context.ctl.check()?;
        found.resize(write.bytes.len(), 0);
        device.read_exact_at(write.offset, &mut found).map_err(Error::io("read", device.name()))?;
        if let Some(at) = found.iter().zip(&write.bytes).position(|(found, written)| found != written) {
            let offset = write.offset + at as u64;
            return Err(Error::Differs {
                path: format!("{} at {offset:#x}", device.name()),
                what: "metadata read back",
                expected: format!("{:#04x}", write.bytes[at]),
                found: format!("{:#04x}", found[at]),
                more: 0,
            });
        }
        verified += write.bytes.len() as u64;
    }
    let written = written(plan, reads, spoiled, copied);
    contents(&written, reads, tree, device, context)?;
    Ok(verified + written.iter().map(|one| one.size(reads)).sum::<u64>())
}

/// Every place of every blob, in the order of the volume.
fn written(
    plan: &VolumePlan<'_>,
    reads: &ReadPlan,
    spoiled: &HashSet<usize>,
    copied: Vec<CopiedPart>,
) -> Vec<Written> {
    let mut out: Vec<Written> = copied.into_iter().map(Written::Copied).collect();
    for (index, blob) in reads.blobs.iter().enumerate().filter(|(index, _)| !spoiled.contains(index)) {
        for wanted in &blob.uses {
            match place(plan, *wanted) {
                Some(Place::Clusters { offset, .. }) => out.push(Written::Plain { offset, blob: index }),
                Some(Place::Pieces) => {
                    out.push(Written::Pieces { pieces: plan.pieces(wanted.node), blob: index });
                }
                _ => {}
            }
        }
    }
    out.sort_by_key(Written::offset);
    out
}

/// Hashes contents on all threads, each content on one.
fn contents(
    written: &[Written],
    reads: &ReadPlan,
    tree: &Tree,
    device: &dyn VolumeDevice,
    context: &Context<'_>,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..context.threads.max(1) {
            scope.spawn(|| {
                let mut buf = Vec::new();
                while let Some(one) = written.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = check(one, reads, tree, device, context, &mut buf) {
                        // The others stop at their next content.
                        next.store(written.len(), Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn check(
    one: &Written,
    reads: &ReadPlan,
    tree: &Tree,
    device: &dyn VolumeDevice,
    context: &Context<'_>,
    buf: &mut Vec<u8>,
) -> Result<(), Error> {
    let (start, size) = (one.offset(), one.size(reads));
    let each = |buf: &mut Vec<u8>, take: &mut dyn FnMut(&[u8])| -> Result<(), Error> {
        let mut done = 0;
        while done < size {
            context.ctl.check()?;
            let step = (size - done).min(STEP_BYTES);
            buf.clear();
            buf.resize(usize::try_from(step).unwrap_or(0), 0);
            read_part(one, done, buf, device)?;
            take(buf);
            done += step;
        }
        Ok(())
    };
    match one {
        Written::Plain { blob, .. } | Written::Pieces { blob, .. } => {
            let sha1 = reads.blobs[*blob].sha1;
            let mut hasher = Sha1::new();
            each(buf, &mut |bytes| hasher.update(bytes))?;
            let found = Sha1Hash(hasher.finalize().into());
            if found == sha1 {
                return Ok(());
            }
            Err(Error::Differs {
                path: format!("{} at {start:#x}, blob {sha1}", device.name()),
                what: "SHA-1 of content read back",
                expected: sha1.to_string(),
                found: found.to_string(),
                more: 0,
            })
        }
        Written::Copied(part) => {
            let mut hasher = blake3::Hasher::new();
            each(buf, &mut |bytes| {
                hasher.update(bytes);
            })?;
            let found = hasher.finalize();
            if *found.as_bytes() == part.blake3 {
                return Ok(());
            }
            let path = uses::paths(tree, &[part.node], 1).pop().unwrap_or_default();
            Err(Error::Differs {
                path: format!("{} at {start:#x}, {path}", device.name()),
                what: "BLAKE3 of content read back",
                expected: blake3::Hash::from_bytes(part.blake3).to_string(),
                found: found.to_string(),
                more: 0,
            })
        }
    }
}

/// Reads a part of a content; `buf` comes with zeros, which is what holes are.
fn read_part(one: &Written, from: u64, buf: &mut [u8], device: &dyn VolumeDevice) -> Result<(), Error> {
    let pieces = match one {
        Written::Pieces { pieces, .. } => pieces.as_slice(),
        Written::Plain { .. } | Written::Copied(_) => {
            return device.read_exact_at(one.offset() + from, buf).map_err(Error::io("read", device.name()));
        }
    };
    let end = from + buf.len() as u64;
    for piece in pieces {
        let (first, last) = (piece.pos.max(from), piece.pos.saturating_add(piece.allocated).min(end));
        if first < last {
            let at = |pos: u64| usize::try_from(pos - from).unwrap_or(usize::MAX);
            device
                .read_exact_at(piece.offset + (first - piece.pos), &mut buf[at(first)..at(last)])
                .map_err(Error::io("read", device.name()))?;
        }
    }
    Ok(())
}
