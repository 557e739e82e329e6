//! Volumes mounted by ntfs-3g, through FUSE.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::path::{Path, PathBuf};

use gravure_testkit::{oracle, unmounted};

/// A mounted volume, until it is dropped.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if !unmounted(&self.0) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// Mounts a volume; `None` after a loud skip where the kernel or the rights for that are missing.
pub(crate) fn mount(volume: &Path, at: &Path, options: &str) -> Option<Mounted> {
    std::fs::create_dir_all(at).unwrap();
    let output = oracle("ntfs-3g")?.args(["-o", options]).arg(volume).arg(at).output().unwrap();
    if !output.status.success() {
        // A machine without FUSE is no machine without an oracle: wimlib fills volumes without it.
        eprintln!("SKIPPED: ntfs-3g cannot mount: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(Mounted(at.to_owned()))
}
