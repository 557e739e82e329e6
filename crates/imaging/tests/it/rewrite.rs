//! Export, append, delete, optimize, split, join, edit: trees stay the same, what can be copied is, and other programs
//! read what comes out.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{damage, sample, snapshot};
use gravure_imaging::*;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Kind, Snapshot, oracle};

fn ctl() -> Ctl {
    Ctl::default()
}

/// What wimlib restores, too.
fn tree_of(root: &Path) -> Snapshot {
    let mut snapshot = snapshot(root);
    for entry in snapshot.entries.values_mut() {
        if !matches!(entry.kind, Kind::File { .. } | Kind::Directory) {
            entry.xattrs.clear();
        }
    }
    snapshot
}

fn capture_named(source: &Path, image: &Path, name: &str, compression: Option<Compression>) {
    let options = CaptureOptions {
        compression,
        name: name.into(),
        integrity: Integrity::Table,
        ..CaptureOptions::default()
    };
    common::capture(source, image, &options);
}

fn append_named(source: &Path, image: &Path, name: &str) -> CaptureReport {
    let capture = CaptureOptions { name: name.into(), ..CaptureOptions::default() };
    let options = AppendOptions { capture, ..AppendOptions::default() };
    append_directory(source, image, &options, &ctl(), &Silent).unwrap()
}

/// Applies image `number` with us and, when it is there, with wimlib; both must be the tree of `expected`.
fn assert_holds(dir: &Path, image: &Path, number: u32, expected: &Path) {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let file = ImageFile::open_path(image).unwrap();
    let opened = file.image(file.find(&Which::Number(number)).unwrap()).unwrap();
    let target = dir.join(format!("ours{count}"));
    common::apply(&opened, &target).unwrap();
    snapshot(expected).assert_same(&snapshot(&target));
    if file.wim().header().parts > 1 {
        return;
    }
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    run(wimlib.arg("verify").arg(image));
    let target = dir.join(format!("theirs{count}"));
    fs::create_dir(&target).unwrap();
    let mut wimlib = Command::new("wimlib-imagex");
    run(wimlib.args(["apply", "--check", "--unix-data"]).arg(image).arg(number.to_string()).arg(&target));
    tree_of(expected).assert_same(&tree_of(&target));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn names(image: &Path) -> Vec<String> {
    let file = ImageFile::open_path(image).unwrap();
    file.wim().info().images().filter_map(|image| image.name()).collect()
}

fn boot(image: &Path) -> Option<u32> {
    ImageFile::open_path(image).unwrap().wim().boot_image().map(|image| image.number())
}

/// A file of two images whose directories share most of their content.
struct Two {
    dir: tempfile::TempDir,
    image: PathBuf,
    first: PathBuf,
    second: PathBuf,
}

fn two() -> Two {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (sample(dir.path(), "first", 7), sample(dir.path(), "second", 7));
    fs::write(second.join("only in the second"), vec![b'2'; 100_000]).unwrap();
    let image = dir.path().join("two.wim");
    capture_named(&first, &image, "first", Some(Compression::LZX_32K));
    let before = fs::metadata(&image).unwrap().len();
    let report = append_named(&second, &image, "second");
    assert_eq!(report.blobs, 1, "everything else is in the file already");
    assert!(fs::metadata(&image).unwrap().len() < before * 2);
    Two { dir, image, first, second }
}

#[test]
fn an_append_adds_an_image_and_stores_only_what_is_new() {
    let two = two();
    assert_eq!(damage(&two.image).unwrap(), [""; 0]);
    assert_eq!(names(&two.image), ["first", "second"]);
    assert_ne!(ImageFile::open_path(&two.image).unwrap().wim().header().integrity.size, 0, "table is kept");
    assert_holds(two.dir.path(), &two.image, 1, &two.first);
    assert_holds(two.dir.path(), &two.image, 2, &two.second);
    let again = AppendOptions {
        capture: CaptureOptions { name: "first".into(), ..CaptureOptions::default() },
        ..AppendOptions::default()
    };
    let error = append_directory(&two.first, &two.image, &again, &ctl(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn an_update_reads_only_what_changed_and_a_delta_holds_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 9);
    let base = dir.path().join("base.wim");
    capture_named(&source, &base, "base", Some(Compression::LZX_32K));
    fs::write(source.join("new"), vec![b'n'; 50_000]).unwrap();
    let base_file = ImageFile::open_path(&base).unwrap();
    let earlier = Earlier { file: base_file.clone(), which: Which::Number(1) };
    let delta = dir.path().join("delta.wim");
    let options = CaptureOptions {
        name: "delta".into(),
        delta_from: vec![base_file],
        update_of: Some(earlier.clone()),
        ..CaptureOptions::default()
    };
    let report = common::capture(&source, &delta, &options);
    assert_eq!(report.blobs, 1);
    assert!(report.unread_files > 20, "{report:?}");
    let mut file = ImageFile::open_path(&delta).unwrap();
    assert_eq!(file.wim().blobs().len(), 1);
    let number = file.find(&Which::Only).unwrap();
    let export_to = dir.path().join("whole.wim");
    let export_it = |file: &ImageFile| {
        let options = ExportOptions::default();
        export(file, Selection::One(number), &export_to, &options, &ctl(), &Silent)
    };
    // Without its base the image is not whole.
    assert_eq!(export_it(&file).unwrap_err().kind(), ErrorKind::NotFound);
    file.add_reference(&base).unwrap();
    let target = dir.path().join("t");
    common::apply(&file.image(number).unwrap(), &target).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
    export_it(&file).unwrap();
    assert_holds(dir.path(), &export_to, 1, &source);
    if let Some(mut wimlib) = oracle("wimlib-imagex") {
        let target = dir.path().join("theirs");
        fs::create_dir(&target).unwrap();
        let reference = format!("--ref={}", base.display());
        run(wimlib.args(["apply", "--unix-data"]).arg(&delta).arg("1").arg(&target).arg(reference));
        tree_of(&source).assert_same(&tree_of(&target));
    }
    // Without `delta_from`, unread contents are copied from the earlier image.
    let full = dir.path().join("full.wim");
    let options = CaptureOptions { update_of: Some(earlier), ..CaptureOptions::default() };
    let report = common::capture(&source, &full, &options);
    assert!(report.unread_files > 20 && report.blobs > 20, "{report:?}");
    assert_holds(dir.path(), &full, 1, &source);
}

#[test]
fn exports_copy_or_recompress_and_keep_the_tree() {
    let two = two();
    let dir = two.dir.path();
    let source = ImageFile::open_path(&two.image).unwrap();
    for (number, compression) in [
        CompressionChange::Keep,
        CompressionChange::To(None),
        CompressionChange::To(Some(Compression::XPRESS_32K)),
        CompressionChange::To(Some(Compression::new(Method::Xpress, 4096).unwrap())),
        CompressionChange::To(Some(Compression::new(Method::Lzx, 2 << 20).unwrap())),
    ]
    .into_iter()
    .enumerate()
    {
        let output = dir.join(format!("export{number}.wim"));
        let rewrite = RewriteOptions { compression, ..RewriteOptions::default() };
        let options = ExportOptions { rewrite, boot: Boot::Set, ..ExportOptions::default() };
        let second = source.find(&Which::Number(2)).unwrap();
        let report = export(&source, Selection::One(second), &output, &options, &ctl(), &Silent).unwrap();
        let is_kept = compression == CompressionChange::Keep;
        assert_eq!(report.encoded_blobs == 0, is_kept, "{compression:?}: {report:?}");
        assert_eq!((names(&output), boot(&output)), (vec!["second".to_owned()], Some(1)));
        assert_holds(dir, &output, 1, &two.second);
        // All into it, under names that are free.
        let options = ExportOptions { name: Some("again".into()), ..ExportOptions::default() };
        let first = source.find(&Which::Number(1)).unwrap();
        export(&source, Selection::One(first), &output, &options, &ctl(), &Silent).unwrap();
        assert_eq!((names(&output), boot(&output)), (vec!["second".into(), "again".into()], Some(1)));
        assert_eq!(damage(&output).unwrap(), [""; 0]);
        assert_holds(dir, &output, 2, &two.first);
        let taken = export(&source, Selection::All, &output, &ExportOptions::default(), &ctl(), &Silent);
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::Usage);
    }
    // All at once, compressed anew: the bytes do not depend on the number of threads.
    let mut bytes = Vec::new();
    for threads in [1, 3] {
        let output = dir.join(format!("all{threads}.wim"));
        let rewrite = RewriteOptions {
            threads: Some(threads),
            recompress: Recompress::Everything,
            ..RewriteOptions::default()
        };
        let options = ExportOptions { rewrite, ..ExportOptions::default() };
        let report = export(&source, Selection::All, &output, &options, &ctl(), &Silent).unwrap();
        assert_eq!((report.images, report.copied_blobs), (2, 0));
        let mut all = fs::read(&output).unwrap();
        all[0x18..0x28].fill(0);
        bytes.push(all);
    }
    assert!(bytes[0] == bytes[1], "bytes depend on threads");
}

#[test]
fn deletions_shrink_the_file_or_only_its_tables() {
    for deletion in [Deletion::Rebuild, Deletion::Soft] {
        let two = two();
        let before = fs::metadata(&two.image).unwrap().len();
        let guid = ImageFile::open_path(&two.image).unwrap().wim().header().guid;
        let change = |path: &Path| {
            let options = EditOptions { boot: Boot::Set, ..EditOptions::default() };
            edit(path, &Which::Number(2), &options, &ctl(), &Silent).unwrap()
        };
        change(&two.image);
        let options = RewriteOptions::default();
        let which = Which::Name("first".into());
        let report = delete(&two.image, &which, deletion, &options, &ctl(), &Silent).unwrap();
        assert_eq!((report.images, report.encoded_blobs), (1, 0));
        assert_eq!(report.file_bytes, fs::metadata(&two.image).unwrap().len());
        assert_eq!(report.file_bytes > before, deletion == Deletion::Soft, "{report:?}");
        assert_eq!((names(&two.image), boot(&two.image)), (vec!["second".to_owned()], Some(1)));
        assert_eq!(ImageFile::open_path(&two.image).unwrap().wim().header().guid, guid);
        assert_eq!(damage(&two.image).unwrap(), [""; 0]);
        assert_holds(two.dir.path(), &two.image, 1, &two.second);
        // What the soft one left behind goes with an optimization.
        let soft = report.file_bytes;
        let report = optimize(&two.image, &options, &ctl(), &Silent).unwrap();
        assert_eq!(report.file_bytes < soft, deletion == Deletion::Soft);
        assert_holds(two.dir.path(), &two.image, 1, &two.second);
        // A second time nothing changes any more.
        let once = fs::read(&two.image).unwrap();
        optimize(&two.image, &options, &ctl(), &Silent).unwrap();
        assert!(fs::read(&two.image).unwrap() == once);
    }
}

fn set(parts: &[PathBuf]) -> Result<ImageFile, gravure_imaging::Error> {
    let open = |path: &PathBuf| ImageFile::open_single(path, &Limits::default());
    ImageFile::from_parts(parts.iter().map(open).collect::<Result<_, _>>()?)
}

#[test]
fn parts_are_joined_to_the_same_file_by_us_and_by_others() {
    let two = two();
    let dir = two.dir.path();
    let options = RewriteOptions::default();
    optimize(&two.image, &options, &ctl(), &Silent).unwrap();
    let whole = fs::read(&two.image).unwrap();
    let source = ImageFile::open_path(&two.image).unwrap();
    let first = dir.join("part.swm");
    let report = split(&source, &first, 1 << 20, &options, &ctl(), &Silent).unwrap();
    assert!(report.parts.len() > 3, "{report:?}");
    for (number, (path, bytes)) in (1u16..).zip(&report.parts) {
        assert_eq!(*bytes, fs::metadata(path).unwrap().len());
        assert!(*bytes <= 1 << 20 || report.too_large.contains(&number), "{report:?}");
    }
    assert_eq!(damage(&first).unwrap(), [""; 0]);
    assert_holds(dir, &first, 1, &two.first);
    let mut parts: Vec<PathBuf> = report.parts.iter().map(|(path, _)| path.clone()).collect();
    parts.reverse();
    let joined = dir.join("joined.wim");
    join(&set(&parts).unwrap(), &joined, &options, &ctl(), &Silent).unwrap();
    assert!(fs::read(&joined).unwrap() == whole, "a joined file is the one that was split");
    assert_eq!(set(&parts[1..]).unwrap_err().kind(), ErrorKind::Integrity);
    let error = join(&set(&parts).unwrap(), &parts[1], &options, &ctl(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "a part is not written over");
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    let theirs = dir.join("theirs.wim");
    run(wimlib.arg("join").arg(&theirs).args(&parts));
    assert_holds(dir, &theirs, 2, &two.second);
    // And the other way round.
    run(Command::new("wimlib-imagex").arg("split").arg(&two.image).arg(dir.join("w.swm")).arg("1"));
    let mut parts: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with('w') && name.ends_with(".swm")
        })
        .collect();
    parts.sort();
    let ours = dir.join("ours.wim");
    join(&set(&parts).unwrap(), &ours, &options, &ctl(), &Silent).unwrap();
    assert_holds(dir, &ours, 1, &two.first);
}

#[test]
fn edits_change_what_they_name_and_nothing_else() {
    let two = two();
    let dir = two.dir.path();
    let set = |path: &str, value: &str| InfoChange::Set(path.into(), value.into());
    let options = EditOptions {
        info: vec![
            set("NAME", "renamed"),
            set("WINDOWS/VERSION/BUILD", "26100"),
            set("DESCRIPTION", "gone"),
            InfoChange::Remove("DESCRIPTION".into()),
        ],
        boot: Boot::Set,
        ..EditOptions::default()
    };
    edit(&two.image, &Which::Number(1), &options, &ctl(), &Silent).unwrap();
    let file = ImageFile::open_path(&two.image).unwrap();
    let info = file.wim().info().image(0).unwrap();
    assert_eq!((names(&two.image), boot(&two.image)), (vec!["renamed".into(), "second".into()], Some(1)));
    assert_eq!((info.text("WINDOWS/VERSION/BUILD").as_deref(), info.description()), (Some("26100"), None));
    for wrong in [set("NAME", "second"), set("A B", "x"), set("", "x")] {
        let options = EditOptions { info: vec![wrong], ..EditOptions::default() };
        let error = edit(&two.image, &Which::Number(1), &options, &ctl(), &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    // The same changes made to the directory give the tree that the image must have.
    let extra = dir.join("extra");
    fs::create_dir_all(extra.join("sub")).unwrap();
    fs::write(extra.join("sub/file"), vec![b'x'; 70_000]).unwrap();
    fs::write(extra.join("single"), b"single").unwrap();
    let add = |source: &Path, to: &str| TreeChange::Add {
        source: source.to_owned(),
        to: to.into(),
        scan: ScanOptions::default(),
        overlay: Overlay::Replace,
    };
    let options = EditOptions {
        tree: vec![
            add(&extra, "/added"),
            add(&extra.join("single"), "/only in the second"),
            TreeChange::Rename { from: "/added/sub".into(), to: "/moved".into() },
            TreeChange::Delete { path: "/added/single".into(), rule: DeleteRule::default() },
        ],
        ..EditOptions::default()
    };
    let report = edit(&two.image, &Which::Number(2), &options, &ctl(), &Silent).unwrap();
    assert_eq!(report.encoded_blobs, 2);
    assert_eq!(names(&two.image), ["renamed", "second"]);
    assert_eq!(damage(&two.image).unwrap(), [""; 0]);
    assert_holds(dir, &two.image, 1, &two.first);
    let target = dir.join("edited");
    let file = ImageFile::open_path(&two.image).unwrap();
    common::apply(&file.image(file.find(&Which::Number(2)).unwrap()).unwrap(), &target).unwrap();
    assert_eq!(fs::read(target.join("moved/file")).unwrap(), vec![b'x'; 70_000]);
    assert_eq!(fs::read(target.join("only in the second")).unwrap(), b"single");
    assert!(target.join("added").is_dir() && !target.join("added/single").exists());
    let list = |root: &Path| tree_of(root).entries.into_keys().collect::<std::collections::BTreeSet<_>>();
    let (before, after) = (list(&two.second), list(&target));
    let new: Vec<_> = after.difference(&before).map(|path| path.to_str().unwrap()).collect();
    assert_eq!(new, ["added", "moved", "moved/file"]);
    assert_eq!(before.difference(&after).count(), 0);
    assert_holds(dir, &two.image, 2, &target);
    // A change that cannot be made leaves the file as it was.
    let bytes = fs::read(&two.image).unwrap();
    for wrong in [
        TreeChange::Delete { path: "/nope".into(), rule: DeleteRule::default() },
        TreeChange::Rename { from: "/moved".into(), to: "/moved/below".into() },
        TreeChange::Rename { from: "/moved".into(), to: "/added".into() },
        add(&extra.join("single"), "/moved"),
        add(&extra.join("nope"), "/x"),
        TreeChange::Write { content: Vec::new(), to: "/".into() },
    ] {
        let options = EditOptions { tree: vec![wrong.clone()], ..EditOptions::default() };
        assert!(edit(&two.image, &Which::Number(2), &options, &ctl(), &Silent).is_err(), "{wrong:?}");
        assert!(fs::read(&two.image).unwrap() == bytes, "{wrong:?}");
    }
}

#[test]
fn differences_are_named_and_equal_trees_have_none() {
    let two = two();
    let file = ImageFile::open_path(&two.image).unwrap();
    let [first, second] = [1, 2].map(|n| file.image(file.find(&Which::Number(n)).unwrap()).unwrap());
    let options = DiffOptions::default();
    let compare = |a: Side<'_>, b: Side<'_>| diff(a, b, &options, &ctl(), &Silent).unwrap();
    for (a, b) in [
        (Side::Image(&first), Side::Image(&first)),
        (Side::Image(&first), Side::Directory(&two.first)),
        (Side::Directory(&two.second), Side::Image(&second)),
        (Side::Directory(&two.second), Side::Directory(&two.second)),
    ] {
        let report = compare(a, b);
        assert_eq!(report.changes, [], "{report:?}");
        assert!(report.compared > 50);
    }
    let paths = |report: &DiffReport| report.changes.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let report = compare(Side::Image(&first), Side::Image(&second));
    assert_eq!(paths(&report), ["/", "/only in the second"]);
    assert_eq!(report.changes[1].1, Change::Added { kind: "file", below: 0 });
    let report = compare(Side::Image(&second), Side::Directory(&two.first));
    assert_eq!(report.changes[1].1, Change::Removed { kind: "file", below: 0 });
    // One change of each kind.
    let (a, b) = (two.dir.path().join("a"), two.dir.path().join("b"));
    for dir in [&a, &b] {
        fs::create_dir(dir).unwrap();
        for name in ["content", "size", "mode", "kind", "one", "link"] {
            fs::write(dir.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("here", dir.join("target")).unwrap();
    }
    fs::write(b.join("content"), "CONTENT").unwrap();
    fs::write(b.join("size"), "longer").unwrap();
    fs::set_permissions(b.join("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(b.join("kind")).unwrap();
    fs::create_dir(b.join("kind")).unwrap();
    fs::remove_file(b.join("target")).unwrap();
    std::os::unix::fs::symlink("there", b.join("target")).unwrap();
    fs::remove_file(b.join("link")).unwrap();
    fs::hard_link(b.join("one"), b.join("link")).unwrap();
    fs::write(a.join("link"), "one").unwrap();
    let options = DiffOptions { ignore: vec![Aspect::Times], ..DiffOptions::default() };
    let report = diff(Side::Directory(&a), Side::Directory(&b), &options, &ctl(), &Silent).unwrap();
    let found: Vec<(String, Vec<Aspect>)> = report
        .changes
        .iter()
        .map(|(path, change)| match change {
            Change::Differs(list) => (path.clone(), list.iter().map(|one| one.aspect).collect()),
            other => panic!("{path}: {other:?}"),
        })
        .collect();
    let expected = [
        ("/content", Aspect::Content),
        ("/kind", Aspect::Kind),
        ("/mode", Aspect::Mode),
        ("/one", Aspect::HardLinks),
        ("/size", Aspect::Size),
        ("/target", Aspect::Target),
    ];
    assert_eq!(found, expected.map(|(path, aspect)| (path.to_owned(), vec![aspect])));
}

#[test]
fn files_of_other_programs_are_changed_and_stay_readable_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 11);
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    let image = dir.path().join("x.wim");
    run(wimlib.args(["capture", "--check", "--unix-data", "--compress=LZX"]).arg(&source).arg(&image));
    let second = sample(dir.path(), "second", 12);
    append_named(&second, &image, "second");
    assert_eq!(damage(&image).unwrap(), [""; 0]);
    assert_holds(dir.path(), &image, 1, &source);
    assert_holds(dir.path(), &image, 2, &second);
    run(Command::new("wimlib-imagex").args(["append", "--unix-data"]).arg(&source).arg(&image).arg("third"));
    run(Command::new("wimlib-imagex").arg("delete").arg("--soft").arg(&image).arg("1"));
    assert_eq!(names(&image), ["second", "third"]);
    optimize(&image, &RewriteOptions::default(), &ctl(), &Silent).unwrap();
    assert_holds(dir.path(), &image, 2, &source);
    run(Command::new("wimlib-imagex").arg("optimize").arg(&image));
    assert_eq!(damage(&image).unwrap(), [""; 0]);
}

#[test]
fn solid_resources_are_copied_whole_or_taken_apart() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("solid.wim");
    fs::copy(shared.join("vectors/wim/solid-xpress.wim"), &image).unwrap();
    let source = ImageFile::open_path(&image).unwrap();
    let solid = |path: &Path| {
        let file = ImageFile::open_path(path).unwrap();
        file.wim().resources().iter().filter(|resource| resource.solid.is_some()).count()
    };
    let before = solid(&image);
    assert!(before > 0);
    // Compressed in another way: every blob becomes a resource of its own.
    let apart = dir.path().join("apart.wim");
    let rewrite = RewriteOptions {
        compression: CompressionChange::To(Some(Compression::LZX_32K)),
        ..RewriteOptions::default()
    };
    let options = ExportOptions { rewrite, ..ExportOptions::default() };
    let report = export(&source, Selection::All, &apart, &options, &ctl(), &Silent).unwrap();
    assert_eq!((solid(&apart), report.copied_blobs), (0, 0));
    assert_eq!(damage(&apart).unwrap(), [""; 0]);
    // As it is: the resources go over whole.
    let report = optimize(&image, &RewriteOptions::default(), &ctl(), &Silent).unwrap();
    assert_eq!((solid(&image), report.encoded_blobs), (before, 0));
    let [a, b] = [&image, &apart].map(|path| {
        let file = ImageFile::open_path(path).unwrap();
        file.image(file.find(&Which::Number(1)).unwrap()).unwrap()
    });
    let same = diff(Side::Image(&a), Side::Image(&b), &DiffOptions::default(), &ctl(), &Silent).unwrap();
    assert_eq!(same.changes, []);
    if let Some(mut wimlib) = oracle("wimlib-imagex") {
        run(wimlib.arg("verify").arg(&image));
        run(Command::new("wimlib-imagex").arg("verify").arg(&apart));
    }
    let error = split(
        &ImageFile::open_path(&image).unwrap(),
        &dir.path().join("s.swm"),
        1 << 20,
        &RewriteOptions::default(),
        &ctl(),
        &Silent,
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
}
