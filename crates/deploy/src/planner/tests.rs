//! Every refusal once, and one whole plan.

use gravure_model::Assurance;
use gravure_model::descriptor::{DESCRIPTOR_VERSION, DescribedImage, DescribedWindows, RANGE_BYTES};
use gravure_model::identity::{Mac, MachineSelector};
use gravure_model::inventory::{Disk, Firmware};
use gravure_model::job::{Afterwards, CaptureRequest, DiskRule, JobRequest, RestoreRequest, WindowsRequest};
use gravure_model::plan::PlannedCapture;

use super::*;

const GIB: u64 = 1 << 30;

fn job(change: impl FnOnce(&mut JobRequest)) -> Job {
    let mut request = JobRequest {
        machine: MachineSelector::Mac(Mac([2, 0, 0, 0, 0, 1])),
        image: "x.wim".into(),
        image_index: 0,
        name: "pc-{serial}".into(),
        disk: DiskRule::Only,
        assurance: Assurance::Token,
        expires: None,
        max_machines: None,
        then: Afterwards::Reboot,
        wipe: false,
        windows: None,
        capture: None,
        restore: None,
    };
    change(&mut request);
    Job { id: "j1".into(), seed: "ab".repeat(32), request, created: Timestamp(1) }
}

fn disk(name: &str, size_bytes: u64) -> Disk {
    Disk {
        name: name.into(),
        model: Some("Model".into()),
        serial: Some(format!("S-{name}")),
        size_bytes,
        logical_sector_bytes: 512,
        physical_sector_bytes: 512,
        transport: Some("virtio".into()),
        ..Disk::default()
    }
}

fn inventory(disks: Vec<Disk>) -> Inventory {
    let mut inventory = Inventory {
        firmware: Firmware { mode: FirmwareMode::Uefi, ..Firmware::default() },
        disks,
        ..Inventory::default()
    };
    inventory.smbios.system.serial = Some("XY12".into());
    inventory
}

fn image(system: SystemKind) -> CatalogImage {
    CatalogImage {
        path: "/images/x.wim".into(),
        digest: Digest([7; 32]),
        descriptor: ImageDescriptor {
            version: DESCRIPTOR_VERSION,
            format: "wim".into(),
            size_bytes: 1,
            range_bytes: RANGE_BYTES,
            ranges: vec![Digest([1; 32])],
            tables: Digest([2; 32]),
            contents_checked: true,
            images: vec![DescribedImage {
                name: "x".into(),
                system,
                file_count: 1000,
                directory_count: 10,
                content_bytes: GIB / 2,
                windows: None,
                least_disk_bytes: None,
            }],
        },
    }
}

fn request() -> PlanRequest {
    PlanRequest {
        plan: "p1".into(),
        identity: MachineIdentity::new(None, Some("XY12"), [Mac([2, 0, 0, 0, 0, 1])]),
        nonce: "n".into(),
        now: Timestamp(1_000_000),
        lifetime_seconds: 600,
        number: 1,
        confirm: None,
        drivers: Vec::new(),
        drivers_anyway: Vec::new(),
        layers: Vec::new(),
        table: std::collections::BTreeMap::new(),
    }
}

fn refused(job: &Job, inventory: &Inventory) -> String {
    plan(job, inventory, &image(SystemKind::Linux), request()).unwrap_err().to_string()
}

#[test]
fn a_whole_plan() {
    let inventory = inventory(vec![disk("vda", 20 * GIB)]);
    let made = plan(&job(|_| {}), &inventory, &image(SystemKind::Linux), request()).unwrap();
    let steps: Vec<&str> = made.steps.iter().map(Step::name).collect();
    let wanted = [
        "check_disk",
        "prepare",
        "format",
        "apply",
        "personalise",
        "install_uefi_boot",
        "verify",
        "write_table",
        "firmware_entry",
    ];
    assert_eq!(steps, wanted);
    assert_eq!(made.personality.host_name, "pc-xy12");
    assert_eq!(made.personality.machine_id.len(), 32);
    assert_eq!(made.expires, Timestamp(601_000_000));
    let again = plan(&job(|_| {}), &inventory, &image(SystemKind::Linux), request()).unwrap();
    assert_eq!(made, again);
}

#[test]
fn bios_machines_get_grubs_partition_and_no_firmware_entry() {
    let mut inventory = inventory(vec![disk("sda", 20 * GIB)]);
    inventory.firmware.mode = FirmwareMode::Bios;
    let made = plan(&job(|_| {}), &inventory, &image(SystemKind::Linux), request()).unwrap();
    let Step::Prepare { partitions } = &made.steps[1] else { panic!("{:?}", made.steps[1]) };
    let roles: Vec<_> = partitions.iter().map(|partition| partition.role).collect();
    assert_eq!(roles, [PartitionRole::BiosBoot, PartitionRole::Root]);
    assert_eq!(made.steps.last().map(Step::name), Some("write_table"));
    inventory.disks[0].logical_sector_bytes = 4096;
    assert!(
        refused(&job(|_| {}), &inventory).contains("sectors of 4096 bytes, which bios cannot start from")
    );
}

#[test]
fn an_image_of_a_disk_is_restored_as_a_whole_whatever_system_it_holds() {
    let mut blocks = image(SystemKind::Windows);
    blocks.descriptor.format = "gim".into();
    blocks.descriptor.ranges.clear();
    let mut machine = inventory(vec![disk("vda", 20 * GIB)]);
    let names = |machine: &Inventory| -> Vec<&str> {
        let made = plan(&job(|_| {}), machine, &blocks, request()).unwrap();
        made.steps.iter().map(Step::name).collect()
    };
    assert_eq!(names(&machine), ["check_disk", "restore_disk", "firmware_entry"]);
    machine.firmware.mode = FirmwareMode::Bios;
    assert_eq!(names(&machine), ["check_disk", "restore_disk"]);
    machine.disks[0].size_bytes = GIB / 4;
    let small = plan(&job(|_| {}), &machine, &blocks, request()).unwrap_err();
    assert!(matches!(small, Refusal::TooSmall { .. }), "{small}");
    blocks.descriptor.images[0].system = SystemKind::Unknown;
    assert_eq!(plan(&job(|_| {}), &machine, &blocks, request()).unwrap_err().code(), 9);
}

#[test]
fn a_restored_disk_gets_identifiers_of_its_own_unless_the_job_says_otherwise() {
    let mut blocks = image(SystemKind::Linux);
    blocks.descriptor.format = "gim".into();
    let machine = inventory(vec![disk("vda", 20 * GIB)]);
    let how = |restore: Option<RestoreRequest>| {
        let made = plan(&job(|job| job.restore = restore), &machine, &blocks, request()).unwrap();
        let Step::RestoreDisk { restore } = made.steps[1].clone() else { panic!("{:?}", made.steps[1]) };
        restore
    };
    let usual = RestoreRequest { new_ids: true, grow: true, any_hardware: false };
    assert_eq!(how(None), usual);
    let asked = RestoreRequest { new_ids: false, grow: false, any_hardware: true };
    assert_eq!(how(Some(asked.clone())), asked);
    // What is not said in a document is as usual.
    let read: RestoreRequest = serde_json::from_str(r#"{"any_hardware":true}"#).unwrap();
    assert_eq!(read, RestoreRequest { any_hardware: true, ..usual });
    let files = job(|job| job.restore = Some(asked));
    let refused = plan(&files, &machine, &image(SystemKind::Linux), request()).unwrap_err();
    assert_eq!(refused.code(), 9);
    assert!(refused.to_string().starts_with("/images/x.wim is no image of a disk"), "{refused}");
}

#[test]
fn a_windows_on_the_image_of_a_disk_gets_what_one_of_files_gets() {
    let mut blocks = image(SystemKind::Windows);
    blocks.descriptor.format = "gim".into();
    let bundle = |name: &str| PlannedBundle {
        name: name.to_owned(),
        path: format!("/bundles/{name}.wim"),
        descriptor: blocks.descriptor.clone(),
    };
    let given = PlanRequest {
        drivers: vec![bundle("vblk.inf")],
        layers: vec![bundle("school")],
        confirm: Some(Confirm { server: "https://s".into(), token: gravure_model::Secret::new("t") }),
        ..request()
    };
    let asked = |change: fn(&mut WindowsRequest)| {
        let mut windows = WindowsRequest {
            layers: vec!["school".into()],
            facts: [("ROOM".to_owned(), "B7".to_owned())].into(),
            settings: Some(gravure_model::Secret::new("owner = \"x\"")),
            publish_drivers: true,
            allow_unsigned: true,
            accept_in_use: true,
            accept_missing_drivers: true,
            ..WindowsRequest::default()
        };
        change(&mut windows);
        job(|job| job.windows = Some(windows))
    };
    for mode in [FirmwareMode::Uefi, FirmwareMode::Bios] {
        let mut machine = inventory(vec![disk("vda", 20 * GIB)]);
        machine.firmware.mode = mode;
        let made = plan(&asked(|_| {}), &machine, &blocks, given.clone()).unwrap();
        assert!(made.restores_disk());
        let windows = made.windows.unwrap();
        assert_eq!(
            (windows.drivers[0].name.as_str(), windows.layers[0].name.as_str()),
            ("vblk.inf", "school")
        );
        assert_eq!(windows.facts["ROOM"], "B7");
        assert_eq!(
            (windows.facts["COMPUTER_NAME"].as_str(), windows.facts["SERIAL"].as_str()),
            ("pc-xy12", "XY12")
        );
        assert_eq!(windows.settings.unwrap().reveal(), "owner = \"x\"");
        assert!(windows.publish_drivers && windows.allow_unsigned);
        assert!(windows.accept_in_use && windows.accept_missing_drivers);
        assert!(made.personality.confirm.is_some(), "a Linux beside it may report");
    }
    // Drivers come without a word, and stay away on one.
    let machine = inventory(vec![disk("vda", 20 * GIB)]);
    let made = plan(&job(|_| {}), &machine, &blocks, given.clone()).unwrap();
    assert_eq!(made.windows.unwrap().drivers.len(), 1);
    let none = asked(|windows| windows.drivers = gravure_model::job::DriverRule::None);
    assert_eq!(plan(&none, &machine, &blocks, given.clone()).unwrap().windows.unwrap().drivers, []);
    // What the disk has of itself, and what a Linux does not take.
    let boot_code = asked(|windows| windows.boot_code = Some("00".into()));
    let refused = plan(&boot_code, &machine, &blocks, given.clone()).unwrap_err();
    assert_eq!((refused.code(), refused.cure()), (9, "make the job without --boot-code".to_owned()));
    assert_eq!(refused.to_string(), "/images/x.wim is an image of a disk, which brings its own boot code");
    let mut linux = image(SystemKind::Linux);
    linux.descriptor.format = "gim".into();
    assert_eq!(plan(&job(|_| {}), &machine, &linux, given.clone()).unwrap().windows, None);
    let refused = plan(&asked(|_| {}), &machine, &linux, given).unwrap_err();
    assert!(refused.to_string().ends_with("holds a Linux system, which takes no answer file"), "{refused}");
}

#[test]
fn a_linux_takes_layers_and_nothing_else_that_is_for_windows() {
    let files = image(SystemKind::Linux);
    let mut blocks = files.clone();
    blocks.descriptor.format = "gim".into();
    let layer = PlannedBundle {
        name: "room".into(),
        path: "/bundles/layer-room.wim".into(),
        descriptor: files.descriptor.clone(),
    };
    let table = [("floor".to_owned(), "3".to_owned())].into();
    let given = PlanRequest { layers: vec![layer.clone()], table, ..request() };
    let windows = WindowsRequest {
        layers: vec!["room".into()],
        facts: [("ROOM".to_owned(), "B7".to_owned())].into(),
        ..WindowsRequest::default()
    };
    let machine = inventory(vec![disk("vda", 20 * GIB)]);
    let asked = |windows: &WindowsRequest| job(|job| job.windows = Some(windows.clone()));
    for (image, steps) in [
        (&files, ["check_disk", "service_linux", "prepare"].as_slice()),
        (&blocks, &["check_disk", "restore_disk", "firmware_entry"]),
    ] {
        let made = plan(&asked(&windows), &machine, image, given.clone()).unwrap();
        let names: Vec<&str> = made.steps.iter().map(Step::name).collect();
        assert_eq!(&names[..3], steps);
        assert_eq!(made.windows, None);
        let linux = made.linux.unwrap();
        assert_eq!(linux.layers, std::slice::from_ref(&layer));
        let fact = |name: &str| linux.facts.get(name).map(String::as_str);
        assert_eq!(
            [fact("ROOM"), fact("FLOOR"), fact("COMPUTER_NAME"), fact("SERIAL")],
            [Some("B7"), Some("3"), Some("pc-xy12"), Some("XY12")]
        );
        // None asked for, none there.
        let made = plan(&job(|_| {}), &machine, image, request()).unwrap();
        assert_eq!((made.linux, made.steps.iter().any(|step| step.name() == "service_linux")), (None, false));
    }
    for (what, unwanted) in [
        ("Windows drivers", WindowsRequest { publish_drivers: true, ..windows.clone() }),
        ("boot code of Windows", WindowsRequest { boot_code: Some("00".into()), ..windows.clone() }),
    ] {
        let refused = plan(&asked(&unwanted), &machine, &files, given.clone()).unwrap_err();
        assert!(refused.to_string().ends_with(&format!("takes no {what}")), "{refused}");
        assert_eq!(refused.cure(), "make the job without --settings, --publish-drivers and --boot-code");
    }
}

#[test]
fn a_disk_is_judged_by_what_the_partitions_need() {
    let mut blocks = image(SystemKind::Windows);
    blocks.descriptor.format = "gim".into();
    let machine = inventory(vec![disk("vda", 4 * GIB)]);
    let mut needing = |least_disk_bytes| {
        blocks.descriptor.images[0].least_disk_bytes = least_disk_bytes;
        plan(&job(|_| {}), &machine, &blocks, request()).map(drop)
    };
    assert_eq!(needing(None), Ok(()));
    assert_eq!(needing(Some(4 * GIB)), Ok(()));
    let refused = needing(Some(4 * GIB + 512)).unwrap_err().to_string();
    assert!(refused.ends_with("is too small: 4294967808 bytes needed, 4294967296 available"), "{refused}");
    // Windows takes no longer names, on a disk as little as in a file.
    let long = job(|job| job.name = "a-name-of-17-char".into());
    blocks.descriptor.images[0].least_disk_bytes = None;
    let refused = plan(&long, &machine, &blocks, request()).unwrap_err();
    assert!(refused.to_string().ends_with("names of 1 to 15 characters, this one has 17"), "{refused}");
}

#[test]
fn a_capture_reads_the_disk_whatever_stands_on_it() {
    let capture = |change: fn(&mut JobRequest)| {
        job(|job| {
            job.capture = Some(CaptureRequest { raw: true, ..CaptureRequest::default() });
            job.name = String::new();
            change(job);
        })
    };
    let full = Disk { content: vec!["ext4".into()], read_only: true, ..disk("vda", 20 * GIB) };
    let machine = inventory(vec![full]);
    let digest = Digest([9; 32]);
    let made = plan_capture(&capture(|_| {}), "golden", &machine, digest, request()).unwrap();
    assert_eq!(made.steps, [Step::CaptureDisk {}]);
    assert_eq!((made.image.path.as_str(), made.image.descriptor), ("/store/images/golden.gim", digest));
    let wanted = PlannedCapture {
        name: "golden".into(),
        description: None,
        raw: true,
        replace: false,
        keys: Vec::new(),
    };
    assert_eq!(made.capture, Some(wanted));
    assert!(!made.disk.wipe && made.personality.confirm.is_none());
    // Neither kind of job passes for the other.
    let deploys = plan_capture(&job(|_| {}), "golden", &machine, digest, request()).unwrap_err();
    assert_eq!(deploys.to_string(), "job j1 deploys an image, it makes none");
    assert_eq!(refused(&capture(|_| {}), &machine), "job j1 makes an image, it deploys none");
    let busy = Disk { in_use: vec!["mounted at /".into()], ..disk("vda", GIB) };
    let refused = plan_capture(&capture(|_| {}), "golden", &inventory(vec![busy]), digest, request());
    assert!(refused.unwrap_err().to_string().contains("in use (mounted at /)"));
}

#[test]
fn two_machines_of_a_job_differ_and_a_retry_does_not() {
    let inventory = inventory(vec![disk("vda", 20 * GIB)]);
    let with = |serial: &str, nonce: &str, mac: u8| {
        let identity = MachineIdentity::new(None, Some(serial), [Mac([2, 0, 0, 0, 0, mac])]);
        let request = PlanRequest { identity, nonce: nonce.into(), ..request() };
        plan(&job(|_| {}), &inventory, &image(SystemKind::Linux), request).unwrap()
    };
    assert_eq!(with("A-17", "1", 1).seed, with("A-17", "2", 9).seed);
    assert_ne!(with("A-17", "1", 1).seed, with("B-17", "1", 1).seed);
    assert_ne!(with("A-17", "1", 1).personality.machine_id, with("B-17", "1", 1).personality.machine_id);
}

#[test]
fn disks_that_must_not_be_written_are_refused_with_the_reason() {
    let usb = Disk { removable: true, ..disk("sdb", 8 * GIB) };
    let stick = Disk { transport: Some("usb".into()), ..disk("sdc", 8 * GIB) };
    let busy = Disk { in_use: vec!["mounted at /".into()], ..disk("sda", 8 * GIB) };
    let sealed = Disk { read_only: true, ..disk("sdd", 8 * GIB) };
    let empty = disk("sde", 0);
    let none = refused(&job(|_| {}), &inventory(vec![usb.clone(), stick, busy.clone(), sealed, empty]));
    for wanted in
        ["sdb", "removable", "attached by USB", "in use (mounted at /)", "write-protected", "no medium"]
    {
        assert!(none.contains(wanted), "{wanted}: {none}");
    }
    assert_eq!(refused(&job(|_| {}), &inventory(Vec::new())), "no disk can be taken: the machine has none");

    let two = inventory(vec![disk("vda", 20 * GIB), disk("vdb", 30 * GIB), usb.clone()]);
    let many = refused(&job(|_| {}), &two);
    assert!(many.starts_with("2 disks could be meant: vda (Model, serial S-vda, 21.4 GB); vdb"), "{many}");
    for (rule, wanted) in [
        (DiskRule::Smallest, "vda"),
        (DiskRule::Largest, "vdb"),
        (DiskRule::Serial { serial: "S-vdb".into() }, "vdb"),
        (DiskRule::Serial { serial: "S-sdb".into() }, "sdb"),
        (DiskRule::Name { name: "vda".into() }, "vda"),
    ] {
        let made = plan(&job(|job| job.disk = rule), &two, &image(SystemKind::Linux), request()).unwrap();
        assert_eq!(made.disk.name, wanted);
    }
    let same = inventory(vec![disk("vda", 20 * GIB), disk("vdb", 20 * GIB)]);
    assert!(refused(&job(|job| job.disk = DiskRule::Smallest), &same).starts_with("2 disks"));
    // A named disk that is in use stays refused.
    let named = refused(&job(|job| job.disk = DiskRule::Name { name: "sda".into() }), &inventory(vec![busy]));
    assert!(named.contains("in use"), "{named}");
}

#[test]
fn data_is_destroyed_only_on_the_jobs_word() {
    let full = inventory(vec![Disk { content: vec!["ntfs \"Windows\"".into()], ..disk("vda", 20 * GIB) }]);
    assert!(refused(&job(|_| {}), &full).contains("holds data (ntfs \"Windows\")"));
    let made = plan(&job(|job| job.wipe = true), &full, &image(SystemKind::Linux), request()).unwrap();
    assert!(made.disk.wipe);
}

#[test]
fn what_does_not_fit_or_is_not_there_is_refused() {
    let small = refused(&job(|_| {}), &inventory(vec![disk("vda", 600 << 20)]));
    assert!(small.contains("is too small"), "{small}");
    let free = inventory(vec![disk("vda", 20 * GIB)]);
    let index = refused(&job(|job| job.image_index = 3), &free);
    assert!(index.contains("holds 1 images, image 3"), "{index}");
    let unknown = plan(&job(|_| {}), &free, &image(SystemKind::Unknown), request()).unwrap_err();
    assert_eq!(unknown.code(), 9);
    let nobody = PlanRequest { identity: MachineIdentity::default(), ..request() };
    assert_eq!(plan(&job(|_| {}), &free, &image(SystemKind::Linux), nobody), Err(Refusal::Nameless));
}

/// A Windows image with a recovery environment.
fn windows() -> CatalogImage {
    let mut image = image(SystemKind::Windows);
    image.descriptor.images[0].windows = Some(DescribedWindows {
        version: "10.0.22631".into(),
        arch: "amd64".into(),
        server: false,
        has_recovery: true,
    });
    image
}

#[test]
fn a_windows_plan_services_before_it_destroys() {
    let confirm = Some(Confirm { server: "https://s".into(), token: gravure_model::Secret::new("t") });
    let made = plan(
        &job(|_| {}),
        &inventory(vec![disk("vda", 64 * GIB)]),
        &windows(),
        PlanRequest { confirm, ..request() },
    )
    .unwrap();
    let steps: Vec<&str> = made.steps.iter().map(Step::name).collect();
    let wanted = [
        "check_disk",
        "service_windows",
        "prepare",
        "apply_volume",
        "install_windows_boot",
        "verify",
        "write_table",
        "firmware_entry",
    ];
    assert_eq!(steps, wanted);
    assert_eq!(made.personality.confirm, None, "nothing in Windows could report");
    let Step::Prepare { partitions } = &made.steps[2] else { panic!("{:?}", made.steps[2]) };
    let roles: Vec<_> = partitions.iter().map(|partition| partition.role).collect();
    let all = [
        PartitionRole::Esp,
        PartitionRole::MicrosoftReserved,
        PartitionRole::Windows,
        PartitionRole::Recovery,
    ];
    assert_eq!(roles, all);
    // A small disk, or an image without one, gets no recovery partition.
    let small = plan(&job(|_| {}), &inventory(vec![disk("vda", 20 * GIB)]), &windows(), request()).unwrap();
    let Step::Prepare { partitions } = &small.steps[2] else { panic!("{:?}", small.steps[2]) };
    assert_eq!(partitions.len(), 3);
}

#[test]
fn what_windows_cannot_take_is_refused_before_anything_is_written() {
    let mut machine = inventory(vec![disk("vda", 64 * GIB)]);
    let long = job(|job| job.name = "a-name-of-17-char".into());
    let refused = plan(&long, &machine, &windows(), request()).unwrap_err();
    assert_eq!(refused.code(), 4);
    assert!(refused.to_string().ends_with("names of 1 to 15 characters, this one has 17"), "{refused}");
    let settings = job(|job| {
        let settings = Some(gravure_model::Secret::new("owner = \"x\""));
        job.windows = Some(WindowsRequest { settings, ..WindowsRequest::default() });
    });
    let refused = plan(&settings, &machine, &image(SystemKind::Linux), request()).unwrap_err();
    assert!(refused.to_string().ends_with("holds a Linux system, which takes no answer file"), "{refused}");
    machine.firmware.mode = FirmwareMode::Bios;
    let refused = plan(&job(|_| {}), &machine, &windows(), request()).unwrap_err();
    assert_eq!(refused.code(), 9);
    assert!(refused.to_string().contains("cannot be made to start on a bios machine"), "{refused}");
}

#[test]
fn a_bios_machine_gets_windows_with_boot_code_on_an_mbr() {
    let mut machine = inventory(vec![disk("vda", 64 * GIB)]);
    machine.firmware.mode = FirmwareMode::Bios;
    let with_code = |job: &mut JobRequest| {
        let boot_code = Some("00".to_owned());
        job.windows = Some(WindowsRequest { boot_code, ..WindowsRequest::default() });
    };
    let made = plan(&job(with_code), &machine, &windows(), request()).unwrap();
    let steps: Vec<&str> = made.steps.iter().map(Step::name).collect();
    let wanted = [
        "check_disk",
        "service_windows",
        "prepare",
        "apply_volume",
        "install_windows_boot",
        "verify",
        "write_table",
    ];
    assert_eq!(steps, wanted);
    let Step::Prepare { partitions } = &made.steps[2] else { panic!("{:?}", made.steps[2]) };
    let roles: Vec<_> = partitions.iter().map(|partition| partition.role).collect();
    assert_eq!(roles, [PartitionRole::System, PartitionRole::Windows, PartitionRole::Recovery]);
    assert_eq!(made.windows.unwrap().boot_code.as_deref(), Some("00"));
    let large = inventory(vec![disk("vda", 4096 * GIB)]);
    let large = gravure_model::inventory::Inventory { firmware: machine.firmware.clone(), ..large };
    let refused = plan(&job(with_code), &large, &windows(), request()).unwrap_err();
    assert!(refused.to_string().contains("disks of at most 2199023255040 bytes"), "{refused}");
    assert!(refused.cure().contains("--boot-code"));
}
