//! Moving file content without copies and without waiting for disks: what servers with many clients need.
//!
//! Functions work on any socket by descriptor, as those of [`crate::udp`] do; what would wait returns `WouldBlock`.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;

use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;

/// Sends up to `len` bytes of `file` from `offset` on, out of the page cache and without a copy in this program
/// (sendfile(2)). Gives how many went; 0 when the file ends before `offset`. Waits for the disk where the content is not
/// in memory: ask [`is_cached`] first.
pub fn send_file(socket: impl AsFd, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    let mut offset = offset;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), len)?)
}

/// Sends `bytes` of which more follows at once, so that both share a segment (`MSG_MORE`). A closed connection is an
/// error, never a signal.
pub fn send_more(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?)
}

/// Reads what of `offset..offset + buf.len()` is in memory, without waiting for a disk (preadv2(2), `RWF_NOWAIT`).
/// `WouldBlock` when the first byte is not, or when the file system cannot say.
pub fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
        Ok(len) => Ok(len),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the byte at `offset` is in memory; false where nobody can say.
pub fn is_cached(file: &File, offset: u64) -> bool {
    // Beyond the end there is nothing to wait for either.
    read_cached(file, &mut [0], offset).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_part_of_a_file_goes_out_behind_a_head() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(send_more(&ours, b"head:").unwrap(), 5);
        assert_eq!(send_file(&ours, &file, 3, 4).unwrap(), 4);
        assert_eq!(send_file(&ours, &file, 8, 100).unwrap(), 2);
        assert_eq!(send_file(&ours, &file, 10, 100).unwrap(), 0, "the end");
        drop(ours);
        let mut said = String::new();
        theirs.read_to_string(&mut said).unwrap();
        assert_eq!(said, "head:345689");
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(send_more(&ours, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_was_just_written_is_in_memory() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 9000]).unwrap();
        let mut buf = [0; 100];
        match read_cached(&file, &mut buf, 8950) {
            Ok(len) => {
                assert_eq!((len, buf[49], buf[50]), (50, 7, 0));
                assert!(is_cached(&file, 0) && is_cached(&file, 1 << 40));
            }
            // A file system that cannot say: then the answer is always no.
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                assert!(!is_cached(&file, 0));
            }
        }
    }
}
