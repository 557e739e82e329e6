//! The memory bound of solid images: (threads + 2) x 2 chunks above what every image may take, however large the image and
//! whatever the number of threads.
//!
//! This file holds one test, so that nothing else runs in its process.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "it/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::{large_sample, open, peak_bytes};
use gravure_imaging::{
    ApplyOptions, CaptureForm, CaptureOptions, Compression, CompressionChange, ExportOptions, FormChange,
    ImageFile, Method, RewriteOptions, Selection, VerifyFileOptions, apply_to_directory, capture_directory,
    export, verify_file,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;

/// What an image without large chunks may take, bytes.
const BASE_BYTES: u64 = 64 << 20;

/// From the solid file to one that is not, and back to a solid one.
fn recompress(image: &Path, dir: &Path, threads: usize, solid: Compression, limit: u64) {
    let (plain, again) = (dir.join("plain.wim"), dir.join("again.wim"));
    for (from, to, form) in
        [(image, &plain, CaptureForm::Normal), (&plain, &again, CaptureForm::Solid(solid))]
    {
        let rewrite = RewriteOptions {
            threads: Some(threads),
            compression: CompressionChange::To(Some(Compression::XPRESS_32K)),
            form: FormChange::To(form),
            ..RewriteOptions::default()
        };
        let options = ExportOptions { rewrite, ..ExportOptions::default() };
        let file = ImageFile::open_path(from).unwrap();
        let made = export(&file, Selection::All, to, &options, &Ctl::default(), &Silent).unwrap();
        assert!(made.encoded_blobs > 900 && made.copied_blobs == 0, "{made:?}");
        let peak = peak_bytes();
        assert!(peak < limit, "to {form:?} with {threads} threads: {peak} bytes, limit {limit}");
    }
    fs::remove_file(plain).unwrap();
    fs::remove_file(again).unwrap();
}

#[test]
fn memory_of_solid_images_is_bounded_by_chunks_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = large_sample(dir.path(), 1 << 18);
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
        if threads == 2 {
            let limit = limit + threads as u64 * 20 * u64::from(chunk_bytes);
            recompress(&image, dir.path(), threads, compression, limit);
        }
    }
    let file = ImageFile::open_path(&image).unwrap();
    let report = verify_file(&file, &VerifyFileOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}
