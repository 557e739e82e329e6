//! The bytes of one connection: plain, with file content sent by the kernel out of its page cache, or encrypted.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use gravure_linux::bulk;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::Covered;

/// Bytes sent before others have their turn: a third of a millisecond at memory speed. Each turn costs a look at the page cache and
/// at all other connections.
const TURN_BYTES: u64 = 2 << 20;
/// Bodies up to here share a write with their head.
const SMALL_BYTES: usize = 16 << 10;
/// Scratch memory of reading ahead.
const SCRATCH_BYTES: usize = 64 << 10;

/// What an answer carries.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Nothing,
    /// In memory.
    Bytes(Bytes),
    /// A part of a file.
    File {
        file: Arc<File>,
        start: u64,
        len: u64,
    },
}

impl Body {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }
}

/// A connection.
pub(super) enum Channel {
    /// Nothing between us and the network.
    Plain(TcpStream),
    /// Encrypted on its way.
    Covered(Box<dyn Covered>),
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Covered(_) => "Covered",
        })
    }
}

impl Channel {
    /// Reads what there is; 0 at the end.
    pub(super) async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf).await,
            Self::Covered(stream) => stream.read(buf).await,
        }
    }

    /// Sends an answer.
    pub(super) async fn send(&mut self, head: &[u8], body: &Body) -> io::Result<()> {
        match body {
            // Nothing follows a head without content, so it must not wait for that.
            Body::Nothing | Body::File { len: 0, .. } => self.write(head).await,
            Body::Bytes(bytes) if bytes.len() <= SMALL_BYTES => self.write(&[head, bytes].concat()).await,
            Body::Bytes(bytes) => {
                self.write_more(head).await?;
                self.write(bytes).await
            }
            Body::File { file, start, len } => {
                self.write_more(head).await?;
                match self {
                    Self::Plain(stream) => send_file(stream, file, *start, *len).await,
                    Self::Covered(stream) => copy_file(&mut **stream, file, *start, *len).await,
                }
            }
        }
    }

    /// Says that nothing more will come.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Covered(stream) => stream.shutdown().await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Covered(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Writes what is followed by more at once.
    async fn write_more(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => {
                while !bytes.is_empty() {
                    let send = || bulk::send_more(&*stream, bytes);
                    let sent = stream.async_io(Interest::WRITABLE, send).await?;
                    bytes = bytes.get(sent..).unwrap_or_default();
                }
                Ok(())
            }
            Self::Covered(stream) => stream.write_all(bytes).await,
        }
    }
}

/// Sends the same through whatever covers the connection, which needs the bytes in this program.
async fn copy_file(stream: &mut dyn Covered, file: &Arc<File>, start: u64, len: u64) -> io::Result<()> {
    let (mut offset, end) = (start, start.saturating_add(len));
    let mut buf = vec![0; SCRATCH_BYTES];
    while offset < end {
        let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(SCRATCH_BYTES);
        let piece = buf.get_mut(..len).unwrap_or_default();
        if !bulk::read_cached(file, piece, offset).is_ok_and(|read| read == len) {
            let file = Arc::clone(file);
            let read = tokio::task::spawn_blocking(move || {
                buf.resize(len, 0);
                file.read_exact_at(&mut buf, offset).map(|()| buf)
            });
            buf = read.await.map_err(io::Error::other)??;
            buf.resize(SCRATCH_BYTES, 0);
        }
        stream.write_all(buf.get(..len).unwrap_or_default()).await?;
        offset = offset.saturating_add(len as u64);
    }
    stream.flush().await
}

/// Sends `start..start + len`, never waiting for a disk on the event loop.
async fn send_file(stream: &TcpStream, file: &Arc<File>, start: u64, len: u64) -> io::Result<()> {
    let (mut offset, end) = (start, start.saturating_add(len));
    while offset < end {
        let turn = end.saturating_sub(offset).min(TURN_BYTES);
        // The page after the last turn's end was most likely read with it.
        ready(file, offset, turn, offset == start).await?;
        let mut left = turn;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            let send = || bulk::send_file(stream, file, offset, count);
            let sent = stream.async_io(Interest::WRITABLE, send).await? as u64;
            if sent == 0 {
                // A file that became shorter cannot be sent as promised: the connection is cut and the client asks again.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset = offset.saturating_add(sent);
            left = left.saturating_sub(sent);
        }
        if offset < end {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Brings `offset..offset + len` into memory where it is not yet, off the event loop. The kernel reads ahead of who reads
/// in order, so the ends tell; of what goes on where the last turn ended, the far one.
async fn ready(file: &Arc<File>, offset: u64, len: u64, is_first: bool) -> io::Result<()> {
    let last = offset.saturating_add(len).saturating_sub(1);
    if bulk::is_cached(file, last) && (!is_first || last == offset || bulk::is_cached(file, offset)) {
        return Ok(());
    }
    let file = Arc::clone(file);
    let read = tokio::task::spawn_blocking(move || {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut at = offset;
        while at <= last {
            let len = usize::try_from(last.saturating_sub(at).saturating_add(1)).unwrap_or(usize::MAX);
            let len = len.min(SCRATCH_BYTES);
            file.read_exact_at(scratch.get_mut(..len).unwrap_or_default(), at)?;
            at = at.saturating_add(len as u64);
        }
        Ok(())
    });
    read.await.map_err(io::Error::other)?
}
