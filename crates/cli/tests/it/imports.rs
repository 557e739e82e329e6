//! Images of other programs become ours, with the programs themselves: partclone, sfdisk, sgdisk, qemu-img; and ours become theirs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use gravure_testkit::oracle;

use crate::support::{blank, contents, fails, files, foreign, json, ok};

const MIB: u64 = 1 << 20;

fn mkfs(dir: &Path, name: &str, size: u64) -> Option<()> {
    files(dir, "tree");
    blank(dir, name, size);
    foreign(dir, "mkfs.ext4", &["-q", "-F", "-b", "4096", "-L", "data", "-d", "tree", name]).map(drop)
}

/// The files of an ext4 file system, through its own tools.
fn assert_files(dir: &Path, image: &str, offset: u64) {
    let name = format!("{image}?offset={offset}");
    let target = format!("out-{image}");
    std::fs::create_dir_all(dir.join(&target)).unwrap();
    let wanted = format!("rdump / {target}");
    foreign(dir, "debugfs", &["-R", &wanted, &name]).unwrap();
    let _ = std::fs::remove_dir_all(dir.join(&target).join("lost+found"));
    // debugfs keeps no times of directories.
    assert_eq!(contents(&dir.join("tree")), contents(&dir.join(&target)));
    std::fs::remove_dir_all(dir.join(&target)).unwrap();
}

fn partclone(dir: &Path, arguments: &[&str]) -> Option<()> {
    foreign(dir, "partclone.ext4", arguments).map(drop)
}

fn shell(dir: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(dir).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn images_of_partclone_in_every_wrapping() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if mkfs(dir, "fs.img", 24 * MIB).is_none() {
        return;
    }
    for (name, options) in
        [("plain.pc", &["-a1"][..]), ("none.pc", &["-a0"]), ("odd.pc", &["-a1", "-K", "-k", "7"])]
    {
        let arguments = [&["-c", "-q"][..], options, &["-s", "fs.img", "-o", name]].concat();
        if partclone(dir, &arguments).is_none() {
            return;
        }
    }
    shell(
        dir,
        "gzip -c plain.pc > x.gz; zstd -q -c plain.pc > x.zst; gzip -c plain.pc | split -b 100000 - y.img.gz.",
    );
    shell(dir, "split -b 300000 -d -a 3 plain.pc z.img.");
    for source in ["plain.pc", "none.pc", "odd.pc", "x.gz", "x.zst", "y.img.gz.aa", "z.img.000"] {
        let imported = json(dir, &["image", "import", source, "i.gim"]);
        assert_eq!(
            (&imported["kind"], &imported["size_bytes"]),
            (&"partclone".into(), &(24 * MIB).into()),
            "{source}"
        );
        ok(dir, &["apply", "i.gim", "back.img", "--progress", "none"]);
        foreign(dir, "e2fsck", &["-fn", "back.img"]);
        assert_files(dir, "back.img", 0);
        std::fs::remove_file(dir.join("back.img")).unwrap();
        std::fs::remove_file(dir.join("i.gim")).unwrap();
    }
    // The same chunks as a capture of the file system itself.
    ok(dir, &["capture", "fs.img", "s.gim/", "own", "--progress", "none"]);
    let imported = json(dir, &["image", "import", "plain.pc", "s.gim/#theirs"]);
    assert!(imported["new_bytes"].as_u64().unwrap() < MIB, "{imported}");

    let mut bytes = std::fs::read(dir.join("plain.pc")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(dir.join("bad.pc"), &bytes).unwrap();
    let (code, error) = fails(dir, &["image", "import", "bad.pc", "s.gim/#bad"]);
    assert!(code == 5 && error.contains("blocks") && error.contains("CRC"), "{error}");
    std::fs::write(dir.join("cut.pc"), &bytes[..middle]).unwrap();
    let (code, error) = fails(dir, &["image", "import", "cut.pc", "s.gim/#cut"]);
    assert!(code == 5, "{error}");
    assert!(!ok(dir, &["ls", "s.gim/"]).contains("bad"));
}

/// What Clonezilla may wrap images in, by the programs that it calls; several streams behind each other, as parallel ones write them.
#[test]
fn streams_of_xz_lzma_lz4_and_bzip2() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if ["xz", "lz4", "bzip2"].iter().any(|program| oracle(program).is_none())
        || mkfs(dir, "fs.img", 24 * MIB).is_none()
        || partclone(dir, &["-c", "-q", "-a1", "-s", "fs.img", "-o", "plain.pc"]).is_none()
    {
        return;
    }
    shell(dir, "head -c 300000 plain.pc > first; tail -c +300001 plain.pc > second");
    for (program, name) in [
        ("xz -1", "x.xz"),
        ("lz4 -q", "x.lz4"),
        ("lz4 -q -B4 -BD --content-size", "l.lz4"),
        ("bzip2", "x.bz2"),
    ] {
        shell(
            dir,
            &format!(
                "{program} -c plain.pc > {name}; {program} -c first > two.{name}; {program} -c second >> two.{name}"
            ),
        );
    }
    shell(dir, "xz -1 --format=lzma -c plain.pc > x.lzma; bzip2 -c plain.pc | split -b 100000 - p.img.bz2.");
    let plain = std::fs::read(dir.join("plain.pc")).unwrap();
    ok(dir, &["image", "import", "plain.pc", "s.gim/#plain"]);
    let wanted = json(dir, &["info", "s.gim/#plain"])["tree"].clone();
    for source in [
        "x.xz",
        "two.x.xz",
        "x.lz4",
        "two.x.lz4",
        "l.lz4",
        "two.l.lz4",
        "x.bz2",
        "two.x.bz2",
        "x.lzma",
        "p.img.bz2.aa",
    ] {
        let imported = json(dir, &["image", "import", source, &format!("s.gim/#{source}")]);
        assert_eq!(imported["kind"], "partclone", "{source}");
        assert_eq!(json(dir, &["info", &format!("s.gim/#{source}")])["tree"], wanted, "{source}");
    }
    // Cut or damaged, nothing comes of it.
    for name in ["x.xz", "x.lz4", "x.bz2", "x.lzma"] {
        let mut bytes = std::fs::read(dir.join(name)).unwrap();
        assert!(bytes.len() < plain.len());
        let middle = bytes.len() / 2;
        std::fs::write(dir.join("cut"), &bytes[..middle]).unwrap();
        let (code, error) = fails(dir, &["image", "import", "cut", "s.gim/#cut"]);
        assert!(code == 5, "{name}: {error}");
        bytes[middle] ^= 0x10;
        std::fs::write(dir.join("bad"), &bytes).unwrap();
        let (code, error) = fails(dir, &["image", "import", "bad", "s.gim/#bad"]);
        assert!(code == 5, "{name}: {error}");
    }
}

#[test]
fn an_image_with_an_unreplayed_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if mkfs(dir, "fs.img", 24 * MIB).is_none() {
        return;
    }
    // A journal with a transaction, as a crash leaves it; partclone makes an image of it without a word.
    std::fs::write(dir.join("cmd"), "journal_open\njournal_write -b 4000 README.block\njournal_close\n")
        .unwrap();
    std::fs::write(dir.join("README.block"), vec![7; 4096]).unwrap();
    foreign(dir, "debugfs", &["-w", "-f", "cmd", "fs.img"]);
    let probe = json(dir, &["disk", "probe", "fs.img"]);
    assert!(probe.to_string().contains("replay"), "{probe}");
    if partclone(dir, &["-c", "-q", "-a1", "-s", "fs.img", "-o", "x.pc"]).is_none() {
        return;
    }
    let (code, error) = fails(dir, &["image", "import", "x.pc", "i.gim"]);
    assert!(code == 4 && error.contains("not unmounted cleanly"), "{error}");
    assert!(!dir.join("i.gim").exists());
    // Kept byte for byte it is what it was.
    ok(dir, &["image", "import", "x.pc", "i.gim", "--raw"]);
    // Of the file system itself nothing is lost: its journal is replayed.
    ok(dir, &["capture", "fs.img", "own.gim", "--progress", "none"]);
}

/// A disk of 64 MiB with an ext4 partition and swap; GPT or MBR.
fn disk(dir: &Path, label: &str) -> Option<()> {
    mkfs(dir, "fs.img", 24 * MIB)?;
    blank(dir, "disk.img", 64 * MIB);
    let kinds = if label == "gpt" {
        ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F")
    } else {
        ("83", "82")
    };
    let script = format!(
        "label: {label}\nstart=2048, size=49152, type={}\nstart=51200, size=20480, type={}\n",
        kinds.0, kinds.1
    );
    std::fs::write(dir.join("script"), script).unwrap();
    oracle("sfdisk")?;
    shell(dir, "sfdisk -q disk.img < script; dd if=fs.img of=disk.img bs=1M seek=1 conv=notrunc status=none");
    shell(
        dir,
        "truncate -s 10M swap.img; mkswap -q -U 11111111-2222-3333-4444-555555555555 -L pages swap.img >/dev/null 2>&1",
    );
    shell(dir, "dd if=swap.img of=disk.img bs=512 seek=51200 conv=notrunc status=none");
    Some(())
}

/// What `sfdisk -d` says, with the names that the devices had.
fn dump(dir: &Path) -> String {
    let output = foreign(dir, "sfdisk", &["-d", "disk.img"]).unwrap();
    String::from_utf8(output.stdout).unwrap().replace("disk.img", "/dev/sda")
}

fn check_disk(dir: &Path, image: &str, label: &str) {
    let info = json(dir, &["info", image]);
    let volumes = info["facts"]["volumes"].as_array().unwrap();
    assert_eq!(info["facts"]["table"]["kind"], label);
    assert_eq!(
        (volumes[0]["content"].as_str(), volumes[1]["content"].as_str()),
        (Some("ext4"), Some("swap"))
    );
    assert_eq!(
        volumes[1]["uuid"].as_str().map(str::to_lowercase).as_deref(),
        Some("11111111-2222-3333-4444-555555555555")
    );
    ok(dir, &["apply", image, "back.img", "--progress", "none"]);
    let table = |name: &str| {
        let output = foreign(dir, "sfdisk", &["-d", name]).unwrap();
        String::from_utf8(output.stdout).unwrap().replace(name, "X")
    };
    assert_eq!(table("back.img"), table("disk.img"));
    if label == "gpt" {
        let verified = foreign(dir, "sgdisk", &["-v", "back.img"]).unwrap();
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(said.contains("No problems found"), "{said}");
    }
    assert_files(dir, "back.img", MIB);
    std::fs::remove_file(dir.join("back.img")).unwrap();
}

#[test]
fn folders_of_clonezilla() {
    for label in ["gpt", "dos"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        if disk(dir, label).is_none() {
            return;
        }
        let folder = dir.join("cz");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("disk"), "sda\n").unwrap();
        std::fs::write(folder.join("parts"), "sda1 sda2\n").unwrap();
        std::fs::write(folder.join("clonezilla-img"), "saved by a test\n").unwrap();
        std::fs::write(folder.join("sda-pt.sf"), dump(dir)).unwrap();
        let parted = "Model: test\nDisk /dev/sda: 131072s\nSector size (logical/physical): 512B/512B\n";
        std::fs::write(folder.join("sda-pt.parted"), parted).unwrap();
        let info = "UUID=\"11111111-2222-3333-4444-555555555555\"\nLABEL=\"pages\"\n";
        std::fs::write(folder.join("swappt-sda2.info"), info).unwrap();
        shell(dir, "dd if=disk.img of=cz/sda-mbr bs=512 count=1 status=none");
        shell(dir, "dd if=disk.img of=cz/sda-hidden-data-after-mbr skip=1 bs=512 count=2047 status=none");
        if label == "gpt" {
            shell(dir, "dd if=disk.img of=cz/sda-gpt-1st bs=512 count=34 status=none");
            shell(dir, "tail -c 16896 disk.img > cz/sda-gpt-2nd");
        }
        if partclone(dir, &["-c", "-q", "-a1", "-s", "fs.img", "-o", "fs.pc"]).is_none() {
            return;
        }
        shell(dir, "gzip -c fs.pc | split -b 20000 - cz/sda1.ext4-ptcl-img.gz.");
        let imported = json(dir, &["image", "import", "cz", "s.gim/"]);
        assert_eq!((&imported["kind"], &imported["image"]), (&"Clonezilla".into(), &"s.gim/#cz".into()));
        check_disk(dir, "s.gim/#cz", if label == "dos" { "mbr" } else { label });
        // What is missing is named, and nothing comes into the store.
        std::fs::remove_file(folder.join("sda1.ext4-ptcl-img.gz.ab")).unwrap();
        let (code, error) = fails(dir, &["image", "import", "cz", "s.gim/#cut"]);
        assert!(code == 5, "{code} {error}");
        shell(dir, "rm cz/sda1.*");
        let (code, error) = fails(dir, &["image", "import", "cz", "s.gim/#none"]);
        assert!(code == 3 && error.contains("an image of sda1"), "{error}");
    }
}

#[test]
fn folders_of_fog() {
    for label in ["gpt", "dos"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        if disk(dir, label).is_none() {
            return;
        }
        let folder = dir.join("fog");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("d1.partitions"), dump(dir)).unwrap();
        std::fs::write(folder.join("d1.original.swapuuids"), "2 11111111-2222-3333-4444-555555555555\n")
            .unwrap();
        if label == "gpt" {
            foreign(dir, "sgdisk", &["-b", "fog/d1.mbr", "disk.img"]);
        } else {
            shell(dir, "dd if=disk.img of=fog/d1.mbr bs=512 count=2048 status=none");
            std::fs::write(folder.join("d1.size"), "1:67108864\n").unwrap();
        }
        if partclone(dir, &["-c", "-q", "-a0", "-s", "fs.img", "-o", "fs.pc"]).is_none() {
            return;
        }
        shell(dir, "zstd -q -c fs.pc > fog/d1p1.img");
        let imported = json(dir, &["image", "import", "fog", "fog.gim"]);
        assert_eq!(imported["kind"], "FOG");
        check_disk(dir, "fog.gim", if label == "dos" { "mbr" } else { label });
    }
}

#[test]
fn virtual_disks_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if disk(dir, "gpt").is_none() {
        return;
    }
    let own = json(dir, &["capture", "disk.img", "s.gim/", "own"]);
    for (format, file) in [("qcow2", "x.qcow2"), ("vpc", "x.vhd"), ("vhdx", "x.vhdx")] {
        let options: &[&str] = if format == "vpc" { &["-o", "force_size=on"] } else { &[] };
        let arguments = [&["convert", "-f", "raw", "-O", format][..], options, &["disk.img", file]].concat();
        if foreign(dir, "qemu-img", &arguments).is_none() {
            return;
        }
        let imported = json(dir, &["image", "import", file, "s.gim/"]);
        assert_eq!(imported["tree"], own["tree"], "{file}");
        assert_eq!(imported["new_bytes"], 0, "{file}: {imported}");
        ok(dir, &["delete", "s.gim/#x"]);
    }
    for (file, format) in [("y.raw", "raw"), ("y.qcow2", "qcow2"), ("y.vhdx", "vhdx")] {
        let exported = json(dir, &["image", "export", "s.gim/#own", file]);
        assert_eq!(exported["form"], format);
        assert!(exported["data_bytes"].as_u64().unwrap() < 24 * MIB, "{exported}");
        // What is free reads as zeros in both, as the disk was made so.
        foreign(dir, "qemu-img", &["compare", "-f", "raw", "-F", format, "disk.img", file]);
    }
    foreign(dir, "qemu-img", &["check", "-q", "y.qcow2"]);
    let (code, error) = fails(dir, &["image", "export", "s.gim/#own", "y.raw"]);
    assert!(code == 4 && error.contains("--replace"), "{error}");
    let (code, error) = fails(dir, &["image", "export", "s.gim/#own", "y.iso"]);
    assert!(code == 2 && error.contains("--to"), "{error}");
}

#[test]
fn an_encrypted_disk_is_taken_in_with_its_key_and_says_which_machine_it_is_of() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if mkfs(dir, "fs.img", 24 * MIB).is_none() {
        return;
    }
    let luks = [
        "convert",
        "-f",
        "raw",
        "-O",
        "luks",
        "--object",
        "secret,id=s,data=1234",
        "-o",
        "key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=xts",
        "fs.img",
        "luks.img",
    ];
    let Some(mut qemu) = oracle("qemu-img") else { return };
    qemu.args(luks).current_dir(dir);
    // It measures the processor first, which a busy machine does not let it every time.
    assert!((0..20).any(|_| qemu.status().unwrap().success()));
    foreign(dir, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "luks.img", "luks.qcow2"]);
    std::fs::write(dir.join("key"), "1234\n").unwrap();
    std::fs::write(dir.join("other"), "4321\n").unwrap();
    crate::signatures::inventory(dir, "pc1.json", "A", 0x01_0802, "uefi");
    for (source, kind) in [("luks.img", "raw"), ("luks.qcow2", "qcow2")] {
        let (code, error) = fails(dir, &["image", "import", source, "x.gim"]);
        assert!(code == 4 && error.contains("encrypted") && error.contains("--key-file"), "{error}");
        let (code, error) = fails(dir, &["image", "import", source, "x.gim", "--key-file", "other"]);
        assert!(code == 4 && error.contains("the key fits none of"), "{error}");
        assert!(!dir.join("x.gim").exists());
        let arguments = [
            "image",
            "import",
            source,
            "x.gim",
            "--key-file",
            "other",
            "--key-file",
            "key",
            "--machine",
            "lab/pc1.json",
        ];
        let imported = json(dir, &arguments);
        assert_eq!(imported["kind"], kind);
        assert!(imported["notes"].to_string().contains("the source is encrypted (LUKS)"), "{imported}");
        let facts = &json(dir, &["info", "x.gim"])["facts"];
        assert_eq!(
            (&facts["volumes"][0]["content"], &facts["volumes"][0]["label"]),
            (&"ext4".into(), &"data".into())
        );
        assert_eq!(
            (&facts["hardware"]["firmware"], &facts["hardware"]["product"]),
            (&"uefi".into(), &"A".into())
        );
        ok(dir, &["apply", "x.gim", "back.img", "--progress", "none"]);
        foreign(dir, "e2fsck", &["-fn", "back.img"]);
        assert_files(dir, "back.img", 0);
        std::fs::remove_file(dir.join("back.img")).unwrap();
        std::fs::remove_file(dir.join("x.gim")).unwrap();
    }
    let (code, error) = fails(dir, &["image", "import", "luks.img", "x.gim", "--key-file", "key", "--raw"]);
    assert!(code == 2, "{error}");
    // Files are of no machine.
    ok(dir, &["capture", "tree", "files.wim", "--progress", "none"]);
    let (code, error) = fails(dir, &["image", "import", "files.wim", "x.gim", "--machine", "lab/pc1.json"]);
    assert!(code == 2 && error.contains("are for images of disks"), "{error}");
}

#[test]
fn images_are_looked_into_without_being_restored() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if disk(dir, "gpt").is_none() {
        return;
    }
    ok(dir, &["capture", "disk.img", "d.gim", "--progress", "none"]);
    ok(dir, &["capture", "fs.img", "s.gim/", "fs", "--progress", "none"]);
    let names = |listed: &serde_json::Value| -> Vec<String> {
        listed.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let root = json(dir, &["ls", "d.gim:1/"]);
    assert_eq!(names(&root), ["README", "lost+found", "sub"]);
    assert_eq!((&root[0]["kind"], &root[0]["size_bytes"]), (&"file".into(), &5.into()));
    let sub = names(&json(dir, &["ls", "d.gim:1/sub/deeper"]));
    assert!(sub.contains(&"file23".to_owned()) && sub.len() == 12, "{sub:?}");
    assert_eq!(json(dir, &["ls", "d.gim:1", "/sub/deeper"]), json(dir, &["ls", "s.gim/#fs:/sub/deeper"]));
    let (code, error) = fails(dir, &["ls", "d.gim:1/none"]);
    assert!(code == 3 && error.contains("/none"), "{error}");
    let (code, error) = fails(dir, &["ls", "d.gim:2/"]);
    assert!(code == 9 && error.contains("swap"), "{error}");
    let (code, error) = fails(dir, &["ls", "d.gim:7/"]);
    assert!(code == 3 && error.contains("partition 7"), "{error}");

    // NTFS and FAT.
    blank(dir, "n.img", 16 * MIB);
    if foreign(dir, "mkntfs", &["-Q", "-F", "-q", "n.img"]).is_some() {
        ok(dir, &["capture", "n.img", "n.gim", "--progress", "none"]);
        assert!(!names(&json(dir, &["ls", "n.gim:/"])).contains(&"README".to_owned()));
    }
    blank(dir, "f.img", 16 * MIB);
    if foreign(dir, "mkfs.fat", &["f.img"]).is_some()
        && foreign(dir, "mcopy", &["-i", "f.img", "-s", "tree/sub", "::"]).is_some()
    {
        ok(dir, &["capture", "f.img", "f.gim", "--progress", "none"]);
        assert_eq!(names(&json(dir, &["ls", "f.gim:/"])), ["sub"]);
        assert!(names(&json(dir, &["ls", "f.gim:/sub"])).contains(&"file0".to_owned()));
    }
}
