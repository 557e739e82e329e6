//! Which clusters are in use: for images of volumes that keep nothing else.

use gravure_io::ReadAt;

use crate::Error;
use crate::disk::{attribute_type as types, numbers};
use crate::read::Volume;
use crate::read::bytes::{at, wide};
use crate::read::gather::Value;
use crate::read::stream::Stream;

/// Bytes of $Bitmap read at a time.
const STEP_BYTES: usize = 256 << 10;

/// Clusters side by side that are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedRun {
    /// The first.
    pub lcn: u64,
    /// How many.
    pub clusters: u64,
}

/// Iterator over the clusters in use, ascending, by $Bitmap. Runs that touch are one.
pub struct UsedRuns<'a> {
    source: &'a dyn ReadAt,
    stream: Stream,
    clusters: u64,
    /// The next cluster to be looked at.
    next: u64,
    /// First cluster of `bytes`.
    base: u64,
    bytes: Vec<u8>,
    failed: bool,
}

impl std::fmt::Debug for UsedRuns<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsedRuns")
            .field("clusters", &self.clusters)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Volume {
    /// The clusters in use. Whether the map can be believed is for [`Volume::state`] to say: a volume whose log has to be
    /// replayed may use clusters that are not marked.
    pub fn used_runs<'a>(&self, source: &'a dyn ReadAt) -> Result<UsedRuns<'a>, Error> {
        let (_, file) = self.file(source, numbers::BITMAP)?;
        let needed = self.boot().clusters.div_ceil(8);
        match file.get(types::DATA, &[]).map(|data| &data.value) {
            Some(Value::Clusters { stream, .. }) if stream.size >= needed => Ok(UsedRuns {
                source,
                stream: stream.clone(),
                clusters: self.boot().clusters,
                next: 0,
                base: 0,
                bytes: Vec::new(),
                failed: false,
            }),
            other => Err(Error::Corrupt {
                what: "$Bitmap".to_owned(),
                offset: self.mft.offset(u64::from(numbers::BITMAP)),
                expected: format!("{needed} bytes in clusters"),
                found: match other {
                    Some(Value::Clusters { stream, .. }) => format!("{} bytes", stream.size),
                    _ => "none".to_owned(),
                },
            }),
        }
    }

    /// How many clusters are in use.
    pub fn used_clusters(&self, source: &dyn ReadAt) -> Result<u64, Error> {
        self.used_runs(source)?.try_fold(0u64, |sum, run| Ok(sum.saturating_add(run?.clusters)))
    }
}

impl UsedRuns<'_> {
    /// The byte of cluster `lcn`, read when needed.
    fn byte(&mut self, lcn: u64) -> Result<u8, Error> {
        let covered = wide(self.bytes.len()).saturating_mul(8);
        if lcn < self.base || lcn.saturating_sub(self.base) >= covered {
            let pos = lcn >> 3;
            let left = self.clusters.div_ceil(8).saturating_sub(pos);
            self.bytes.resize(at(left).min(STEP_BYTES), 0);
            self.base = pos << 3;
            self.stream.read(self.source, pos, &mut self.bytes)?;
        }
        Ok(self.bytes.get(at(lcn.saturating_sub(self.base) >> 3)).copied().unwrap_or(0))
    }

    /// The first cluster from `next` on that is in use, or free.
    fn find(&mut self, is_used: bool) -> Result<u64, Error> {
        let whole = if is_used { 0 } else { 0xff };
        while self.next < self.clusters {
            let byte = self.byte(self.next)?;
            let bit = u32::try_from(self.next & 7).unwrap_or(0);
            if byte == whole {
                self.next = (self.next >> 3).saturating_add(1) << 3;
                continue;
            }
            let wanted = if is_used { byte } else { !byte };
            let rest = wanted & 0xffu8.checked_shl(bit).unwrap_or(0);
            if rest != 0 {
                self.next = (self.next & !7).saturating_add(u64::from(rest.trailing_zeros()));
                break;
            }
            self.next = (self.next >> 3).saturating_add(1) << 3;
        }
        self.next = self.next.min(self.clusters);
        Ok(self.next)
    }

    fn run(&mut self) -> Result<Option<UsedRun>, Error> {
        let lcn = self.find(true)?;
        if lcn >= self.clusters {
            return Ok(None);
        }
        let end = self.find(false)?;
        Ok(Some(UsedRun { lcn, clusters: end.saturating_sub(lcn) }))
    }
}

impl Iterator for UsedRuns<'_> {
    type Item = Result<UsedRun, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let run = self.run();
        self.failed = run.is_err();
        run.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(bits: &[bool]) -> Vec<UsedRun> {
        let mut bytes = vec![0u8; 512 * bits.len().div_ceil(4096).max(1)];
        for (index, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
            bytes[index / 8] |= 1 << (index % 8);
        }
        let clusters = bytes.len() as u64 / 512;
        let mut stream = Stream {
            size: bytes.len() as u64,
            initialized: bytes.len() as u64,
            cluster_bytes: 512,
            ..Stream::default()
        };
        stream.push(&[crate::disk::Run { clusters, lcn: Some(0) }]);
        let used = UsedRuns {
            source: &bytes,
            stream,
            clusters: bits.len() as u64,
            next: 0,
            base: 0,
            bytes: Vec::new(),
            failed: false,
        };
        used.map(Result::unwrap).collect()
    }

    proptest! {
        #[test]
        fn runs_are_those_of_the_bits(lengths in prop::collection::vec(1usize..300, 0..30), starts_used: bool) {
            let mut bits = Vec::new();
            let mut expected = Vec::new();
            for (index, len) in lengths.iter().enumerate() {
                let is_used = (index % 2 == 0) == starts_used;
                if is_used {
                    expected.push(UsedRun { lcn: bits.len() as u64, clusters: *len as u64 });
                }
                bits.resize(bits.len() + len, is_used);
            }
            prop_assert_eq!(runs(&bits), expected);
        }
    }
}
