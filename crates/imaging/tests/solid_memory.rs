//! The memory bound of solid images: (threads + 2) x 2 chunks above what every image may take, however large the image and
//! whatever the number of threads.
//!
//! This file holds one test, so that nothing else runs in its process.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs::{self, File};
use std::io::Write;

use common::open;
use gravure_imaging::{
    ApplyOptions, CaptureForm, CaptureOptions, Compression, ImageFile, Method, VerifyFileOptions,
    apply_to_directory, capture_directory, verify_file,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;

/// What an image without large chunks may take, bytes.
const BASE_BYTES: u64 = 64 << 20;

fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn memory_of_solid_images_is_bounded_by_chunks_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    let mut random = gravure_testkit::Random::new(1);
    let mut block = vec![0; 1 << 20];
    random.fill(&mut block[..1 << 18]);
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
    // Few threads first: the peak of a process never falls.
    for (threads, chunk_bytes) in [(1, 2u32 << 20), (2, 2 << 20), (12, 2 << 20)] {
        let limit = BASE_BYTES + (threads as u64 + 2) * 2 * u64::from(chunk_bytes);
        let compression = Compression::new(Method::Lzx, chunk_bytes).unwrap();
        let options = CaptureOptions {
            threads: Some(threads),
            form: CaptureForm::Solid(compression),
            ..CaptureOptions::default()
        };
        if threads < 12 {
            capture_directory(&source, &image, &options, &Ctl::default(), &Silent).unwrap();
            // Encoders come on top: positions and hashes of a window, some 20 bytes for each of a chunk.
            let captured = peak_bytes();
            let limit = limit + threads as u64 * 20 * u64::from(chunk_bytes);
            assert!(captured < limit, "capture with {threads} threads: {captured} bytes, limit {limit}");
        }
        let target = dir.path().join(format!("t{threads}"));
        let options = ApplyOptions { threads: Some(threads), ..ApplyOptions::default() };
        apply_to_directory(&open(&image), &target, &options, &Ctl::default(), &Silent).unwrap();
        fs::remove_dir_all(&target).unwrap();
        let applied = peak_bytes();
        let limit = limit + 2 * 20 * u64::from(chunk_bytes);
        assert!(applied < limit, "apply with {threads} threads: {applied} bytes, limit {limit}");
    }
    let file = ImageFile::open_path(&image).unwrap();
    let report = verify_file(&file, &VerifyFileOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}
