//! The memory bound holds for recompression, with what was written read back: below 64 MiB whatever the size of the image
//! and the number of threads.
//!
//! This file holds one test, so that nothing else runs in its process.

#[path = "it/common/mod.rs"]
mod common;

use common::{capture, damage, large_sample, peak_bytes};
use gravure_imaging::{
    CaptureOptions, Compression, CompressionChange, ExportOptions, ImageFile, Method, Recompress,
    RewriteOptions, Selection, export,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;

/// What the whole process may take, bytes.
const LIMIT_BYTES: u64 = 64 << 20;

#[test]
fn memory_of_recompression_stays_bounded_whatever_the_size_and_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = large_sample(dir.path(), 1 << 19);
    let (image, made) = (dir.path().join("x.wim"), dir.path().join("y.wim"));
    let compression = Some(Compression::XPRESS_32K);
    capture(&source, &image, &CaptureOptions { threads: Some(2), compression, ..CaptureOptions::default() });
    let before = peak_bytes();
    for threads in [2, 24] {
        let rewrite = RewriteOptions {
            threads: Some(threads),
            compression: CompressionChange::To(Some(Compression::new(Method::Xpress, 1 << 14).unwrap())),
            recompress: Recompress::Everything,
            ..RewriteOptions::default()
        };
        let (options, file) =
            (ExportOptions { rewrite, ..ExportOptions::default() }, ImageFile::open_path(&image).unwrap());
        let report = export(&file, Selection::All, &made, &options, &Ctl::default(), &Silent).unwrap();
        assert!(report.encoded_blobs > 900 && report.copied_blobs == 0, "{report:?}");
        let peak = peak_bytes();
        assert!(peak < LIMIT_BYTES, "with {threads} threads: {peak} bytes, {before} before");
        eprintln!("{threads} threads: {peak} bytes");
        assert_eq!(damage(&made).unwrap(), [""; 0]);
        std::fs::remove_file(&made).unwrap();
    }
}
