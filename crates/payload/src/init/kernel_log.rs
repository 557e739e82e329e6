//! What the kernel complained about last: records of `/dev/kmsg` (kernel documentation, ABI/testing/dev-kmsg).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// `O_NONBLOCK`, the same on all architectures we build for.
const O_NONBLOCK: i32 = 0o4000;
/// Longest record: the kernel's own bound with its dictionary is 8 KiB.
const RECORD_BYTES: usize = 8192;
/// Records looked through; the kernel's ring holds some thousand.
const MAX_RECORDS: usize = 100_000;
/// Warnings and what is worse.
const LEVEL: u8 = 4;

/// The last `count` complaints, oldest first; empty when the log cannot be read.
pub(super) fn complaints(count: usize) -> Vec<String> {
    let mut last = VecDeque::new();
    let Ok(mut log) = File::options().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg") else {
        return Vec::new();
    };
    let mut buf = [0; RECORD_BYTES];
    for _ in 0..MAX_RECORDS {
        match log.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => {
                if let Some(line) = buf.get(..len).and_then(complaint) {
                    if last.len() >= count {
                        last.pop_front();
                    }
                    last.push_back(line);
                }
            }
            // The record was overwritten while we read; the next one is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    last.into()
}

/// `priority,sequence,microseconds,flags;text`, then lines of a dictionary that begin with a blank.
fn complaint(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (head, rest) = text.split_once(';')?;
    let mut fields = head.split(',');
    let level = fields.next()?.parse::<u32>().ok()? & 7;
    let micros: u64 = fields.nth(1)?.parse().ok()?;
    let line = rest.lines().next()?;
    (level <= u32::from(LEVEL))
        .then(|| format!("[{:5}.{:03}] kernel: {line}", micros / 1_000_000, micros / 1000 % 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_complaints_of_the_kernel() {
        let record = b"3,812,1500123,-;Out of memory: Killed process 70\n SUBSYSTEM=mm\n";
        assert_eq!(
            complaint(record).as_deref(),
            Some("[    1.500] kernel: Out of memory: Killed process 70")
        );
        assert_eq!(complaint(b"6,1,0,-;Linux version 6.12"), None);
        assert_eq!(complaint(b"30,1,0,-;gravure: info of a program"), None);
        assert_eq!(
            complaint(b"27,1,5,-;error of a program").as_deref(),
            Some("[    0.000] kernel: error of a program")
        );
        for odd in [&b""[..], b"no record", b"x,1,2,-;text", b"3;text"] {
            assert_eq!(complaint(odd), None);
        }
    }
}
