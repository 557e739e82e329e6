//! What a device holds, held against what an image says: extents are read and hashed on all cores.

use std::sync::atomic::{AtomicU64, Ordering};

use gravure_blockimg::{ChunkId, Extent, ExtentKind};

use super::capture::is_zero;
use crate::Error;
use crate::meter::Context;
use crate::stage::{self, Item, Outbox, Work};
use crate::volume::VolumeDevice;

/// Bytes of one item.
const BATCH_BYTES: u64 = 1 << 20;
/// Extents in one item.
const BATCH_EXTENTS: usize = 2048;

/// Extents that are compared with the device.
#[derive(Debug)]
struct Check {
    region: usize,
    /// Position of the first one in its region.
    first: usize,
    extents: Vec<Extent>,
}

/// A region, and which of its extents differ.
pub(super) type Differing = (usize, Vec<usize>);

struct Comparer<'a> {
    device: &'a dyn VolumeDevice,
    /// Counts the bytes that cannot be read, which differ then; without it, such a place ends the work.
    faulty: Option<&'a AtomicU64>,
}

impl Work<Check, Vec<u8>, Result<Differing, Error>> for Comparer<'_> {
    fn work(&mut self, mut item: Item<Check, Vec<u8>>, out: &Outbox<Result<Differing, Error>, Vec<u8>>) {
        let mut differing = Vec::new();
        let mut result = Ok(());
        for (at, extent) in item.job.extents.iter().enumerate() {
            match is_there(self.device, extent, &mut item.permit) {
                Ok(true) => {}
                Ok(false) => differing.push(item.job.first + at),
                Err(error) => match self.faulty {
                    // Drives replace a sector that cannot be read when it is written.
                    Some(faulty) => {
                        faulty.fetch_add(extent.len, Ordering::Relaxed);
                        differing.push(item.job.first + at);
                    }
                    None => {
                        result = Err(error);
                        break;
                    }
                },
            }
        }
        let region = item.job.region;
        out.done(item.ticket, result.map(|()| (region, differing)), item.permit);
    }
}

/// Whether the device holds what the extent says.
pub(super) fn is_there(device: &dyn VolumeDevice, extent: &Extent, buf: &mut Vec<u8>) -> Result<bool, Error> {
    let read = |offset, buf: &mut Vec<u8>, len: u64| {
        buf.resize(len as usize, 0);
        device.read_exact_at(offset, buf).map_err(Error::io("read", device.name()))
    };
    match extent.kind {
        ExtentKind::Data(id) => {
            read(extent.offset, buf, extent.len)?;
            Ok(ChunkId::of(buf) == id)
        }
        _ if extent.reads_zero() => {
            let mut offset = extent.offset;
            while offset < extent.end() {
                let len = BATCH_BYTES.min(extent.end() - offset);
                read(offset, buf, len)?;
                if !is_zero(buf) {
                    return Ok(false);
                }
                offset += len;
            }
            Ok(true)
        }
        _ => Ok(true),
    }
}

/// What extents are looked for where.
pub(super) struct Comparison<'a> {
    pub(super) context: Context<'a>,
    pub(super) device: &'a dyn VolumeDevice,
    /// Which of them.
    pub(super) is_wanted: &'a (dyn Fn(&Extent) -> bool + Sync),
    /// Told the bytes of data that are about to be read.
    pub(super) on_bytes: &'a (dyn Fn(u64) + Sync),
    /// Counts the bytes that cannot be read, which differ then; without it, such a place is an error.
    pub(super) faulty: Option<&'a AtomicU64>,
}

impl Comparison<'_> {
    /// Compares region after region, as `next` gives them. Returns the bytes that were read.
    pub(super) fn run(
        &self,
        mut next: impl FnMut() -> Result<Option<Vec<Extent>>, Error> + Send,
        sink: &mut dyn FnMut(Differing) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let threads = self.context.threads;
        let mut regions = 0;
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = 0;
        let bytes = AtomicU64::new(0);
        let source = |_: &mut Vec<u8>| {
            loop {
                if at >= extents.len() {
                    let Some(found) = next()? else { return Ok(None) };
                    (extents, at) = (found, 0);
                    regions += 1;
                    continue;
                }
                if !(self.is_wanted)(&extents[at]) {
                    at += 1;
                    continue;
                }
                let first = at;
                let mut sum = 0;
                while at < extents.len()
                    && at - first < BATCH_EXTENTS
                    && (self.is_wanted)(&extents[at])
                    && (at == first || sum + extents[at].len <= BATCH_BYTES)
                {
                    let extent = &extents[at];
                    sum += if extent.id().is_some() || extent.reads_zero() { extent.len } else { 0 };
                    at += 1;
                }
                let batch = extents[first..at].to_vec();
                let data: u64 = batch.iter().filter(|extent| extent.id().is_some()).map(|e| e.len).sum();
                bytes.fetch_add(sum, Ordering::Relaxed);
                (self.on_bytes)(data);
                return Ok(Some(Check { region: regions - 1, first, extents: batch }));
            }
        };
        let permits = (0..threads + 4).map(|_| Vec::new()).collect();
        let workers = (0..threads).map(|_| Comparer { device: self.device, faulty: self.faulty }).collect();
        stage::run(self.context.ctl, permits, workers, source, |result, _| sink(result?))?;
        Ok(bytes.into_inner())
    }
}

/// The error for an extent that is not what the image says, and so many more.
pub(super) fn differs(device: &dyn VolumeDevice, extent: &Extent, more: u64) -> Error {
    Error::Differs {
        path: format!("{} at {:#x}", device.name(), extent.offset),
        what: "content",
        expected: extent.id().map_or_else(
            || format!("{} zeros", extent.len),
            |id| format!("{} bytes with BLAKE3 {id}", extent.len),
        ),
        found: "another".to_owned(),
        more,
    }
}
