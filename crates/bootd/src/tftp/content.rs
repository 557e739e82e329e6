//! Content of a transfer, read ahead in pieces so that lock-step clients do not cost a disk access each block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hyper::body::Bytes;

/// Bytes read at once; more than a window of most clients, small enough for hundreds of them.
const PIECE_BYTES: usize = 64 << 10;

/// What is sent.
#[derive(Debug)]
pub(super) enum Content {
    /// In memory.
    Bytes(Bytes),
    /// On disk.
    File(CachedFile),
}

/// A file with the piece read last.
#[derive(Debug)]
pub(super) struct CachedFile {
    file: Arc<File>,
    len: u64,
    piece: Vec<u8>,
    start: u64,
}

impl Content {
    pub(super) fn file(file: File, len: u64) -> Self {
        Self::File(CachedFile { file: Arc::new(file), len, piece: Vec::new(), start: 0 })
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.len,
        }
    }

    /// Makes `offset..offset + len` available to [`Content::get`].
    pub(super) async fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        match self {
            Self::Bytes(_) => Ok(()),
            Self::File(file) => file.load(offset, len).await,
        }
    }

    /// Bytes that were loaded; `None` when they were not.
    pub(super) fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let (bytes, start) = match self {
            Self::Bytes(bytes) => (&bytes[..], 0),
            Self::File(file) => (&file.piece[..], file.start),
        };
        let pos = usize::try_from(offset.checked_sub(start)?).ok()?;
        bytes.get(pos..pos.checked_add(len)?)
    }
}

impl CachedFile {
    async fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let end = offset.saturating_add(len as u64);
        if offset >= self.start && end <= self.start.saturating_add(self.piece.len() as u64) {
            return Ok(());
        }
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = len.max(PIECE_BYTES).min(left);
        let mut piece = std::mem::take(&mut self.piece);
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            piece.resize(want, 0);
            // A file that became shorter cannot be sent as promised.
            file.read_exact_at(&mut piece, offset).map(|()| piece)
        });
        self.piece = read.await.map_err(io::Error::other)??;
        self.start = offset;
        Ok(())
    }
}
