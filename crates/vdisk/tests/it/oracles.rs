//! qemu-img writes what we read and reads what we write.

use std::path::Path;

use gravure_io::ReadAt;
use gravure_testkit::oracle;
use gravure_vdisk::Kind;

use crate::support::{Sparse, contents, disk, open, write};

const MIB: usize = 1 << 20;

fn qemu_img(dir: &Path, arguments: &[&str]) -> Option<()> {
    let output = oracle("qemu-img")?.args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

#[test]
fn files_of_qemu_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // VHDs have the size of their geometry, so it must be one.
    let plain = disk(1, 17 * MIB + 512 * 1024);
    std::fs::write(dir.join("plain.raw"), &plain).unwrap();
    let forms: [(&str, Kind, &[&str]); 11] = [
        ("v3.qcow2", Kind::Qcow2, &["-O", "qcow2"]),
        ("v2.qcow2", Kind::Qcow2, &["-O", "qcow2", "-o", "compat=0.10"]),
        ("small.qcow2", Kind::Qcow2, &["-O", "qcow2", "-o", "cluster_size=512"]),
        ("large.qcow2", Kind::Qcow2, &["-O", "qcow2", "-o", "cluster_size=2M"]),
        ("zlib.qcow2", Kind::Qcow2, &["-c", "-O", "qcow2"]),
        ("zstd.qcow2", Kind::Qcow2, &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]),
        ("full.qcow2", Kind::Qcow2, &["-S", "0", "-O", "qcow2", "-o", "preallocation=metadata"]),
        ("dynamic.vhd", Kind::Vhd, &["-O", "vpc", "-o", "subformat=dynamic,force_size=on"]),
        ("fixed.vhd", Kind::Vhd, &["-O", "vpc", "-o", "subformat=fixed,force_size=on"]),
        ("dynamic.vhdx", Kind::Vhdx, &["-O", "vhdx", "-o", "subformat=dynamic"]),
        ("fixed.vhdx", Kind::Vhdx, &["-O", "vhdx", "-o", "subformat=fixed"]),
    ];
    for (name, kind, options) in forms {
        let arguments = [&["convert", "-f", "raw"], options, &["plain.raw", name]].concat();
        if qemu_img(dir, &arguments).is_none() {
            return;
        }
        let disk = open(&dir.join(name));
        assert_eq!((disk.kind(), disk.size()), (kind, plain.size()), "{name}");
        assert!(contents(&disk) == plain, "{name}");
    }
    // Chains and other people's features are refused by name.
    qemu_img(dir, &["create", "-q", "-f", "qcow2", "-b", "v3.qcow2", "-F", "qcow2", "over.qcow2"]);
    qemu_img(dir, &["create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "sub.qcow2", "1M"]);
    qemu_img(dir, &["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "far.qcow2", "1M"]);
    for (name, message) in [
        ("over.qcow2", "backing file not supported"),
        ("sub.qcow2", "subclusters of qcow2 not supported"),
        ("far.qcow2", "external data file of qcow2 not supported"),
    ] {
        let source = std::sync::Arc::new(gravure_io::FileAt::open(&dir.join(name)).unwrap());
        let error = gravure_vdisk::VirtualDisk::open(source, Kind::Qcow2).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn qemu_reads_our_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (number, size) in [MIB, 3 * MIB + 512, 70 * MIB].into_iter().enumerate() {
        let mut plain = disk(number as u64, size.min(8 * MIB));
        plain.resize(size, 0);
        plain[size - 1] = 7;
        std::fs::write(dir.join("plain.raw"), &plain).unwrap();
        for (name, kind, format, sector) in [
            ("a.qcow2", Kind::Qcow2, "qcow2", 512),
            ("a.vhdx", Kind::Vhdx, "vhdx", 512),
            ("b.vhdx", Kind::Vhdx, "vhdx", 4096),
        ] {
            if size % sector as usize != 0 {
                continue;
            }
            let source = Sparse(plain.clone());
            let written = write(&source, kind, sector, &dir.join(name)).unwrap();
            assert!(written.data_bytes < 9 * MIB as u64, "{name}: {written:?}");
            assert!(written.file_bytes >= written.data_bytes);
            let ours = open(&dir.join(name));
            assert_eq!(ours.sector_bytes(), if kind == Kind::Vhdx { sector } else { 512 });
            assert!(contents(&ours) == plain, "{name} of {size}");
            if format == "qcow2" && qemu_img(dir, &["check", "-q", "-f", format, name]).is_none() {
                return;
            }
            // QEMU opens VHDX with sectors of 512 bytes only.
            if sector == 512
                && qemu_img(dir, &["compare", "-f", "raw", "-F", format, "plain.raw", name]).is_none()
            {
                return;
            }
        }
    }
}

/// A disk whose bytes are in few places of much.
struct Large(u64);

impl ReadAt for Large {
    fn size(&self) -> u64 {
        self.0
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        for (at, byte) in (offset..).zip(buf) {
            *byte = if at % (64 << 30) < 100 { 9 } else { 0 };
        }
        Ok(())
    }
    fn next_data(&self, offset: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
        let step = 64 << 30;
        let start = if offset % step < 100 { offset } else { offset.next_multiple_of(step) };
        Ok((start < self.0).then(|| start..start - start % step + 100))
    }
}

#[test]
fn terabytes_with_little_in_them_are_small_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let source = Large(3 << 40);
    for (name, kind, format) in [("a.qcow2", Kind::Qcow2, "qcow2"), ("a.vhdx", Kind::Vhdx, "vhdx")] {
        let written = write(&source, kind, 512, &dir.join(name)).unwrap();
        assert!(written.file_bytes < 300 << 20, "{written:?}");
        let ours = open(&dir.join(name));
        for at in [0, 64 << 30, (64 << 30) + 99, 1 << 40, (3 << 40) - 512] {
            let (mut found, mut expected) = ([0; 200], [0; 200]);
            ours.read_exact_at(at, &mut found).unwrap();
            source.read_exact_at(at, &mut expected).unwrap();
            assert_eq!(found, expected, "{name} at {at:#x}");
        }
        if format == "qcow2" {
            let _ = qemu_img(dir, &["check", "-q", "-f", format, name]);
        }
    }
}

#[test]
fn what_stops_the_reader_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let target = gravure_io::FileAt::new(file).unwrap();
    let source = disk(3, 5 * MIB);
    let mut stop = |at: u64| if at > 2 << 20 { Err(std::io::Error::other("enough")) } else { Ok(()) };
    gravure_vdisk::write_qcow2(&source, &target, &mut stop).unwrap_err();
    gravure_vdisk::write_vhdx(&source, 512, &crate::support::IDS, &target, &mut stop).unwrap_err();
    assert_eq!(Kind::of(&gravure_io::FileAt::open(&path).unwrap()).unwrap(), None);
}
