//! Content of a transfer, read in pieces so that lock-step clients do not cost a call of the kernel each block. What is in
//! the page cache is read at once; the event loop never waits for a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use gravure_linux::bulk;

/// Bytes read at once, if the window is not longer. Each client holds so many, and there are hundreds; the disk is read in
/// larger pieces by the kernel.
const PIECE_BYTES: usize = 8 << 10;

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
        piece.resize(want, 0);
        self.start = offset;
        if bulk::read_cached(&self.file, &mut piece, offset).is_ok_and(|len| len == want) {
            self.piece = piece;
            return Ok(());
        }
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            // A file that became shorter cannot be sent as promised.
            file.read_exact_at(&mut piece, offset).map(|()| piece)
        });
        self.piece = read.await.map_err(io::Error::other)??;
        Ok(())
    }
}
