//! Enumeration and busy detection on made-up `/sys` and `/proc` trees, and once on the real ones.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Machine {
    _temp: tempfile::TempDir,
    roots: Roots,
}

impl Machine {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let roots =
            Roots { sys: temp.path().join("sys"), proc: temp.path().join("proc"), dev: "/dev".into() };
        let machine = Self { _temp: temp, roots };
        fs::create_dir_all(machine.roots.sys.join("block")).unwrap();
        fs::create_dir_all(machine.roots.sys.join("class/block")).unwrap();
        machine.proc("self/mountinfo", "");
        machine.proc("swaps", "Filename Type Size Used Priority\n");
        machine
    }

    fn proc(&self, leaf: &str, text: &str) {
        let path = self.roots.proc.join(leaf);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A device directory below `sys/devices` with attributes, linked as sysfs does.
    fn device(&self, below: &str, attributes: &[(&str, &str)]) {
        let dir = self.roots.sys.join("devices").join(below);
        for (leaf, value) in attributes {
            let path = dir.join(leaf);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let name = dir.file_name().unwrap();
        symlink(&dir, self.roots.sys.join("class/block").join(name)).unwrap();
        if dir.parent().unwrap().ends_with("block") {
            symlink(&dir, self.roots.sys.join("block").join(name)).unwrap();
        }
    }
}

#[test]
fn a_partition_is_on_its_disk() {
    let machine = sda();
    let on = |major, minor| disk_of(&machine.roots, DeviceNumber { major, minor });
    assert_eq!((on(8, 0).as_deref(), on(8, 2).as_deref()), (Some("sda"), Some("sda")));
    assert_eq!((on(8, 3), on(253, 0)), (None, None));
}

fn sda() -> Machine {
    let machine = Machine::new();
    let below = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda";
    machine.device(
        below,
        &[
            ("dev", "8:0\n"),
            ("size", "2097152\n"),
            ("removable", "0\n"),
            ("ro", "0\n"),
            ("queue/logical_block_size", "512\n"),
            ("queue/physical_block_size", "4096\n"),
            ("queue/rotational", "0\n"),
            ("device/model", "Samsung SSD 870 \n"),
            ("device/vendor", "ATA     \n"),
            ("device/vpd_pg80", "\0\u{80}"),
        ],
    );
    let page = [&[0, 0x80, 0, 8][..], b" S5Y1NJ "].concat();
    fs::write(machine.roots.sys.join("block/sda/device/vpd_pg80"), page).unwrap();
    for (number, start) in [(1, 2048), (2, 4096)] {
        let name = format!("{below}/sda{number}");
        let dev = format!("8:{number}\n");
        machine.device(
            &name,
            &[
                ("dev", dev.as_str()),
                ("partition", &number.to_string()),
                ("start", &start.to_string()),
                ("size", "2048"),
            ],
        );
    }
    machine
}

#[test]
fn states_what_sysfs_says() {
    let machine = sda();
    let all = disks(&machine.roots).unwrap();
    assert_eq!(all.len(), 1);
    let disk = &all[0];
    assert_eq!((disk.name.as_str(), disk.size_bytes), ("sda", 1 << 30));
    assert_eq!((disk.logical_sector_bytes, disk.physical_sector_bytes), (512, 4096));
    assert_eq!((disk.model.as_deref(), disk.serial.as_deref()), (Some("Samsung SSD 870"), Some("S5Y1NJ")));
    assert_eq!((disk.transport, disk.removable, disk.rotational), (Transport::Ata, false, false));
    let ranges: Vec<_> = disk.partitions.iter().map(|p| (p.number, p.range.clone())).collect();
    assert_eq!(ranges, [(1, 1 << 20..2 << 20), (2, 2 << 20..3 << 20)]);
    assert_eq!(disk.partitions[1].device(), Path::new("/dev/sda2"));
    assert_eq!(super::disk(&machine.roots, "sda").unwrap().as_ref(), Some(disk));
    assert_eq!(super::disk(&machine.roots, "sdz").unwrap(), None);
    assert!(super::disk(&machine.roots, "../sda").is_err());
}

#[test]
fn an_idle_disk_has_no_uses() {
    let machine = sda();
    let disk = disk(&machine.roots, "sda").unwrap().unwrap();
    assert_eq!(uses(&machine.roots, &disk).unwrap(), []);
}

#[test]
fn finds_mounts_swap_and_stacks_of_holders() {
    let machine = sda();
    machine.device("virtual/block/md0", &[("dev", "9:0\n"), ("size", "2048")]);
    machine.device("virtual/block/dm-0", &[("dev", "253:0\n"), ("size", "2048")]);
    for (held, holder) in [("sda2", "md0"), ("md0", "dm-0")] {
        let dir = machine.roots.sys.join("class/block").join(held).join("holders");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(holder), "").unwrap();
    }
    machine.proc("swaps", "Filename Type Size Used Priority\n/dev/sda1 partition 1 0 -2\n");
    machine.proc("self/mountinfo", "30 1 253:0 / /srv/a\\040b rw - ext4 /dev/mapper/x rw\n");
    let disk = disk(&machine.roots, "sda").unwrap().unwrap();
    let uses = uses(&machine.roots, &disk).unwrap();
    let text: Vec<String> = uses.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        ["sda2 is held by md0", "md0 is held by dm-0", "dm-0 is mounted on /srv/a b", "sda1 is swap space"]
    );
}

#[test]
fn a_volume_with_an_anonymous_number_is_found_by_its_source() {
    let machine = sda();
    machine.proc("self/mountinfo", "30 1 0:45 /@ / rw - btrfs /dev/sda2 rw\n");
    let disk = disk(&machine.roots, "sda").unwrap().unwrap();
    let expected = Use::Mounted { device: "sda2".into(), target: "/".into() };
    assert_eq!(uses(&machine.roots, &disk).unwrap(), [expected]);
}

#[test]
fn tells_transports_apart_by_their_place() {
    for (path, expected) in [
        ("pci0000:00/0000:00:04.0/virtio1/block/vda", Transport::Virtio),
        ("pci0000:00/0000:00:05.0/virtio2/host2/target2:0:0/2:0:0:0/block/sdb", Transport::Virtio),
        ("pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", Transport::Nvme),
        ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", Transport::Nvme),
        ("pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdc", Transport::Usb),
        ("pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001/block/mmcblk0", Transport::Mmc),
        ("pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sda", Transport::Ata),
        ("pci0000:00/0000:02:00.0/host0/target0:2:0/0:2:0:0/block/sda", Transport::Scsi),
        ("virtual/block/loop0", Transport::Virtual),
    ] {
        assert_eq!(transport(&Path::new("/sys/devices").join(path)), expected, "{path}");
    }
}

#[test]
fn serial_page_may_state_more_than_it_has() {
    assert_eq!(unit_serial(&[0, 0x80, 0, 200, b'A', b'B']), Some("AB".into()));
    assert_eq!(unit_serial(&[0, 0x83, 0, 2, b'A', b'B']), None);
    assert_eq!(unit_serial(&[0, 0x80, 0]), None);
    assert_eq!(unit_serial(&[0, 0x80, 0, 2, 0, b' ']), None);
}

#[test]
fn the_disk_below_our_own_root_is_in_use() {
    let roots = Roots::default();
    let root = mount::mounts().unwrap().into_iter().rfind(|mount| mount.target == Path::new("/")).unwrap();
    let all = disks(&roots).unwrap();
    let ours = all.iter().find(|disk| {
        disk.number == root.device || disk.partitions.iter().any(|p| p.device() == Path::new(&root.source))
    });
    let Some(ours) = ours else {
        eprintln!("SKIPPED: the root of this machine ({:?}) lies on no disk", root.source);
        return;
    };
    assert!(uses(&roots, ours).unwrap().iter().any(|entry| matches!(
        entry,
        Use::Mounted { target, .. } if target == Path::new("/")
    )));
}
