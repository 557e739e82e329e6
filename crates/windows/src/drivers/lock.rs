//! One writer of a repository at a time: the lock on its marker.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Held while descriptions and index are written; the operating system takes it back from a process that ends.
#[derive(Debug)]
pub(super) struct WriteLock {
    _marker: File,
}

impl WriteLock {
    /// Waits for the lock as long as `patience`. Fails where nothing can be written.
    pub(super) fn take(marker: &Path, patience: Duration) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).open(marker).map_err(Error::io("lock", marker))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _marker: file }),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let why = format!("another process has written for {} s", patience.as_secs());
                    return Err(Error::io("lock", marker)(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", marker)(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_others_wait_until_it_is_given_back() {
        let temp = tempfile::tempdir().unwrap();
        let marker = temp.path().join("marker");
        assert!(matches!(WriteLock::take(&marker, Duration::ZERO), Err(Error::Io { what: "lock", .. })));
        std::fs::write(&marker, b"{}").unwrap();
        let first = WriteLock::take(&marker, Duration::ZERO).unwrap();
        let Err(Error::Io { source, .. }) = WriteLock::take(&marker, Duration::ZERO) else { panic!() };
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
        thread::scope(|scope| {
            let second = scope.spawn(|| WriteLock::take(&marker, Duration::from_secs(60)).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
        assert_eq!(std::fs::read(&marker).unwrap(), b"{}");
    }
}
