//! Files of XFS with everything that is known of them, compared with what the kernel says of the same volume.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests start programs and write files")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use crate::support::{Lab, files, have, open, run, sampled, tool};
use gravure_fsmap::{XfsAttribute, XfsFile, XfsVolume};
use gravure_io::ReadAt;
use gravure_testkit::MountedFile;

/// Attributes that were set, by path.
type Attributes = BTreeMap<String, Vec<(String, Vec<u8>)>>;

fn set(root: &Path, path: &str, name: &str, value: &[u8], all: &mut Attributes) {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    run(tool("setfattr").args(["-h", "-n", name, "-v", &format!("0x{hex}")]).arg(root.join(path)));
    all.entry(path.to_owned()).or_default().push((name.to_owned(), value.to_vec()));
}

fn populate(root: &Path, block: u64) -> Attributes {
    for (path, content) in files(9, 20, 300_000) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::hard_link(root.join("dir1/file001.bin"), root.join("dir2/other name")).unwrap();
    symlink("short", root.join("short link")).unwrap();
    symlink("long/".repeat(190), root.join("long link")).unwrap();
    fs::hard_link(root.join("long link"), root.join("long link 2")).unwrap();
    run(tool("mknod").arg(root.join("device")).args(["b", "259", "65537"]));
    run(tool("mkfifo").args(["-m", "0620"]).arg(root.join("pipe")));
    let holes = fs::File::create(root.join("holes")).unwrap();
    // Enough pieces for a tree.
    for n in 0..60 {
        holes.write_all_at(&vec![n; 3000], u64::from(n) * 5 * block).unwrap();
    }
    holes.set_len(3 << 30).unwrap();
    holes.sync_all().unwrap();
    // Blocks that were never written: one in the middle of what was, one behind the end.
    let reserved = fs::File::create(root.join("reserved")).unwrap();
    reserved.write_all_at(&[5; 20_000], 0).unwrap();
    run(tool("fallocate").args(["-l", "400000"]).arg(root.join("reserved")));
    reserved.write_all_at(&[6; 5000], 300_000).unwrap();
    run(tool("fallocate").args(["-n", "-o", "400000", "-l", "100000"]).arg(root.join("reserved")));
    run(tool("chown").args(["-h", "70001:70002"]).arg(root.join("short link")).arg(root.join("holes")));
    run(tool("chmod").arg("6751").arg(root.join("dir1/file001.bin")));
    run(tool("touch").args(["-d", "1931-05-06 07:08:09.123456789Z"]).arg(root.join("dir3/file003.bin")));
    run(tool("touch").args(["-d", "2031-05-06 07:08:09.987654321Z"]).arg(root.join("dir3")));
    let mut all = Attributes::new();
    set(root, "dir0", "user.small", b"value", &mut all);
    set(root, "dir0", "security.other", b"", &mut all);
    set(root, "long link", "trusted.link", b"of a link", &mut all);
    set(root, "dir1/file001.bin", "trusted.mine", &[0, 1, 2], &mut all);
    // A value beside its leaf, and so many that leaves have a node above them.
    set(root, "reserved", "user.large", &[9; 20_000], &mut all);
    for n in 0..40u8 {
        set(
            root,
            "holes",
            &format!("user.{n:03}{}", "n".repeat(100)),
            &vec![n; 30 * usize::from(n)],
            &mut all,
        );
    }
    set(root, "pipe", "trusted.first", &[1; 50], &mut all);
    let access = [
        2u32,
        0x0006_0001,
        u32::MAX,
        0x0007_0002,
        1234,
        0x0004_0004,
        u32::MAX,
        0x0007_0010,
        u32::MAX,
        0x0004_0020,
        u32::MAX,
    ];
    let access: Vec<u8> = access.iter().flat_map(|word| word.to_le_bytes()).collect();
    set(root, "dir4/file004.bin", "system.posix_acl_access", &access, &mut all);
    for (name, other) in [("dir1/file001.bin", "dir2/other name"), ("long link", "long link 2")] {
        let same = all[name].clone();
        all.insert(other.to_owned(), same);
    }
    all
}

/// Compares everything below a directory; how many files there were.
fn compare(
    xfs: &XfsVolume<'_>,
    dev: &dyn ReadAt,
    file: &XfsFile,
    path: &Path,
    name: &str,
    set: &Attributes,
) -> usize {
    let meta = path.symlink_metadata().unwrap();
    assert_eq!((file.mode, file.uid, file.gid), (meta.mode(), meta.uid(), meta.gid()), "{name}");
    assert_eq!(u64::from(file.links), meta.nlink(), "{name}");
    assert_eq!((file.written.0, i64::from(file.written.1)), (meta.mtime(), meta.mtime_nsec()), "{name}");
    assert_eq!((file.accessed.0, i64::from(file.accessed.1)), (meta.atime(), meta.atime_nsec()), "{name}");
    let expected = set.get(name).cloned().unwrap_or_default();
    let found = xfs.attributes(file).unwrap();
    if name == "dir4/file004.bin" {
        // As XFS keeps it, in its own form: a count, then kind, number and rights of each, big-endian.
        let [XfsAttribute { name, value }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((name.as_slice(), value.len()), (&b"trusted.SGI_ACL_FILE"[..], 4 + 5 * 12));
        assert_eq!(value[..4], [0, 0, 0, 5]);
    } else {
        let mut expected: Vec<XfsAttribute> = expected
            .into_iter()
            .map(|(name, value)| XfsAttribute { name: name.into_bytes(), value })
            .collect();
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(found == expected, "{name}: {found:?}");
    }
    if file.is_directory() {
        let mut count = 1;
        for (entry, number) in xfs.entries(file).unwrap() {
            let entry = String::from_utf8(entry).unwrap();
            let below = if name.is_empty() { entry.clone() } else { format!("{name}/{entry}") };
            count += compare(xfs, dev, &xfs.file(number).unwrap(), &path.join(entry), &below, set);
        }
        assert_eq!(xfs.entries(file).unwrap().len(), fs::read_dir(path).unwrap().count(), "{name}");
        return count;
    }
    if file.is_link() {
        assert_eq!(xfs.target(file).unwrap(), fs::read_link(path).unwrap().as_os_str().as_encoded_bytes());
    } else if file.is_file() {
        assert_eq!(file.size, meta.len());
        let there = fs::File::open(path).unwrap();
        let mut next = 0;
        for piece in xfs.pieces(file).unwrap() {
            let gap = usize::try_from((piece.pos - next).min(1 << 20)).unwrap();
            let mut zeros = vec![1; gap];
            there.read_exact_at(&mut zeros, next).unwrap();
            assert!(zeros.iter().all(|byte| *byte == 0), "{name} at {next}");
            let mut expected = vec![0; usize::try_from(piece.len).unwrap()];
            there.read_exact_at(&mut expected, piece.pos).unwrap();
            assert!(dev.read_vec_at(piece.offset, expected.len()).unwrap() == expected, "{name}: {piece:?}");
            next = piece.pos + piece.len;
        }
        assert!(xfs.allocated_bytes(file).unwrap() <= meta.blocks() * 512, "{name}");
    } else if meta.file_type().is_block_device() {
        assert_eq!(file.device, (259, 65537));
    }
    1
}

#[test]
fn xfs_files_are_as_the_kernel_has_them() {
    if !have(&["mkfs.xfs", "mount", "setfattr", "fallocate", "mknod"]) {
        return;
    }
    for (nth, args) in [
        &["-b", "size=1024"][..],
        &["-b", "size=4096", "-m", "bigtime=0", "-i", "nrext64=0"],
        &["-b", "size=4096", "-i", "size=1024,nrext64=1", "-m", "reflink=0"],
    ]
    .into_iter()
    .enumerate()
    {
        if !sampled(nth, 3) && nth > 0 {
            continue;
        }
        let lab = Lab::new();
        let image = lab.blank("image", 320 << 20);
        run(tool("mkfs.xfs")
            .args(["-q", "-f", "-L", "daten", "-m", "uuid=11111111-2222-3333-4444-555555555555"])
            .args(args)
            .arg(&image));
        let set = {
            let Some(mounted) = MountedFile::new(&image, "") else { return };
            populate(&mounted.root, if nth == 0 { 1024 } else { 4096 })
        };
        let mounted = MountedFile::new(&image, "ro,noatime").unwrap();
        let dev = open(&image);
        let xfs = XfsVolume::open(&dev, &|| true).unwrap();
        let facts = xfs.facts();
        assert_eq!((facts.version, facts.label.as_deref()), (5, Some("daten")));
        assert_eq!(facts.uuid.as_deref(), Some("11111111-2222-3333-4444-555555555555"));
        let has = |name: &str| facts.features.iter().find(|(_, feature, _)| *feature == name).unwrap().2;
        assert_eq!((has("bigtime"), has("nrext64"), has("reflink")), (nth != 1, nth == 2, nth != 2));
        let count = compare(&xfs, &dev, &xfs.root().unwrap(), &mounted.root, "", &set);
        assert_eq!(count, 1 + 5 + 20 + 8);
    }
}
