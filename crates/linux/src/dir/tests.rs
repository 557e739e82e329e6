//! Rules of `Dir` on a real file system.

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::DeviceNumber;

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

fn fresh() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open_root(temp.path()).unwrap();
    (temp, dir)
}

#[test]
fn refuses_names_that_are_not_one_component() {
    let (_temp, dir) = fresh();
    for name in ["", ".", "..", "a/b", "/etc", "a/", "nul\0byte"] {
        let error = dir.create_file(os(name), 0o600).unwrap_err();
        assert!(matches!(error, Error::Unsupported { what: "entry name", .. }), "{name:?}: {error:?}");
        assert!(dir.stat_entry(os(name)).is_err() && dir.open_dir(os(name)).is_err(), "{name:?}");
    }
}

#[test]
fn never_follows_a_link() {
    let (temp, dir) = fresh();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"x").unwrap();
    symlink(outside.path(), temp.path().join("to-dir")).unwrap();
    symlink(outside.path().join("secret"), temp.path().join("to-file")).unwrap();

    assert_eq!(dir.open_dir(os("to-dir")).unwrap_err().errno(), Some(libc::ENOTDIR));
    assert_eq!(dir.ensure_dir(os("to-dir"), 0o755).unwrap_err().errno(), Some(libc::ENOTDIR));
    assert_eq!(dir.open_file(os("to-file")).unwrap_err().errno(), Some(libc::ELOOP));
    assert_eq!(dir.open_file_rw(os("to-file")).unwrap_err().errno(), Some(libc::ELOOP));
    assert_eq!(dir.create_file(os("to-file"), 0o600).unwrap_err().errno(), Some(libc::EEXIST));
    assert_eq!(dir.set_mode(os("to-file"), 0o600).unwrap_err().errno(), Some(libc::EOPNOTSUPP));

    let before = std::fs::metadata(outside.path().join("secret")).unwrap();
    let time = Timestamp { seconds: 1_000_000, nanos: 5 };
    dir.set_times(os("to-file"), time, time).unwrap();
    let after = std::fs::metadata(outside.path().join("secret")).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    assert_eq!(dir.stat_entry(os("to-file")).unwrap().modified, time);
    assert_eq!(dir.stat_entry(os("to-file")).unwrap().kind, NodeKind::Symlink);
    assert_eq!(dir.read_link(os("to-dir")).unwrap(), outside.path().as_os_str());
}

#[test]
fn refuses_to_read_what_is_no_regular_file_without_blocking() {
    let (_temp, dir) = fresh();
    dir.make_node(os("pipe"), SpecialNode::Fifo, 0o600).unwrap();
    assert!(matches!(dir.open_file(os("pipe")), Err(Error::Refused { .. })));
    dir.make_dir(os("d"), 0o700).unwrap();
    assert!(matches!(dir.open_file(os("d")), Err(Error::Refused { .. })));
}

#[test]
fn states_what_was_set() {
    let (temp, dir) = fresh();
    let mut file = dir.create_file(os("f"), 0o600).unwrap();
    file.write_all(b"hello").unwrap();
    let accessed = Timestamp { seconds: 11, nanos: 999_999_999 };
    // Before 1970: seconds are negative, nanoseconds still count upwards.
    let modified = Timestamp { seconds: -2, nanos: 500_000_000 };
    set_file_mode(&file, 0o4751).unwrap();
    set_file_times(&file, accessed, modified).unwrap();
    dir.link(os("f"), &dir, os("g")).unwrap();
    let stat = dir.stat_entry(os("g")).unwrap();
    assert_eq!((stat.kind, stat.mode, stat.size, stat.links), (NodeKind::File, 0o4751, 5, 2));
    assert_eq!((stat.accessed, stat.modified), (accessed, modified));
    assert_eq!(stat.inode, std::fs::metadata(temp.path().join("f")).unwrap().ino());

    dir.set_mode(os("f"), 0o640).unwrap();
    assert_eq!(std::fs::metadata(temp.path().join("f")).unwrap().permissions().mode() & 0o7777, 0o640);
    dir.set_times(os("f"), modified, accessed).unwrap();
    assert_eq!(stat_file(&file).unwrap().modified, accessed);
}

#[test]
fn lists_every_entry_sorted_and_with_kinds() {
    let (_temp, dir) = fresh();
    for index in (0..300).rev() {
        dir.create_file(os(&format!("file-{index:03}-{}", "x".repeat(150))), 0o600).unwrap();
    }
    dir.make_dir(os("a"), 0o700).unwrap();
    dir.make_symlink(os("nowhere"), os("b")).unwrap();
    let entries = dir.entries().unwrap();
    assert_eq!(entries.len(), 302);
    assert_eq!(entries[0].kind.or(Some(NodeKind::Directory)), Some(NodeKind::Directory));
    assert_eq!(entries[1].name, "b");
    assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name));
    // A second listing starts from the beginning again.
    assert_eq!(dir.entries().unwrap(), entries);
}

#[test]
fn root_makes_devices_and_gives_files_away() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: device nodes and chown need root");
        return;
    }
    let (temp, dir) = fresh();
    let number = DeviceNumber { major: 259, minor: 300 };
    dir.make_node(os("null"), SpecialNode::CharDevice(DeviceNumber { major: 1, minor: 3 }), 0o666).unwrap();
    dir.make_node(os("disk"), SpecialNode::BlockDevice(number), 0o600).unwrap();
    dir.make_node(os("sock"), SpecialNode::Socket, 0o600).unwrap();
    dir.make_symlink(os("null"), os("link")).unwrap();
    dir.set_owner(os("link"), 12, 34).unwrap();
    dir.set_owner(os("disk"), 1, 2).unwrap();
    let disk = dir.stat_entry(os("disk")).unwrap();
    assert_eq!((disk.kind, disk.special, disk.uid, disk.gid), (NodeKind::BlockDevice, number, 1, 2));
    let link = dir.stat_entry(os("link")).unwrap();
    assert_eq!((link.uid, link.gid), (12, 34));
    assert_eq!(dir.stat_entry(os("null")).unwrap().uid, 0);
    assert!(std::fs::symlink_metadata(temp.path().join("sock")).unwrap().file_type().is_socket());
}

#[test]
fn xattrs_come_back_and_a_link_has_its_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: trusted.* attributes need root");
        return;
    }
    let (_temp, dir) = fresh();
    let file = dir.create_file(os("f"), 0o600).unwrap();
    dir.make_symlink(os("f"), os("l")).unwrap();
    // ext4 keeps one block of attributes: 3000 bytes do not fit the first small buffer, yet fit the volume.
    let large = vec![7u8; 3000];
    match set_xattrs(&file, &dir, &large) {
        Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => {
            eprintln!("SKIPPED: the temporary directory keeps no extended attributes");
            return;
        }
        other => other.unwrap(),
    }
    let expected =
        vec![(OsString::from("trusted.large"), large), (OsString::from("trusted.one"), b"1".to_vec())];
    assert_eq!(dir.xattrs(os("f")).unwrap(), expected);
    assert_eq!(xattr::read_file_xattrs(&file).unwrap(), expected);
    assert_eq!(dir.xattrs(os("l")).unwrap(), vec![(OsString::from("trusted.link"), Vec::new())]);
    dir.remove_xattr(os("f"), os("trusted.one")).unwrap();
    assert_eq!(dir.remove_xattr(os("f"), os("trusted.one")).unwrap_err().errno(), Some(libc::ENODATA));
}

fn set_xattrs(file: &File, dir: &Dir, large: &[u8]) -> Result<(), Error> {
    xattr::set_file_xattr(file, os("trusted.large"), large)?;
    dir.set_xattr(os("f"), os("trusted.one"), b"1")?;
    dir.set_xattr(os("l"), os("trusted.link"), b"")
}

#[test]
fn in_root_resolution_keeps_absolute_links_inside() {
    let (temp, dir) = fresh();
    std::fs::create_dir_all(temp.path().join("usr/lib")).unwrap();
    std::fs::write(temp.path().join("usr/lib/os-release"), b"inside").unwrap();
    symlink("/usr/lib", temp.path().join("lib")).unwrap();
    symlink("../../../../usr/lib/os-release", temp.path().join("rel")).unwrap();
    for path in ["lib/os-release", "/lib/os-release", "rel", "usr/../lib/os-release"] {
        let mut text = String::new();
        let mut file = dir.open_file_in_root(Path::new(path)).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "inside", "{path}");
    }
    assert!(dir.open_dir_in_root(Path::new("lib")).unwrap().has_entry(os("os-release")).unwrap());
}

#[test]
fn rename_and_removal_take_the_entry_itself() {
    let (temp, dir) = fresh();
    dir.make_dir(os("sub"), 0o755).unwrap();
    let sub = dir.open_dir(os("sub")).unwrap();
    dir.create_file(os("f"), 0o600).unwrap();
    dir.rename(os("f"), &sub, os("g")).unwrap();
    assert_eq!(dir.remove_dir(os("sub")).unwrap_err().errno(), Some(libc::ENOTEMPTY));
    dir.make_symlink(os("sub/g"), os("l")).unwrap();
    dir.remove_file(os("l")).unwrap();
    assert!(temp.path().join("sub/g").exists());
    sub.remove_file(os("g")).unwrap();
    dir.remove_dir(os("sub")).unwrap();
    assert_eq!(dir.entries().unwrap(), vec![]);
    dir.sync_volume().unwrap();
}

#[test]
fn holes_are_skipped_and_room_is_reserved() {
    let (_temp, dir) = fresh();
    let file = dir.create_file(os("sparse"), 0o600).unwrap();
    file.set_len(4 << 20).unwrap();
    assert_eq!(next_data(&file, 4 << 20).unwrap(), None);
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 1 << 20).unwrap();
    file.sync_all().unwrap();
    let data = next_data(&file, 0).unwrap().unwrap();
    if data == (0..4 << 20) {
        eprintln!("SKIPPED: the temporary directory knows no holes");
    } else {
        assert_eq!(data, 1 << 20..(1 << 20) + 4096);
        assert_eq!(next_data(&file, data.end).unwrap(), None);
        assert_eq!(next_data(&file, data.start + 100).unwrap(), Some(data.start + 100..data.end));
    }
    let whole = dir.create_file(os("whole"), 0o600).unwrap();
    reserve(&whole, 1 << 20).unwrap();
    reserve(&whole, 0).unwrap();
    let stat = stat_file(&whole).unwrap();
    assert_eq!(stat.size, 0);
    assert!(stat.allocated_bytes >= 1 << 20 || stat.allocated_bytes == 0, "{}", stat.allocated_bytes);
}
