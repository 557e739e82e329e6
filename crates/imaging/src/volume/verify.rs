//! Reading a volume back before it becomes one: metadata byte for byte, contents against their SHA-1.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use gravure_ntfs::{Place, ResidentBytes, VolumePlan};
use gravure_tree::Sha1Hash;
use sha1::{Digest, Sha1};

use super::device::VolumeDevice;
use super::target::place;
use crate::Error;
use crate::meter::Context;
use crate::reading::ReadPlan;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// A content on the volume.
struct Written {
    offset: u64,
    size: u64,
    sha1: Sha1Hash,
    /// Its blob in the plan of reading, for messages.
    blob: usize,
}

/// Reads everything back from the medium. The first difference is an error. Returns how many bytes were right.
pub(super) fn read_back(
    plan: &VolumePlan<'_>,
    reads: &ReadPlan,
    resident: &dyn ResidentBytes,
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
    let written = written(plan, reads);
    contents(&written, reads, device, context)?;
    Ok(verified + written.iter().map(|one| one.size).sum::<u64>())
}

/// Every place of every blob, in the order of the volume.
fn written(plan: &VolumePlan<'_>, reads: &ReadPlan) -> Vec<Written> {
    let mut out = Vec::new();
    for (index, blob) in reads.blobs.iter().enumerate() {
        for wanted in &blob.uses {
            if let Some(Place::Clusters { offset, .. }) = place(plan, *wanted) {
                out.push(Written { offset, size: blob.size, sha1: blob.sha1, blob: index });
            }
        }
    }
    out.sort_by_key(|one| one.offset);
    out
}

/// Hashes contents on all threads, each content on one.
fn contents(
    written: &[Written],
    reads: &ReadPlan,
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
                    if let Err(error) = check(one, reads, device, context, &mut buf) {
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
    device: &dyn VolumeDevice,
    context: &Context<'_>,
    buf: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut hasher = Sha1::new();
    let mut done = 0;
    while done < one.size {
        context.ctl.check()?;
        let step = (one.size - done).min(STEP_BYTES);
        buf.resize(usize::try_from(step).unwrap_or(0), 0);
        device.read_exact_at(one.offset + done, buf).map_err(Error::io("read", device.name()))?;
        hasher.update(&*buf);
        done += step;
    }
    let found = Sha1Hash(hasher.finalize().into());
    if found == one.sha1 {
        return Ok(());
    }
    Err(Error::Differs {
        path: format!("{} at {:#x}, blob {}", device.name(), one.offset, reads.blobs[one.blob].sha1),
        what: "SHA-1 of content read back",
        expected: one.sha1.to_string(),
        found: found.to_string(),
        more: 0,
    })
}
