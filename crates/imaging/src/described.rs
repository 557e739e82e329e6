//! A file that is held against its descriptor while it is read: of each range (4 MiB) that anything is wanted of, BLAKE3 is
//! taken of the very bytes that are handed out. One that differs gives nothing.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use gravure_io::ReadAt;
use gravure_model::descriptor::{DESCRIPTOR_VERSION, Digest, ImageDescriptor, RANGE_BYTES};

use crate::Error;

/// Ranges kept. Archives are read front to back, and what is read together may lie across a border.
const KEPT: usize = 2;

/// Wraps a file whose descriptor is at hand.
pub(crate) struct DescribedAt {
    inner: Arc<dyn ReadAt>,
    name: String,
    size: u64,
    range_bytes: u64,
    ranges: Vec<Digest>,
    /// Checked ranges, the one used last at the end.
    kept: Mutex<Vec<(u64, Arc<[u8]>)>>,
}

impl DescribedAt {
    /// Refuses a descriptor that is not one of a WIM of this size. `name` stands in messages.
    pub(crate) fn new(
        inner: Arc<dyn ReadAt>,
        name: &str,
        descriptor: &ImageDescriptor,
    ) -> Result<Self, Error> {
        check_descriptor(name, descriptor)?;
        if inner.size() != descriptor.size_bytes {
            return Err(Error::Differs {
                path: name.to_owned(),
                what: "size by its descriptor, bytes",
                expected: descriptor.size_bytes.to_string(),
                found: inner.size().to_string(),
                more: 0,
            });
        }
        Ok(Self {
            inner,
            name: name.to_owned(),
            size: descriptor.size_bytes,
            range_bytes: u64::from(descriptor.range_bytes),
            ranges: descriptor.ranges.clone(),
            kept: Mutex::default(),
        })
    }

    /// Range `index`, right by the descriptor.
    fn range(&self, index: u64) -> io::Result<Arc<[u8]>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(known, _)| *known == index) {
            if at + 1 < kept.len() {
                let used = kept.remove(at);
                kept.push(used);
            }
            return Ok(Arc::clone(&kept[kept.len() - 1].1));
        }
        let offset = index.saturating_mul(self.range_bytes);
        let expected = usize::try_from(index).ok().and_then(|index| self.ranges.get(index));
        let expected = expected.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let len = self.size.saturating_sub(offset).min(self.range_bytes);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.inner.read_exact_at(offset, &mut bytes)?;
        let found = Digest(*blake3::hash(&bytes).as_bytes());
        if found != *expected {
            return Err(Error::RangeMismatch {
                file: self.name.clone(),
                index,
                offset,
                expected: expected.to_string(),
                found: found.to_string(),
                hits: Vec::new(),
            }
            .into());
        }
        let bytes: Arc<[u8]> = bytes.into();
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((index, Arc::clone(&bytes)));
        Ok(bytes)
    }
}

/// Refuses a descriptor of another kind or version, or one whose numbers do not go together.
pub(crate) fn check_descriptor(name: &str, descriptor: &ImageDescriptor) -> Result<(), Error> {
    let ImageDescriptor { version, format, size_bytes, range_bytes, ranges, .. } = descriptor;
    if *version != DESCRIPTOR_VERSION || format != "wim" {
        let value = format!("{name}: version {version} of format {format}");
        return Err(Error::Unsupported { what: "image descriptor", value });
    }
    let count = size_bytes.div_ceil(u64::from((*range_bytes).max(1)));
    if *range_bytes == 0 || *range_bytes > RANGE_BYTES || count != ranges.len() as u64 {
        return Err(Error::Usage {
            what: format!("descriptor of {name}"),
            expected: format!("{count} ranges of 1 to {RANGE_BYTES} bytes"),
            found: format!("{} of {range_bytes} bytes", ranges.len()),
        });
    }
    Ok(())
}

impl ReadAt for DescribedAt {
    fn size(&self) -> u64 {
        self.size
    }

    /// Whole ranges are read and kept, so reading ahead in smaller steps would only copy.
    fn will_read(&self, _: &[Range<u64>]) -> bool {
        true
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let range = self.range(at / self.range_bytes)?;
            let start = usize::try_from(at % self.range_bytes).unwrap_or(usize::MAX);
            let found = range.get(start..).unwrap_or_default();
            let len = found.len().min(rest.len());
            let (now, after) = rest.split_at_mut(len);
            now.copy_from_slice(&found[..len]);
            (at, rest) = (at + len as u64, after);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gravure_io::MemoryDisk;

    use super::*;
    use crate::ErrorKind;

    const RANGE: u32 = 1 << 10;

    fn descriptor(content: &[u8]) -> ImageDescriptor {
        let digest = |part: &[u8]| Digest(*blake3::hash(part).as_bytes());
        ImageDescriptor {
            version: DESCRIPTOR_VERSION,
            format: "wim".to_owned(),
            size_bytes: content.len() as u64,
            range_bytes: RANGE,
            ranges: content.chunks(RANGE as usize).map(digest).collect(),
            tables: Digest([0; 32]),
            contents_checked: true,
            images: Vec::new(),
        }
    }

    #[test]
    fn what_is_as_described_is_read_and_nothing_else() {
        let content: Vec<u8> = (0..5000u32).map(|n| (n * 7 % 251) as u8).collect();
        let described = descriptor(&content);
        let mut spoiled = content.clone();
        spoiled[3 * RANGE as usize + 5] ^= 1;
        let source = Arc::new(MemoryDisk::from_bytes(spoiled));
        let at = DescribedAt::new(source, "x.wim", &described).unwrap();
        for (offset, len) in [(0, 1), (1000, 2000), (10, 3000), (4096, 904), (5000, 0)] {
            let mut found = vec![0; len];
            at.read_exact_at(offset, &mut found).unwrap();
            assert_eq!(found, content[offset as usize..][..len], "{offset} {len}");
        }
        let error = at.read_exact_at(3000, &mut [0; 200]).unwrap_err().downcast::<Error>().unwrap();
        assert!(matches!(error, Error::RangeMismatch { index: 3, offset: 3072, .. }), "{error}");
        assert_eq!(at.read_exact_at(4999, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn descriptors_of_other_files_are_refused() {
        let content = vec![1; 3000];
        let good = descriptor(&content);
        let kind = |change: &dyn Fn(&mut ImageDescriptor)| {
            let mut described = good.clone();
            change(&mut described);
            let source = Arc::new(MemoryDisk::from_bytes(content.clone()));
            DescribedAt::new(source, "x.wim", &described).err().map(|error| error.kind())
        };
        assert_eq!(kind(&|_| ()), None);
        assert_eq!(kind(&|d| d.version = 2), Some(ErrorKind::Unsupported));
        assert_eq!(kind(&|d| d.format = "gim".to_owned()), Some(ErrorKind::Unsupported));
        assert_eq!(kind(&|d| d.range_bytes = 0), Some(ErrorKind::Usage));
        assert_eq!(kind(&|d| d.ranges.truncate(1)), Some(ErrorKind::Usage));
        assert_eq!(kind(&|d| d.size_bytes -= 1), Some(ErrorKind::Integrity));
    }
}
