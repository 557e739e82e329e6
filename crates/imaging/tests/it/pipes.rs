//! Images that go through a pipe: written, read and checked front to back.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;

use crate::common::{
    apply, capture, compressions, damage, open, run, small_sample, snapshot, without_special_xattrs,
};
use gravure_imaging::{
    ApplyOptions, CaptureForm, CaptureOptions, Compression, DamagedContent, Durability, Error, ErrorKind,
    FileReport, ImageFile, Integrity, Parents, PipedFile, RewriteOptions, VerifyFileOptions, VerifyOptions,
    Which, apply_to_directory, capture_to_pipe, split, verify_applied,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Random, oracle};

/// Gives bytes in odd portions, as a pipe does.
struct Portions<R>(R, usize);

impl<R: Read> Read for Portions<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 70_001 + 1237;
        let len = buf.len().min(self.1);
        self.0.read(&mut buf[..len])
    }
}

fn piped(bytes: &[u8]) -> Result<PipedFile<'_>, Error> {
    PipedFile::open(Portions(bytes, 0), "pipe")
}

fn check(bytes: &[u8]) -> Result<FileReport, Error> {
    piped(bytes)?.verify(&VerifyFileOptions::default(), &Ctl::default(), &Silent)
}

fn pipable(compression: Option<Compression>) -> CaptureOptions {
    CaptureOptions {
        form: CaptureForm::Pipable,
        compression,
        name: "n".to_owned(),
        // Later than any time of the samples, which it would clamp.
        source_date_epoch: Some(4_000_000_000),
        ..CaptureOptions::default()
    }
}

/// Applies from a pipe and reads everything back.
fn apply_piped(bytes: &[u8], target: &Path, options: &ApplyOptions) {
    let ctl = Ctl::default();
    let (report, image) = piped(bytes).unwrap().apply(&Which::Only, target, options, &ctl, &Silent).unwrap();
    assert_eq!((report.skipped, &report.losses), (0, &vec![]), "{:?}", report.warnings);
    verify_applied(&image, target, &report, &VerifyOptions::default(), &ctl, &Silent).unwrap();
}

#[test]
fn what_is_written_to_a_pipe_comes_out_of_it_and_reads_as_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 80);
    for (number, compression) in compressions().into_iter().enumerate() {
        let integrity = if number % 2 == 0 { Integrity::Table } else { Integrity::Without };
        let mut written: Vec<Vec<u8>> = Vec::new();
        for threads in [1, 3] {
            let options = CaptureOptions { integrity, threads: Some(threads), ..pipable(compression) };
            let mut bytes = Vec::new();
            let report =
                capture_to_pipe(&source, &mut bytes, "pipe", &options, &Ctl::default(), &Silent).unwrap();
            assert_eq!((report.skipped, report.file_bytes), (0, bytes.len() as u64), "{:?}", report.warnings);
            written.push(bytes);
        }
        assert!(written[0] == written[1], "other bytes with other threads");
        let bytes = &written[0];
        for threads in [1, 3] {
            let target = dir.path().join(format!("t{number}-{threads}"));
            let options = ApplyOptions { threads: Some(threads), ..ApplyOptions::default() };
            apply_piped(bytes, &target, &options);
            snapshot(&source).assert_same(&snapshot(&target));
        }
        let report = check(bytes).unwrap();
        assert!(report.damage.is_empty() && report.missing.is_empty(), "{report:?}");
        // As a file: random access through the header at the end and the tables behind the chunks.
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { integrity, ..pipable(compression) });
        assert!(*bytes == fs::read(&image).unwrap());
        assert_eq!(damage(&image).unwrap(), [""; 0]);
        let target = dir.path().join(format!("f{number}"));
        apply(&open(&image), &target).unwrap();
        snapshot(&source).assert_same(&snapshot(&target));
    }
}

#[test]
fn wimlib_reads_ours_from_a_pipe_and_as_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 81);
    for (number, compression) in compressions().into_iter().enumerate() {
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { integrity: Integrity::Table, ..pipable(compression) });
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        run(wimlib.arg("verify").arg(&image));
        let target = dir.path().join(format!("t{number}"));
        fs::create_dir(&target).unwrap();
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        // The shell makes it a pipe: from a file wimlib would look at the end first.
        let mut cat = std::process::Command::new("cat").arg(&image).stdout(Stdio::piped()).spawn().unwrap();
        let out = cat.stdout.take().unwrap();
        run(wimlib.args(["apply", "-", "1"]).arg(&target).arg("--unix-data").stdin(out));
        assert!(cat.wait().unwrap().success());
        without_special_xattrs(&source).assert_same(&without_special_xattrs(&target));
    }
}

#[test]
fn we_read_wimlibs_from_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 82);
    for method in ["none", "XPRESS", "LZX", "LZMS"] {
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        let image = dir.path().join(format!("{method}.wim"));
        let out = File::create(&image).unwrap();
        let compress = format!("--compress={method}");
        run(wimlib.args(["capture", "--unix-data", &compress]).arg(&source).arg("-").stdout(out));
        let bytes = fs::read(&image).unwrap();
        let report = check(&bytes).unwrap();
        assert!(report.damage.is_empty() && report.missing.is_empty(), "{method}: {report:?}");
        let target = dir.path().join(format!("t-{method}"));
        apply_piped(&bytes, &target, &ApplyOptions::default());
        without_special_xattrs(&source).assert_same(&without_special_xattrs(&target));
    }
}

#[test]
fn single_files_come_out_of_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("d")).unwrap();
    let mut large = vec![0; 2_000_000];
    Random::new(9).fill(&mut large);
    fs::write(source.join("d/large"), &large).unwrap();
    fs::write(source.join("d/small"), b"small").unwrap();
    fs::write(source.join("empty"), b"").unwrap();
    let mut bytes = Vec::new();
    let ctl = Ctl::default();
    let options = pipable(Some(Compression::LZX_32K));
    capture_to_pipe(&source, &mut bytes, "pipe", &options, &ctl, &Silent).unwrap();
    for (path, expected) in [("/d/large", &large[..]), ("/d/small", b"small"), ("/empty", b"")] {
        let mut out = Vec::new();
        piped(&bytes).unwrap().extract_to(&Which::Number(1), path, &mut out, &ctl).unwrap();
        assert!(out == expected, "{path}");
    }
    let target = dir.path().join("t");
    let (paths, how) = (["/d".to_owned()], ApplyOptions::default());
    piped(&bytes)
        .unwrap()
        .extract(&Which::Name("n".into()), &paths, Parents::Drop, &target, &how, &ctl, &Silent)
        .unwrap();
    snapshot(&source.join("d")).assert_same(&snapshot(&target.join("d")));
    let pipe = piped(&bytes).unwrap();
    assert_eq!((pipe.header().image_count, pipe.info().images().count()), (1, 1));
    let error = pipe.find(&Which::Number(2)).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "image 2 of pipe not found")
    );
    let mut out = Vec::new();
    let missing = piped(&bytes).unwrap().extract_to(&Which::Only, "/nope", &mut out, &ctl).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_that_is_not_pipable_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 83);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let bytes = fs::read(&image).unwrap();
    let error = piped(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "reading from a pipe not supported: a WIM that is not pipable");
}

fn small(dir: &Path) -> Vec<u8> {
    let source = dir.join("s");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("a"), b"first content, first content, first content").unwrap();
    fs::write(source.join("d/b"), vec![b'q'; 70_000]).unwrap();
    std::os::unix::fs::symlink("a", source.join("link")).unwrap();
    let mut bytes = Vec::new();
    let options = CaptureOptions { integrity: Integrity::Table, ..pipable(Some(Compression::XPRESS_32K)) };
    capture_to_pipe(&source, &mut bytes, "pipe", &options, &Ctl::default(), &Silent).unwrap();
    bytes
}

#[test]
fn a_pipe_that_ends_early_is_an_error_wherever_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = small(dir.path());
    let target = dir.path().join("t");
    let how = ApplyOptions { durability: Durability::Cached, ..ApplyOptions::default() };
    for len in 0..bytes.len() {
        let cut = &bytes[..len];
        let applied =
            piped(cut).and_then(|pipe| pipe.apply(&Which::Only, &target, &how, &Ctl::default(), &Silent));
        let error = applied.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{len}: {error:?}");
        let error = check(cut).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{len}: {error:?}");
        let _ = fs::remove_dir_all(&target);
    }
}

#[test]
fn a_flipped_bit_is_found_or_does_no_harm_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = small(dir.path());
    let wanted = snapshot(&dir.path().join("s"));
    let target = dir.path().join("t");
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let options = ApplyOptions { durability: Durability::Cached, ..ApplyOptions::default() };
        let applied = piped(&changed)
            .and_then(|pipe| pipe.apply(&Which::Only, &target, &options, &Ctl::default(), &Silent));
        match applied {
            Ok((report, _)) if report.skipped == 0 => wanted.assert_same(&snapshot(&target)),
            _ => refused += 1,
        }
        let _ = fs::remove_dir_all(&target);
        let _ = check(&changed);
    }
    // What may change freely: chunk tables, integrity table, the flags of the last header and the like.
    assert!(refused > bytes.len() / 2, "{refused} of {}", bytes.len());
}

#[test]
fn what_can_be_read_is_recovered_from_a_damaged_file_and_a_damaged_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    let mut random = Random::new(3);
    for (name, len) in [("large", 1_500_000), ("small", 3000), ("sound", 5000)] {
        // Four times the same bytes, so that chunks are compressed and a wrong byte makes them fail or differ.
        let mut bytes = vec![0; len / 4];
        random.fill(&mut bytes);
        fs::write(source.join(name), bytes.repeat(4)).unwrap();
    }
    let how = ApplyOptions { damaged: DamagedContent::Keep, ..ApplyOptions::default() };
    for form in [CaptureForm::Normal, CaptureForm::Pipable] {
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { form, ..CaptureOptions::default() });
        let file = gravure_imaging::ImageFile::open_path(&image).unwrap();
        let mut bytes = fs::read(&image).unwrap();
        for (_, blob) in file.wim().blobs().filter(|(_, blob)| blob.size != 5000) {
            let place = file.wim().resource(blob.resource).unwrap().header;
            bytes[(place.offset + place.stored_size * 2 / 3) as usize] ^= 0x55;
        }
        fs::write(&image, &bytes).unwrap();
        let target = dir.path().join("t");
        let report = match form {
            CaptureForm::Normal => {
                apply_to_directory(&open(&image), &target, &how, &Ctl::default(), &Silent).unwrap()
            }
            _ => {
                piped(&bytes).unwrap().apply(&Which::Only, &target, &how, &Ctl::default(), &Silent).unwrap().0
            }
        };
        let mut damaged = report.damaged.clone();
        damaged.sort();
        assert_eq!((damaged, report.skipped), (vec!["/large".to_owned(), "/small".to_owned()], 2));
        for (name, least) in [("large", 1_400_000), ("small", 1), ("sound", 5000)] {
            let (ours, wanted) = (fs::read(target.join(name)).unwrap(), fs::read(source.join(name)).unwrap());
            let same = ours.iter().zip(&wanted).filter(|(a, b)| a == b).count();
            assert!(ours.len() == wanted.len() && same >= least, "{form:?} {name}: {same} bytes are right");
            assert_eq!(ours == wanted, name == "sound", "{name}");
        }
        fs::remove_dir_all(&target).unwrap();
    }
}

/// The parts of a split pipable image, one behind the other in one pipe: ours and wimlib's.
#[test]
fn split_sets_go_through_one_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "s", 84);
    let image = dir.path().join("x.wim");
    for (number, compression) in [None, Some(Compression::LZX_32K)].into_iter().enumerate() {
        let integrity = if number == 0 { Integrity::Table } else { Integrity::Without };
        capture(&source, &image, &CaptureOptions { integrity, ..pipable(compression) });
        for is_ours in [true, false] {
            let set = dir.path().join(format!("set{number}{is_ours}"));
            fs::create_dir(&set).unwrap();
            let first = set.join("x.swm");
            if is_ours {
                let file = ImageFile::open_path(&image).unwrap();
                let options = RewriteOptions::default();
                let report = split(&file, &first, 200_000, &options, &Ctl::default(), &Silent).unwrap();
                for (path, bytes) in &report.parts {
                    assert_eq!(fs::metadata(path).unwrap().len(), *bytes);
                    assert!(*bytes <= 200_000 || !report.too_large.is_empty(), "{report:?}");
                }
            } else {
                let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
                run(wimlib.arg("split").arg(&image).arg(&first).arg("0.2"));
            }
            let names =
                (1..).map(|part| if part == 1 { first.clone() } else { set.join(format!("x{part}.swm")) });
            let parts: Vec<Vec<u8>> = names.map_while(|path| fs::read(path).ok()).collect();
            assert!(parts.len() > 2, "{} parts", parts.len());
            let bytes = parts.concat();
            let report = check(&bytes).unwrap();
            assert!(report.damage.is_empty() && report.missing.is_empty(), "by us {is_ours}: {report:?}");
            let target = dir.path().join(format!("t{number}{is_ours}"));
            apply_piped(&bytes, &target, &ApplyOptions::default());
            snapshot(&source).assert_same(&snapshot(&target));
            assert_eq!(damage(&first).unwrap(), [""; 0], "as files");
            // Parts that are missing, doubled or in another order.
            for wrong in [
                parts[..parts.len() - 1].concat(),
                [&parts[..1], &parts[2..]].concat().concat(),
                [&parts[..2], &parts[1..]].concat().concat(),
                parts[1..].concat(),
            ] {
                assert!(check(&wrong).is_err(), "by us {is_ours}");
            }
            if is_ours && let Some(mut wimlib) = oracle("wimlib-imagex") {
                run(wimlib.arg("verify").arg(&first).arg(format!("--ref={}/x*.swm", set.display())));
            }
        }
    }
}
