//! Solid resources: many blobs in chunks that are compressed together.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{
    apply, capture, damage, open, run, small_sample, snapshot, verify, without_special_xattrs,
};
use gravure_imaging::{
    ApplyOptions, CaptureForm, CaptureOptions, Compression, DamagedContent, ErrorKind, ImageFile, Integrity,
    Level, Limits, Method, Parents, Which, apply_to_directory, extract, extract_to,
};
use gravure_io::{FileAt, ReadAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Random, oracle};

/// Captures with wimlib; `None` when it is not there.
fn wimlib_capture(source: &Path, image: &Path, options: &[&str]) -> Option<()> {
    let _ = fs::remove_file(image);
    let mut wimlib = oracle("wimlib-imagex")?;
    run(wimlib.args(["capture", "--unix-data", "--solid"]).args(options).arg(source).arg(image));
    Some(())
}

#[test]
fn solid_files_of_wimlib_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 70);
    let image = dir.path().join("x.wim");
    let variants = [
        // Chunks smaller and larger than an item of the pipeline, so that blobs of every size lie across borders.
        vec!["--compress=XPRESS", "--solid-compress=XPRESS", "--solid-chunk-size=4K"],
        vec!["--compress=LZX", "--solid-compress=LZX", "--solid-chunk-size=32K", "--check"],
        vec!["--compress=none", "--solid-compress=LZX", "--solid-chunk-size=256K"],
        vec!["--compress=LZX", "--solid-compress=LZX", "--solid-chunk-size=2M"],
        vec!["--solid-chunk-size=1M"],
        vec!["--solid-compress=LZMS", "--compress=LZMS"],
    ];
    for (number, options) in variants.iter().enumerate() {
        if wimlib_capture(&source, &image, options).is_none() {
            return;
        }
        assert_eq!(damage(&image).unwrap(), [""; 0], "{options:?}");
        let opened = open(&image);
        for threads in [1, 3] {
            let target = dir.path().join(format!("t{number}-{threads}"));
            let how = ApplyOptions { threads: Some(threads), ..ApplyOptions::default() };
            let report = apply_to_directory(&opened, &target, &how, &Ctl::default(), &Silent).unwrap();
            assert_eq!((report.skipped, &report.losses), (0, &vec![]), "{options:?}: {:?}", report.warnings);
            without_special_xattrs(&source).assert_same(&without_special_xattrs(&target));
            verify(&opened, &target).unwrap();
            fs::remove_dir_all(&target).unwrap();
        }
    }
}

/// Counts the bytes read at and behind the header.
struct Counted {
    file: FileAt,
    read: AtomicU64,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read.fetch_add(buf.len() as u64, Ordering::SeqCst);
        self.file.read_exact_at(offset, buf)
    }
}

/// A directory of `count` files of 600 KB that do not shrink, so that chunks are found again in the image.
fn incompressible(dir: &Path, count: u64) -> std::path::PathBuf {
    let source = dir.join("incompressible");
    fs::create_dir(&source).unwrap();
    for number in 0..count {
        let mut bytes = vec![0; 600_000];
        Random::new(number + 1).fill(&mut bytes);
        fs::write(source.join(format!("f{number:02}")), bytes).unwrap();
    }
    source
}

const ONE_MIB: [&str; 3] = ["--compress=none", "--solid-compress=LZX", "--solid-chunk-size=1M"];

#[test]
fn one_small_file_costs_only_its_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let source = incompressible(dir.path(), 20);
    let image = dir.path().join("x.wim");
    if wimlib_capture(&source, &image, &ONE_MIB).is_none() {
        return;
    }
    let counted = Arc::new(Counted { file: FileAt::open(&image).unwrap(), read: AtomicU64::new(0) });
    let file = ImageFile::open(Arc::clone(&counted) as Arc<dyn ReadAt>, "counted").unwrap();
    let opened = file.image(file.find(&Which::Only).unwrap()).unwrap();
    let before = counted.read.swap(0, Ordering::SeqCst);
    assert!(before < 100_000, "{before} bytes to open");
    let mut out = Vec::new();
    extract_to(&opened, "/f11", &mut out, &Ctl::default()).unwrap();
    assert!(out == fs::read(source.join("f11")).unwrap());
    let one = counted.read.swap(0, Ordering::SeqCst);
    assert!(one <= 2 * (1 << 20) + 1000, "{one} bytes for one file");
    let target = dir.path().join("t");
    let paths = ["/f03".to_owned(), "/f15".to_owned()];
    let (how, ctl) = (ApplyOptions::default(), Ctl::default());
    extract(&opened, &paths, Parents::Drop, &target, &how, &ctl, &Silent).unwrap();
    for name in ["f03", "f15"] {
        assert!(fs::read(source.join(name)).unwrap() == fs::read(target.join(name)).unwrap(), "{name}");
    }
    let two = counted.read.swap(0, Ordering::SeqCst);
    // Each file may lie in two chunks; the window of the reader rounds the chunk table up to 1 MiB.
    assert!(two <= 5 * (1 << 20) + 1000, "{two} bytes for two files");
}

#[test]
fn a_damaged_chunk_spoils_only_the_blobs_in_it_and_the_rest_can_be_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let source = incompressible(dir.path(), 8);
    let image = dir.path().join("x.wim");
    if wimlib_capture(&source, &image, &ONE_MIB).is_none() {
        return;
    }
    let opened = open(&image);
    let resource = ImageFile::open_path(&image).unwrap().wim().resources()[0].header;
    // Raw chunks: 2.5 MB in from the end of the resource is one byte of one file.
    let at = resource.offset + resource.stored_size - 2_500_000;
    let mut byte = [0];
    let out = fs::File::options().read(true).write(true).open(&image).unwrap();
    out.read_exact_at(&mut byte, at).unwrap();
    out.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let found = damage(&image).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let target = dir.path().join("t");
    let error = apply(&opened, &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    fs::remove_dir_all(&target).unwrap();
    let how = ApplyOptions { damaged: DamagedContent::Keep, ..ApplyOptions::default() };
    let report = apply_to_directory(&opened, &target, &how, &Ctl::default(), &Silent).unwrap();
    assert_eq!((report.skipped, report.damaged.len()), (1, 1), "{report:?}");
    assert!(report.warnings[0].contains("what could be read is kept"), "{:?}", report.warnings);
    for number in 0..8 {
        let name = format!("f{number:02}");
        let (ours, wanted) = (fs::read(target.join(&name)).unwrap(), fs::read(source.join(&name)).unwrap());
        let differing = ours.iter().zip(&wanted).filter(|(a, b)| a != b).count();
        let is_damaged = report.damaged[0] == format!("/{name}");
        assert_eq!((ours.len(), differing), (600_000, usize::from(is_damaged)), "{name}");
    }
    // Of a chunk table that makes no sense nothing can be kept, and nothing but those files is missing.
    let table = resource.offset + 16;
    out.write_all_at(&[0; 4], table).unwrap();
    let other = dir.path().join("other");
    let report = apply_to_directory(&opened, &other, &how, &Ctl::default(), &Silent).unwrap();
    assert_eq!((report.skipped, report.damaged.len()), (8, 8));
    assert!(report.warnings.iter().all(|text| text.ends_with("; left out")), "{:?}", report.warnings);
    // The root alone.
    assert_eq!(snapshot(&other).entries.len(), 1);
}

/// Every way to lay out a solid image that the codec can write.
fn forms() -> Vec<(Compression, Option<Compression>)> {
    let new = |method, size| Compression::new(method, size).unwrap();
    vec![
        (new(Method::Xpress, 4096), None),
        (new(Method::Xpress, 1 << 16), Some(Compression::XPRESS_32K)),
        (new(Method::Lzx, 1 << 15), Some(Compression::LZX_32K)),
        (new(Method::Lzx, 2 << 20), Some(Compression::LZX_32K)),
        (new(Method::Lzms, 1 << 20), Some(new(Method::Lzms, 1 << 17))),
        (new(Method::Lzms, 64 << 20), Some(new(Method::Lzms, 1 << 17))),
    ]
}

#[test]
fn solid_captures_come_back_are_smaller_and_depend_on_nothing_but_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 71);
    // Equal large files, which are found before, and many alike, which only a solid image makes use of.
    let mut random = vec![0; 800_000];
    Random::new(5).fill(&mut random);
    fs::write(source.join("one"), &random).unwrap();
    fs::write(source.join("two"), &random).unwrap();
    for number in 0..40u8 {
        random[0] = number;
        fs::write(source.join(format!("alike{number}.txt")), &random[..20_000]).unwrap();
    }
    let image = dir.path().join("x.wim");
    for (number, (solid, compression)) in forms().into_iter().enumerate() {
        let options = |threads, form| CaptureOptions {
            threads: Some(threads),
            form,
            compression,
            name: "n".to_owned(),
            integrity: Integrity::Table,
            // Later than any time of the sample, which it would clamp.
            source_date_epoch: Some(4_000_000_000),
            ..CaptureOptions::default()
        };
        let report = capture(&source, &image, &options(1, CaptureForm::Solid(solid)));
        assert_eq!(report.skipped, 0, "{:?}", report.warnings);
        let bytes = fs::read(&image).unwrap();
        assert_eq!(bytes.len() as u64, report.file_bytes);
        capture(&source, &image, &options(3, CaptureForm::Solid(solid)));
        assert!(bytes == fs::read(&image).unwrap(), "{solid}: other bytes with other threads");
        assert_eq!(damage(&image).unwrap(), [""; 0], "{solid}");
        let opened = open(&image);
        let target = dir.path().join(format!("t{number}"));
        apply(&opened, &target).unwrap();
        verify(&opened, &target).unwrap();
        if solid.chunk_size() >= 1 << 20 {
            let normal = capture(&source, &image, &options(2, CaptureForm::Normal)).file_bytes;
            // The 40 files that are alike take 800 KB one by one.
            let saved = normal.saturating_sub(bytes.len() as u64);
            assert!(saved > 700_000, "{solid}: {} bytes, {normal} without", bytes.len());
        }
    }
}

#[test]
fn a_solid_capture_leaves_out_what_cannot_be_read_and_takes_a_directory_without_content() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    let image = dir.path().join("x.wim");
    let form = CaptureForm::Solid(Compression::new(Method::Lzx, 1 << 16).unwrap());
    let options = CaptureOptions { form, ..CaptureOptions::default() };
    for empty in [None, Some("empty")] {
        if let Some(name) = empty {
            fs::write(source.join(name), b"").unwrap();
        }
        let report = capture(&source, &image, &options);
        assert_eq!((report.blobs, report.skipped), (0, 0));
        let file = ImageFile::open_path(&image).unwrap();
        assert_eq!((file.wim().resources().len(), file.wim().header().version()), (0, 0xe00));
        let target = dir.path().join("t");
        apply(&open(&image), &target).unwrap();
        // With the root.
        assert_eq!(snapshot(&target).entries.len(), 1 + usize::from(empty.is_some()));
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn an_encrypted_download_image_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), b"content").unwrap();
    let image = dir.path().join("x.esd");
    let form = CaptureForm::Solid(Compression::new(Method::Lzms, 1 << 20).unwrap());
    capture(&source, &image, &CaptureOptions { form, ..CaptureOptions::default() });
    // Another document behind everything, which the header then points to (wim-container 2, 7).
    let mut bytes = fs::read(&image).unwrap();
    let text = "\u{feff}<WIM><ESD><ENCRYPTED></ENCRYPTED></ESD><IMAGE INDEX=\"1\"></IMAGE></WIM>";
    let document: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (offset, len) = (bytes.len() as u64, document.len() as u64);
    bytes[0x48..0x4f].copy_from_slice(&len.to_le_bytes()[..7]);
    bytes[0x50..0x58].copy_from_slice(&offset.to_le_bytes());
    bytes[0x58..0x60].copy_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&document);
    let error = ImageFile::open(Arc::new(bytes), "x.esd").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "encryption not supported: encrypted download image (ESD)");
}

/// Text of `bytes` bytes that shrinks, and repeats only from afar.
fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words: Vec<String> = (0..4000).map(|_| format!("{:x} ", random.below(1 << 30))).collect();
    let mut out = Vec::with_capacity(bytes + 16);
    while out.len() < bytes {
        out.extend_from_slice(random.pick(&words).unwrap().as_bytes());
    }
    out.truncate(bytes);
    out
}

/// Chunks of the size that solid files get unasked are filled in a full run, small ones always: several, with contents across
/// their borders, by every level, read by ourselves, wimlib and 7-Zip.
#[test]
fn full_chunks_of_every_level_are_read_by_all() {
    let is_full = gravure_testkit::full_run();
    let mut cases: Vec<(u32, usize, Level)> = [Level::Fast, Level::Balanced, Level::NearOptimal]
        .into_iter()
        .map(|level| (1 << 20, 5 << 20, level))
        .collect();
    if is_full {
        cases.push((64 << 20, 150 << 20, Level::Fast));
    }
    for (chunk_bytes, bytes, level) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (source, image) = (dir.path().join("s"), dir.path().join("x.esd"));
        fs::create_dir(&source).unwrap();
        for number in 0..7u64 {
            fs::write(source.join(format!("f{number}")), text(bytes / 7, number)).unwrap();
        }
        let new = |size| Compression::new(Method::Lzms, size).unwrap();
        let options = CaptureOptions {
            form: CaptureForm::Solid(new(chunk_bytes)),
            compression: Some(new(1 << 17)),
            level,
            ..CaptureOptions::default()
        };
        capture(&source, &image, &options);
        let file = ImageFile::open_path(&image).unwrap();
        let resource = file.wim().resources().iter().find(|resource| resource.solid.is_some()).unwrap();
        assert!(resource.header.size > 2 * u64::from(chunk_bytes), "more than two chunks, all but one full");
        assert_eq!(damage(&image).unwrap(), [""; 0], "{chunk_bytes} {level:?}");
        let target = dir.path().join("t");
        apply(&open(&image), &target).unwrap();
        snapshot(&source).assert_same(&snapshot(&target));
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        run(wimlib.arg("verify").arg(&image));
        let Some(mut seven_zip) = oracle("7z") else { return };
        let told = run(seven_zip.arg("t").arg(&image));
        assert!(told.contains("Everything is Ok") && told.contains("Files: 7"), "{chunk_bytes}: {told}");
        eprintln!("{chunk_bytes} bytes a chunk, {level:?}: {} bytes", fs::metadata(&image).unwrap().len());
    }
}

/// Above 64 MiB chunks are read on request only: one thread holds several of them.
#[test]
fn larger_chunks_are_for_those_who_ask() {
    if !gravure_testkit::full_run() {
        return gravure_testkit::skipped("chunks of 128 MiB: only in a full run");
    }
    let dir = tempfile::tempdir().unwrap();
    let (source, image) = (dir.path().join("s"), dir.path().join("x.esd"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), vec![b'z'; 140 << 20]).unwrap();
    let new = |size| Compression::new(Method::Lzms, size).unwrap();
    let options = CaptureOptions {
        form: CaptureForm::Solid(new(128 << 20)),
        compression: Some(new(1 << 17)),
        level: Level::Fast,
        threads: Some(1),
        ..CaptureOptions::default()
    };
    capture(&source, &image, &options);
    let refused = apply(&open(&image), &dir.path().join("no")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let limits = Limits { max_chunk_bytes: 128 << 20, ..Limits::default() };
    let file = ImageFile::open_path_within(&image, &limits).unwrap();
    let target = dir.path().join("t");
    apply(&file.image(file.find(&Which::Only).unwrap()).unwrap(), &target).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
    if let Some(mut wimlib) = oracle("wimlib-imagex") {
        run(wimlib.arg("verify").arg(&image));
    }
}
