//! Where files lie: for cutting chunks at their edges, so that images of different file systems share content.

/// A piece of a file that lies on the device in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileExtent {
    /// Absolute byte of the device.
    pub offset: u64,
    /// Bytes allocated.
    pub len: u64,
    /// Position in the file of the first byte. Chunks cut at multiples of the chunk size *of the file* are equal on any file
    /// system, however the file is split there.
    pub file_offset: u64,
    /// Bytes of the file's content, at most `len`; what follows to the end of the extent is padding.
    pub content: u64,
}

/// Collects extents in any order; when there are too many, the shortest go.
#[derive(Debug)]
pub(crate) struct Extents {
    max: usize,
    min_len: u64,
    all: Vec<FileExtent>,
    /// Left out because there were too many.
    dropped: u64,
}

impl Extents {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, min_len: 1, all: Vec::new(), dropped: 0 }
    }

    pub(crate) fn push(&mut self, extent: FileExtent) {
        if extent.len < self.min_len || self.max == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.all.push(extent);
        while self.all.len() > self.max {
            self.min_len = self.min_len.saturating_mul(2);
            let before = self.all.len();
            self.all.retain(|extent| extent.len >= self.min_len);
            let gone = before.saturating_sub(self.all.len());
            self.dropped = self.dropped.saturating_add(crate::field::wide(gone));
        }
    }

    /// Ascending by offset; of those that overlap, which only a damaged file system has, the first stays. And how many were
    /// left out.
    pub(crate) fn finish(mut self) -> (Vec<FileExtent>, u64) {
        self.all.sort_unstable_by_key(|extent| (extent.offset, extent.len));
        let mut end = 0u64;
        self.all.retain(|extent| {
            let is_apart = extent.offset >= end;
            if is_apart {
                end = extent.offset.saturating_add(extent.len);
            }
            is_apart
        });
        self.all.shrink_to_fit();
        (self.all, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_extents_lose_the_short_ones() {
        let mut extents = Extents::new(10);
        for n in (0..40u64).rev() {
            let len = if n % 8 == 0 { 4096 } else { 100 + n };
            extents.push(FileExtent { offset: n * 8192, len, file_offset: 0, content: len });
        }
        let (all, dropped) = extents.finish();
        let offsets: Vec<u64> = all.iter().map(|extent| extent.offset / 8192).collect();
        assert_eq!(offsets, [0, 8, 16, 24, 32]);
        assert_eq!(dropped, 35);
    }

    #[test]
    fn extents_that_overlap_are_left_out() {
        let mut extents = Extents::new(10);
        for (offset, len) in [(50, 10), (0, 20), (10, 5), (20, 30), (55, 1)] {
            extents.push(FileExtent { offset, len, file_offset: 0, content: len });
        }
        let (all, _) = extents.finish();
        let places: Vec<(u64, u64)> = all.iter().map(|extent| (extent.offset, extent.len)).collect();
        assert_eq!(places, [(0, 20), (20, 30), (50, 10)]);
    }
}
