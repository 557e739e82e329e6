//! Streams in clusters: any range of one, holes and what was never written as zeros, LZNT1 decoded.

use std::ops::Range;

use gravure_io::ReadAt;

use super::bytes::{at, wide};
use super::lznt1;
use crate::Error;
use crate::disk::Run;

/// Largest unit of LZNT1 that is decoded, bytes: 16 clusters of 4 KiB, the largest that can be compressed.
const MAX_UNIT_BYTES: u64 = 1 << 20;

/// Clusters of a stream side by side on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Place in the stream.
    pub(crate) vcn: u64,
    pub(crate) clusters: u64,
    /// Place on the volume; `None` is a hole.
    pub(crate) lcn: Option<u64>,
}

/// A stream in clusters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stream {
    /// Ascending and without gaps from 0 on.
    pub(crate) extents: Vec<Extent>,
    pub(crate) size: u64,
    pub(crate) initialized: u64,
    pub(crate) cluster_bytes: u64,
    /// Clusters in a unit of LZNT1; 0 when the stream is not compressed.
    pub(crate) unit_clusters: u64,
}

impl Stream {
    /// Clusters, holes included.
    pub(crate) fn clusters(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.vcn.saturating_add(last.clusters))
    }

    /// Appends runs behind what is there.
    pub(crate) fn push(&mut self, runs: &[Run]) {
        for run in runs {
            let vcn = self.clusters();
            if let Some(last) = self.extents.last_mut() {
                let follows = match (last.lcn, run.lcn) {
                    (Some(lcn), Some(next)) => lcn.checked_add(last.clusters) == Some(next),
                    (None, None) => true,
                    _ => false,
                };
                if follows {
                    last.clusters = last.clusters.saturating_add(run.clusters);
                    continue;
                }
            }
            self.extents.push(Extent { vcn, clusters: run.clusters, lcn: run.lcn });
        }
    }

    /// The first cluster that stands anywhere.
    pub(crate) fn first_lcn(&self) -> Option<u64> {
        self.extents.iter().find_map(|extent| extent.lcn)
    }

    /// Absolute offset of byte `pos` of the stream; `None` in holes and behind the end.
    pub(crate) fn offset_of(&self, pos: u64) -> Option<u64> {
        let extent = self.extent_at(pos)?;
        let start = extent.vcn.checked_mul(self.cluster_bytes)?;
        extent.lcn?.checked_mul(self.cluster_bytes)?.checked_add(pos.checked_sub(start)?)
    }

    /// Bytes that are zeros as no cluster holds them, or none was written. Nothing for LZNT1.
    pub(crate) fn holes(&self) -> Vec<Range<u64>> {
        if self.unit_clusters != 0 {
            return Vec::new();
        }
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut add = |start: u64, end: u64| {
            let end = end.min(self.size);
            match found.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ if start < end => found.push(start..end),
                _ => {}
            }
        };
        for extent in self.extents.iter().filter(|extent| extent.lcn.is_none()) {
            let start = extent.vcn.saturating_mul(self.cluster_bytes);
            add(start, start.saturating_add(extent.clusters.saturating_mul(self.cluster_bytes)));
        }
        add(self.initialized, self.size);
        found
    }

    fn extent_at(&self, pos: u64) -> Option<Extent> {
        let vcn = pos.checked_div(self.cluster_bytes)?;
        let index = self.extents.partition_point(|extent| extent.vcn <= vcn).checked_sub(1)?;
        let extent = self.extents.get(index)?;
        (vcn.saturating_sub(extent.vcn) < extent.clusters).then_some(*extent)
    }

    /// Fills `buf` from byte `pos` of the stream. `pos` and the bytes behind it lie inside the stream's size.
    pub(crate) fn read(&self, source: &dyn ReadAt, pos: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = pos.saturating_add(wide(buf.len()));
        if end > self.size {
            return Err(Error::Corrupt {
                what: "range of a stream".to_owned(),
                offset: pos,
                expected: format!("inside its {} bytes", self.size),
                found: format!("{} bytes from {pos}", buf.len()),
            });
        }
        let written = at(self.initialized.clamp(pos, end).saturating_sub(pos));
        let (data, zeros) = buf.split_at_mut(written.min(buf.len()));
        zeros.fill(0);
        if self.unit_clusters == 0 {
            self.read_plain(source, pos, data)
        } else {
            self.read_compressed(source, pos, data)
        }
    }

    /// Reads clusters as they are, whatever the size of the stream says.
    fn read_plain(&self, source: &dyn ReadAt, pos: u64, buf: &mut [u8]) -> Result<(), Error> {
        let (mut pos, mut buf) = (pos, buf);
        while !buf.is_empty() {
            let extent = self.extent_at(pos).ok_or_else(|| Error::Corrupt {
                what: "clusters of a stream".to_owned(),
                offset: pos,
                expected: format!("clusters for {} bytes", self.size),
                found: format!("{} clusters", self.clusters()),
            })?;
            let end = extent.vcn.saturating_add(extent.clusters).saturating_mul(self.cluster_bytes);
            let len = at(end.saturating_sub(pos)).min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            match self.offset_of(pos) {
                Some(offset) => source.read_exact_at(offset, now).map_err(Error::read(offset))?,
                None => now.fill(0),
            }
            pos = pos.saturating_add(wide(len));
            buf = rest;
        }
        Ok(())
    }

    /// Units of LZNT1: one that has all its clusters is stored as it is, one without any is zeros, any other is compressed.
    fn read_compressed(&self, source: &dyn ReadAt, pos: u64, buf: &mut [u8]) -> Result<(), Error> {
        let unit_bytes = self.unit_clusters.saturating_mul(self.cluster_bytes);
        if unit_bytes == 0 || unit_bytes > MAX_UNIT_BYTES {
            return Err(Error::Unsupported {
                what: "unit of compression",
                value: format!("{unit_bytes} bytes"),
            });
        }
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        let (mut pos, mut buf) = (pos, buf);
        while !buf.is_empty() {
            let unit = pos.checked_div(unit_bytes).unwrap_or(0);
            let start = unit.saturating_mul(unit_bytes);
            let skip = at(pos.saturating_sub(start));
            let len = at(unit_bytes).saturating_sub(skip).min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            let allocated = self.allocated_in(unit.saturating_mul(self.unit_clusters));
            if allocated == 0 {
                now.fill(0);
            } else if allocated == self.unit_clusters {
                self.read_plain(source, pos, now)?;
            } else {
                self.decode_unit(source, start, allocated, &mut stored, &mut plain)?;
                now.copy_from_slice(plain.get(skip..skip.saturating_add(len)).unwrap_or_default());
            }
            pos = pos.saturating_add(wide(len));
            buf = rest;
        }
        Ok(())
    }

    /// Decodes the unit that starts at byte `start` and has `allocated` clusters into `plain`.
    fn decode_unit(
        &self,
        source: &dyn ReadAt,
        start: u64,
        allocated: u64,
        stored: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<(), Error> {
        stored.resize(at(allocated.saturating_mul(self.cluster_bytes)), 0);
        self.read_plain(source, start, stored)?;
        plain.resize(at(self.unit_clusters.saturating_mul(self.cluster_bytes)), 0);
        lznt1::decode(stored, plain).map_err(|found| Error::Corrupt {
            what: "unit of a compressed stream".to_owned(),
            offset: self.offset_of(start).unwrap_or(0),
            expected: "LZNT1 data".to_owned(),
            found: found.to_owned(),
        })
    }

    /// Decodes every compressed unit; the first that cannot be is the error. Looks at clusters, not at sizes, which may say anything.
    pub(crate) fn check_units(
        &self,
        source: &dyn ReadAt,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let unit_bytes = self.unit_clusters.saturating_mul(self.cluster_bytes);
        if unit_bytes == 0 || unit_bytes > MAX_UNIT_BYTES {
            return Ok(());
        }
        let (mut stored, mut plain, mut next) = (Vec::new(), Vec::new(), 0u64);
        for extent in self.extents.iter().filter(|extent| extent.lcn.is_some()) {
            let end = extent.vcn.saturating_add(extent.clusters);
            let mut unit = extent.vcn.checked_div(self.unit_clusters).unwrap_or(0).max(next);
            while unit.saturating_mul(self.unit_clusters) < end {
                if unit.is_multiple_of(64) && !goes_on() {
                    return Err(Error::Stopped);
                }
                let allocated = self.allocated_in(unit.saturating_mul(self.unit_clusters));
                if allocated > 0 && allocated < self.unit_clusters {
                    let start = unit.saturating_mul(unit_bytes);
                    self.decode_unit(source, start, allocated, &mut stored, &mut plain)?;
                }
                unit = unit.saturating_add(1);
            }
            next = unit;
        }
        Ok(())
    }

    /// Clusters that stand somewhere before the first hole of the unit that starts at `vcn`.
    fn allocated_in(&self, vcn: u64) -> u64 {
        let end = vcn.saturating_add(self.unit_clusters);
        let first = self.extents.partition_point(|extent| extent.vcn <= vcn).saturating_sub(1);
        let mut found = vcn;
        for extent in self.extents.iter().skip(first) {
            if extent.vcn > found || extent.lcn.is_none() || found >= end {
                break;
            }
            found = found.max(extent.vcn.saturating_add(extent.clusters)).min(end);
        }
        // The last unit of a stream may have fewer clusters than a unit and still be stored as it is.
        let last = self.clusters();
        if found == last && last < end {
            self.unit_clusters.min(found.saturating_sub(vcn))
        } else {
            found.saturating_sub(vcn)
        }
    }
}
