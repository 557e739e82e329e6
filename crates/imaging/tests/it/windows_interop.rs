//! What Windows knows of files survives every layout, whoever writes it and whoever reads it: attributes, times, security
//! descriptors, streams, short names, object ids, links. And the volume sink keeps it, as wimlib sees a volume.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::windows_tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{apply, capture, damage, open, run, verify};
use gravure_imaging::{
    Aspect, CaptureForm, CaptureOptions, Change, Compression, CompressionChange, DiffOptions, ExportOptions,
    FormChange, Image, ImageFile, IntegrityChange, Level, Method, RewriteOptions, Selection, Side,
    VolumeApplyOptions, VolumeFile, apply_to_volume, diff, export, split,
};
use gravure_io::FileAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::{FileAttributes, FileTime, Guid, LinkTarget, NtName, ReparseTag};
use gravure_testkit::{Random, oracle};
use gravure_tree::{
    ContentRef, ExtendedAttribute, NamedStream, Node, Origin, Reparse, SecurityId, Times, Tree, UnixData,
};
use gravure_wim::{ImageInfo, Metadata, WimWriter, WriteOptions};
use sha1::{Digest, Sha1};

/// A file with an image that has of everything.
fn write(tree: &Tree, path: &Path) {
    let file = fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let file = FileAt::new(file).unwrap();
    let options = WriteOptions {
        compression: Some(Compression::XPRESS_32K),
        guid: Guid([7; 16]),
        links_fixed: false,
        allow_missing_blobs: false,
    };
    let mut writer = WimWriter::create(&file, &options).unwrap();
    let mut tree = tree.clone();
    let mut todo = vec![tree.root()];
    while let Some(id) = todo.pop() {
        todo.extend(tree.children(id).iter().map(|entry| entry.node));
        for content in tree.node_mut(id).contents_mut() {
            if let Origin::Inline(bytes) = &content.origin {
                content.sha1 = Some(writer.add_blob(bytes, Level::Fast).unwrap());
            }
        }
    }
    let metadata = Metadata::from_tree(&tree).unwrap();
    writer.add_image(&metadata, ImageInfo::new("test"), Level::Fast).unwrap();
    writer.finish_with_integrity().unwrap();
}

/// Every difference between two images.
fn changes(a: &Image, b: &Image, ignore: &[Aspect]) -> Vec<(String, Change)> {
    let options = DiffOptions { ignore: ignore.to_vec(), ..DiffOptions::default() };
    diff(Side::Image(a), Side::Image(b), &options, &Ctl::default(), &Silent).unwrap().changes
}

/// The same in words.
fn differences(a: &Image, b: &Image) -> Vec<String> {
    changes(a, b, &[]).iter().map(|it| format!("{it:?}")).collect()
}

/// What wimlib says of an image but for where in the file things lie.
fn listing(image: &Path) -> Option<Vec<String>> {
    let mut wimlib = oracle("wimlib-imagex")?;
    let text = run(wimlib.arg("dir").arg(image).args(["1", "--detailed"]));
    let of_place = [
        "Compressed size",
        "Offset in WIM",
        "Solid resource",
        "Solid offset",
        "Flags",
        "Part Number",
        "Reference Count",
        "Link Group",
    ];
    let is_kept = |line: &&str| !of_place.iter().any(|field| line.starts_with(field));
    Some(text.lines().filter(is_kept).map(str::to_owned).collect())
}

struct Layout {
    name: &'static str,
    form: CaptureForm,
    compression: Option<Compression>,
    for_wimlib: &'static [&'static str],
}

fn layouts() -> Vec<Layout> {
    let new = |method, size| Compression::new(method, size).unwrap();
    let normal =
        |name, compression, for_wimlib| Layout { name, form: CaptureForm::Normal, compression, for_wimlib };
    vec![
        normal("none", None, &["--compress=none"]),
        normal("XPRESS", Some(Compression::XPRESS_32K), &["--compress=XPRESS"]),
        normal("LZX", Some(Compression::LZX_32K), &["--compress=LZX"]),
        normal("LZMS", Some(new(Method::Lzms, 1 << 17)), &["--compress=LZMS"]),
        Layout {
            name: "solid",
            form: CaptureForm::Solid(new(Method::Lzms, 1 << 20)),
            compression: Some(new(Method::Lzms, 1 << 17)),
            for_wimlib: &["--solid", "--solid-chunk-size=1M"],
        },
        Layout {
            name: "pipable",
            form: CaptureForm::Pipable,
            compression: Some(Compression::LZX_32K),
            for_wimlib: &["--compress=LZX", "--pipable"],
        },
    ]
}

/// What 7-Zip says of an image but for how things are stored, by path.
fn seven_zip_listing(image: &Path) -> Option<BTreeMap<String, Vec<String>>> {
    let mut seven_zip = oracle("7z")?;
    let text = run(seven_zip.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").args(["l", "-slt"]).arg(image));
    let (_, entries) = text.split_once("\n----------\n").unwrap();
    let of_place = ["Packed Size", "Method", "Solid", "iNode"];
    let is_kept = |line: &&str| !of_place.iter().any(|field| line.starts_with(field));
    let entries = entries.split("\n\n").filter_map(|entry| {
        let (path, rest) = entry.trim().strip_prefix("Path = ")?.split_once('\n')?;
        Some((path.to_owned(), rest.lines().filter(is_kept).map(str::to_owned).collect()))
    });
    Some(entries.collect())
}

/// What 7-Zip lists against the tree that was written: every file with size, hash, short name and number of names.
fn assert_lists(tree: &Tree, listed: &BTreeMap<String, Vec<String>>) {
    let mut checked = 0;
    for step in tree.walk() {
        let node = tree.node(step.entry.node);
        let path = step.display_path().trim_start_matches('/').to_owned();
        let lines = listed.get(&path).unwrap_or_else(|| panic!("7-Zip does not list {path}"));
        let field = |name: &str| {
            let prefix = format!("{name} = ");
            lines.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
        };
        let short_name = step.entry.short_name.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(field("Short Name"), short_name, "{path}");
        let attributes = field("Attributes");
        for (attribute, letter) in [
            (FileAttributes::HIDDEN, 'H'),
            (FileAttributes::SYSTEM, 'S'),
            (FileAttributes::READ_ONLY, 'R'),
            (FileAttributes::ARCHIVE, 'A'),
            (FileAttributes::REPARSE_POINT, 'L'),
        ] {
            let has = node.attributes.contains(attribute);
            assert_eq!(attributes.contains(letter), has, "{path}: {letter} of {attributes}");
        }
        let data = node.data.as_ref().filter(|data| node.reparse.is_none() && !data.is_empty());
        if let Some(Origin::Inline(bytes)) = data.map(|data| &data.origin) {
            let sha1: String = Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((field("Size"), field("SHA-1")), (bytes.len().to_string(), sha1), "{path}");
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked} files with contents");
}

#[test]
fn metadata_survives_every_layout_by_every_writer_for_every_reader() {
    let dir = tempfile::tempdir().unwrap();
    let tree = windows_tree::windows_tree();
    let both = [IntegrityChange::Make, IntegrityChange::Drop];
    let Some((done, lines)) = through_every_layout(dir.path(), &tree, &both) else { return };
    assert!(lines > 200, "{lines} lines");
    assert_eq!(done, 6 * 2 * 2 + 4 * 2);
}

#[test]
fn random_trees_survive_every_layout_by_every_writer_for_every_reader() {
    let seed = gravure_testkit::seed();
    let seeds = if gravure_testkit::full_run() { 8 } else { 2 };
    for seed in seed..seed + seeds {
        eprintln!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let tree = random_tree(&mut Random::new(seed), 80, Owners::Unix);
        let Some((done, _)) = through_every_layout(dir.path(), &tree, &[IntegrityChange::Make]) else {
            return;
        };
        assert_eq!(done, 6 * 2 + 4 * 2);
    }
}

/// The tree in every layout, by us and by wimlib, read by us, wimlib and 7-Zip. Returns how many files were made, and how many
/// lines wimlib lists; `None` when it is not there.
fn through_every_layout(dir: &Path, tree: &Tree, tables: &[IntegrityChange]) -> Option<(usize, usize)> {
    let base = dir.join("base.wim");
    write(tree, &base);
    let expected = open(&base);
    assert!(differences(&expected, &open(&base)).is_empty());
    let expected_listing = listing(&base)?;
    let listed = seven_zip_listing(&base);
    listed.iter().for_each(|listed| assert_lists(tree, listed));
    let source = ImageFile::open_path(&base).unwrap();
    let mut done = 0;
    for layout in layouts() {
        for integrity in tables {
            for is_ours in [true, false] {
                let image = dir.join("x.wim");
                let _ = fs::remove_file(&image);
                if is_ours {
                    let rewrite = RewriteOptions {
                        compression: CompressionChange::To(layout.compression),
                        form: FormChange::To(layout.form),
                        integrity: *integrity,
                        ..RewriteOptions::default()
                    };
                    let options = ExportOptions { rewrite, ..ExportOptions::default() };
                    let all = Selection::All;
                    export(&source, all, &image, &options, &Ctl::default(), &Silent).unwrap();
                } else {
                    let table = if *integrity == IntegrityChange::Make { "--check" } else { "--nocheck" };
                    let mut wimlib = Command::new("wimlib-imagex");
                    wimlib.arg("export").arg(&base).arg("all").arg(&image).args(layout.for_wimlib).arg(table);
                    run(&mut wimlib);
                }
                let what = format!("{}, {integrity:?}, by us: {is_ours}", layout.name);
                assert_eq!(damage(&image).unwrap(), [""; 0], "{what}");
                let has_table = !ImageFile::open_path(&image).unwrap().wim().header().integrity.is_absent();
                assert_eq!(has_table, *integrity == IntegrityChange::Make, "{what}");
                assert_eq!(differences(&expected, &open(&image)), [""; 0], "{what}");
                assert_eq!(listing(&image).unwrap(), expected_listing, "{what}");
                run(Command::new("wimlib-imagex").arg("verify").arg(&image));
                if layout.form != CaptureForm::Pipable
                    && let Some(mut seven_zip) = oracle("7z")
                {
                    let text = run(seven_zip.arg("t").arg(&image));
                    assert!(text.contains("Everything is Ok"), "{what}: {text}");
                    assert_eq!(seven_zip_listing(&image), listed, "{what}");
                }
                done += 1;
            }
            if *integrity == IntegrityChange::Make && layout.form == CaptureForm::Normal {
                done += split_sets(dir, &expected, &expected_listing, layout.name);
            }
        }
    }
    Some((done, expected_listing.len()))
}

/// The file `x.wim` split by both, and read by all.
fn split_sets(dir: &Path, expected: &Image, expected_listing: &[String], what: &str) -> usize {
    let image = dir.join("x.wim");
    for is_ours in [true, false] {
        let set = dir.join(format!("set-{what}-{is_ours}"));
        fs::create_dir(&set).unwrap();
        let first = set.join("x.swm");
        if is_ours {
            let source = ImageFile::open_path(&image).unwrap();
            let options = RewriteOptions::default();
            split(&source, &first, 2_000, &options, &Ctl::default(), &Silent).unwrap();
        } else {
            run(Command::new("wimlib-imagex").arg("split").arg(&image).arg(&first).arg("0.002"));
        }
        let parts: Vec<PathBuf> = fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(parts.len() > 1, "{what}: {parts:?}");
        assert_eq!(damage(&first).unwrap(), [""; 0], "{what}");
        assert_eq!(differences(expected, &open(&first)), [""; 0], "{what}");
        let glob = format!("--ref={}/x*.swm", set.display());
        run(Command::new("wimlib-imagex").arg("verify").arg(&first).arg(&glob));
        let joined = dir.join("joined.wim");
        let _ = fs::remove_file(&joined);
        run(Command::new("wimlib-imagex").arg("join").arg(&joined).args(&parts));
        assert_eq!(listing(&joined).unwrap(), expected_listing, "{what}");
    }
    2
}

/// 7-Zip (26.02) takes the length of the largest part for that of the first, and calls sets with a smaller first part cut
/// off, whoever made them: here the first is the largest.
#[test]
fn seven_zip_reads_our_split_sets() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    for number in 0..5 {
        let mut bytes = vec![0; 30_000];
        Random::new(number).fill(&mut bytes);
        fs::write(source.join(format!("f{number}")), bytes).unwrap();
    }
    let (image, first) = (dir.path().join("x.wim"), dir.path().join("x.swm"));
    capture(&source, &image, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    let file = ImageFile::open_path(&image).unwrap();
    let report = split(&file, &first, 40_000, &RewriteOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert_eq!(report.parts.len(), 5);
    let Some(mut seven_zip) = oracle("7z") else { return };
    let text = run(seven_zip.arg("t").arg(&first));
    assert!(text.contains("Everything is Ok") && text.contains("Files: 5"), "{text}");
}

#[test]
fn a_volume_keeps_what_windows_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = windows_tree::windows_tree();
    // Raw data of an encrypted file has no place on a volume that no Windows has seen.
    tree.remove(tree.root(), &"encrypted".into()).unwrap();
    onto_a_volume_and_back(dir.path(), &tree);
}

/// Whether files have owners and modes of Unix, which volumes of Windows do not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    None,
    Unix,
}

/// A tree of `count` entries that nobody thought of, with everything that Windows knows of files.
fn random_tree(random: &mut Random, count: u32, owners: Owners) -> Tree {
    let times = |random: &mut Random| {
        let mut time = || FileTime(130_000_000_000_000_000 + random.below(1 << 52));
        Times { created: time(), accessed: time(), written: time() }
    };
    let mut tree = Tree::new(Node {
        attributes: FileAttributes::DIRECTORY,
        children: Some(Vec::new()),
        times: times(random),
        ..Node::default()
    });
    let descriptors = windows_tree::windows_tree().security_descriptors().to_vec();
    tree.set_security_descriptors(descriptors);
    let (mut directories, mut files) = (vec![tree.root()], Vec::new());
    for number in 0..count {
        let parent = *random.pick(&directories).unwrap();
        let long = "x".repeat(usize::try_from(random.below(200)).unwrap());
        let name = NtName::from(format!("{number} {long}\u{e4}\u{1f600}").as_str());
        let short_name = random.once_in(4).then(|| NtName::from(format!("N{number}~1.X").as_str()));
        let mut node = random_node(random, number, owners);
        node.times = times(random);
        match random.below(9) {
            0 | 1 => {
                node.children = Some(Vec::new());
                node.attributes |= FileAttributes::DIRECTORY;
                if let Some(unix) = &mut node.unix {
                    unix.mode = 0o040_755;
                }
                directories.push(tree.add_checked(parent, name, short_name, node).unwrap());
            }
            2 if !files.is_empty() => tree.link(parent, name, *random.pick(&files).unwrap()).unwrap(),
            3 => {
                node.extended_attributes.clear();
                node.unix = None;
                node.attributes |= FileAttributes::REPARSE_POINT;
                node.data = Some(ContentRef::empty());
                node.reparse = Some(symlink(&format!("..\\target {}", random.below(30))));
                tree.add_checked(parent, name, short_name, node).unwrap();
            }
            4 => {
                node.attributes |= FileAttributes::SPARSE;
                node.data = Some(ContentRef::inline(with_holes(random)));
                tree.add_checked(parent, name, short_name, node).unwrap();
            }
            _ => {
                node.data = Some(content(random));
                files.push(tree.add_checked(parent, name, short_name, node).unwrap());
            }
        }
    }
    tree
}

/// What any file may have.
fn random_node(random: &mut Random, number: u32, owners: Owners) -> Node {
    let mut attributes = FileAttributes::ARCHIVE;
    for attribute in [FileAttributes::HIDDEN, FileAttributes::SYSTEM, FileAttributes::READ_ONLY] {
        if random.once_in(4) {
            attributes |= attribute;
        }
    }
    let security = Some(SecurityId(u32::try_from(random.below(2)).unwrap()));
    let mut node = Node { attributes, security, ..Node::default() };
    for stream in 0..random.below(3) * u64::from(random.once_in(4)) {
        let name = format!("stream {stream}").as_str().into();
        node.named_streams.push(NamedStream { name, content: content(random) });
    }
    if random.once_in(6) {
        let mut id = vec![0; *random.pick(&[16, 64]).unwrap()];
        random.fill(&mut id);
        // No two files of a volume have the same.
        id[..4].copy_from_slice(&number.to_le_bytes());
        node.object_id = Some(id);
    }
    for attribute in 0..random.below(3) * u64::from(random.once_in(5)) {
        let mut value = vec![0; usize::try_from(random.below(60)).unwrap()];
        random.fill(&mut value);
        let name = format!("ATTRIBUTE{attribute}").into_bytes();
        node.extended_attributes.push(ExtendedAttribute { name, flags: 0, value });
    }
    if owners == Owners::Unix && random.once_in(2) {
        let mode = 0o100_644 | u32::try_from(random.below(0o1000)).unwrap();
        node.unix = Some(UnixData { uid: number, gid: 7, mode, rdev: 0 });
    }
    node
}

fn content(random: &mut Random) -> ContentRef {
    let most = *random.pick(&[0, 1, 700, 5000, 33_000, 300_000]).unwrap();
    let mut bytes = vec![0; usize::try_from(random.below(most + 1)).unwrap()];
    random.fill(&mut bytes);
    ContentRef::inline(bytes)
}

/// Some bytes here and there between zeros.
fn with_holes(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(100_000 + random.below(900_000)).unwrap()];
    for _ in 0..random.below(4) {
        let from = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        let to = bytes.len().min(from + 1 + usize::try_from(random.below(70_000)).unwrap());
        random.fill(&mut bytes[from..to]);
    }
    bytes
}

/// A link to a file beside or above it.
fn symlink(target: &str) -> Reparse {
    let target = LinkTarget { substitute: target.into(), print: target.into(), is_relative: true };
    let bytes = target.to_bytes(ReparseTag::SYMLINK).unwrap();
    Reparse { tag: ReparseTag::SYMLINK, reserved: 0, link_flags: 1, content: ContentRef::inline(bytes) }
}

#[test]
fn random_trees_come_back_from_every_sink() {
    let seed = gravure_testkit::seed();
    let seeds = if gravure_testkit::full_run() { 12 } else { 4 };
    for seed in seed..seed + seeds {
        eprintln!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let tree = random_tree(&mut Random::new(seed), 200, Owners::None);
        let image = onto_a_volume_and_back(dir.path(), &tree);
        let (target, again) = (dir.path().join("target"), dir.path().join("again.wim"));
        apply(&image, &target).unwrap();
        // A directory of Unix holds no extended attributes of Windows, and that is said.
        match verify(&image, &target) {
            Ok(_) => {}
            Err(gravure_imaging::Error::Differs { what: "extended attributes", .. }) => {}
            Err(error) => panic!("{error}"),
        }
        capture(&target, &again, &CaptureOptions::default());
        // What a directory of Unix can say.
        let lost = Aspect::ALL.into_iter().filter(|aspect| {
            let kept = [Aspect::Kind, Aspect::Size, Aspect::Content, Aspect::Target, Aspect::HardLinks];
            !kept.contains(aspect)
        });
        let found = changes(&image, &open(&again), &lost.collect::<Vec<_>>());
        assert!(found.is_empty(), "seed {seed}: {found:?}");
    }
}

/// The tree as an image, applied to a volume, captured from it by wimlib and compared. The image is returned.
fn onto_a_volume_and_back(dir: &Path, tree: &Tree) -> Image {
    let base = dir.join("base.wim");
    write(tree, &base);
    let volume = dir.join("volume.ntfs");
    let device = VolumeFile::open(&volume, Some(64 << 20)).unwrap();
    let image = open(&base);
    apply_to_volume(&image, &device, &VolumeApplyOptions::default(), &Ctl::default(), &Silent).unwrap();
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return image };
    let captured = dir.join("captured.wim");
    run(wimlib.args(["capture", "--norpfix", "--compress=none"]).arg(&volume).arg(&captured).arg("test"));
    // The other program knows no extended attributes of volumes.
    for (path, change) in changes(&image, &open(&captured), &[Aspect::ExtendedAttributes]) {
        let Change::Differs(differences) = change else { panic!("{path}: {change:?}") };
        for found in differences {
            // A name that is short enough is its own short name, and on a volume every file has a descriptor.
            let is_made_up = found.first == "none"
                && match found.aspect {
                    Aspect::ShortName => path.ends_with(&format!("/{}", found.second)),
                    Aspect::Security => true,
                    _ => false,
                };
            assert!(is_made_up, "{path}: {found:?}");
        }
    }
    image
}
