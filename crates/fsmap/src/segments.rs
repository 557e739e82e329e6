//! A volume whose bytes lie in pieces on a device: a logical volume of LVM.

use std::io;
use std::ops::Range;

use gravure_io::ReadAt;

/// Bytes side by side, both in the volume and on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First byte in the volume.
    pub logical: u64,
    /// First byte on the device.
    pub physical: u64,
    /// Bytes, never 0.
    pub len: u64,
}

/// A volume made of segments, ascending in the volume and without gaps from 0.
#[derive(Debug, Clone)]
pub struct Segments<D> {
    inner: D,
    segments: Vec<Segment>,
}

impl<D: ReadAt> Segments<D> {
    /// `None` unless the segments follow each other without gaps from 0 and lie inside the device.
    pub fn new(inner: D, segments: Vec<Segment>) -> Option<Self> {
        let mut next = 0u64;
        for segment in &segments {
            let is_inside = segment.physical.checked_add(segment.len)? <= inner.size();
            if segment.logical != next || segment.len == 0 || !is_inside {
                return None;
            }
            next = next.checked_add(segment.len)?;
        }
        Some(Self { inner, segments })
    }

    /// The pieces of `range` of the volume on the device, in the order of the volume.
    pub fn physical(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        physical(&self.segments, range)
    }
}

/// The same of segments alone.
pub(crate) fn physical(segments: &[Segment], range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first =
        segments.partition_point(|segment| segment.logical.saturating_add(segment.len) <= range.start);
    let rest = segments.get(first..).unwrap_or_default().iter();
    rest.take_while(move |segment| segment.logical < range.end).filter_map(move |segment| {
        let start = range.start.max(segment.logical).saturating_sub(segment.logical);
        let end = range.end.saturating_sub(segment.logical).min(segment.len);
        let at = |pos: u64| segment.physical.saturating_add(pos);
        (start < end).then(|| at(start)..at(end))
    })
}

impl<D: ReadAt> ReadAt for Segments<D> {
    fn size(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.logical.saturating_add(last.len))
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = offset.checked_add((*buf).size()).filter(|end| *end <= self.size()).ok_or_else(eof)?;
        let mut rest = buf;
        for piece in self.physical(offset..end) {
            let len = usize::try_from(piece.end.saturating_sub(piece.start)).map_err(|_| eof())?;
            let (part, after) = rest.split_at_mut_checked(len).ok_or_else(eof)?;
            self.inner.read_exact_at(piece.start, part)?;
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: [Segment; 3] = [
        Segment { logical: 0, physical: 40, len: 10 },
        Segment { logical: 10, physical: 0, len: 5 },
        Segment { logical: 15, physical: 60, len: 3 },
    ];

    #[test]
    fn reads_go_over_the_edges_of_segments() {
        let device: Vec<u8> = (0..64).collect();
        let volume = Segments::new(&device, SEGMENTS.to_vec()).unwrap();
        assert_eq!(volume.size(), 18);
        assert_eq!(volume.read_vec_at(8, 9).unwrap(), [48, 49, 0, 1, 2, 3, 4, 60, 61]);
        assert_eq!(volume.read_vec_at(17, 1).unwrap(), [62]);
        assert!(volume.read_vec_at(17, 2).is_err());
        assert_eq!(volume.physical(9..16).collect::<Vec<_>>(), [49..50, 0..5, 60..61]);
        assert_eq!(volume.physical(18..99).count(), 0);
    }

    #[test]
    fn rejects_gaps_and_segments_outside_the_device() {
        let device = vec![0; 62];
        assert!(Segments::new(&device, SEGMENTS.to_vec()).is_none());
        assert!(Segments::new(&device, SEGMENTS[1..2].to_vec()).is_none());
        assert!(Segments::new(&device, SEGMENTS[..2].to_vec()).is_some());
        let far = Segment { logical: 0, physical: u64::MAX, len: 2 };
        assert!(Segments::new(&device, vec![far]).is_none());
    }
}
