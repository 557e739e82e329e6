//! Cuts at every write of a change in place, and what becomes of a file after a crash or a failure.

use std::fs;
use std::path::Path;

use gravure_codec::Level;
use gravure_io::{FileAt, MemoryDisk, ReadAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, FaultyDisk, Operation, Random};
use gravure_wim::{HeaderFlags, Wim};

use super::in_place::write;
use super::*;
use crate::capture::{CaptureOptions, Integrity, capture_directory};
use crate::meter::Context;
use crate::{AppendOptions, Error, ErrorKind, ImageFile, Which, append_directory};

/// A directory with two files of random content.
fn source(dir: &Path, name: &str, seed: u64) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    for number in 0..2 {
        let mut bytes = vec![0; 700_000];
        Random::new(seed * 10 + number).fill(&mut bytes);
        fs::write(path.join(number.to_string()), bytes).unwrap();
    }
    path
}

fn captured(dir: &Path, name: &str, seed: u64) -> std::path::PathBuf {
    let image = dir.join(format!("{name}.wim"));
    let options = CaptureOptions {
        compression: None,
        level: Level::Fast,
        name: name.to_owned(),
        integrity: Integrity::Table,
        ..CaptureOptions::default()
    };
    capture_directory(&source(dir, name, seed), &image, &options, &Ctl::default(), &Silent).unwrap();
    image
}

/// Names of the images in `bytes`, once everything in them was checked.
fn checked(bytes: &[u8]) -> Vec<String> {
    let file = ImageFile::open(std::sync::Arc::new(bytes.to_vec()), "left").unwrap();
    let report =
        crate::verify_file(&file, &crate::VerifyFileOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert!(report.missing.is_empty(), "{:?}", report.missing);
    file.wim().info().images().filter_map(|image| image.name()).collect()
}

/// Appends all images of `added` to `old`, of which write number `at` is the last that arrives, with `bytes` of it.
fn cut(old: &[u8], added: &ImageFile, at: u64, bytes: usize) -> (Result<Changed, Error>, Vec<u8>) {
    let disk = MemoryDisk::from_bytes(old.to_vec());
    let disk = FaultyDisk::new(disk, Operation::Write, at, Fault::PowerCut { bytes });
    let file = ImageFile::open(std::sync::Arc::new(old.to_vec()), "old").unwrap();
    let (ctl, observer, options) = (Ctl::default(), Silent, RewriteOptions::default());
    let context = Context { ctl: &ctl, observer: &observer, threads: 2 };
    let meter = Meter::start(&context, "test");
    let result = write(&context, &disk, &file, "disk", &options, |writer| {
        let batch = new_file::Batch::of(added, added.wim().images());
        let mut known = in_place::known(&file);
        let missing = crate::capture::Missing::Refuse;
        let mut report = RewriteReport::default();
        new_file::add_batch(
            &context,
            &meter,
            &batch,
            missing,
            CaptureForm::Normal,
            &mut known,
            writer,
            &options,
            "disk",
            &mut report,
        )
    });
    assert_eq!(result.is_err(), disk.struck());
    (result, disk.into_inner().to_vec())
}

#[test]
fn power_cut_at_any_write_of_an_append_leaves_the_old_file_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let old = fs::read(captured(dir.path(), "old", 1)).unwrap();
    let added = ImageFile::open_path(&captured(dir.path(), "added", 2)).unwrap();
    let (mut kept, mut replaced) = (0, 0);
    // A header of 208 bytes lies in one sector, so it arrives as a whole or not at all.
    for bytes in [0, 512] {
        for at in 0.. {
            let (result, left) = cut(&old, &added, at, bytes);
            let names = checked(&left);
            if result.is_ok() {
                assert_eq!(names, ["old", "added"]);
                break;
            }
            match names.len() {
                1 => kept += 1,
                2 => replaced += 1,
                other => panic!("{other} images after write {at}"),
            }
            assert_eq!(left[208..old.len()], old[208..], "write {at} touched the old file");
        }
    }
    assert!(kept > 6 && replaced >= 1, "{kept} kept, {replaced} replaced");
}

#[test]
fn a_failed_change_puts_the_old_file_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = captured(dir.path(), "old", 1);
    let old = fs::read(&path).unwrap();
    let (ctl, observer, options) = (Ctl::default(), Silent, RewriteOptions::default());
    let context = Context { ctl: &ctl, observer: &observer, threads: 2 };
    let meter = Meter::start(&context, "test");
    let file = InPlace::open(&path, Unfinished::Refuse, &Limits::default()).unwrap();
    let result = file.change(&context, &meter, &options, |writer| {
        writer.add_blob(&vec![7; 5_000_000], Level::Fast).unwrap();
        // While the change is under way the file says so.
        let now = Wim::read(&FileAt::open(&path).unwrap(), &gravure_wim::Limits::default()).unwrap().value;
        assert!(now.header().flags.contains(HeaderFlags::WRITE_IN_PROGRESS));
        Err(Error::NotFound { what: "test", which: "failure".into() })
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(fs::read(&path).unwrap() == old);
    // A second writer is kept out for as long as the first one has the file.
    let second = InPlace::open(&path, Unfinished::Recover, &Limits::default()).unwrap_err();
    assert_eq!((second.kind(), second.to_string().contains("another program")), (ErrorKind::Refused, true));
}

#[test]
fn a_file_that_a_crash_left_is_refused_and_recovered_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = captured(dir.path(), "old", 1);
    let old = fs::read(&path).unwrap();
    let added = ImageFile::open_path(&captured(dir.path(), "added", 2)).unwrap();
    let (_, left) = cut(&old, &added, 3, 100);
    assert!(left.len() > old.len() && left[..208] != old[..208]);
    fs::write(&path, &left).unwrap();
    let next = source(dir.path(), "next", 3);
    let append = |unfinished| {
        let capture = CaptureOptions { name: "next".into(), ..CaptureOptions::default() };
        let rewrite = RewriteOptions { unfinished, ..RewriteOptions::default() };
        let options = AppendOptions { capture, rewrite };
        append_directory(&next, &path, &options, &Ctl::default(), &Silent)
    };
    let error = append(Unfinished::Refuse).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(fs::read(&path).unwrap() == left, "a refused file was touched");
    append(Unfinished::Recover).unwrap();
    let new = fs::read(&path).unwrap();
    assert_eq!(checked(&new), ["old", "next"]);
    assert_eq!(new[208..old.len()], old[208..]);
}

#[test]
fn damage_of_what_was_written_is_found_before_the_change_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (captured(dir.path(), "old", 1), captured(dir.path(), "added", 2));
    let old = fs::read(&path).unwrap();
    // The source is damaged where an export copies bytes as they are stored.
    let mut bytes = fs::read(&other).unwrap();
    bytes[300_000] ^= 1;
    fs::write(&other, &bytes).unwrap();
    let added = ImageFile::open_path(&other).unwrap();
    let run = |read_back, output: &Path| {
        let rewrite = RewriteOptions { read_back, ..RewriteOptions::default() };
        let options = ExportOptions { rewrite, ..ExportOptions::default() };
        export(&added, Selection::All, output, &options, &Ctl::default(), &Silent)
    };
    for output in [path.clone(), dir.path().join("new.wim")] {
        assert_eq!(run(ReadBack::Full, &output).unwrap_err().kind(), ErrorKind::Integrity);
    }
    assert!(fs::read(&path).unwrap() == old);
    assert!(!dir.path().join("new.wim").exists());
    run(ReadBack::Nothing, &path).unwrap();
    let images = ImageFile::open_path(&path).unwrap().image_count();
    assert_eq!(images, 2);
    let deleted = delete(
        &path,
        &Which::Number(2),
        Deletion::Soft,
        &RewriteOptions::default(),
        &Ctl::default(),
        &Silent,
    );
    assert_eq!(deleted.unwrap().images, 1);
    assert_eq!(FileAt::open(&path).unwrap().size(), fs::metadata(&path).unwrap().len());
}

#[test]
fn files_that_must_not_change_are_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = captured(dir.path(), "old", 1);
    let sound = fs::read(&path).unwrap();
    let more = source(dir.path(), "more", 2);
    // Read-only, and part 1 of 2.
    for (offset, value) in [(0x10, HeaderFlags::READ_ONLY.0 as u8), (0x2a, 2)] {
        let mut bytes = sound.clone();
        bytes[offset] = value;
        fs::write(&path, &bytes).unwrap();
        // The second part that the header then speaks of.
        let mut second = bytes.clone();
        second[0x28] = 2;
        fs::write(dir.path().join("old2.wim"), &second).unwrap();
        let (ctl, options) = (Ctl::default(), RewriteOptions::default());
        let append = AppendOptions { rewrite: options.clone(), ..AppendOptions::default() };
        let change = EditOptions { boot: Boot::Set, ..EditOptions::default() };
        let which = Which::Number(1);
        let results = [
            append_directory(&more, &path, &append, &ctl, &Silent).map(|_| ()),
            optimize(&path, &options, &ctl, &Silent).map(|_| ()),
            delete(&path, &which, Deletion::Rebuild, &options, &ctl, &Silent).map(|_| ()),
            delete(&path, &which, Deletion::Soft, &options, &ctl, &Silent).map(|_| ()),
            edit(&path, &which, &change, &ctl, &Silent).map(|_| ()),
        ];
        for result in results {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Refused, "{offset:#x}");
        }
        assert!(fs::read(&path).unwrap() == bytes);
    }
}
