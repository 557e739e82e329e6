//! Damaged, cut and hostile files: an error that says what and where, never a panic, never a file that looks right.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::common::{apply, capture, damage, open, sample, snapshot};
use gravure_imaging::{
    CaptureForm, CaptureOptions, Compression, Error, ErrorKind, Image, ImageFile, Integrity, Method,
    VerifyFileOptions, verify_file,
};
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;

/// Forms and compressions of small images.
fn kinds() -> Vec<(CaptureForm, Option<Compression>)> {
    let new = |method, size| Compression::new(method, size).unwrap();
    let lzms = Some(new(Method::Lzms, 1 << 15));
    vec![
        (CaptureForm::Normal, None),
        (CaptureForm::Normal, Some(Compression::XPRESS_32K)),
        (CaptureForm::Normal, Some(Compression::LZX_32K)),
        (CaptureForm::Normal, lzms),
        (CaptureForm::Solid(new(Method::Lzms, 1 << 17)), lzms),
        (CaptureForm::Solid(new(Method::Lzx, 1 << 15)), Some(Compression::LZX_32K)),
        (CaptureForm::Pipable, Some(Compression::LZX_32K)),
    ]
}

fn small_image(dir: &std::path::Path, form: CaptureForm, compression: Option<Compression>) -> Vec<u8> {
    let source = dir.join("s");
    if !source.exists() {
        fs::create_dir_all(source.join("d")).unwrap();
        fs::write(source.join("a"), b"first content, first content, first content").unwrap();
        fs::write(source.join("d/b"), vec![b'q'; 70_000]).unwrap();
        std::os::unix::fs::symlink("a", source.join("link")).unwrap();
    }
    let image = dir.join("x.wim");
    let integrity = Integrity::Table;
    let options = CaptureOptions { form, compression, integrity, ..CaptureOptions::default() };
    capture(&source, &image, &options);
    fs::read(&image).unwrap()
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for (form, compression) in kinds() {
        let bytes = small_image(dir.path(), form, compression);
        let header = ImageFile::open(Arc::new(bytes.clone()), "whole").unwrap().wim().header().clone();
        let integrity_at = header.integrity.offset as usize;
        let step = if compression.is_none() { 97 } else { 1 };
        for len in (0..bytes.len()).step_by(step) {
            let cut: Arc<Vec<u8>> = Arc::new(bytes[..len].to_vec());
            let error = match Image::open(Arc::clone(&cut) as Arc<dyn ReadAt>, 0) {
                Err(error) => error,
                // Only the integrity table, the last thing in the file, is cut: every content is still sound.
                Ok(_) if len >= integrity_at && form != CaptureForm::Pipable => {
                    let file = ImageFile::open(cut, "cut").unwrap();
                    let options = VerifyFileOptions::default();
                    let report = verify_file(&file, &options, &Ctl::default(), &Silent).unwrap();
                    assert_eq!(report.damage.len(), 1, "{len}: {report:?}");
                    continue;
                }
                Ok(image) => apply(&image, &dir.path().join("t"))
                    .err()
                    .unwrap_or_else(|| panic!("{form:?} {compression:?}: {len} bytes applied")),
            };
            assert_eq!(error.kind(), ErrorKind::Integrity, "{form:?} {compression:?} {len}: {error:?}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_never_goes_unnoticed_in_what_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    for (form, compression) in kinds().into_iter().skip(2) {
        let bytes = small_image(dir.path(), form, compression);
        let wanted = snapshot(&dir.path().join("s"));
        let mut refused = 0;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let target = dir.path().join("t");
            let applied = Image::open(Arc::new(changed), 0).and_then(|image| apply(&image, &target));
            match applied {
                Ok(report) if report.skipped == 0 => wanted.assert_same(&snapshot(&target)),
                _ => refused += 1,
            }
            let _ = fs::remove_dir_all(&target);
        }
        // What may change freely: identity, XML, integrity table, reference counts; of a pipable file, which is read from its
        // end here, all that is there for pipes.
        let least = if form == CaptureForm::Pipable { 8 } else { 4 };
        assert!(refused > bytes.len() / least, "{form:?}: {refused} of {}", bytes.len());
    }
}

#[test]
fn a_damaged_blob_is_named_with_its_paths() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("d")).unwrap();
    let mut bytes = vec![0; 3_000_000];
    gravure_testkit::Random::new(3).fill(&mut bytes);
    fs::write(source.join("large"), &bytes).unwrap();
    fs::write(source.join("d/same"), &bytes).unwrap();
    fs::write(source.join("small"), &bytes[..1000]).unwrap();
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let file = ImageFile::open_path(&image).unwrap();
    let places: Vec<_> = file
        .wim()
        .blobs()
        .map(|(_, blob)| (blob.sha1, blob.size, file.wim().resource(blob.resource).unwrap().header.offset))
        .collect();
    for (sha1, size, offset) in places {
        let sound = fs::read(&image).unwrap();
        let out = fs::File::options().write(true).open(&image).unwrap();
        let at = offset + size / 2;
        out.write_all_at(&[sound[at as usize] ^ 0x10], at).unwrap();
        let found = damage(&image).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let target = dir.path().join("t");
        let error = apply(&open(&image), &target).unwrap_err();
        fs::remove_dir_all(&target).unwrap();
        let Error::BlobMismatch { expected, offset: told, paths, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*expected, *told), (sha1, offset));
        let users: &[&str] = if size == 1000 { &["/small"] } else { &["/large", "/d/same"] };
        assert_eq!(paths, users);
        for text in [&found[0], &error.to_string()] {
            assert!(text.contains(&sha1.to_string()) && text.contains(users[0]), "{text}");
        }
        out.write_all_at(&sound[at as usize..=at as usize], at).unwrap();
        assert_eq!(damage(&image).unwrap(), [""; 0]);
    }
}

#[test]
fn several_damaged_blobs_are_all_found() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 11);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let file = ImageFile::open_path(&image).unwrap();
    let out = fs::File::options().write(true).read(true).open(&image).unwrap();
    let mut expected = Vec::new();
    for (number, (_, blob)) in file.wim().blobs().enumerate().filter(|(number, _)| number % 5 == 0) {
        let place = file.wim().resource(blob.resource).unwrap().header;
        let at = place.offset + place.stored_size - 1 - (number as u64 % 3).min(place.stored_size - 1);
        let mut byte = [0];
        out.read_exact_at(&mut byte, at).unwrap();
        out.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
        expected.push(blob.sha1.to_string());
    }
    let found = damage(&image).unwrap();
    let named = expected.iter().filter(|sha1| found.iter().any(|text| text.contains(*sha1))).count();
    // The last bits of a compressed chunk may mean nothing.
    assert!(named * 10 >= expected.len() * 8, "{named} of {}", expected.len());
    assert!(found.len() <= expected.len());
}
