//! The memory bound: however large the image, a process that captures, applies and verifies it stays below 64 MiB, and
//! the bound does not grow with the number of threads.
//!
//! This file holds one test, so that nothing else runs in its process.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs::{self, File};
use std::io::Write;

use common::{damage, open};
use gravure_imaging::{ApplyOptions, CaptureOptions, Compression, apply_to_directory, capture_directory};
use gravure_model::Ctl;
use gravure_model::event::Silent;

/// What the whole process may take, bytes.
const LIMIT_BYTES: u64 = 64 << 20;

fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn memory_stays_bounded_whatever_the_size_and_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    // 150 MB in one large file and many small ones; half of it does not shrink.
    let mut random = gravure_testkit::Random::new(1);
    let mut block = vec![0; 1 << 20];
    random.fill(&mut block[..1 << 19]);
    let mut large = File::create(source.join("large")).unwrap();
    for number in 0..100u32 {
        block[..4].copy_from_slice(&number.to_le_bytes());
        large.write_all(&block).unwrap();
    }
    for number in 0..1000u32 {
        block[..4].copy_from_slice(&number.to_le_bytes());
        fs::write(source.join(format!("small{number}")), &block[..50_000]).unwrap();
    }
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
