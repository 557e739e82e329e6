//! Files made of others in another form: solid, pipable, each content by itself, and back.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{apply, capture, damage, open, run, small_sample, snapshot, without_special_xattrs};
use gravure_imaging::{
    Boot, CaptureForm, CaptureOptions, Compression, CompressionChange, ErrorKind, ExportOptions, FormChange,
    ImageFile, Integrity, Method, Recompress, RewriteOptions, Selection, Target, Which, edit, export,
    export_to_pipe, optimize,
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
            // Nothing is encoded that could stay as it is.
            let can_be_copied = from == wanted && wanted != CaptureForm::Pipable;
            assert_eq!(report.encoded_blobs == 0, can_be_copied, "{what}: {report:?}");
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
fn pipable_files_are_made_anew_and_never_changed_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "source", 53);
    let image = dir.path().join("x.wim");
    let pipable =
        CaptureOptions { form: CaptureForm::Pipable, name: "a".into(), ..CaptureOptions::default() };
    capture(&source, &image, &pipable);
    let before = fs::read(&image).unwrap();
    let file = ImageFile::open_path(&image).unwrap();
    let error = edit(&image, &Which::Only, &Default::default(), &Ctl::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("x.wim"), "{error}");
    let named = |name: &str| ExportOptions { name: Some(name.into()), ..ExportOptions::default() };
    let only = Selection::One(file.find(&Which::Only).unwrap());
    let error = export(&file, only, &image, &named("b"), &Ctl::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(fs::read(&image).unwrap() == before, "the file was touched");
    let rebuilt = ExportOptions { target: Target::Rebuild, ..named("b") };
    export(&file, only, &image, &rebuilt, &Ctl::default(), &Silent).unwrap();
    assert_eq!(form_of(&image), CaptureForm::Pipable);
    let both = ImageFile::open_path(&image).unwrap();
    assert_eq!((both.image_count(), damage(&image).unwrap()), (2, vec![]));
    // Into a pipe, and both images of it.
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
