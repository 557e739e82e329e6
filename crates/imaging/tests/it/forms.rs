//! Files made of others in another form: solid, pipable, each content by itself, and back.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use crate::common::{apply, capture, damage, open, run, small_sample, snapshot, without_special_xattrs};
use gravure_imaging::{
    Boot, CaptureForm, CaptureOptions, Compression, CompressionChange, EditOptions, ExportOptions,
    FormChange, ImageFile, InfoChange, Integrity, Method, Recompress, RewriteOptions, Selection, Target,
    Which, edit, export, export_to_pipe, optimize,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::oracle;
use gravure_wim::Layout;

fn solid() -> CaptureForm {
    CaptureForm::Solid(Compression::new(Method::Lzms, 1 << 20).unwrap())
}

/// What a file is, by what is in it.
fn form_of(path: &Path) -> CaptureForm {
    let file = ImageFile::open_path(path).unwrap();
    let of_solid = file.wim().resources().iter().find_map(|resource| resource.solid_compression());
    match (file.wim().header().layout, of_solid) {
        (Layout::Pipable, _) => CaptureForm::Pipable,
        (_, Some(compression)) => CaptureForm::Solid(compression),
        _ => CaptureForm::Normal,
    }
}

fn to(form: CaptureForm) -> RewriteOptions {
    RewriteOptions { form: FormChange::To(form), ..RewriteOptions::default() }
}

#[test]
fn every_form_becomes_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "source", 51);
    let expected = without_special_xattrs(&source);
    let forms = [CaptureForm::Normal, solid(), CaptureForm::Pipable];
    for from in forms {
        let image = dir.path().join("from.wim");
        let options = CaptureOptions { form: from, integrity: Integrity::Table, ..CaptureOptions::default() };
        capture(&source, &image, &options);
        for wanted in forms {
            let what = format!("{from:?} to {wanted:?}");
            let output = dir.path().join("to.wim");
            let _ = fs::remove_file(&output);
            let file = ImageFile::open_path(&image).unwrap();
            let options = ExportOptions { rewrite: to(wanted), boot: Boot::Set, ..ExportOptions::default() };
            let only = Selection::One(file.find(&Which::Only).unwrap());
            let report = export(&file, only, &output, &options, &Ctl::default(), &Silent).unwrap();
            assert_eq!(form_of(&output), wanted, "{what}");
            // Nothing is encoded that could stay as it is. What did not shrink has no chunks outside of pipable files.
            let is_single = |form| !matches!(form, CaptureForm::Solid(_));
            if from == wanted || (from, wanted) == (CaptureForm::Pipable, CaptureForm::Normal) {
                assert_eq!(report.encoded_blobs, 0, "{what}: {report:?}");
            } else if is_single(from) && is_single(wanted) {
                assert!(report.copied_blobs > report.encoded_blobs, "{what}: {report:?}");
            } else {
                assert_eq!(report.copied_blobs, 0, "{what}: {report:?}");
            }
            let made = ImageFile::open_path(&output).unwrap();
            assert_eq!(made.wim().boot_image().map(|image| image.number()), Some(1), "{what}");
            assert!(!made.wim().header().integrity.is_absent(), "{what}");
            assert_eq!(damage(&output).unwrap(), [""; 0], "{what}");

            // In its own place, by what it is.
            let optimized = dir.path().join("optimized.wim");
            fs::copy(&image, &optimized).unwrap();
            optimize(&optimized, &to(wanted), &Ctl::default(), &Silent).unwrap();
            assert_eq!(form_of(&optimized), wanted, "{what}");
            for file in [&output, &optimized] {
                let target = dir.path().join("target");
                let _ = fs::remove_dir_all(&target);
                apply(&open(file), &target).unwrap();
                expected.assert_same(&without_special_xattrs(&target));
            }
            let Some(mut wimlib) = oracle("wimlib-imagex") else { continue };
            run(wimlib.arg("verify").arg(&output));
        }
    }
}

#[test]
fn a_form_is_kept_unless_something_else_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "source", 52);
    for form in [solid(), CaptureForm::Pipable] {
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { form, ..CaptureOptions::default() });
        for recompress in [Recompress::WhereNeeded, Recompress::Everything] {
            let options = RewriteOptions { recompress, ..RewriteOptions::default() };
            optimize(&image, &options, &Ctl::default(), &Silent).unwrap();
            assert_eq!(form_of(&image), form, "{recompress:?}");
        }
        // A new file is not made for a pipe because its source was.
        let (file, output) = (ImageFile::open_path(&image).unwrap(), dir.path().join("new.wim"));
        let _ = fs::remove_file(&output);
        let all = ExportOptions::default();
        export(&file, Selection::All, &output, &all, &Ctl::default(), &Silent).unwrap();
        let expected = if form == solid() { form } else { CaptureForm::Normal };
        assert_eq!(form_of(&output), expected);
        let lzx = RewriteOptions {
            compression: CompressionChange::To(Some(Compression::LZX_32K)),
            form: FormChange::To(CaptureForm::Normal),
            ..RewriteOptions::default()
        };
        optimize(&output, &lzx, &Ctl::default(), &Silent).unwrap();
        assert_eq!(form_of(&output), CaptureForm::Normal);
        let target = dir.path().join("target");
        let _ = fs::remove_dir_all(&target);
        apply(&open(&output), &target).unwrap();
        snapshot(&source).assert_same(&snapshot(&target));
    }
}

#[test]
fn pipable_files_are_changed_and_stay_pipable() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "source", 53);
    let image = dir.path().join("x.wim");
    let pipable =
        CaptureOptions { form: CaptureForm::Pipable, name: "a".into(), ..CaptureOptions::default() };
    capture(&source, &image, &pipable);
    let options = EditOptions {
        info: vec![InfoChange::Set("NAME".into(), "changed".into())],
        ..EditOptions::default()
    };
    edit(&image, &Which::Only, &options, &Ctl::default(), &Silent).unwrap();
    assert_eq!(form_of(&image), CaptureForm::Pipable);
    let file = ImageFile::open_path(&image).unwrap();
    let only = Selection::One(file.find(&Which::Name("changed".into())).unwrap());
    let named =
        |name: &str, target| ExportOptions { name: Some(name.into()), target, ..ExportOptions::default() };
    for (count, name, target) in [(2, "b", Target::Append), (3, "c", Target::Rebuild)] {
        let report = export(&file, only, &image, &named(name, target), &Ctl::default(), &Silent).unwrap();
        assert_eq!((report.images, report.encoded_blobs), (count, 0), "{name}");
        assert_eq!(form_of(&image), CaptureForm::Pipable);
        let all = ImageFile::open_path(&image).unwrap();
        assert_eq!((all.image_count(), damage(&image).unwrap()), (count, vec![]));
    }
    // Nothing is left beside it.
    let others = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(others.count(), 0);
    let both = ImageFile::open_path(&image).unwrap();
    // Into a pipe, and all images of it.
    let mut bytes = Vec::new();
    let options = ExportOptions { rewrite: to(CaptureForm::Pipable), ..ExportOptions::default() };
    let all = Selection::All;
    export_to_pipe(&both, all, &mut bytes, "pipe", &options, &Ctl::default(), &Silent).unwrap();
    let piped = dir.path().join("piped.wim");
    fs::write(&piped, bytes).unwrap();
    assert_eq!((form_of(&piped), damage(&piped).unwrap()), (CaptureForm::Pipable, vec![]));
    let again = ImageFile::open_path(&piped).unwrap();
    for image in again.wim().images() {
        let target = dir.path().join(image.number().to_string());
        apply(&again.image(image).unwrap(), &target).unwrap();
        snapshot(&source).assert_same(&snapshot(&target));
    }
}
