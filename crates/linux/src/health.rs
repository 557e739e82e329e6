//! Small questions about this machine: free space, a clock that is kept right.

use std::path::Path;

use crate::Error;
use crate::sys::task;

/// Bytes that an ordinary user may still write below `path`.
pub fn free_bytes(path: &Path) -> Result<u64, Error> {
    let found = rustix::fs::statvfs(path).map_err(Error::on_path("look at the space of", path))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether something (NTP, PTP) keeps the clock right, as the kernel was told; `None` when it does not say.
pub fn clock_is_kept() -> Option<bool> {
    task::clock_is_synchronised().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_space_and_a_clock() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        let error = free_bytes(Path::new("/none/such")).unwrap_err().to_string();
        assert!(error.contains("/none/such"), "{error}");
        // Either answer is right; asking must work.
        assert!(clock_is_kept().is_some());
    }
}
