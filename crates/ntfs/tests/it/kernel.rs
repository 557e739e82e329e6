//! The kernel's own driver (ntfs3 of Linux 6.12) in a virtual machine: reads every name and content of a volume of ours, then writes to it,
//! after which it is as sound as before.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gravure_ntfs::{CheckObserver, Finding, Strictness, check};
use gravure_testkit::{Running, accelerator, oracle, payload_dir, skipped};
use gravure_tree::{ContentRef, Origin, Tree};

use crate::support::{ZeroGuide, compare, options, volume_with, windows_tree};

/// A machine that is emulated beside others takes minutes to start.
const PATIENCE: Duration = Duration::from_secs(600);
const MODULES: [&str; 3] = ["drivers/block/virtio_blk", "fs/nls/nls_utf8", "fs/ntfs3/ntfs3"];

/// Lists contents to the second disk, then changes the first one.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in virtio_blk nls_utf8 ntfs3; do $b insmod /lib/$module.ko; done
$b mount -t ntfs3 -o ro,iocharset=utf8 /dev/vda /mnt || echo "GUEST: cannot mount read-only"
cd /mnt
$b find . -type f -print0 | $b sort -z | $b xargs -0 $b sha1sum > /manifest
cd /
$b umount /mnt
$b dd if=/manifest of=/dev/vdb bs=64k conv=sync 2>/dev/null
$b mount -t ntfs3 -o rw,iocharset=utf8 /dev/vda /mnt || echo "GUEST: cannot mount"
$b mkdir /mnt/made
i=0
while [ $i -lt 150 ]; do echo "content $i" > "/mnt/made/file number $i"; i=$((i + 1)); done
i=0
while [ $i -lt 150 ]; do $b rm "/mnt/made/file number $i"; i=$((i + 3)); done
$b mv "/mnt/made/file number 1" /mnt/moved
$b mv "/mnt/Windows/System32/size 4097" "/mnt/Windows/System32/size four thousand"
$b rm "/mnt/Windows/System32/size 300001"
echo more >> "/mnt/Windows/lower.txt"
$b dd if=/dev/zero of=/mnt/zeros bs=64k count=20 2>/dev/null
$b sync
$b umount /mnt && echo "GUEST: done"
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
struct Keep(Vec<String>);

impl CheckObserver for Keep {
    fn finding(&mut self, finding: &Finding) {
        self.0.push(format!("{finding} [{}]", finding.rule.name()));
    }
}

#[test]
fn the_kernels_driver_reads_and_writes_our_volumes() {
    let (Some(payload), Some(mut machine)) = (payload_dir(), oracle("qemu-system-x86_64")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(initramfs) = initramfs(dir.path(), &payload) else { return };
    let tree = windows_tree(400);
    let (disk, list) = (dir.path().join("volume.ntfs"), dir.path().join("manifest"));
    std::fs::write(&disk, volume_with(&tree, &options(64 << 20), &ZeroGuide).0).unwrap();
    std::fs::File::create(&list).unwrap().set_len(4 << 20).unwrap();
    machine.args([
        "-accel",
        accelerator().argument(),
        "-m",
        "512",
        "-nographic",
        "-no-reboot",
        "-net",
        "none",
    ]);
    machine.arg("-kernel").arg(payload.join("vmlinuz")).arg("-initrd").arg(&initramfs);
    machine.args(["-append", "console=ttyS0 quiet panic=-1"]);
    for path in [&disk, &list] {
        let drive = format!("file={},format=raw,if=virtio,cache=unsafe", path.display());
        machine.arg("-drive").arg(drive);
    }
    let mut running = Running::start(&mut machine, None).unwrap();
    running.wait(PATIENCE).unwrap();
    let console = running.console().text();
    assert!(console.contains("GUEST: done") && !console.contains("cannot mount"), "{console}");

    let found = std::fs::read(&list).unwrap();
    let found = String::from_utf8_lossy(&found).into_owned();
    let mut found: Vec<&str> = found.trim_end_matches('\0').lines().collect();
    found.sort_unstable();
    let expected = manifest(&tree);
    assert!(expected.len() > 1400);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());

    let bytes = std::fs::read(&disk).unwrap();
    let mut keep = Keep::default();
    let report = check(&bytes, Strictness::Usual, &mut keep).unwrap();
    assert_eq!(report.errors, 0, "{:#?}", keep.0);
    let (volume, scan) = compare::scan(&bytes);
    let read = |path: &str| {
        let node = scan.tree.lookup(path).unwrap_or_else(|| panic!("no {path}"));
        let data = scan.tree.node(node).data.clone().unwrap();
        compare::read(&bytes, &volume, &scan.contents, &data)
    };
    assert_eq!(read("/moved"), b"content 1\n");
    assert_eq!(read("/made/file number 149"), b"content 149\n");
    assert_eq!(read("/zeros"), vec![0; 20 << 16]);
    assert!(read("/Windows/lower.txt").ends_with(b"more\n"));
    assert_eq!(read("/Windows/System32/size four thousand").len(), 4097);
    assert_eq!(scan.tree.lookup("/Windows/System32/size 300001"), None);
    assert_eq!(scan.tree.lookup("/made/file number 147"), None);
}
