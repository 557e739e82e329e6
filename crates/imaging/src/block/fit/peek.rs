//! Single places of a block image, read without restoring it: tables and superblocks, before anything is decided.

use std::io;
use std::sync::{Mutex, PoisonError};

use gravure_blockimg::{Extent, ExtentKind, FrameDecoder};
use gravure_io::ReadAt;

use crate::Error;
use crate::block::blockimg;
use crate::block::image::BlockImage;

/// The device of an image. One region's extents and one chunk are kept; meant for few, small reads.
pub(in crate::block) struct Peek<'a> {
    image: &'a BlockImage,
    state: Mutex<State>,
}

struct State {
    decoder: FrameDecoder,
    region: Option<(usize, Vec<Extent>)>,
    /// A chunk with its place.
    chunk: Option<(u64, Vec<u8>)>,
}

impl<'a> Peek<'a> {
    pub(in crate::block) fn new(image: &'a BlockImage) -> Result<Self, Error> {
        let decoder = FrameDecoder::new().map_err(blockimg(image.name()))?;
        Ok(Self { image, state: Mutex::new(State { decoder, region: None, chunk: None }) })
    }

    /// Copies what one extent has from `offset` on; returns the bytes copied.
    fn read_some(&self, state: &mut State, offset: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let regions = &self.image.root().regions;
        let index = regions.partition_point(|region| region.offset.saturating_add(region.len) <= offset);
        if state.region.as_ref().is_none_or(|(at, _)| *at != index) {
            let extents = self.image.extents(&mut state.decoder, index)?;
            state.region = Some((index, extents));
        }
        let Some((_, extents)) = &state.region else { return Ok(0) };
        let at = extents.partition_point(|extent| extent.end() <= offset);
        let Some(extent) = extents.get(at) else { return Ok(0) };
        let count = usize::try_from(extent.end() - offset).unwrap_or(usize::MAX).min(buf.len());
        let ExtentKind::Data(_) = extent.kind else {
            buf[..count].fill(0);
            return Ok(count);
        };
        if state.chunk.as_ref().is_none_or(|(start, _)| *start != extent.offset) {
            let fetches = self.image.fetches(&mut state.decoder, index, extents, &|wanted| wanted == at)?;
            for fetch in &fetches {
                let mut plain = Vec::new();
                let frame = self.image.fetch(fetch, &mut state.decoder, &mut plain)?;
                for target in &fetch.targets {
                    let content = self.image.part(&frame, &plain, target)?;
                    state.chunk = Some((target.offset, content.to_vec()));
                }
            }
        }
        let content = state.chunk.as_ref().filter(|(start, _)| *start == extent.offset);
        let content = content.ok_or_else(|| Error::NotFound {
            what: "chunk at",
            which: format!("{:#x} of {}", extent.offset, self.image.name()),
        })?;
        let from = usize::try_from(offset - extent.offset).unwrap_or(usize::MAX);
        buf[..count].copy_from_slice(&content.1[from..from + count]);
        Ok(count)
    }
}

impl ReadAt for Peek<'_> {
    fn size(&self) -> u64 {
        self.image.root().size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size());
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < buf.len() {
            let count = self.read_some(&mut state, offset + done as u64, &mut buf[done..]);
            match count.map_err(io::Error::other)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}
