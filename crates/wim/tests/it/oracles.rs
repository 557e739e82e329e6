//! wimlib and 7-Zip read what we write and write what we read, with the same tree.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::support;
use crate::windows_tree;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use gravure_nttypes::{FileTime, LinkTarget, NtName, ReparseTag};
use gravure_testkit::{Kind, SampleOptions, Snapshot, oracle, sample_tree};
use gravure_tree::Tree;
use gravure_wim::{Compression, Method, Wim, WriteOptions, image_counts};
use support::{Content, Dump, Item, inline_tree, make_wim, open, options, read_image_of};
use tempfile::TempDir;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    // wimlib warns of every pipable file it writes; any other warning tells that something of ours is odd.
    assert!(!err.replace("[WARNING] Creating a pipable WIM", "").contains("WARNING"), "{command:?}: {err}");
    out.into_owned()
}

fn compressions() -> Vec<(&'static str, Option<Compression>)> {
    let new = |method, size| Some(Compression::new(method, size).unwrap());
    vec![
        ("none", None),
        ("xpress-4k", new(Method::Xpress, 1 << 12)),
        ("xpress-32k", new(Method::Xpress, 1 << 15)),
        ("xpress-64k", new(Method::Xpress, 1 << 16)),
        ("lzx-32k", new(Method::Lzx, 1 << 15)),
        ("lzx-2m", new(Method::Lzx, 1 << 21)),
        ("lzms-32k", new(Method::Lzms, 1 << 15)),
        ("lzms-128k", new(Method::Lzms, 1 << 17)),
        ("lzms-4m", new(Method::Lzms, 1 << 22)),
    ]
}

fn write_wims(dir: &TempDir, tree: &Tree) -> Vec<String> {
    let write = |(name, compression): (&str, Option<Compression>)| {
        let path = dir.path().join(format!("{name}.wim")).to_str().unwrap().to_owned();
        std::fs::write(&path, make_wim(tree, &WriteOptions { compression, ..options() })).unwrap();
        path
    };
    compressions().into_iter().map(write).collect()
}

fn sample() -> (TempDir, Snapshot) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    sample_tree(&root, &SampleOptions { files: 120, ..SampleOptions::default() }).unwrap();
    let snapshot = Snapshot::of(&root).unwrap();
    (dir, without_linked_symlinks(snapshot))
}

/// A WIM has no hard links between reparse points, so symbolic links come back as single files.
fn without_linked_symlinks(mut snapshot: Snapshot) -> Snapshot {
    for entry in snapshot.entries.values_mut() {
        if matches!(entry.kind, Kind::Symlink(_)) {
            entry.linked_to = None;
        }
    }
    snapshot
}

fn bytes_of(content: &Option<Content>) -> &[u8] {
    match content {
        Some(Content::Bytes(bytes)) => bytes,
        Some(Content::Missing(sha1)) => panic!("{sha1} is missing"),
        None => &[],
    }
}

/// Compares what we read with the directory it was captured from.
fn check_against_directory(found: &Dump, root: &TempDir, snapshot: &Snapshot, what: &str) {
    let unix_path = |path: &[NtName]| {
        let names: Vec<String> = path.iter().map(|name| String::from_utf8(name.to_unix()).unwrap()).collect();
        names.join("/")
    };
    let mut unseen: BTreeSet<String> =
        snapshot.entries.keys().map(|path| path.to_str().unwrap().to_owned()).collect();
    for (path, item) in found {
        let name = unix_path(path);
        assert!(unseen.remove(&name), "{what}: {name} is not in the directory");
        let entry = snapshot.entries.iter().find(|(path, _)| path.to_str() == Some(&name)).unwrap().1;
        let unix = item.unix.unwrap();
        assert_eq!(
            (unix.uid, unix.gid, unix.mode & 0o7777),
            (entry.uid, entry.gid, entry.mode),
            "{what}: {name}"
        );
        let (seconds, nanos) = entry.mtime;
        let mtime = FileTime::from_unix(seconds, u32::try_from(nanos).unwrap());
        assert_eq!(item.times.written, mtime, "{what}: {name}");
        let xattrs: BTreeMap<_, _> =
            item.extended_attributes.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
        assert_eq!(xattrs, entry.xattrs, "{what}: {name}");
        let kind = match unix.mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o120_000 => {
                let (tag, _, _, data) = item.reparse.as_ref().unwrap();
                let Content::Bytes(data) = data else { panic!("{name}: link is missing") };
                let target = LinkTarget::parse(ReparseTag(*tag), data).unwrap().to_unix();
                Kind::Symlink(String::from_utf8(target.to_unix()).unwrap().into())
            }
            0o020_000 => Kind::CharDevice(u64::from(unix.rdev)),
            0o060_000 => Kind::BlockDevice(u64::from(unix.rdev)),
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            _ => {
                let on_disk = std::fs::read(root.path().join("root").join(&name)).unwrap();
                assert!(bytes_of(&item.data) == on_disk, "{what}: {name}: content");
                entry.kind.clone()
            }
        };
        assert_eq!(kind, entry.kind, "{what}: {name}");
        let first = item.link_of.as_ref().map(|path| unix_path(path));
        assert_eq!(first.is_some(), entry.linked_to.is_some(), "{what}: {name}: hard links");
    }
    assert_eq!(unseen, BTreeSet::new(), "{what}: not read");
}

#[test]
fn we_read_what_wimlib_captures() {
    if oracle("wimlib-imagex").is_none() {
        return;
    }
    let (dir, snapshot) = sample();
    let variants: [(&str, &[&str]); 12] = [
        ("none", &["--compress=none"]),
        ("xpress", &["--compress=XPRESS", "--check"]),
        ("xpress-8k", &["--compress=XPRESS", "--chunk-size=8K"]),
        ("lzx", &["--compress=LZX"]),
        ("lzx-1m", &["--compress=LZX", "--chunk-size=1M", "--check"]),
        ("lzms", &["--compress=LZMS", "--check"]),
        ("lzms-1m", &["--compress=LZMS", "--chunk-size=1M"]),
        ("pipable-lzms", &["--compress=LZMS", "--pipable"]),
        ("pipable-lzx", &["--compress=LZX", "--pipable"]),
        ("pipable-xpress", &["--compress=XPRESS", "--pipable", "--check"]),
        ("pipable-none", &["--compress=none", "--pipable"]),
        ("solid-lzx", &["--compress=XPRESS", "--solid", "--solid-compress=LZX", "--solid-chunk-size=64K"]),
    ];
    for (name, arguments) in variants {
        let path = dir.path().join(format!("{name}.wim"));
        let mut capture = oracle("wimlib-imagex").unwrap();
        capture.arg("capture").arg(dir.path().join("root")).arg(&path).args(["--unix-data", "name"]);
        run(capture.args(arguments));
        let bytes = std::fs::read(&path).unwrap();
        let (wim, warnings) = open(&bytes).unwrap();
        assert_eq!(warnings, [], "{name}");
        if arguments.contains(&"--check") {
            assert_eq!(wim.read_integrity(&bytes).unwrap().unwrap().verify(&bytes).unwrap(), [], "{name}");
        }
        let (found, warnings) =
            read_image_of(&[(&bytes, &wim)], 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(warnings, [], "{name}");
        check_against_directory(&found, &dir, &snapshot, name);
    }
}

#[test]
fn we_read_splits_appends_and_deltas_of_wimlib() {
    let Some(mut capture) = oracle("wimlib-imagex") else { return };
    let (dir, snapshot) = sample();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (root, base) = (file("root"), file("base.wim"));
    run(capture.args(["capture", &root, &base, "name", "--unix-data", "--compress=LZX"]));
    let wimlib = |arguments: &[&str]| run(oracle("wimlib-imagex").unwrap().args(arguments));

    wimlib(&["split", &base, &file("set.swm"), "0.2"]);
    let parts: Vec<Vec<u8>> = (1..)
        .map(|part| if part == 1 { file("set.swm") } else { file(&format!("set{part}.swm")) })
        .map_while(|path| std::fs::read(path).ok())
        .collect();
    assert!(parts.len() > 1, "one part only");
    let wims: Vec<Wim> = parts.iter().map(|bytes| open(bytes).unwrap().0).collect();
    gravure_wim::check_split_set(&wims.iter().collect::<Vec<_>>()).unwrap();
    let files: Vec<(&Vec<u8>, &Wim)> = parts.iter().zip(&wims).collect();
    check_against_directory(&read_image_of(&files, 1).unwrap().0, &dir, &snapshot, "split");

    let delta = file("delta.wim");
    wimlib(&["capture", &root, &delta, "name", "--unix-data", &format!("--delta-from={base}")]);
    let both = [std::fs::read(&delta).unwrap(), std::fs::read(&base).unwrap()];
    let wims = [open(&both[0]).unwrap().0, open(&both[1]).unwrap().0];
    assert_eq!(wims[0].blobs().len(), 0);
    let files = [(&both[0], &wims[0]), (&both[1], &wims[1])];
    check_against_directory(&read_image_of(&files, 1).unwrap().0, &dir, &snapshot, "delta");

    wimlib(&["append", &root, &base, "second", "--unix-data", "--boot"]);
    let bytes = std::fs::read(&base).unwrap();
    let (wim, warnings) = open(&bytes).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((wim.image_count(), wim.boot_image().map(|image| image.number())), (2, Some(2)));
    check_against_directory(&read_image_of(&[(&bytes, &wim)], 2).unwrap().0, &dir, &snapshot, "append");
}

#[test]
fn wimlib_applies_what_we_write() {
    let Some(mut capture) = oracle("wimlib-imagex") else { return };
    let (dir, snapshot) = sample();
    let source = dir.path().join("source.wim");
    let root = dir.path().join("root");
    run(capture.arg("capture").arg(root).arg(&source).args(["name", "--unix-data", "--compress=none"]));
    let bytes = std::fs::read(&source).unwrap();
    let (wim, _) = open(&bytes).unwrap();
    let tree = inline_tree(&[(&bytes, &wim)]);
    for path in write_wims(&dir, &tree) {
        run(oracle("wimlib-imagex").unwrap().args(["verify", &path]));
        let target = format!("{path}.applied");
        std::fs::create_dir(&target).unwrap();
        run(oracle("wimlib-imagex").unwrap().args(["apply", &path, "1", &target, "--unix-data", "--check"]));
        let applied = without_linked_symlinks(Snapshot::of(target.as_ref()).unwrap());
        applied.assert_same(&snapshot);
    }
}

/// `dir --detailed` of wimlib, by path: the fields of a file and its streams (name, hash, size).
type Listing = BTreeMap<String, (BTreeMap<String, String>, BTreeSet<(String, String, u64)>)>;

fn parse_listing(text: &str) -> Listing {
    let mut listing = Listing::new();
    for block in text.split("----------------------------------------------------------------------------\n")
    {
        let (mut fields, mut streams, mut stream) = (BTreeMap::new(), BTreeSet::new(), None);
        for line in block.lines() {
            if let Some(title) = line.strip_prefix('\t') {
                stream = Some((title.trim_end_matches(':').to_owned(), String::new()));
            }
            let Some((key, value)) = line.split_once(" = ") else { continue };
            let (key, value) = (key.trim(), value.trim_matches('"'));
            match (&mut stream, key) {
                (Some((_, hash)), "Hash") => *hash = value.trim_start_matches("0x").to_owned(),
                (Some((title, hash)), "Uncompressed size") => {
                    let size = value.split(' ').next().unwrap().parse().unwrap();
                    streams.insert((title.clone(), hash.clone(), size));
                }
                (Some(_), _) => {}
                (None, _) => {
                    fields.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        if let Some(path) = fields.get("Full Path").cloned() {
            listing.insert(path, (fields, streams));
        }
    }
    listing
}

/// As wimlib prints times, e.g. `Wed Jan 17 21:20:00 2024 UTC`.
fn time_text(time: FileTime) -> String {
    let (seconds, _) = time.to_unix();
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (the usual civil calendar arithmetic).
    let z = day + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (date, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = days[usize::try_from(day.rem_euclid(7)).unwrap()];
    let month = months[usize::try_from(month - 1).unwrap()];
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{name} {month} {date:02} {h:02}:{m:02}:{s:02} {year:04} UTC")
}

fn expected_streams(item: &Item) -> BTreeSet<(String, String, u64)> {
    let mut out = BTreeSet::new();
    let mut add = |title: String, content: &Content| {
        let Content::Bytes(bytes) = content else { panic!("missing content") };
        let hash = support::sha1_hex(bytes);
        out.insert((title, hash, bytes.len() as u64));
    };
    if let Some((_, _, _, data)) = &item.reparse {
        add("Reparse point stream".into(), data);
    }
    if let Some(data) = &item.efs {
        add("Raw encrypted data stream".into(), data);
    }
    // wimlib lists an unnamed stream for directories too, and none for links if it is empty.
    match &item.data {
        Some(Content::Bytes(bytes)) if bytes.is_empty() && item.reparse.is_some() => {}
        Some(data) => add("Unnamed data stream".into(), data),
        None if item.reparse.is_none() && item.efs.is_none() => {
            add("Unnamed data stream".into(), &Content::Bytes(Vec::new()));
        }
        None => {}
    }
    for (name, data) in &item.named_streams {
        add(format!("Named data stream \"{name}\""), data);
    }
    out
}

#[test]
fn wimlib_lists_the_tree_we_wrote() {
    if oracle("wimlib-imagex").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = windows_tree::windows_tree();
    let dump = support::dump_inline(&tree);
    for path in write_wims(&dir, &tree) {
        run(oracle("wimlib-imagex").unwrap().args(["verify", &path]));
        let info = run(oracle("wimlib-imagex").unwrap().args(["info", &path]));
        assert!(
            info.contains("Image Count:    1") && info.contains("Name:                   test"),
            "{info}"
        );
        let listing = run(oracle("wimlib-imagex").unwrap().args(["dir", "--detailed", &path, "1"]));
        let mut listing = parse_listing(&listing);
        for (names, item) in &dump {
            let path: String = names.iter().map(|name| format!("/{name}")).collect();
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let (fields, streams) = listing.remove(&path).unwrap_or_else(|| panic!("{path} is not listed"));
            let field = |name: &str| fields.get(name).map(String::as_str);
            assert_eq!(field("Attributes"), Some(format!("{:#010x}", item.attributes).as_str()), "{path}");
            let short_name = item.short_name.as_ref().map(NtName::to_string).unwrap_or_default();
            assert_eq!(field("Short Name"), Some(short_name.as_str()), "{path}");
            let security = item.security.as_ref().map(|bytes| support::hex(bytes));
            assert_eq!(field("Security Descriptor"), security.as_deref(), "{path}");
            for (name, time) in [
                ("Creation Time", item.times.created),
                ("Last Write Time", item.times.written),
                ("Last Access Time", item.times.accessed),
            ] {
                assert_eq!(field(name), Some(time_text(time).as_str()), "{path}");
            }
            let tag = item.reparse.as_ref().map(|(tag, ..)| format!("{tag:#010x}"));
            assert_eq!(field("Reparse Tag"), tag.as_deref(), "{path}");
            let links =
                dump.values().filter(|other| item.link_of.is_some() && other.link_of == item.link_of).count();
            assert_eq!(field("Link Count"), Some(links.max(1).to_string().as_str()), "{path}");
            assert_eq!(streams, expected_streams(item), "{path}");
        }
        assert_eq!(listing.keys().collect::<Vec<_>>(), [""; 0], "listed and not written");
    }
}

#[test]
fn seven_zip_tests_and_lists_the_tree_we_wrote() {
    if oracle("7z").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = windows_tree::windows_tree();
    let dump = support::dump_inline(&tree);
    let expected: BTreeSet<(String, String)> = dump
        .iter()
        .filter(|(_, item)| !item.is_directory && item.reparse.is_none())
        .filter_map(|(names, item)| {
            let names: Vec<String> = names.iter().map(NtName::to_string).collect();
            let Some(Content::Bytes(bytes)) = item.data.as_ref() else { return None };
            let hash = if bytes.is_empty() { String::new() } else { support::sha1_hex(bytes) };
            Some((names.join("/"), hash))
        })
        .collect();
    for path in write_wims(&dir, &tree) {
        let report = run(oracle("7z").unwrap().args(["t", &path]));
        assert!(report.contains("Everything is Ok"), "{report}");
        let listing = run(oracle("7z").unwrap().args(["l", "-slt", &path]));
        let found: BTreeSet<(String, String)> = listing
            .split("\n\n")
            .filter_map(|block| {
                let field = |name: &str| {
                    let start = format!("{name} = ");
                    block.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
                };
                let (path, hash) = (field("Path")?, field("SHA-1").unwrap_or_default().to_lowercase());
                (field("Folder").as_deref() == Some("-") && field("Alternate Stream").as_deref() == Some("-"))
                    .then_some((path, hash))
            })
            .collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        assert!(missing.is_empty(), "{path}: not listed: {missing:?}\nfound: {found:?}");
    }
}

#[test]
fn wimlib_appends_to_and_optimizes_what_we_write() {
    let Some(mut append) = oracle("wimlib-imagex") else { return };
    let (dir, snapshot) = sample();
    let path = dir.path().join("ours.wim").to_str().unwrap().to_owned();
    let tree = windows_tree::windows_tree();
    std::fs::write(&path, make_wim(&tree, &options())).unwrap();
    run(append.arg("append").arg(dir.path().join("root")).args([&path, "second", "--unix-data", "--check"]));
    let check = |what: &str| {
        let bytes = std::fs::read(&path).unwrap();
        let (wim, warnings) = open(&bytes).unwrap();
        assert_eq!(warnings, [], "{what}");
        assert_eq!(read_image_of(&[(&bytes, &wim)], 1).unwrap().0, support::dump_inline(&tree), "{what}");
        check_against_directory(&read_image_of(&[(&bytes, &wim)], 2).unwrap().0, &dir, &snapshot, what);
        // What wimlib writes into the document, apart from the times, are the numbers it counts its own way.
        assert_eq!(wim.info().image(0).unwrap().name().as_deref(), Some("test"), "{what}");
        assert!(image_counts(&tree).files > 0);
    };
    check("append");
    run(oracle("wimlib-imagex").unwrap().args(["optimize", &path, "--recompress"]));
    check("optimize");
}
