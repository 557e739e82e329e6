//! A disk whose encrypted volumes were opened: each reads as what is inside, as far as that goes, and as zeros behind it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use gravure_disk::FoundKind;
use gravure_io::{ReadAt, Window};
use gravure_unlock::{Key, Limits, unlock};

use super::BlockSource;
use crate::{Error, ErrorKind};

/// An encrypted volume that was opened.
pub(super) struct Opened {
    range: Range<u64>,
    inside: Arc<dyn ReadAt>,
}

/// A source with its opened volumes.
pub(super) struct WithOpened {
    source: Arc<BlockSource>,
    /// Ascending.
    opened: Vec<Opened>,
}

impl WithOpened {
    pub(super) fn new(source: Arc<BlockSource>, mut opened: Vec<Opened>) -> Self {
        opened.sort_by_key(|volume| volume.range.start);
        Self { source, opened }
    }
}

/// Opens what lies in `range` if it is an encrypted volume and one of `keys` fits. `name` is for messages.
pub(super) fn open(
    source: &Arc<BlockSource>,
    range: Range<u64>,
    name: &str,
    keys: &[Key],
) -> Result<Option<(FoundKind, Opened)>, Error> {
    let window = Window::new(Arc::clone(source), range.start, range.end - range.start);
    let found = gravure_disk::recognise(&window).map_err(|error| Error::Other {
        what: format!("look at {name}"),
        source: error.into(),
        kind: ErrorKind::Io,
    })?;
    let is_encrypted = |kind: &FoundKind| matches!(kind, FoundKind::Luks | FoundKind::BitLocker);
    let Some(kind) = found.into_iter().map(|found| found.kind).find(is_encrypted) else { return Ok(None) };
    let window: Arc<dyn ReadAt> = Arc::new(window);
    let mut last = None;
    for key in keys {
        match unlock(Arc::clone(&window), key, &Limits::default()) {
            Ok(inside) => return Ok(Some((kind, Opened { range, inside }))),
            Err(error) => last = Some(error),
        }
    }
    let Some(error) = last else { return Ok(None) };
    let kind = match error.kind() {
        gravure_unlock::ErrorKind::Io => ErrorKind::Io,
        gravure_unlock::ErrorKind::Corrupt => ErrorKind::Integrity,
        gravure_unlock::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Refused,
    };
    Err(Error::Other { what: format!("open {name}"), source: error.into(), kind })
}

impl ReadAt for WithOpened {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        let mut at = offset;
        while at < end {
            let volume = self.opened.iter().find(|volume| volume.range.end > at);
            let stop = match volume {
                Some(volume) if volume.range.start <= at => volume.range.end.min(end),
                Some(volume) => volume.range.start.min(end),
                None => end,
            };
            let piece = &mut buf[(at - offset) as usize..(stop - offset) as usize];
            match volume.filter(|volume| volume.range.start <= at) {
                None => self.source.read_exact_at(at, piece)?,
                Some(volume) => {
                    let within = at - volume.range.start;
                    let left = volume.inside.size().saturating_sub(within).min(piece.len() as u64);
                    let (content, behind) = piece.split_at_mut(left as usize);
                    if !content.is_empty() {
                        volume.inside.read_exact_at(within, content)?;
                    }
                    behind.fill(0);
                }
            }
            at = stop;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_takes_the_place_of_its_volume() {
        let disk = BlockSource::new(Box::new(vec![1_u8; 4096]), "disk", 512);
        let inside = |byte: u8, len: usize| Arc::new(vec![byte; len]) as Arc<dyn ReadAt>;
        let opened = vec![
            Opened { range: 2048..3072, inside: inside(3, 1024) },
            Opened { range: 1024..2048, inside: inside(2, 1000) },
        ];
        let source = WithOpened::new(Arc::new(disk), opened);
        let expected = [vec![1_u8; 1024], vec![2; 1000], vec![0; 24], vec![3; 1024], vec![1; 1024]].concat();
        for (offset, len) in
            [(0, 4096), (1000, 100), (1024, 1024), (2020, 40), (2047, 2), (3000, 1096), (4000, 0)]
        {
            let found = source.read_vec_at(offset, len).unwrap();
            let at = usize::try_from(offset).unwrap();
            assert!(found == expected[at..at + len], "{len} bytes at {offset}");
        }
    }
}
