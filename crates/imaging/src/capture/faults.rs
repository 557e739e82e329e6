//! Bad sectors at every read of a capture from a volume: a clear error and no file, or a whole file without what could not be read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, FaultyDisk, Operation, full_run};
use gravure_tree::SourceId;

use super::*;
use crate::volume::{ExistingData, VolumeApplyOptions, VolumeFile, apply_to_volume};
use crate::{ErrorKind, VerifyFileOptions, Which, verify_file};

const FILES: usize = 12;

/// A volume with files in records, in clusters and in pieces.
fn volume(dir: &Path) -> Vec<u8> {
    let source = dir.join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..FILES {
        let content: Vec<u8> = (0..[90usize, 5000, 60_000, 700_000][number % 4])
            .map(|at| (at * (number + 7) / 3) as u8)
            .collect();
        fs::write(source.join(format!("file{number}")), content).unwrap();
    }
    let (image, volume) = (dir.join("source.wim"), dir.join("source.ntfs"));
    let options = CaptureOptions { level: Level::Fast, ..CaptureOptions::default() };
    capture_directory(&source, &image, &options, &Ctl::default(), &Silent).unwrap();
    let file = ImageFile::open_path(&image).unwrap();
    let image = file.image(file.find(&Which::Only).unwrap()).unwrap();
    let device = VolumeFile::open(&volume, Some(8 << 20)).unwrap();
    let options = VolumeApplyOptions { existing: ExistingData::Destroy, ..VolumeApplyOptions::default() };
    apply_to_volume(&image, &device, &options, &Ctl::default(), &Silent).unwrap();
    fs::read(&volume).unwrap()
}

/// As [`capture`] does it from a device that may fail.
fn capture_from(
    disk: Arc<FaultyDisk<Arc<Vec<u8>>>>,
    output: &Path,
    form: CaptureForm,
) -> Result<CaptureReport, Error> {
    let (ctl, options) =
        (Ctl::default(), CaptureOptions { form, level: Level::Fast, ..CaptureOptions::default() });
    let context = Context { ctl: &ctl, observer: &Silent, threads: 2 };
    let meter = Meter::start(&context, "capture");
    let file = OutputFile::create(output)?;
    let id = SourceId(u32::MAX);
    let scan = without_paging_files(&options.scan);
    let (tree, volume) =
        NtfsSource::scan_source(Box::new(disk), "the volume".to_owned(), id, &scan, &meter, &ctl)?;
    let source = ScannedSource::Volume(Box::new(volume));
    let mut scanned = Scanned { id, tree, source, earlier: None, known: Known::default(), unread: 0 };
    let mut report = CaptureReport::default();
    write(&context, &meter, &mut scanned, &file, &options, &mut report)?;
    file.commit()?;
    report.take(meter.finish());
    Ok(report)
}

#[test]
fn a_bad_sector_at_any_read_is_told_of_and_leaves_no_file_that_only_looks_complete() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = Arc::new(volume(dir.path()));
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let output = out.join("x.wim");
    for form in [CaptureForm::Normal, CaptureForm::Solid(Compression::LZX_32K)] {
        let disk = |at| Arc::new(FaultyDisk::new(Arc::clone(&bytes), Operation::Read, at, Fault::EIO));
        let sound = disk(u64::MAX);
        let report = capture_from(Arc::clone(&sound), &output, form).unwrap();
        assert_eq!((report.files, report.skipped), (FILES as u64, 0), "{report:?}");
        fs::remove_file(&output).unwrap();
        let count = sound.count(Operation::Read);
        let step = if full_run() { 1 } else { 1 + count / 60 };
        let (mut ended, mut partial) = (0, 0);
        for at in (0..count).step_by(usize::try_from(step).unwrap()) {
            let what = format!("{form:?}, read {at} of {count}");
            match capture_from(disk(at), &output, form) {
                Err(error) => {
                    ended += 1;
                    assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
                    let chain = chain(&error);
                    assert!(
                        chain.contains("the volume") && chain.contains("Input/output error"),
                        "{what}: {chain}"
                    );
                    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{what}");
                }
                Ok(report) => {
                    partial += 1;
                    // One file is missing, and said to be. Or the read was the first of two: files of one size are hashed to find equal
                    // ones, and what fails there is read again for the image, this time with success.
                    assert!(report.skipped <= 1, "{what}: {report:?}");
                    assert_eq!(report.files + report.skipped, FILES as u64, "{what}: {report:?}");
                    let told = report.warnings.iter().any(|warning| warning.contains("Input/output error"));
                    assert!(told || report.skipped == 0, "{what}: {report:?}");
                    let file = ImageFile::open_path(&output).unwrap();
                    let options = VerifyFileOptions::default();
                    let verified = verify_file(&file, &options, &Ctl::default(), &Silent).unwrap();
                    assert!(
                        verified.damage.is_empty() && verified.missing.is_empty(),
                        "{what}: {verified:?}"
                    );
                    fs::remove_file(&output).unwrap();
                }
            }
        }
        assert!(ended > 0, "{ended} ended, {partial} did not");
    }
}
