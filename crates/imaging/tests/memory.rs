//! The memory bound: however large the image, a process that captures, applies and verifies it stays below 64 MiB, and
//! the bound does not grow with the number of threads.
//!
//! This file holds one test, so that nothing else runs in its process.

#[path = "it/common/mod.rs"]
mod common;

use std::fs;

use common::{damage, large_sample, open, peak_bytes};
use gravure_imaging::{ApplyOptions, CaptureOptions, Compression, apply_to_directory, capture_directory};
use gravure_model::Ctl;
use gravure_model::event::Silent;

/// What the whole process may take, bytes.
const LIMIT_BYTES: u64 = 64 << 20;

#[test]
fn memory_stays_bounded_whatever_the_size_and_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = large_sample(dir.path(), 1 << 19);
    let image = dir.path().join("x.wim");
    let before = peak_bytes();
    for threads in [2, 24] {
        let compression = Some(Compression::XPRESS_32K);
        let options = CaptureOptions { threads: Some(threads), compression, ..CaptureOptions::default() };
        capture_directory(&source, &image, &options, &Ctl::default(), &Silent).unwrap();
        let captured = peak_bytes();
        assert!(captured < LIMIT_BYTES, "capture with {threads} threads: {captured} bytes, {before} before");
        let target = dir.path().join(format!("t{threads}"));
        let options = ApplyOptions { threads: Some(threads), ..ApplyOptions::default() };
        apply_to_directory(&open(&image), &target, &options, &Ctl::default(), &Silent).unwrap();
        fs::remove_dir_all(&target).unwrap();
        let applied = peak_bytes();
        assert!(applied < LIMIT_BYTES, "apply with {threads} threads: {applied} bytes");
    }
    assert_eq!(damage(&image).unwrap(), [""; 0]);
    assert!(peak_bytes() < LIMIT_BYTES, "verify: {} bytes", peak_bytes());
}
