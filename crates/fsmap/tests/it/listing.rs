//! Directories of XFS and Btrfs listed by path, compared with what the kernel shows of the same volume.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests start programs and write files")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::{Lab, files, have, open, run, sampled, tool};
use gravure_fsmap::{Error, ListKind, Listed, list};
use gravure_io::FileAt;
use gravure_testkit::MountedFile;

fn one(name: &str, kind: ListKind, size: u64) -> Listed {
    Listed { name: name.to_owned(), kind, size }
}

/// What the kernel says of a directory.
fn shown(dir: &Path) -> Vec<Listed> {
    let mut out: Vec<Listed> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            let kind = match meta.file_type() {
                kind if kind.is_dir() => ListKind::Directory,
                kind if kind.is_file() => ListKind::File,
                kind if kind.is_symlink() => ListKind::Link,
                _ => ListKind::Other,
            };
            let size = if kind == ListKind::File { meta.len() } else { 0 };
            one(&String::from_utf8_lossy(entry.file_name().as_bytes()), kind, size)
        })
        .collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

fn listed(dev: &FileAt, path: &str) -> Option<Vec<Listed>> {
    list(dev, path, &|| true).unwrap()
}

/// Every directory below `path` is listed as the kernel shows it. Returns how many entries were compared.
fn assert_as_shown(dev: &FileAt, root: &Path, path: &str) -> usize {
    let expected = shown(&root.join(path.trim_start_matches("subvolid=5").trim_start_matches('/')));
    let found = listed(dev, path).unwrap_or_else(|| panic!("no {path}"));
    assert!(found == expected, "{path}: {:?}\n{:?}", first_difference(&found, &expected), found.len());
    let mut count = expected.len();
    for entry in expected {
        let below = format!("{path}/{}", entry.name);
        if entry.kind == ListKind::Directory {
            count += assert_as_shown(dev, root, below.trim_start_matches('/'));
        }
    }
    count
}

fn first_difference<'a>(a: &'a [Listed], b: &'a [Listed]) -> (Option<&'a Listed>, Option<&'a Listed>) {
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    (a.get(at), b.get(at))
}

/// Files of every kind and directories of every size.
fn populate(root: &Path, most: usize) {
    for (path, content) in files(5, 20, 30_000) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let kinds = root.join("kinds");
    fs::create_dir(&kinds).unwrap();
    symlink("../dir0", kinds.join("short link")).unwrap();
    symlink("x".repeat(900), kinds.join("long link")).unwrap();
    drop(UnixListener::bind(kinds.join("socket")).unwrap());
    fs::write(kinds.join(OsStr::from_bytes(b"caf\xe9")), b"not UTF-8").unwrap();
    fs::File::create(kinds.join("holes")).unwrap().set_len(5 << 30).unwrap();
    fs::create_dir_all(root.join("a/b/c/d/e")).unwrap();
    fs::write(root.join("a/b/c/d/e/deep"), b"!").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for count in [3, 20, 300, most] {
        let dir = root.join(format!("with{count}"));
        fs::create_dir(&dir).unwrap();
        for n in 0..count {
            let name = format!("{n:04}-{}", "n".repeat(n * 7 % 200));
            // Blocks of files between those of the directory, so that it lies in pieces.
            let file = fs::File::create(dir.join(name)).unwrap();
            file.write_all_at(&vec![1; n % 5 * 700], 0).unwrap();
            if n % 16 == 0 {
                file.sync_all().unwrap();
            }
        }
        for n in (0..count).step_by(3) {
            fs::remove_file(dir.join(format!("{n:04}-{}", "n".repeat(n * 7 % 200)))).unwrap();
        }
    }
    // Whole blocks of it have no entries any more.
    let gone = root.join("with-holes");
    fs::create_dir(&gone).unwrap();
    (0..400).for_each(|n| drop(fs::File::create(gone.join(format!("{n:0100}"))).unwrap()));
    (0..400).filter(|n| n % 399 != 0).for_each(|n| fs::remove_file(gone.join(format!("{n:0100}"))).unwrap());
}

/// What `xfs_db` prints of the inode of `path` on a mounted volume.
fn inode_field(image: &Path, number: u64, field: &str) -> String {
    let text = run(tool("xfs_db")
        .arg("-r")
        .arg("-c")
        .arg(format!("inode {number}"))
        .args(["-c", &format!("print {field}")])
        .arg(image));
    text.trim().rsplit("= ").next().unwrap_or_default().to_owned()
}

#[test]
fn xfs_directories_of_every_form() {
    use std::os::unix::fs::MetadataExt;
    if !have(&["mkfs.xfs", "xfs_db", "mount"]) {
        return;
    }
    for (nth, args) in [
        &["-b", "size=1024"][..],
        &["-b", "size=2048", "-n", "size=8192", "-i", "nrext64=1,size=1024"],
        &["-i", "nrext64=0", "-m", "bigtime=0,rmapbt=0,reflink=0", "-d", "agcount=2"],
    ]
    .into_iter()
    .enumerate()
    {
        // The first has every form.
        if nth > 0 && !sampled(nth, 2) {
            continue;
        }
        let lab = Lab::new();
        let image = lab.blank("image", 320 << 20);
        run(tool("mkfs.xfs").args(["-q", "-f"]).args(args).arg(&image));
        {
            let Some(mounted) = MountedFile::new(&image, "") else { return };
            populate(&mounted.root, 4000);
        }
        let mounted = MountedFile::new(&image, "ro").unwrap();
        let dev = open(&image);
        let count = assert_as_shown(&dev, &mounted.root, "");
        assert!(count > 2900, "{args:?}: {count}");
        // A file, whole paths or none.
        assert_eq!(listed(&dev, "/a/b/c/d/e/deep"), Some(vec![one("deep", ListKind::File, 1)]));
        assert_eq!(listed(&dev, "a//b/c/d/e/"), Some(vec![one("deep", ListKind::File, 1)]));
        assert_eq!(listed(&dev, "/kinds/short link"), Some(vec![one("short link", ListKind::Link, 0)]));
        for nothing in ["/a/c", "/a/b/c/d/e/deep/er", "/A"] {
            assert_eq!(listed(&dev, nothing), None, "{nothing}");
        }
        let form = |path: &str| {
            let number = mounted.root.join(path).metadata().unwrap().ino();
            inode_field(&image, number, "core.format")
        };
        assert_eq!((form("empty").as_str(), form("with20").as_str()), ("1 (local)", "2 (extents)"));
        if nth == 0 {
            assert_eq!(form("with4000"), "3 (btree)");
        }
    }
}

/// Chunks of inodes of which a part was never allocated, as there was no room for a whole one in one piece.
#[test]
fn xfs_with_sparse_inodes() {
    if !have(&["mkfs.xfs", "xfs_db", "mount", "fallocate"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 310 << 20);
    run(tool("mkfs.xfs").args(["-q", "-f", "-d", "agcount=2", "-i", "size=512,sparse=1"]).arg(&image));
    {
        let Some(mounted) = MountedFile::new(&image, "") else { return };
        let full = |name: &str| {
            let mut file = fs::File::create(mounted.root.join(name)).unwrap();
            while std::io::Write::write_all(&mut file, &[7; 1 << 16]).is_ok() {}
            file.sync_all().unwrap();
        };
        // Holes of 28 KiB: a whole chunk needs 32 KiB in one piece, a part of one 16 KiB.
        let punch = |range: std::ops::Range<u64>| {
            for n in range {
                let at = (n * (32 << 10)).to_string();
                run(tool("fallocate").args(["-p", "-l", "28672", "-o", &at]).arg(mounted.root.join("fill")));
            }
        };
        full("fill");
        punch(0..700);
        // What the driver keeps in reserve is in one piece: the first of these blocks take its place.
        full("rest");
        punch(700..860);
        let many = mounted.root.join("many");
        fs::create_dir(&many).unwrap();
        (0..5000).for_each(|n| symlink(format!("{n}"), many.join(format!("{n}"))).unwrap());
    }
    let mut holes = 0;
    for group in ["agi 0", "agi 1"] {
        let print = ["-c", group, "-c", "addr root", "-c", "print"];
        let text = run(tool("xfs_db").arg("-r").args(print).arg(&image));
        // Records: first inode, holes, count, free ones.
        let records = text.split('[').filter(|record| record.split(',').count() == 5);
        holes += records.filter(|record| record.split(',').nth(1).unwrap().starts_with("0x")).count();
    }
    assert!(holes > 5, "{holes}");
    let mounted = MountedFile::new(&image, "ro").unwrap();
    assert_eq!(assert_as_shown(&open(&image), &mounted.root, ""), 5003);
}

/// Numbers of inodes count in sectors' size: on a large volume they do not fit into 32 bits.
#[test]
fn xfs_with_large_numbers_of_inodes() {
    use std::os::unix::fs::MetadataExt;
    if !have(&["mkfs.xfs", "mount"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 4 << 40);
    run(tool("mkfs.xfs").args(["-q", "-f", "-K", "-d", "agcount=8", "-l", "size=64m"]).arg(&image));
    {
        let Some(mounted) = MountedFile::new(&image, "") else { return };
        for n in 0..8 {
            let dir = mounted.root.join(format!("dir{n}"));
            fs::create_dir(&dir).unwrap();
            (0..n).for_each(|n| fs::write(dir.join(format!("{n}")), vec![1; n]).unwrap());
        }
        let numbers = (0..8).map(|n| mounted.root.join(format!("dir{n}")).metadata().unwrap().ino());
        assert!(numbers.max().unwrap() > u64::from(u32::MAX));
    }
    let mounted = MountedFile::new(&image, "ro").unwrap();
    assert_eq!(assert_as_shown(&open(&image), &mounted.root, ""), 36);
}

/// Version 4, which newer kernels do not mount.
#[test]
fn xfs_of_version_4() {
    if !have(&["mkfs.xfs", "xfs_db"]) {
        return;
    }
    for (nth, args) in [
        &["-n", "ftype=0", "-b", "size=512"][..],
        &["-n", "ftype=1", "-b", "size=1024", "-i", "attr=1"],
        &["-n", "size=8192", "-i", "size=256", "-d", "agcount=3"],
    ]
    .into_iter()
    .enumerate()
    {
        if !sampled(nth, 3) {
            continue;
        }
        let lab = Lab::new();
        let image = lab.blank("image", 320 << 20);
        let content = lab.path("content");
        fs::write(&content, vec![3; 1234]).unwrap();
        let counts = [("short", 3usize), ("block", 9), ("leaf", 150), ("node", 3000)];
        let mut proto = "/dev/null\n0 0\nd--755 0 0\n".to_owned();
        for (dir, count) in counts {
            proto += &format!("{dir} d--755 0 0\n");
            for n in 0..count {
                proto += &match n % 3 {
                    0 => format!("{n:04} ---644 0 0 {}\n", content.display()),
                    1 => format!("{n:04}{} l--777 0 0 target\n", "x".repeat(n % 150)),
                    _ => format!("{n:04} p--600 0 0\n"),
                };
            }
            proto += "$\n";
        }
        proto += "$\n";
        let path = lab.path("proto");
        fs::write(&path, proto).unwrap();
        run(tool("mkfs.xfs").args(["-q", "-f", "-m", "crc=0", "-p"]).arg(&path).args(args).arg(&image));
        let dev = open(&image);
        let mut dirs: Vec<Listed> = counts.map(|(dir, _)| one(dir, ListKind::Directory, 0)).to_vec();
        dirs.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(listed(&dev, ""), Some(dirs));
        for (dir, count) in counts {
            let expected = (0..count).map(|n| match n % 3 {
                0 => one(&format!("{n:04}"), ListKind::File, 1234),
                1 => one(&format!("{n:04}{}", "x".repeat(n % 150)), ListKind::Link, 0),
                _ => one(&format!("{n:04}"), ListKind::Other, 0),
            });
            assert!(listed(&dev, dir) == Some(expected.collect()), "{dir} with {args:?}");
        }
    }
}

/// What must not be believed.
#[test]
fn xfs_that_is_wrong_is_refused() {
    if !have(&["mkfs.xfs", "xfs_db"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 320 << 20);
    let proto = lab.path("proto");
    fs::write(&proto, "/dev/null\n0 0\nd--755 0 0\nname p--600 0 0\n$\n").unwrap();
    run(tool("mkfs.xfs").args(["-q", "-f", "-p"]).arg(&proto).arg(&image));
    let root: u64 = {
        let text = run(tool("xfs_db").arg("-r").args(["-c", "sb 0", "-c", "print rootino"]).arg(&image));
        text.trim().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let error = |expected: &str| {
        let error = list(&open(&image), "/", &|| true).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    // Its second entry names an inode that is not in use, with a checksum that is right.
    let entry = inode_field(&image, root, "u3.sfdir3.list[0].inumber.i4");
    assert_eq!(entry, (root + 3).to_string());
    let set = format!("write u3.sfdir3.list[0].inumber.i4 {}", root + 60);
    run(tool("xfs_db").arg("-x").args(["-c", &format!("inode {root}"), "-c", &set]).arg(&image));
    error(&format!("inode {}, mode", root + 60));
    // A bit of the directory turned, without one.
    let file = fs::File::options().write(true).read(true).open(&image).unwrap();
    let offset = root * 512;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset + 180).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset + 180).unwrap();
    error(&format!("inode {root}, checksum"));
    file.write_all_at(&byte, offset + 180).unwrap();
    error("mode");
    // Its log was not written into its structures.
    let stopped = list(&open(&image), "/", &|| false).unwrap_err();
    assert!(matches!(stopped, Error::Stopped), "{stopped:?}");
}

/// Runs `btrfs subvolume`.
fn subvolume(args: &[&str], paths: &[&Path]) {
    run(tool("btrfs").arg("subvolume").args(args).args(paths));
}

#[test]
fn btrfs_with_subvolumes_and_snapshots() {
    if !have(&["mkfs.btrfs", "btrfs"]) {
        return;
    }
    for (nth, args) in [&["-m", "dup", "-n", "4096"][..], &["-m", "single", "--mixed"], &["-O", "^no-holes"]]
        .into_iter()
        .enumerate()
    {
        // The first has trees of several levels.
        if nth > 0 && !sampled(nth, 2) {
            continue;
        }
        let lab = Lab::new();
        let image = lab.blank("image", 300 << 20);
        run(tool("mkfs.btrfs").args(["-q", "-f"]).args(args).arg(&image));
        let number = {
            let Some(mounted) = MountedFile::new(&image, "compress=zstd") else { return };
            let root = &mounted.root;
            populate(root, 4000);
            subvolume(&["create"], &[&root.join("@home")]);
            subvolume(&["create"], &[&root.join("a/b/inner")]);
            subvolume(&["create"], &[&root.join("@home/nested")]);
            fs::write(root.join("@home/nested/file"), b"12345").unwrap();
            fs::write(root.join("a/b/inner/inside"), b"1").unwrap();
            // It has the name of `nested`, but not what is in it.
            subvolume(&["snapshot", "-r"], &[&root.join("@home"), &root.join("snapshot")]);
            subvolume(&["create"], &[&root.join("gone")]);
            // The tool wants a path that a mount without a place has not.
            fs::remove_dir(root.join("gone")).unwrap();
            fs::rename(root.join("a/b/inner"), root.join("a/moved")).unwrap();
            let number = run(tool("btrfs").args(["inspect-internal", "rootid"]).arg(root.join("@home")));
            number.trim().to_owned()
        };
        let dev = open(&image);
        {
            let mounted = MountedFile::new(&image, "ro").unwrap();
            assert!(assert_as_shown(&dev, &mounted.root, "") > 2900, "{args:?}");
        }
        let file = vec![one("file", ListKind::File, 5)];
        let nested = vec![one("nested", ListKind::Directory, 0)];
        assert_eq!(listed(&dev, "@home/nested"), Some(file.clone()));
        assert_eq!(listed(&dev, "snapshot"), Some(nested.clone()));
        assert_eq!(listed(&dev, "snapshot/nested"), Some(Vec::new()));
        assert_eq!(listed(&dev, "a/moved"), Some(vec![one("inside", ListKind::File, 1)]));
        assert_eq!(listed(&dev, "a/moved/inside"), Some(vec![one("inside", ListKind::File, 1)]));
        for nothing in
            ["a/b/inner", "gone", "a/moved/inside/x", "snapshot/nested/file", "subvolid=999", "subvolid=1"]
        {
            assert_eq!(listed(&dev, nothing), None, "{nothing}");
        }
        assert_eq!(listed(&dev, &format!("subvolid={number}")), Some(nested.clone()));
        // Another one is the default now.
        {
            let mounted = MountedFile::new(&image, "").unwrap();
            subvolume(&["set-default", &number], &[&mounted.root]);
        }
        let dev = open(&image);
        assert_eq!(listed(&dev, "/"), Some(nested));
        assert_eq!(listed(&dev, "/nested"), Some(file));
        assert_eq!(listed(&dev, "/a"), None);
        assert_eq!(listed(&dev, "/subvolid=5/a/moved"), Some(vec![one("inside", ListKind::File, 1)]));
        let mounted = MountedFile::new(&image, "ro,subvolid=5").unwrap();
        assert!(assert_as_shown(&dev, &mounted.root, "subvolid=5") > 2900, "{args:?}");
    }
}
