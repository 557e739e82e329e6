//! The kernel's own driver (ntfs3 of Linux 6.12) in a virtual machine, on disks with sectors of 512 and of 4096 bytes: reads every name
//! and content of volumes of ours, then writes to them, and fills volumes that mkntfs made. All of them are sound afterwards.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gravure_io::ReadAt;
use gravure_ntfs::{CheckObserver, Finding, Rule, SectorSize, Strictness, VolumeOptions, check};
use gravure_testkit::{Running, accelerator, oracle, payload_dir, skipped};
use gravure_tree::{ContentRef, Origin, Tree};

use crate::support::{ZeroGuide, checkers, compare, options, volume_with, windows_tree};

/// A machine that is emulated beside others takes minutes to start.
const PATIENCE: Duration = Duration::from_secs(600);
const MODULES: [&str; 3] = ["drivers/block/virtio_blk", "fs/nls/nls_utf8", "fs/ntfs3/ntfs3"];

/// Lists the contents of our volumes to the second disk and changes them; fills those of mkntfs.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in virtio_blk nls_utf8 ntfs3; do $b insmod /lib/$module.ko; done

# Device; MiB of the second disk at which the list goes.
list() {
    $b mount -t ntfs3 -o ro,iocharset=utf8 $1 /mnt || echo "GUEST: cannot mount $1 read-only"
    cd /mnt
    $b find . -type f -print0 | $b sort -z | $b xargs -0 $b sha1sum > /manifest
    cd /
    $b umount /mnt
    $b dd if=/manifest of=/dev/vdb bs=1M seek=$2 conv=sync 2>/dev/null
}

made() {
    $b mkdir /mnt/made
    i=0
    while [ $i -lt 150 ]; do echo "content $i" > "/mnt/made/file number $i"; i=$((i + 1)); done
    i=0
    while [ $i -lt 150 ]; do $b rm "/mnt/made/file number $i"; i=$((i + 3)); done
    $b mv "/mnt/made/file number 1" /mnt/moved
    $b dd if=/dev/zero of=/mnt/zeros bs=64k count=20 2>/dev/null
}

change() {
    $b mount -t ntfs3 -o rw,iocharset=utf8 $1 /mnt || echo "GUEST: cannot mount $1"
    made
    $b mv "/mnt/Windows/System32/size 4097" "/mnt/Windows/System32/size four thousand"
    $b rm "/mnt/Windows/System32/size 300001"
    echo more >> "/mnt/Windows/lower.txt"
    $b sync
    $b umount /mnt && echo "GUEST: changed $1"
}

fill() {
    $b mount -t ntfs3 -o rw,iocharset=utf8 $1 /mnt || echo "GUEST: cannot mount $1"
    made
    $b mkdir -p /mnt/a/b/c /mnt/links /mnt/empty
    $b ln /mnt/moved /mnt/links/first
    i=0
    while [ $i -lt 40 ]; do $b ln /mnt/moved "/mnt/links/a long name of a link, number $i"; i=$((i + 1)); done
    $b ln -s moved /mnt/symbolic
    $b cp /bin/busybox /mnt/a/busybox
    $b mv /mnt/a/busybox /mnt/a/b/c/program
    # Two files that grow in turns, so that their clusters are; one with a hole; one that was cut.
    i=0
    while [ $i -lt 30 ]; do
        $b dd if=/bin/busybox bs=4k count=2 skip=$i 2>/dev/null >> /mnt/turn1
        $b dd if=/bin/busybox bs=4k count=2 skip=$i 2>/dev/null >> /mnt/turn2
        i=$((i + 1))
    done
    echo end | $b dd of=/mnt/hole bs=1 seek=3000000 2>/dev/null
    $b cp /bin/busybox /mnt/cut
    $b truncate -s 70000 /mnt/cut
    i=0
    while [ $i -lt 400 ]; do echo $i > "/mnt/a/name of many, number $i"; i=$((i + 1)); done
    i=0
    while [ $i -lt 400 ]; do $b rm "/mnt/a/name of many, number $i"; i=$((i + 2)); done
    $b rmdir /mnt/empty
    $b sync
    $b umount /mnt && echo "GUEST: filled $1"
}

list /dev/vda 0
change /dev/vda
fill /dev/vdc
list /dev/vdd 2
change /dev/vdd
fill /dev/vde
echo "GUEST: done"
$b poweroff -f
"#;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

/// The directory with the modules of the payload's kernel.
fn modules(payload: &Path) -> Option<PathBuf> {
    let stage = std::fs::read_dir(payload.join("stage")).ok()?;
    let mut versions = stage.filter_map(|entry| {
        let modules = entry.ok()?.path().join("usr/lib/modules");
        Some(std::fs::read_dir(modules).ok()?.next()?.ok()?.path().join("kernel"))
    });
    versions.find(|kernel| kernel.join("fs/ntfs3/ntfs3.ko.xz").is_file())
}

/// busybox, what it is linked with, the modules and the script, packed. `None` after a loud skip.
fn initramfs(dir: &Path, payload: &Path) -> Option<PathBuf> {
    let Some(modules) = modules(payload) else {
        skipped("the payload's kernel has no module ntfs3");
        return None;
    };
    oracle("busybox")?;
    let (root, packed) = (dir.join("root"), dir.join("initramfs.cpio"));
    for name in ["proc", "dev", "mnt", "lib"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = Path::new("/bin/busybox");
    copy(busybox, &root.join("bin/busybox"));
    let linked = Command::new("ldd").arg(busybox).output().unwrap();
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')));
    }
    for module in MODULES {
        let unpacked =
            oracle("xz")?.args(["-dc"]).arg(modules.join(format!("{module}.ko.xz"))).output().unwrap();
        assert!(unpacked.status.success(), "{module}");
        let name = Path::new(module).file_name().unwrap().to_string_lossy().into_owned();
        std::fs::write(root.join(format!("lib/{name}.ko")), unpacked.stdout).unwrap();
    }
    let init = root.join("init");
    std::fs::write(&init, INIT).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&init, mode).unwrap();
    oracle("cpio")?;
    let script = "find . | cpio --quiet -o -H newc > \"$0\"";
    let status = Command::new("sh").args(["-c", script]).arg(&packed).current_dir(&root).status().unwrap();
    assert!(status.success());
    Some(packed)
}

fn bytes_of(content: &ContentRef) -> &[u8] {
    match &content.origin {
        Origin::Inline(bytes) => bytes,
        _ => &[],
    }
}

/// What sha1sum says of all files.
fn manifest(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for step in tree.walk() {
        let node = tree.node(step.entry.node);
        if let (Some(data), None) = (&node.data, &node.reparse) {
            let sha1 = <sha1::Sha1 as sha1::Digest>::digest(bytes_of(data));
            let sha1: String = sha1.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push(format!("{sha1}  .{}", step.display_path()));
        }
    }
    lines.sort();
    lines
}

#[derive(Default)]
struct Keep(Vec<(Rule, String)>);

impl CheckObserver for Keep {
    fn finding(&mut self, finding: &Finding) {
        self.0.push((finding.rule, format!("{finding} [{}]", finding.rule.name())));
    }
}

/// What ntfs3 leaves behind that no driver minds.
const HABITS: [Rule; 2] = [Rule::SecurityUnused, Rule::SparseUnit];

/// No errors, and no notes but those that are known.
fn assert_sound(bytes: &dyn ReadAt, what: &str) {
    let mut keep = Keep::default();
    let report = check(bytes, Strictness::Usual, &mut keep).unwrap();
    assert_eq!(report.errors, 0, "{what}: {:#?}", keep.0);
    let odd: Vec<_> = keep.0.iter().filter(|(rule, _)| !HABITS.contains(rule)).collect();
    assert!(odd.is_empty(), "{what}: {odd:#?}");
}

/// A disk of the machine: its file and its sectors.
struct Disk(PathBuf, SectorSize);

/// Starts the machine with these disks; what it says.
fn run(disks: &[Disk], dir: &Path) -> Option<String> {
    let (payload, mut machine) = (payload_dir()?, oracle("qemu-system-x86_64")?);
    let initramfs = initramfs(dir, &payload)?;
    machine.args(["-accel", accelerator().argument(), "-m", "512", "-nographic", "-no-reboot"]);
    machine.args(["-net", "none", "-append", "console=ttyS0 quiet panic=-1"]);
    machine.arg("-kernel").arg(payload.join("vmlinuz")).arg("-initrd").arg(&initramfs);
    for (number, Disk(path, sector)) in disks.iter().enumerate() {
        let bytes = sector.bytes();
        let drive = format!("id=disk{number},file={},format=raw,if=none,cache=unsafe", path.display());
        let device = format!(
            "virtio-blk-pci,drive=disk{number},logical_block_size={bytes},physical_block_size={bytes}"
        );
        machine.args(["-drive", &drive, "-device", &device]);
    }
    let mut running = Running::start(&mut machine, None).unwrap();
    running.wait(PATIENCE).unwrap();
    Some(running.console().text())
}

/// The list that the machine wrote at a MiB of the second disk.
fn assert_listed(list: &[u8], mib: usize, expected: &[String], what: &str) {
    let found = String::from_utf8_lossy(&list[mib << 20..(mib + 2) << 20]).into_owned();
    let mut found: Vec<&str> = found.trim_end_matches('\0').lines().collect();
    found.sort_unstable();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

#[test]
fn the_kernels_driver_reads_and_writes_our_volumes_and_fills_those_of_mkntfs() {
    use SectorSize::{Bytes512, Bytes4096};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tree = windows_tree(400);
    for (name, sector_size) in [("ours", Bytes512), ("ours 4Kn", Bytes4096)] {
        let options = VolumeOptions { sector_size, ..options(64 << 20) };
        std::fs::write(at(name), volume_with(&tree, &options, &ZeroGuide).0).unwrap();
    }
    for (name, sector) in [("theirs", "512"), ("theirs 4Kn", "4096")] {
        std::fs::File::create(at(name)).unwrap().set_len(48 << 20).unwrap();
        let Some(mut mkntfs) = oracle("mkntfs") else { return };
        let (succeeded, text) = checkers::run(mkntfs.args(["-F", "-q", "-s", sector]).arg(at(name)));
        assert!(succeeded, "{text}");
    }
    std::fs::File::create(at("list")).unwrap().set_len(4 << 20).unwrap();
    let disks = [
        ("ours", Bytes512),
        ("list", Bytes512),
        ("theirs", Bytes512),
        ("ours 4Kn", Bytes4096),
        ("theirs 4Kn", Bytes4096),
    ]
    .map(|(name, sector)| Disk(at(name), sector));
    let Some(console) = run(&disks, dir.path()) else { return };
    assert!(console.contains("GUEST: done") && !console.contains("cannot mount"), "{console}");
    assert_eq!(
        console.matches("GUEST: changed").count() + console.matches("GUEST: filled").count(),
        4,
        "{console}"
    );

    let (list, expected) = (std::fs::read(at("list")).unwrap(), manifest(&tree));
    assert!(expected.len() > 1400);
    for (name, mib) in [("ours", 0), ("ours 4Kn", 2)] {
        assert_listed(&list, mib, &expected, name);
        let bytes = std::fs::read(at(name)).unwrap();
        assert_sound(&bytes, name);
        let (volume, scan) = compare::scan(&bytes);
        let read = |path: &str| {
            let node = scan.tree.lookup(path).unwrap_or_else(|| panic!("{name}: no {path}"));
            let data = scan.tree.node(node).data.clone().unwrap();
            compare::read(&bytes, &volume, &scan.contents, &data)
        };
        assert_eq!(read("/moved"), b"content 1\n", "{name}");
        assert_eq!(read("/made/file number 149"), b"content 149\n", "{name}");
        assert_eq!(read("/zeros"), vec![0; 20 << 16], "{name}");
        assert!(read("/Windows/lower.txt").ends_with(b"more\n"), "{name}");
        assert_eq!(read("/Windows/System32/size four thousand").len(), 4097, "{name}");
        assert_eq!(scan.tree.lookup("/Windows/System32/size 300001"), None, "{name}");
        assert_eq!(scan.tree.lookup("/made/file number 147"), None, "{name}");
    }
    let program = std::fs::read("/bin/busybox").unwrap();
    for name in ["theirs", "theirs 4Kn"] {
        let bytes = std::fs::read(at(name)).unwrap();
        assert_sound(&bytes, name);
        let (volume, scan) = compare::scan(&bytes);
        let node = |path: &str| scan.tree.lookup(path).unwrap_or_else(|| panic!("{name}: no {path}"));
        let read = |path: &str| {
            let data = scan.tree.node(node(path)).data.clone().unwrap();
            compare::read(&bytes, &volume, &scan.contents, &data)
        };
        assert!(read("/a/b/c/program") == program, "{name}");
        // Two blocks from each of thirty places on.
        let turn: Vec<u8> = (0..30).flat_map(|n| program[n << 12..(n + 2) << 12].to_vec()).collect();
        assert!(read("/turn1") == turn && read("/turn2") == turn, "{name}");
        let hole = read("/hole");
        assert!(
            hole.len() == 3_000_004
                && hole.ends_with(b"end\n")
                && hole[..3_000_000].iter().all(|byte| *byte == 0)
        );
        assert!(read("/cut") == program[..70_000], "{name}");
        assert_eq!(scan.tree.link_count(node("/moved")), 42, "{name}");
        assert_eq!(scan.tree.children(node("/a")).len(), 1 + 200, "{name}");
        assert_eq!(scan.tree.lookup("/empty"), None, "{name}");
    }
    // Others see the same.
    for name in ["ours", "theirs", "ours 4Kn", "theirs 4Kn"] {
        checkers::check(&at(name), name);
    }
    checkers::check_with_python(&at("ours"), "ours");
    checkers::check_with_checkdisk(&at("theirs"), "theirs");
}
