//! Images applied straight from a web server, checked range by range.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::server::{Log, Server};
use crate::sparse::SparseDisk;
use common::{apply, capture, sample, snapshot, verify};
use gravure_imaging::{
    ApplyOptions, CaptureForm, CaptureOptions, Compression, Error, ErrorKind, HttpAt, Image, ImageFile,
    Level, Method, Parents, RemoteOptions, VerifyFileOptions, VolumeApplyOptions, agent, apply_to_volume,
    describe, extract, verify_file,
};
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::Silent;
use gravure_nttypes::Guid;
use gravure_tree::{ContentRef, Node, Origin, Sha1Hash, Tree};
use gravure_wim::{ChunkData, ImageInfo, Metadata, WimWriter, WriteOptions};
use sha1::{Digest, Sha1};

fn open(server: &Server, descriptor: &ImageDescriptor) -> Result<Image, Error> {
    let remote = HttpAt::verified(agent(), &server.url, descriptor, &RemoteOptions::default()).unwrap();
    Image::open(Arc::new(remote), 0)
}

#[test]
fn an_image_is_applied_and_verified_from_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 5);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    let descriptor = describe(&image, &Ctl::default(), &Silent).unwrap();
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(descriptor.size_bytes, bytes.len() as u64);
    assert!(descriptor.ranges.len() > 2, "too small to show anything: {} bytes", bytes.len());
    let server = Server::start(bytes);
    let opened = open(&server, &descriptor).unwrap();
    let target = dir.path().join("t");
    apply(&opened, &target).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
    verify(&opened, &target).unwrap();
}

#[test]
fn a_changed_byte_is_told_with_range_blob_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    std::fs::create_dir(&source).unwrap();
    for number in 0..12 {
        let mut bytes = vec![0; 1_000_000];
        gravure_testkit::Random::new(number).fill(&mut bytes);
        std::fs::write(source.join(format!("f{number:02}")), bytes).unwrap();
    }
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let descriptor = describe(&image, &Ctl::default(), &Silent).unwrap();
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[5_500_000] ^= 4;
    let server = Server::start(bytes);
    let opened = open(&server, &descriptor).unwrap();
    let error = apply(&opened, &dir.path().join("t")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let Error::RangeMismatch { index: 1, offset: 0x40_0000, hits, .. } = &error else { panic!("{error:?}") };
    assert!(hits.iter().any(|hit| hit.contains("blob ") && hit.ends_with("/f05")), "{hits:?}");
    assert!(!hits.iter().any(|hit| hit.ends_with("/f00") || hit.ends_with("/f11")), "{hits:?}");
    // In the tables at the end of the file: already opening fails.
    let mut bytes = std::fs::read(&image).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    let server = Server::start(bytes);
    let error = open(&server, &descriptor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().starts_with("range 2 at 0x800000"), "{error}");
}

#[test]
fn descriptors_of_equal_files_are_equal_and_of_others_not() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 6);
    let options =
        CaptureOptions { name: "n".into(), source_date_epoch: Some(1), ..CaptureOptions::default() };
    let of = |name: &str, options: &CaptureOptions| {
        let image = dir.path().join(name);
        capture(&source, &image, options);
        describe(&image, &Ctl::default(), &Silent).unwrap()
    };
    let first = of("a.wim", &options);
    assert_eq!(first, of("b.wim", &options));
    let other = of("c.wim", &CaptureOptions { source_date_epoch: Some(2), ..options });
    assert_ne!(first.tables, other.tables);
    assert_eq!(first.images.len(), 1);
    assert_eq!((first.images[0].name.as_str(), first.images[0].file_count > 50), ("n", true));
}

/// Two directories of files that do not shrink, so that the image is as large as they are.
fn large(dir: &std::path::Path) -> std::path::PathBuf {
    let source = dir.join("s");
    for (number, part) in ["a", "b"].into_iter().enumerate() {
        std::fs::create_dir_all(source.join(part)).unwrap();
        for file in 0..12u64 {
            let mut bytes = vec![0; if file == 0 { 9_000_000 } else { 700_000 }];
            gravure_testkit::Random::new(file + 100 * number as u64 + 1).fill(&mut bytes);
            std::fs::write(source.join(part).join(format!("f{file:02}")), bytes).unwrap();
        }
    }
    source
}

fn unverified(server: &Server) -> Arc<HttpAt> {
    Arc::new(HttpAt::unverified(agent(), &server.url, &RemoteOptions::default()).unwrap())
}

#[test]
fn a_server_that_breaks_off_three_times_costs_no_byte_twice() {
    let dir = tempfile::tempdir().unwrap();
    let source = large(dir.path());
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let descriptor = describe(&image, &Ctl::default(), &Silent).unwrap();
    let bytes = std::fs::read(&image).unwrap();
    let size = bytes.len() as u64;
    for verified in [true, false] {
        let cuts = Mutex::new(vec![size / 5, size / 2, size * 4 / 5]);
        let server = Server::start_with(bytes.clone(), Log { cuts, ..Log::default() });
        let opened = match verified {
            true => self::open(&server, &descriptor).unwrap(),
            false => Image::open(unverified(&server), 0).unwrap(),
        };
        let target = dir.path().join("t");
        apply(&opened, &target).unwrap();
        assert_eq!(*server.log.cuts.lock().unwrap(), [0; 0], "the server did not break off");
        snapshot(&source).assert_same(&snapshot(&target));
        verify(&opened, &target).unwrap();
        std::fs::remove_dir_all(&target).unwrap();
        let sent = server.log.sent.load(Ordering::SeqCst);
        assert!(sent * 100 <= size * 101, "{sent} bytes sent of a file of {size}, verified: {verified}");
    }
}

#[test]
fn only_what_is_needed_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let source = large(dir.path());
    let solid = CaptureForm::Solid(Compression::new(Method::Xpress, 1 << 16).unwrap());
    for form in [CaptureForm::Normal, solid] {
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { form, ..CaptureOptions::default() });
        let server = Server::start(std::fs::read(&image).unwrap());
        let opened = Image::open(unverified(&server), 0).unwrap();
        let tables = server.log.sent.swap(0, Ordering::SeqCst);
        assert!(tables < 8 * 64 * 1024, "{form:?}: {tables} bytes for tables");
        let target = dir.path().join("t");
        // Files of one directory lie side by side, or, sorted by name, each by itself.
        let paths = ["/b".to_owned()];
        let options = ApplyOptions::default();
        extract(&opened, &paths, Parents::Drop, &target, &options, &Ctl::default(), &Silent).unwrap();
        let wanted = snapshot(&source.join("b"));
        wanted.assert_same(&snapshot(&target.join("b")));
        std::fs::remove_dir_all(&target).unwrap();
        let sent = server.log.sent.load(Ordering::SeqCst);
        let needed = 9_000_000 + 11 * 700_000;
        let slack = if form == CaptureForm::Normal { needed / 100 } else { 12 * 4 * 65_536 };
        assert!(sent <= needed + slack, "{form:?}: {sent} bytes for {needed}");
    }
}

#[test]
fn split_sets_and_checks_of_whole_files_work_from_afar() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 8);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    let bytes = std::fs::read(&image).unwrap();
    let size = bytes.len() as u64;
    let server = Server::start(bytes);
    let file = ImageFile::open(unverified(&server), &server.url).unwrap();
    let report = verify_file(&file, &VerifyFileOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert!(report.damage.is_empty() && report.missing.is_empty(), "{report:?}");
    let sent = server.log.sent.load(Ordering::SeqCst);
    assert!(sent <= size + 16 * 65_536, "{sent} bytes sent of a file of {size}");
    let Some(mut wimlib) = gravure_testkit::oracle("wimlib-imagex") else { return };
    common::run(wimlib.arg("split").arg(&image).arg(dir.path().join("set.swm")).arg("2"));
    let parts: Vec<Vec<u8>> = (1..)
        .map(|n| if n == 1 { "set.swm".to_owned() } else { format!("set{n}.swm") })
        .map_while(|name| std::fs::read(dir.path().join(name)).ok())
        .collect();
    assert!(parts.len() > 2);
    let servers: Vec<Server> = parts.into_iter().map(Server::start).collect();
    let first = ImageFile::open(unverified(&servers[0]), "http://server/images/set.swm").unwrap();
    let whole = first.with_parts(|name| {
        let number = name.strip_prefix("http://server/images/set").unwrap().strip_suffix(".swm").unwrap();
        Ok(unverified(&servers[number.parse::<usize>().unwrap() - 1]) as Arc<dyn ReadAt>)
    });
    let whole = whole.unwrap();
    let opened = whole.image(whole.find(&gravure_imaging::Which::Only).unwrap()).unwrap();
    let target = dir.path().join("t");
    apply(&opened, &target).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
}

/// An image of `bytes` bytes of contents that take no room: zeros, with a number at the end of each file.
fn synthetic(bytes: u64) -> SparseDisk {
    const FILE_BYTES: u64 = 16 << 20;
    let disk = SparseDisk::new();
    let options = WriteOptions {
        compression: None,
        guid: Guid([9; 16]),
        links_fixed: false,
        allow_missing_blobs: false,
    };
    let mut writer = WimWriter::create(&disk, &options).unwrap();
    let mut tree = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
    let zeros = vec![0; 1 << 20];
    // What all have in common is hashed once.
    let mut start = Sha1::new();
    (1..FILE_BYTES >> 20).for_each(|_| start.update(&zeros));
    for number in 0..bytes / FILE_BYTES {
        let mut last = zeros.clone();
        last[(1 << 20) - 8..].copy_from_slice(&number.to_le_bytes());
        let sha1 = Sha1Hash(start.clone().chain_update(&last).finalize().into());
        writer.begin(FILE_BYTES).unwrap();
        (1..FILE_BYTES >> 20).for_each(|_| writer.append_chunk(ChunkData::Raw(&zeros)).unwrap());
        writer.append_chunk(ChunkData::Raw(&last)).unwrap();
        writer.finish_blob(sha1).unwrap();
        let data = ContentRef { size: FILE_BYTES, sha1: Some(sha1), origin: Origin::Missing };
        let file = Node { data: Some(data), ..Node::default() };
        tree.add(tree.root(), format!("file {number}").as_str().into(), file).unwrap();
    }
    let metadata = Metadata::from_tree(&tree).unwrap();
    writer.add_image(&metadata, ImageInfo::new("synthetic"), Level::Fast).unwrap();
    writer.finish_with_integrity().unwrap();
    disk
}

/// The proof of applying over bad lines: ten gigabytes in a full run, onto a volume that takes no room either.
#[test]
fn a_large_image_is_applied_over_three_breaks_and_ends_verified() {
    let bytes: u64 = if gravure_testkit::full_run() { 10_000 << 20 } else { 160 << 20 };
    let image = synthetic(bytes);
    let size = image.size();
    assert!(size > bytes);
    let cuts = Mutex::new(vec![size / 5, size / 2, size * 4 / 5]);
    let server = Server::start_with(image, Log { cuts, ..Log::default() });
    let opened = Image::open(unverified(&server), 0).unwrap();
    let volume = SparseDisk::of_size(bytes + (64 << 20));
    let options = VolumeApplyOptions::default();
    let report = apply_to_volume(&opened, &volume, &options, &Ctl::default(), &Silent).unwrap();
    assert_eq!(*server.log.cuts.lock().unwrap(), [0; 0], "the server did not break off");
    assert_eq!((report.apply.bytes, report.verified_bytes >= bytes), (bytes, true), "{report:?}");
    let sent = server.log.sent.load(Ordering::SeqCst);
    assert!(sent * 100 <= size * 101, "{sent} bytes sent of a file of {size}");
}
