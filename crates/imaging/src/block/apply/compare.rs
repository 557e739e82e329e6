//! What stands on a device compared with the extents of an image: before a restore, to leave what is there, and after it.

use std::sync::atomic::{AtomicU64, Ordering};

use gravure_blockimg::{ChunkId, Extent, ExtentKind};

use super::super::capture::is_zero;
use super::Run;
use crate::Error;
use crate::stage::{self, Item, Outbox, Work};
use crate::volume::VolumeDevice;

/// Bytes of one item when the device is read.
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

/// Which of them differ.
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

impl Run<'_> {
    /// Compares extents with the device on all cores. What cannot be read there differs when it is counted, or else is an error.
    pub(super) fn compare(
        &self,
        is_wanted: &(dyn Fn(&Extent) -> bool + Sync),
        on_region: &(dyn Fn(usize) + Sync),
        faulty: Option<&AtomicU64>,
        sink: &mut dyn FnMut(Differing) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let threads = self.context.threads;
        let mut decoder = self.decoder()?;
        let mut region = 0;
        let mut extents: Vec<Extent> = Vec::new();
        let mut next = 0;
        let bytes = AtomicU64::new(0);
        let source = |_: &mut Vec<u8>| {
            loop {
                if next >= extents.len() {
                    if region >= self.image.root().regions.len() {
                        return Ok(None);
                    }
                    extents = self.image.extents(&mut decoder, region)?;
                    on_region(extents.len());
                    (region, next) = (region + 1, 0);
                    continue;
                }
                if !is_wanted(&extents[next]) {
                    next += 1;
                    continue;
                }
                let first = next;
                let mut sum = 0;
                while next < extents.len()
                    && next - first < BATCH_EXTENTS
                    && is_wanted(&extents[next])
                    && (next == first || sum + extents[next].len <= BATCH_BYTES)
                {
                    let extent = &extents[next];
                    sum += if extent.id().is_some() || extent.reads_zero() { extent.len } else { 0 };
                    next += 1;
                }
                let batch = extents[first..next].to_vec();
                let data: u64 = batch.iter().filter(|extent| extent.id().is_some()).map(|e| e.len).sum();
                bytes.fetch_add(sum, Ordering::Relaxed);
                self.meter.add(data);
                return Ok(Some(Check { region: region - 1, first, extents: batch }));
            }
        };
        let permits = (0..threads + 4).map(|_| Vec::new()).collect();
        let workers = (0..threads).map(|_| Comparer { device: self.device, faulty }).collect();
        stage::run(self.context.ctl, permits, workers, source, |result, _| sink(result?))?;
        Ok(bytes.into_inner())
    }
}
