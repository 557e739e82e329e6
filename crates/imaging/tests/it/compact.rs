//! Contents copied onto NTFS volumes as the image has them compressed: what is, what is not, and that nothing wrong gets through.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, has_boot_sector};
use crate::windows::{Builder, file, noise, options, streams, volume};
use common::{capture, open, run};
use gravure_imaging::{
    CaptureForm, CaptureOptions, Compact, CompactReport, Compression, DiffOptions, Error, ErrorKind, Finding,
    Image, ImageFile, Method, Side, Strictness, VolumeApplyOptions, VolumeFile, VolumeReport, VolumeVerify,
    Which, WhyPlain, WofAlgorithm, apply_to_volume, check_volume, describe, diff, is_described_by,
};
use gravure_io::MemoryDisk;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::{FileAttributes, FileTime};
use gravure_testkit::{Fault, FaultyDisk, Operation, debian_python_script, oracle};
use gravure_tree::{ContentRef, Origin};
use gravure_wim::BlobId;

const VOLUME_BYTES: u64 = 48 << 20;

/// Compresses to about a third.
fn prose(len: usize, seed: u64) -> Vec<u8> {
    let noise = noise(len / 4 + 8, seed);
    noise.iter().flat_map(|byte| [*byte, b'a' + byte % 4, b' ', b'e']).take(len).collect()
}

/// A volume with files of every kind that matters here.
fn source(dir: &Path) -> PathBuf {
    let mut b = Builder::new(3);
    let root = b.tree.root();
    let windows = b.directory(root, "WINDOWS");
    let system = b.directory(windows, "system32");
    // Sizes around the borders of chunks and of the pieces in which large contents travel.
    let lens =
        [1, 700, 4096, 4097, 8192, 16_385, 32_768, 32_769, 65_536, 100_000, 524_288, 524_289, 1_700_000];
    for len in lens {
        b.file(system, &format!("part {len}.dll"), &prose(len, len as u64));
    }
    b.file(system, "packed.cab", &noise(50_000, 1));
    b.file(system, "half packed.bin", &[noise(70_000, 2), vec![0; 200_000], noise(40_000, 3)].concat());
    let twins = prose(90_000, 4);
    b.file(system, "twin 1.dll", &twins);
    b.file(windows, "twin 2.dll", &twins);
    let linked = b.file(system, "linked.dll", &prose(60_000, 5));
    b.link(windows, "linked too.dll", linked);
    let mut streamed = file(&prose(40_000, 6));
    streamed.named_streams = streams(&[("a stream", &prose(30_000, 7)), ("small", b"small")]);
    b.add(system, "streamed.txt", Some("STREAM~1.TXT"), streamed);

    // Stay plain: the loader and what it loads; `kernel` is also wanted compressed, under another name.
    let kernel = prose(300_000, 8);
    b.file(system, "NtosKrnl.exe", &kernel);
    b.file(windows, "copy of the kernel", &kernel);
    let large = prose(900_000, 9);
    b.file(windows, "large copy", &large);
    let boot = b.directory(windows, "Boot");
    b.file(boot, "bootmgr.bin", &large);
    let store = b.directory(system, "DriverStore");
    let driver = b.file(store, "disk.SYS", &prose(50_000, 10));
    b.link(windows, "another name of it", driver);
    b.file(windows, "not a driver.sys", &prose(50_000, 11));

    // Listed by the image itself, which also lists what is not there.
    let list = "[PrepopulateList]\r\n\\Windows\\Fonts\\*.ttf\r\n\\Users\r\n";
    b.file(system, "WimBootCompress.INI", list.as_bytes());
    let fonts = b.directory(windows, "Fonts");
    b.file(fonts, "Arial.TTF", &prose(44_000, 12));
    b.file(fonts, "other.fon", &prose(44_000, 13));
    let users = b.directory(root, "Users");
    b.file(users, "picture", &prose(30_000, 14));

    let mut sparse = file(&[0; 200_000]);
    sparse.attributes |= FileAttributes::SPARSE;
    b.add(root, "sparse", None, sparse);
    let path = dir.join("source.ntfs");
    std::fs::write(&path, volume(&b.tree, &options(VOLUME_BYTES)).0).unwrap();
    path
}

fn windows_10() -> Vec<(String, String)> {
    let of = |path: &str, value: &str| (format!("WINDOWS/VERSION/{path}"), value.to_owned());
    vec![of("MAJOR", "10"), of("MINOR", "0"), of("BUILD", "19041")]
}

#[expect(clippy::needless_pass_by_value, reason = "options are made for one image")]
fn image_of(volume: &Path, name: &str, options: CaptureOptions) -> PathBuf {
    let image = volume.with_file_name(name);
    let report = capture(volume, &image, &options);
    assert_eq!((report.skipped, report.warnings.len()), (0, 0), "{report:?}");
    image
}

/// The usual image: LZX in chunks of 32 KiB, of Windows 10.
fn image(dir: &Path) -> PathBuf {
    let options = CaptureOptions {
        compression: Some(Compression::LZX_32K),
        properties: windows_10(),
        ..Default::default()
    };
    image_of(&source(dir), "x.wim", options)
}

fn apply_options(compact: Compact, verify: VolumeVerify) -> VolumeApplyOptions {
    VolumeApplyOptions {
        seed: Some([3; 32]),
        time: Some(FileTime(133_000_000_000_000_000)),
        threads: Some(2),
        compact,
        verify,
        ..VolumeApplyOptions::default()
    }
}

fn apply(
    image: &Image,
    target: &Path,
    compact: Compact,
    verify: VolumeVerify,
) -> Result<VolumeReport, Error> {
    let _ = std::fs::remove_file(target);
    let device = VolumeFile::open(target, Some(VOLUME_BYTES)).unwrap();
    apply_to_volume(image, &device, &apply_options(compact, verify), &Ctl::default(), &Silent)
}

/// The image, read by its descriptor.
fn described(path: &Path) -> Image {
    let descriptor = describe(path, &Ctl::default(), &Silent).unwrap();
    let file = ImageFile::open_path_described(path, &descriptor).unwrap();
    assert!(is_described_by(&file, &descriptor).unwrap());
    file.image(file.find(&Which::Only).unwrap()).unwrap()
}

fn assert_same(image: &Image, target: &Path) {
    let mut found = Vec::new();
    let mut keep = |finding: &Finding| found.push(finding.to_string());
    check_volume(target, Strictness::Fresh, &mut keep, &Ctl::default()).unwrap();
    assert_eq!(found, Vec::<String>::new());
    let report =
        diff(Side::Image(image), Side::Volume(target), &DiffOptions::default(), &Ctl::default(), &Silent)
            .unwrap();
    assert!(report.compared > 30 && report.skipped == 0, "{report:?}");
    assert_eq!(report.changes, Vec::new());
}

fn others(report: &CompactReport) -> Vec<(WhyPlain, u64)> {
    report.others.iter().map(|other| (other.why, other.files)).collect()
}

fn blob_of(image: &Image, path: &str) -> BlobId {
    let node = image.tree().lookup(path).unwrap();
    match image.tree().node(node).data.as_ref().unwrap() {
        ContentRef { origin: Origin::Source { key, .. }, .. } => BlobId::from_key(*key).unwrap(),
        other => panic!("{path}: {other:?}"),
    }
}

/// The stored bytes of a file, table of chunks and all, and where they are.
fn resource(image: &Path, path: &str) -> (u64, Vec<u8>) {
    let file = ImageFile::open_path(image).unwrap();
    let blob = file.wim().blob(blob_of(&open(image), path)).unwrap();
    let header = file.wim().resource(blob.resource).unwrap().header;
    (
        header.offset,
        file.source().read_vec_at(header.offset, usize::try_from(header.stored_size).unwrap()).unwrap(),
    )
}

#[test]
fn compressed_resources_are_copied_and_the_volume_equals_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let xpress = |chunk| Compression::new(Method::Xpress, chunk).unwrap();
    for compression in [Compression::LZX_32K, xpress(4096), xpress(8192), xpress(16_384)] {
        let options =
            CaptureOptions { compression: Some(compression), properties: windows_10(), ..Default::default() };
        let path = image_of(&source, "x.wim", options);
        let (image, target) = (open(&path), dir.path().join("target.ntfs"));
        let report = apply(&image, &target, Compact::Auto, VolumeVerify::Full).unwrap();
        assert_same(&image, &target);
        assert_eq!(report.apply.warnings, Vec::<String>::new());
        let compact = &report.compact;
        assert!(compact.files >= 17 && compact.stored_bytes < compact.plain_bytes / 2, "{compact:?}");
        assert!(report.verified_bytes > compact.stored_bytes + 1_200_000, "{report:?}");
        let volume = std::fs::read(&target).unwrap();
        for name in
            ["part 4097.dll", "part 32769.dll", "part 524288.dll", "part 1700000.dll", "half packed.bin"]
        {
            let (_, stored) = resource(&path, &format!("WINDOWS/system32/{name}"));
            let found = volume.chunks(4096).enumerate().find(|(_, cluster)| {
                let len = cluster.len().min(stored.len());
                cluster[..len] == stored[..len]
            });
            let at = found.unwrap_or_else(|| panic!("{name} in {compression:?}")).0 * 4096;
            assert_eq!(volume[at..at + stored.len()], stored, "{name} in {compression:?}");
        }
        let plain = apply(&image, &target, Compact::Never, VolumeVerify::Decode).unwrap();
        assert_eq!((plain.compact, plain.verified_bytes), (CompactReport::default(), 0));
        assert!(
            plain.used_bytes > report.used_bytes + 2_000_000,
            "{} {}",
            plain.used_bytes,
            report.used_bytes
        );
        assert_same(&image, &target);
    }
}

#[test]
fn what_must_or_should_stay_plain_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let image = open(&path);
    let report = apply(&image, &dir.path().join("v"), Compact::Auto, VolumeVerify::Decode).unwrap();
    // The loader's, the kernel and the driver; the font and the picture; five small files and what does not shrink; the sparse one.
    let expected =
        [(WhyPlain::Boot, 3), (WhyPlain::Listed, 2), (WhyPlain::NothingSaved, 5), (WhyPlain::Special, 1)];
    assert_eq!(others(&report.compact), expected);
    assert_eq!(report.compact.files, 19);
    assert_eq!(report.compact.why_not, None);

    // Each has its tag in the record and in the index of reparse points.
    let wofs = |volume: &[u8]| volume.windows(4).filter(|four| *four == [0x17, 0, 0, 0x80]).count();
    let volume = std::fs::read(dir.path().join("v")).unwrap();
    assert!(wofs(&volume) >= 2 * 19);
}

#[test]
fn auto_asks_the_image_for_its_windows_and_always_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (source(dir.path()), dir.path().join("v"));
    let version = |major: &str, build: &str| {
        let of = |path: &str, value: &str| (format!("WINDOWS/VERSION/{path}"), value.to_owned());
        vec![of("MAJOR", major), of("MINOR", "0"), of("BUILD", build)]
    };
    let cases = [
        (Vec::new(), Some("the image does not say that it holds Windows")),
        (version("6", "9600"), Some("the image holds Windows 6.0.9600; 10.0.10240 or later is needed")),
        (version("10", "10239"), Some("the image holds Windows 10.0.10239; 10.0.10240 or later is needed")),
        (version("10", "10240"), None),
    ];
    for (properties, why_not) in cases {
        let options = CaptureOptions {
            compression: Some(Compression::new(Method::Xpress, 4096).unwrap()),
            level: gravure_imaging::Level::Fast,
            properties,
            ..CaptureOptions::default()
        };
        let image = open(&image_of(&source, "x.wim", options));
        let auto = apply(&image, &target, Compact::Auto, VolumeVerify::Decode).unwrap().compact;
        assert_eq!((auto.why_not.as_deref(), auto.files > 0), (why_not, why_not.is_none()));
        let always = apply(&image, &target, Compact::Always, VolumeVerify::Decode).unwrap().compact;
        assert_eq!((always.why_not, always.files > 0), (None, true));
    }
}

#[test]
fn other_forms_are_written_plain() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (source(dir.path()), dir.path().join("v"));
    let of = |compression, form| CaptureOptions {
        compression,
        form,
        level: gravure_imaging::Level::Fast,
        ..CaptureOptions::default()
    };
    let lzx = Some(Compression::LZX_32K);
    for options in [
        of(None, CaptureForm::Normal),
        of(Some(Compression::XPRESS_32K), CaptureForm::Normal),
        of(lzx, CaptureForm::Solid(Compression::LZX_32K)),
        of(lzx, CaptureForm::Pipable),
    ] {
        let what = format!("{:?} {:?}", options.compression, options.form);
        let image = open(&image_of(&source, "x.wim", options));
        let report = apply(&image, &target, Compact::Always, VolumeVerify::Full).unwrap();
        assert_eq!(report.compact.files, 0, "{what}");
        assert!(
            others(&report.compact).iter().any(|(why, files)| *why == WhyPlain::OtherForm && *files > 15)
        );
        assert_same(&image, &target);
    }
}

#[test]
fn what_has_another_form_is_compressed_anew_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (source(dir.path()), dir.path().join("v"));
    let forms = [
        (Some(Compression::XPRESS_32K), CaptureForm::Normal, WofAlgorithm::Xpress4K),
        (Some(Compression::LZX_32K), CaptureForm::Solid(Compression::LZX_32K), WofAlgorithm::Lzx),
        (None, CaptureForm::Normal, WofAlgorithm::Xpress16K),
    ];
    for (compression, form, algorithm) in forms {
        let what = format!("{compression:?} {form:?} {algorithm:?}");
        let level = gravure_imaging::Level::Fast;
        let options = CaptureOptions { compression, form, level, ..CaptureOptions::default() };
        let image = open(&image_of(&source, "x.wim", options));
        let run = |threads| {
            let _ = std::fs::remove_file(&target);
            let device = VolumeFile::open(&target, Some(VOLUME_BYTES)).unwrap();
            let options = VolumeApplyOptions {
                recode: Some(algorithm),
                threads: Some(threads),
                ..apply_options(Compact::Always, VolumeVerify::Full)
            };
            let report = apply_to_volume(&image, &device, &options, &Ctl::default(), &Silent).unwrap();
            (report, std::fs::read(&target).unwrap())
        };
        let (report, volume) = run(2);
        assert_same(&image, &target);
        let compact = &report.compact;
        // All that an image of the right form would give.
        assert_eq!((compact.files, compact.recoded_files), (19, 19), "{what}");
        assert!(others(compact).iter().all(|(why, _)| *why != WhyPlain::OtherForm), "{compact:?}");
        assert!(compact.stored_bytes < compact.plain_bytes / 2, "{what}");
        assert!(run(1).1 == volume, "{what}");
    }
}

#[test]
fn a_volume_is_the_same_however_its_contents_were_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let (image, described) = (open(&path), described(&path));
    let bytes = |image: &Image, verify| {
        let target = dir.path().join("v");
        apply(image, &target, Compact::Auto, verify).unwrap();
        std::fs::read(&target).unwrap()
    };
    let first = bytes(&image, VolumeVerify::Decode);
    assert!(bytes(&image, VolumeVerify::Full) == first && bytes(&image, VolumeVerify::Nothing) == first);
    assert!(
        bytes(&described, VolumeVerify::Full) == first
            && bytes(&described, VolumeVerify::Descriptor) == first
    );
    let error = apply(&image, &dir.path().join("w"), Compact::Auto, VolumeVerify::Descriptor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let expected = "expected a descriptor, made when all contents were decoded, found none";
    assert!(error.to_string().ends_with(expected), "{error}");
    // Where nothing is copied there is nothing to be vouched for.
    apply(&image, &dir.path().join("w"), Compact::Never, VolumeVerify::Descriptor).unwrap();
}

#[test]
fn a_flipped_byte_in_what_is_copied_is_refused_and_its_blob_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let target = dir.path().join("v");
    let descriptor = describe(&path, &Ctl::default(), &Silent).unwrap();
    for name in ["part 65536.dll", "part 1700000.dll", "twin 1.dll"] {
        let (start, stored) = resource(&path, &format!("WINDOWS/system32/{name}"));
        let sha1 = {
            let file = ImageFile::open_path(&path).unwrap();
            file.wim()
                .blob(blob_of(&open(&path), &format!("WINDOWS/system32/{name}")))
                .unwrap()
                .sha1
                .to_string()
        };
        let at = start + stored.len() as u64 - 100;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let old = stored[stored.len() - 100];
        file.write_all_at(&[old ^ 0x10], at).unwrap();
        for verify in [VolumeVerify::Decode, VolumeVerify::Full] {
            let error = apply(&open(&path), &target, Compact::Auto, verify).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            assert!(
                error.to_string().contains(&format!("blob {sha1}")) && error.to_string().contains(name),
                "{error}"
            );
        }
        // By the descriptor: when the range with it is read, at the latest while its content is.
        for verify in [VolumeVerify::Descriptor, VolumeVerify::Full] {
            let opened = ImageFile::open_path_described(&path, &descriptor)
                .and_then(|file| file.image(file.find(&Which::Only).unwrap()));
            let applied = opened.and_then(|image| apply(&image, &target, Compact::Auto, verify));
            let error = applied.unwrap_err();
            assert!(matches!(error, Error::RangeMismatch { .. }), "{error}");
        }
        let made = describe(&path, &Ctl::default(), &Silent).unwrap_err();
        assert!(made.to_string().contains(&sha1) && made.is_integrity(), "{made}");
        assert!(!std::fs::read(&target).unwrap()[..4096].windows(4).any(|four| four == b"NTFS"));
        file.write_all_at(&[old], at).unwrap();
    }
    apply(&open(&path), &target, Compact::Auto, VolumeVerify::Full).unwrap();
}

#[test]
fn descriptors_of_another_state_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let options = |name: &str| CaptureOptions {
        level: gravure_imaging::Level::Fast,
        name: name.to_owned(),
        ..CaptureOptions::default()
    };
    let first = image_of(&source, "first.wim", options("first"));
    let second = image_of(&source, "second.wim", options("other"));
    let descriptor = describe(&first, &Ctl::default(), &Silent).unwrap();
    assert!(descriptor.contents_checked);
    let open = |path: &Path| ImageFile::open_path_described(path, &descriptor);
    assert!(is_described_by(&open(&first).unwrap(), &descriptor).unwrap());
    assert!(!is_described_by(&ImageFile::open_path(&second).unwrap(), &descriptor).unwrap());
    assert_eq!(open(&second).unwrap_err().kind(), ErrorKind::Integrity);
    // One that earlier versions made says nothing of contents.
    let mut text = serde_json::to_value(&descriptor).unwrap();
    text.as_object_mut().unwrap().remove("contents_checked").unwrap();
    let earlier: gravure_model::descriptor::ImageDescriptor = serde_json::from_value(text).unwrap();
    let file = ImageFile::open_path_described(&first, &earlier).unwrap();
    let image = file.image(file.find(&Which::Only).unwrap()).unwrap();
    let apply = |verify| apply(&image, &dir.path().join("v"), Compact::Always, verify);
    assert_eq!(apply(VolumeVerify::Descriptor).unwrap_err().kind(), ErrorKind::Usage);
    assert!(apply(VolumeVerify::Full).unwrap().compact.files > 0);
}

/// The power goes at a write, or a write does not do what it says, while compressed contents are copied.
#[test]
fn a_torn_volume_is_none_and_a_lying_disk_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&image(dir.path()));
    let run = |verify, disk: &Disk| {
        apply_to_volume(&image, disk, &apply_options(Compact::Auto, verify), &Ctl::default(), &Silent)
    };
    let blank = || MemoryDisk::new(usize::try_from(VOLUME_BYTES).unwrap(), 512);
    let counting = Disk(FaultyDisk::counting(blank()));
    run(VolumeVerify::Full, &counting).unwrap();
    let (count, complete) = (counting.0.count(Operation::Write), counting.0.into_inner().to_vec());
    // Wipes are first, boot sectors last; between them contents, many of them copied, and metadata.
    assert!(count > 40 && has_boot_sector(&complete), "{count}");
    for at in (2..count - 2).step_by(usize::try_from(count / 5).unwrap()).chain(count - 3..count) {
        let bytes = if at % 2 == 0 { 0 } else { 700 };
        let disk = Disk(FaultyDisk::new(blank(), Operation::Write, at, Fault::PowerCut { bytes }));
        run(VolumeVerify::Decode, &disk).unwrap_err();
        let left = disk.0.into_inner().to_vec();
        // A boot sector stands before a whole volume or nowhere.
        let is_whole = left[512..left.len() - 512] == complete[512..complete.len() - 512];
        assert!(is_whole || !has_boot_sector(&left), "cut at {at} of {count}");
    }
    // The first five are the two wipes, which the boot sectors overwrite in the end, and a discard and two syncs, which have no bytes
    // that could be wrong; the last five are the boot sectors and the syncs around them.
    for at in (5..count - 5).step_by(usize::try_from(count / 4).unwrap()) {
        // What is written is whole clusters, so the first bit is never behind the end of a content.
        for fault in [Fault::Flip { bit: 3 }, Fault::Lie] {
            let disk = Disk(FaultyDisk::new(blank(), Operation::Write, at, fault));
            match run(VolumeVerify::Full, &disk) {
                Err(error) => {
                    assert!(error.is_integrity(), "{error}");
                    assert!(!has_boot_sector(&disk.0.into_inner().to_vec()));
                }
                // A lost write of zeros over zeros is none.
                Ok(_) => assert_eq!(fault, Fault::Lie, "write {at} of {count}"),
            }
        }
    }
}

/// A volume that Windows compressed, or we, gives an image its compressed bytes back.
#[test]
fn a_capture_takes_compressed_contents_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let (first, target) = (open(&path), dir.path().join("v.ntfs"));
    apply(&first, &target, Compact::Auto, VolumeVerify::Decode).unwrap();
    let again = |name: &str, compression| {
        let level = gravure_imaging::Level::Fast;
        image_of(
            &target,
            name,
            CaptureOptions { compression: Some(compression), level, ..Default::default() },
        )
    };
    // The first image was made with more effort, so its bytes are not those of a fast encoder.
    let same = again("again.wim", Compression::LZX_32K);
    for name in ["part 4097.dll", "part 65536.dll", "part 1700000.dll", "half packed.bin"] {
        let name = format!("WINDOWS/system32/{name}");
        assert_eq!(resource(&same, &name).1, resource(&path, &name).1, "{name}");
    }
    let name = "WINDOWS/system32/NtosKrnl.exe";
    assert_eq!(open(&same).tree().lookup(name).is_some(), first.tree().lookup(name).is_some());
    let other = again("other.wim", Compression::XPRESS_32K);
    for image in [&same, &other] {
        assert_same(&open(image), &target);
        assert_eq!(common::damage(image).unwrap(), Vec::<String>::new());
    }
}

/// wimlib keeps reparse points and streams as they are: what it finds in `WofCompressedData` is the resource of the image.
#[test]
fn wimlib_finds_the_resources_in_the_streams() {
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let (image, target) = (open(&path), dir.path().join("v.ntfs"));
    let report = apply(&image, &target, Compact::Auto, VolumeVerify::Decode).unwrap();
    let captured = dir.path().join("theirs.wim");
    run(wimlib.arg("capture").arg(&target).arg(&captured).args(["x", "--compress=none"]));
    let theirs = open(&captured);
    let mut seen = std::collections::HashSet::new();
    for step in theirs.tree().walk() {
        let node = theirs.tree().node(step.entry.node);
        let Some(reparse) = &node.reparse else { continue };
        assert_eq!(reparse.tag.0, 0x8000_0017);
        let stream = node.named_streams.iter().find(|stream| stream.name.to_string() == "WofCompressedData");
        let (stored_path, stream) = (step.display_path(), stream.unwrap());
        let (_, stored) = resource(&path, &stored_path);
        let sha1 = <sha1::Sha1 as sha1::Digest>::digest(&stored);
        assert_eq!(stream.content.sha1.unwrap().0, *sha1, "{stored_path}");
        seen.insert(step.entry.node);
    }
    // It knows no hard links of reparse points; one of ours has two names.
    assert_eq!(seen.len() as u64, report.compact.files + 1);
}

/// A judge of LZX that shares nothing with us: an image made of the volume has its compressed streams as resources, byte for byte as
/// ntfscat reads them, and wimlib decodes each and holds it against its SHA-1, which is that of the first image.
#[test]
fn wimlib_decodes_the_streams_of_the_filter() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let xpress = |chunk| Compression::new(Method::Xpress, chunk).unwrap();
    let cases = [
        (Some(Compression::LZX_32K), CaptureForm::Normal, None, Compression::LZX_32K),
        (None, CaptureForm::Normal, Some(WofAlgorithm::Lzx), Compression::LZX_32K),
        (
            Some(Compression::LZX_32K),
            CaptureForm::Solid(Compression::LZX_32K),
            Some(WofAlgorithm::Lzx),
            Compression::LZX_32K,
        ),
        (Some(Compression::XPRESS_32K), CaptureForm::Normal, Some(WofAlgorithm::Xpress4K), xpress(4096)),
        (None, CaptureForm::Normal, Some(WofAlgorithm::Xpress16K), xpress(16_384)),
    ];
    for (compression, form, recode, of_streams) in cases {
        let what = format!("{compression:?} {form:?} {recode:?}");
        let options = CaptureOptions { compression, form, ..CaptureOptions::default() };
        let first = open(&image_of(&source, "x.wim", options));
        let target = dir.path().join("v.ntfs");
        let _ = std::fs::remove_file(&target);
        let device = VolumeFile::open(&target, Some(VOLUME_BYTES)).unwrap();
        let options = VolumeApplyOptions { recode, ..apply_options(Compact::Always, VolumeVerify::Decode) };
        let report = apply_to_volume(&first, &device, &options, &Ctl::default(), &Silent).unwrap();
        drop(device);
        let options = CaptureOptions { compression: Some(of_streams), ..CaptureOptions::default() };
        let again = image_of(&target, "again.wim", options);
        assert_same(&first, &target);
        assert_same(&open(&again), &target);
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        run(wimlib.arg("verify").arg(&again));
        let (mut streams, mut seen) = (0, std::collections::HashSet::new());
        for step in first.tree().walk() {
            let node = first.tree().node(step.entry.node);
            if node.data.as_ref().is_none_or(|data| data.size == 0) || !seen.insert(step.entry.node) {
                continue;
            }
            let path = step.display_path();
            let Some(mut ntfscat) = oracle("ntfscat") else { return };
            let output = ntfscat.args(["-n", "WofCompressedData"]).arg(&target).arg(&path).output().unwrap();
            if output.status.success() {
                assert!(output.stdout == resource(&again, &path).1, "{what}: {path}");
                streams += 1;
            }
        }
        assert_eq!((streams, report.compact.files), (19, 19), "{what}");
    }
}

/// Clusters, not units of 4 KiB, are what compression saves.
#[test]
fn on_larger_clusters_less_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let image = open(&path);
    for (cluster_bytes, files, saved_nothing) in [(4096, 19, 5), (65_536, 9, 15)] {
        let target = dir.path().join("v.ntfs");
        let _ = std::fs::remove_file(&target);
        let device = VolumeFile::open(&target, Some(VOLUME_BYTES)).unwrap();
        let options = VolumeApplyOptions {
            cluster_bytes: Some(cluster_bytes),
            ..apply_options(Compact::Auto, VolumeVerify::Full)
        };
        let compact = apply_to_volume(&image, &device, &options, &Ctl::default(), &Silent).unwrap().compact;
        assert_same(&image, &target);
        let nothing = others(&compact).into_iter().find(|(why, _)| *why == WhyPlain::NothingSaved);
        assert_eq!((compact.files, nothing.unwrap().1), (files, saved_nothing), "{compact:?}");
    }
}

/// Other programs' checkers see what the engine wrote: compressed streams, holes, contents at their places.
#[test]
fn foreign_checkers_call_volumes_of_the_engine_clean() {
    use crate::windows::checkers::{check, check_with_python};
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let (image, target) = (open(&path), dir.path().join("v.ntfs"));
    let report = apply(&image, &target, Compact::Auto, VolumeVerify::Full).unwrap();
    assert!(report.compact.files == 19, "{report:?}");
    check(&target, "compact");
    check_with_python(&target, "compact");
}

/// libfsntfs decodes XPRESS by itself: each name has the content that the image says, by its SHA-1. Its LZX decoder (20200921) refuses
/// blocks without a single long match and gives other bytes than wimlib and 7-Zip for some machine code, so it judges no LZX.
#[test]
fn libfsntfs_decodes_xpress() {
    const SCRIPT: &str = r#"
import hashlib, pyfsntfs, sys

def walk(directory, path):
    for entry in directory.sub_file_entries:
        here = path + "/" + entry.name
        if not path and entry.name[0] == "$":
            continue
        if entry.has_directory_entries_index():
            walk(entry, here)
            continue
        hash, rest = hashlib.sha1(), entry.size
        entry.seek_offset(0, 0)
        while rest:
            piece = entry.read_buffer(min(rest, 1 << 20))
            hash.update(piece)
            rest -= len(piece)
        print(here, entry.size, hash.hexdigest(), sep="\t")

volume = pyfsntfs.volume()
volume.open(sys.argv[1])
walk(volume.get_root_directory(), "")
"#;
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    for chunk in [4096, 8192, 16_384] {
        let compression = Compression::new(Method::Xpress, chunk).unwrap();
        let Some(mut python) = debian_python_script("pyfsntfs", SCRIPT) else { return };
        let options =
            CaptureOptions { compression: Some(compression), properties: windows_10(), ..Default::default() };
        let (image, target) = (open(&image_of(&source, "x.wim", options)), dir.path().join("target.ntfs"));
        let report = apply(&image, &target, Compact::Auto, VolumeVerify::Decode).unwrap();
        assert!(report.compact.files >= 17, "{report:?}");
        let text = run(python.arg(&target));
        let mut found: Vec<&str> = text.lines().collect();
        let mut expected: Vec<String> = image
            .tree()
            .walk()
            .filter_map(|step| {
                let data = image.tree().node(step.entry.node).data.as_ref()?;
                let sha1 = match &data.origin {
                    Origin::Inline(bytes) => <sha1::Sha1 as sha1::Digest>::digest(bytes).to_vec(),
                    _ => data.sha1.unwrap().0.to_vec(),
                };
                let sha1: String = sha1.iter().map(|byte| format!("{byte:02x}")).collect();
                Some(format!("{}\t{}\t{sha1}", step.display_path(), data.size))
            })
            .collect();
        found.sort_unstable();
        expected.sort();
        assert_eq!(found, expected, "{compression:?}");
    }
}
