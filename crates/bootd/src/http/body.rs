//! Bodies whose length is known before the first byte, read from disk one piece ahead of the network.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

/// Bytes read at once. Two pieces are in memory for each running answer.
const PIECE_BYTES: u64 = 256 << 10;
/// Buffers kept for the next pieces, 16 MiB in all: a new one of this size costs a call of the kernel and a page fault for each
/// 4 KiB, more than what is read into it.
const MAX_SPARE: usize = 64;

/// Buffers that were sent.
static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A piece of a file on its way; its buffer is used again.
struct Piece {
    buffer: Box<[u8]>,
    len: usize,
}

impl Piece {
    fn new(len: u64) -> Self {
        let len = usize::try_from(len.min(PIECE_BYTES)).unwrap_or(0);
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let whole = usize::try_from(PIECE_BYTES).unwrap_or(0);
        Self { buffer: spare.unwrap_or_else(|| vec![0; whole].into()), len }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Content {
    /// In memory; `None` once sent.
    Bytes(Option<Bytes>),
    /// A part of a file.
    File(FilePart),
}

impl Content {
    pub(super) fn bytes(bytes: Bytes) -> Self {
        Self::Bytes(Some(bytes))
    }

    pub(super) fn file(file: File, offset: u64, len: u64) -> Self {
        Self::File(FilePart { file: Arc::new(file), next: offset, unread: len, unsent: len, reading: None })
    }
}

/// Bytes of a file from an offset on.
#[derive(Debug)]
pub(crate) struct FilePart {
    file: Arc<File>,
    /// Where the next read starts.
    next: u64,
    unread: u64,
    unsent: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FilePart {
    fn read_ahead(&mut self) {
        let len = self.unread.min(PIECE_BYTES);
        if len == 0 || self.reading.is_some() {
            return;
        }
        let (file, offset) = (Arc::clone(&self.file), self.next);
        self.next = self.next.saturating_add(len);
        self.unread = self.unread.saturating_sub(len);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut piece = Piece::new(len);
            // A file that became shorter cannot be sent as promised: the connection is cut and the client asks again.
            file.read_exact_at(piece.bytes_mut(), offset).map(|()| Bytes::from_owner(piece))
        }));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.read_ahead();
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let piece = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let piece = match piece.map_err(io::Error::other) {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) | Err(error) => {
                self.unread = 0;
                return Poll::Ready(Some(Err(error)));
            }
        };
        self.unsent = self.unsent.saturating_sub(piece.len() as u64);
        self.read_ahead();
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match self.get_mut() {
            Self::Bytes(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()).map(Ok),
            Self::File(part) => ready!(part.poll(context)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::File(part) => part.unsent == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(part) => part.unsent,
        })
    }
}
