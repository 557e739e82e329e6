//! Signatures, parents, and images that do not fit a machine.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use crate::support::{blank, fails, json, ok};

fn device(dir: &Path) {
    let bytes: Vec<u8> = (0..3u32 << 20).map(|at| (at / 777) as u8).collect();
    std::fs::write(dir.join("disk.img"), bytes).unwrap();
}

#[test]
fn only_what_the_key_signed_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    device(dir);
    ok(dir, &["capture", "disk.img", "d.gim", "--progress", "none"]);
    ok(dir, &["capture", "disk.img", "s.gim/", "d", "--progress", "none"]);
    ok(dir, &["image", "key", "a.key"]);
    ok(dir, &["image", "key", "b.key"]);
    let (code, error) = fails(dir, &["image", "key", "a.key"]);
    assert!(code != 0 && error.contains("a.key"), "{error}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(dir.join("a.key")).unwrap().permissions().mode() & 0o777, 0o600);
    for image in ["d.gim", "s.gim/#d"] {
        let (code, error) = fails(dir, &["verify", image, "--trust", "a.key.pub"]);
        assert!(code == 4 && error.contains("not signed"), "{error}");
        let before = json(dir, &["info", image]);
        let signed = json(dir, &["image", "sign", image, "--key", "a.key"]);
        let after = json(dir, &["info", image]);
        assert_eq!((&before["id"], &signed["id"]), (&after["id"], &after["id"]));
        assert_eq!(after["signed_by"], signed["key"]);
        ok(dir, &["verify", image, "--trust", "a.key.pub", "--progress", "none"]);
        let (code, error) = fails(dir, &["apply", image, "new.img", "--trust", "b.key.pub"]);
        assert!(code == 4 && error.contains("signed by key"), "{error}");
        assert!(!dir.join("new.img").exists());
        ok(dir, &["apply", image, "new.img", "--trust", "a.key.pub", "--progress", "none"]);
        assert!(std::fs::read(dir.join("new.img")).unwrap() == std::fs::read(dir.join("disk.img")).unwrap());
        std::fs::remove_file(dir.join("new.img")).unwrap();
        // Signed anew, the other key counts.
        ok(dir, &["image", "sign", image, "--key", "b.key"]);
        ok(dir, &["verify", image, "--trust", "b.key.pub", "--progress", "none"]);
    }
    // The signature of one image is none of another.
    std::fs::write(dir.join("other.img"), vec![3; 1 << 20]).unwrap();
    ok(dir, &["capture", "other.img", "o.gim", "--progress", "none"]);
    ok(dir, &["image", "sign", "o.gim", "--key", "b.key"]);
    let (code, error) = fails(dir, &["verify", "x.wim", "--trust", "b.key.pub"]);
    assert!(code == 2 && error.contains("--trust"), "{error}");
    ok(dir, &["optimize", "s.gim/"]);
    ok(dir, &["verify", "s.gim/#d", "--trust", "b.key.pub", "--progress", "none"]);
}

#[test]
fn an_image_knows_what_it_was_made_after() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    device(dir);
    let first = json(dir, &["capture", "disk.img", "s.gim/", "d"]);
    std::fs::write(dir.join("disk.img"), vec![9; 2 << 20]).unwrap();
    let second = json(dir, &["capture", "disk.img", "s.gim/", "d", "--replace"]);
    assert_ne!(first["id"], second["id"]);
    assert_eq!(json(dir, &["info", "s.gim/#d"])["facts"]["parent"], first["id"]);
    ok(dir, &["capture", "disk.img", "x.gim", "--parent", "s.gim/#d", "--progress", "none"]);
    assert_eq!(json(dir, &["info", "x.gim"])["facts"]["parent"], second["id"]);
}

pub(crate) fn inventory(dir: &Path, name: &str, product: &str, class: u32, mode: &str) {
    let document = serde_json::json!({
        "version": 1,
        "firmware": {"mode": mode, "secure_boot": null, "setup_mode": null},
        "smbios": {"version": null, "bios": {"vendor": null, "version": null, "date": null, "release": null},
            "system": {"manufacturer": "Maker", "product": product, "version": null, "serial": null, "uuid": null,
                "sku": null, "family": null},
            "board": {"manufacturer": null, "product": null, "version": null, "serial": null},
            "chassis": {"manufacturer": null, "type_code": null, "serial": null, "asset_tag": null}},
        "cpu": {"model": null, "vendor": null, "packages": 1, "cores": 1, "threads": 1, "architecture": "x86_64"},
        "memory": {"usable_bytes": 0, "installed_bytes": 0, "modules": []},
        "disks": [{"name": "sda", "model": null, "serial": null, "wwn": null, "size_bytes": 250_000_000_000u64,
            "logical_sector_bytes": 512, "physical_sector_bytes": 4096, "rotational": false, "removable": false,
            "read_only": false, "transport": null, "in_use": [], "content": []}],
        "nics": [],
        "pci": [{"address": "0000:00:17.0", "vendor": 0x8086, "device": 0x1234, "subsystem_vendor": 0,
            "subsystem_device": 0, "class": class, "revision": 0, "driver": null}],
        "usb": []
    });
    std::fs::create_dir_all(dir.join("lab")).unwrap();
    std::fs::write(dir.join("lab").join(name), document.to_string()).unwrap();
}

/// What a technician is told of a fleet: what to take for all, and for each kind of machine, why, and what to look out for.
#[test]
fn advice_for_a_mixed_fleet_is_given_kind_by_kind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let machines = [
        ("a1", "Desk 5", 0x01_0802, "uefi", 256, 512),
        ("a2", "Desk 5", 0x01_0802, "uefi", 512, 4096),
        ("a3", "Desk 5", 0x01_0802, "uefi", 256, 4096),
        ("b1", "Old 1", 0x01_0601, "bios", 500, 512),
        ("b2", "Old 2", 0x01_0601, "bios", 500, 512),
        ("c1", "Old 1", 0x01_0601, "bios", 4000, 4096),
    ];
    for (name, product, class, mode, gigabytes, sector) in machines {
        let name = format!("{name}.json");
        inventory(dir, &name, product, class, mode);
        let path = dir.join("lab").join(&name);
        let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        document["disks"][0]["size_bytes"] = (gigabytes * 1_000_000_000u64).into();
        document["disks"][0]["logical_sector_bytes"] = sector.into();
        std::fs::write(&path, document.to_string()).unwrap();
    }
    let expected = "\
advice: WIM
because 6 machines are of 3 kinds that do not start from the same blocks; a WIM gets the drivers and boot files of each
mind that a partition image for each kind restores faster, but is one more image to keep up to date
3 x x86_64, uefi, NVMe, sectors of 512 and 4096 bytes, smallest disk 256.0 GB: a1, a2, a3
  for these alone: partition image
  because 3 machines are alike: a partition image is the quickest, and a re-deploy moves only what differs
  mind that disks of 256000000000 to 512000000000 bytes: capture on the smallest, a1; on larger ones the last partition is moved and grown
  mind that sectors of 512 bytes (a1) and of 4096 bytes (a2, a3): table and boot sectors are converted, volumes that cannot be are laid out anew, file by file; a disk with BitLocker, LUKS, LVM or exFAT is refused where sectors differ from the source's
2 x x86_64, bios, AHCI, sectors of 512 bytes, smallest disk 500.0 GB: b1, b2
  for these alone: partition image
  because 2 models with the same firmware and controller: one image starts on all of them
  mind that drivers of other devices differ between models: have plans put them into the restored Windows, or take a WIM
1 x x86_64, bios, AHCI, sectors of 4096 bytes, smallest disk 4.0 TB: c1
  for these alone: partition image
  because there is one machine of this kind: a partition image is the quickest, and a re-deploy moves only what differs
";
    assert_eq!(ok(dir, &["image", "advise", "--group", "lab"]), expected);
    let told = json(dir, &["image", "advise", "--group", "lab"]);
    assert_eq!(told["groups"][0]["image"], "partition");
    assert_eq!(told["groups"][0]["cautions"].as_array().unwrap().len(), 2);
    // Of one kind nothing is said twice.
    let alone = ok(dir, &["image", "advise", "--group", "lab/b1.json", "lab/b2.json"]);
    assert!(alone.starts_with("advice: partition image\nbecause 2 models"), "{alone}");
    assert_eq!(alone.matches("2 models").count(), 1, "{alone}");
    // Only the sector size keeps these apart, for a BIOS.
    let apart = ok(dir, &["image", "advise", "--group", "lab/b1.json", "lab/c1.json"]);
    assert!(apart.starts_with("advice: WIM\nbecause 2 machines are of 2 kinds"), "{apart}");
}

#[test]
fn machines_that_are_too_far_from_the_source_are_refused_and_advice_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    inventory(dir, "pc1.json", "A", 0x01_0802, "uefi");
    inventory(dir, "pc2.json", "A", 0x01_0802, "uefi");
    let advice = json(dir, &["image", "advise", "--group", "lab"]);
    assert_eq!(
        (&advice["image"], advice["groups"].as_array().unwrap().len()),
        (&"partition".into(), 1),
        "{advice}"
    );
    inventory(dir, "pc3.json", "B", 0x01_0400, "bios");
    let advice = json(dir, &["image", "advise", "--group", "lab"]);
    assert_eq!(
        (&advice["image"], advice["groups"].as_array().unwrap().len()),
        (&"wim".into(), 2),
        "{advice}"
    );
    assert!(
        ok(dir, &["image", "advise", "--group", "lab/pc1.json", "lab/pc3.json"])
            .starts_with("advice: WIM\nbecause ")
    );
    let (code, error) = fails(dir, &["image", "advise", "--group", "."]);
    assert!(code == 3, "{error}");

    // A disk, as only a whole one depends on the firmware.
    blank(dir, "disk.img", 8 << 20);
    std::fs::write(dir.join("script"), "label: gpt\nstart=2048, size=4096\n").unwrap();
    let Some(mut sfdisk) = gravure_testkit::oracle("sfdisk") else { return };
    let script = std::fs::File::open(dir.join("script")).unwrap();
    assert!(sfdisk.args(["-q", "disk.img"]).stdin(script).current_dir(dir).status().unwrap().success());
    ok(dir, &["capture", "disk.img", "d.gim", "--machine", "lab/pc1.json", "--progress", "none"]);
    let hardware = &json(dir, &["info", "d.gim"])["facts"]["hardware"];
    assert_eq!((&hardware["firmware"], &hardware["product"]), (&"uefi".into(), &"A".into()));
    let (code, error) = fails(dir, &["apply", "d.gim", "new.img", "--machine", "lab/pc3.json"]);
    assert!(code == 4 && error.contains("firmware") && error.contains("--any-hardware"), "{error}");
    assert!(!dir.join("new.img").exists());
    ok(
        dir,
        &["apply", "d.gim", "new.img", "--machine", "lab/pc3.json", "--any-hardware", "--progress", "none"],
    );
    ok(dir, &["apply", "d.gim", "new2.img", "--machine", "lab/pc2.json", "--progress", "none"]);
    let judged = json(dir, &["image", "advise", "--group", "lab/pc3.json", "--image", "d.gim"]);
    assert_eq!(judged["image"], "wim");
    assert!(judged["reasons"].to_string().contains("pc3: firmware"), "{judged}");
}
