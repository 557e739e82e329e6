//! A Windows-shaped image made at home on the machine in front of it: deployed by network boot with drivers, settings and a layer, it
//! starts from its system partition by the firmware's entry and by the fallback path, and what starts there reads the volume with
//! a foreign NTFS driver. The same for the image of a whole disk, which is changed where it was put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gravure_disk::Table;
use gravure_e2e::windows::{self, READ_BY_STAND_IN, STAND_IN};
use gravure_e2e::{APPLY_PATIENCE, BOOT_PATIENCE, Scene, copy_partition, looks_blank, partition_start};
use gravure_model::api::MachineState;
use gravure_testkit::{BootOrder, Firmware, VmOptions, in_full_run, oracle, windows_boot_code};

/// Large enough for a recovery partition.
const DISK_BYTES: u64 = 33 << 30;
const NAME: &str = "pc-win-1";
/// For the image of a disk, which is smaller.
const RESTORED_BYTES: u64 = 1 << 30;

/// What the stand-in told: where it was started from, SHA-256 of each file it read, and all of its text.
struct Told {
    started_from: String,
    hashes: BTreeMap<String, String>,
    answers: String,
}

/// Starts the deployed machine and reads what the stand-in says until it switches the machine off.
fn listen(scene: &Scene, machine: &VmOptions, dir: &Path) -> Result<Told> {
    let mut vm = scene.site.lab().start_vm(machine, dir)?;
    vm.wait_for(&format!("{STAND_IN} end"), BOOT_PATIENCE)
        .with_context(|| format!("the screen said:\n{}", vm.console().last_lines()))?;
    let text = vm.console().text();
    vm.wait(Duration::from_secs(60))?;
    // Before the stand-in the firmware writes to the same line.
    let text = text.get(text.find(STAND_IN).unwrap_or(0)..).unwrap_or_default().replace('\r', "");
    let mut told = Told { started_from: String::new(), hashes: BTreeMap::new(), answers: String::new() };
    for part in text.split(STAND_IN).map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(rest) = part.strip_prefix("started from ") {
            told.started_from = rest.to_owned();
        } else if let Some(rest) = part.strip_prefix("answers") {
            told.answers = rest.chars().filter(|c| !c.is_whitespace()).collect();
        } else {
            let (name, rest) = part.split_once('\n').unwrap_or((part, ""));
            let hash = rest.split_whitespace().next().unwrap_or_default();
            told.hashes.insert(name.trim().to_owned(), hash.to_owned());
        }
    }
    Ok(told)
}

fn sha256(bytes: &[u8], dir: &Path) -> Result<String> {
    let file = dir.join("hashed");
    std::fs::write(&file, bytes)?;
    let said = Command::new("sha256sum").arg(&file).output().context("cannot start sha256sum")?;
    let text = String::from_utf8_lossy(&said.stdout);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// A file of the volume, as ntfs-3g's own program reads it.
fn read_ntfs(volume: &Path, path: &str) -> Result<Vec<u8>> {
    let said =
        Command::new("ntfscat").arg("-f").arg(volume).arg(path).output().context("cannot start ntfscat")?;
    ensure!(said.status.success(), "ntfscat {path}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(said.stdout)
}

/// A file of the FAT partition at byte `offset` of the disk, as mtools reads it.
fn read_fat(disk: &Path, offset: u64, path: &str) -> Result<Vec<u8>> {
    let said = Command::new("mtype")
        .arg("-i")
        .arg(format!("{}@@{offset}", disk.display()))
        .arg(format!("::{path}"))
        .output()
        .context("cannot start mtype")?;
    ensure!(said.status.success(), "mtype {path}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(said.stdout)
}

/// Puts the driver of the machine's disk into the site's repository; gives the directory of the package.
fn add_driver(scene: &Scene, dir: &Path) -> Result<PathBuf> {
    let package = windows::driver_package(dir)?;
    let repository = scene.site.dir().join("drivers").display().to_string();
    let (place, certificate) = (package.dir.display().to_string(), package.certificate.display().to_string());
    scene.site.run(&["driver", "add", &place, "--repository", &repository, "--trust", &certificate])?;
    Ok(package.dir)
}

/// Gives the site a layer.
fn add_layer(scene: &Scene) -> Result<()> {
    let layer = scene.site.dir().join("layers/school");
    std::fs::create_dir_all(&layer)?;
    std::fs::write(
        layer.join("layer.toml"),
        "[layer]\nid = \"school\"\nversion = 3\n\
         [[file]]\nto = 'C:\\Windows\\Gravure\\room.txt'\ntext = \"${ROOM} ${COMPUTER_NAME} ${SERIAL}\"\n\
         [[file]]\nto = 'C:\\Windows\\Gravure\\beside.txt'\nfrom = \"beside.txt\"\n\
         [[registry]]\nkey = 'HKLM\\SOFTWARE\\School'\nvalue = 'Room'\ntype = 'sz'\ndata = '${ROOM}'\n",
    )?;
    std::fs::write(layer.join("beside.txt"), "content of the layer's own file")?;
    Ok(())
}

/// Plans the image for the machine with that layer and settings.
fn order(scene: &Scene, image: &str, dir: &Path) -> Result<()> {
    let settings = dir.join("settings.toml");
    let text = "time-zone = \"W. Europe Standard Time\"\nui-language = \"de-DE\"\noobe.skip = true\n";
    std::fs::write(&settings, text)?;
    let settings = settings.display().to_string();
    let machine =
        ["plan", "create", "--machine", &scene.machine.mac, "--image", image, "--name", "pc-{serial}"];
    let windows = ["--settings", &settings, "--layer", "school", "--set", "ROOM=B7"];
    scene.site.run(&[&machine[..], &windows[..]].concat())?;
    Ok(())
}

#[test]
fn a_windows_image_comes_up_by_both_ways_with_what_the_machine_needs() -> Result<()> {
    let tools = ["grub-mkstandalone", "sha256sum", "ntfscat", "mtype", "sgdisk", "qemu-img"];
    if !tools.iter().all(|tool| oracle(tool).is_some()) {
        return Ok(());
    }
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path();
    let Some(program) = gravure_testkit::gravure_program() else { return Ok(()) };
    let (_, image) = windows::windows_image(&program, dir)?;
    let Some(mut scene) = Scene::with_image(Firmware::Uefi, dir, &image, DISK_BYTES)? else { return Ok(()) };
    "WIN-1".clone_into(&mut scene.machine.serial);
    scene.machine.end_on_reboot = true;

    // Drivers and a layer of the site, settings of the job.
    let package = add_driver(&scene, dir)?;
    add_layer(&scene)?;
    order(&scene, "windows.wim", dir)?;

    let mut vm = scene.switch_on()?;
    let report = scene.expect(&vm, MachineState::Verified)?;
    vm.wait(APPLY_PATIENCE).context("the machine does not restart")?;
    let screen = vm.console().text();
    let plan = report.plan.context("a verified machine has a plan")?;
    assert!(plan.failure.is_none(), "{:?}", plan.failure);
    assert_eq!(report.host_name.as_deref(), Some(NAME));
    let stages: Vec<&str> = plan.stages.iter().map(|stage| stage.stage.as_str()).collect();
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
    assert_eq!(stages, wanted, "{:?}", plan.warnings);
    assert!(screen.contains("vblk.inf 1.2.3.4 (boot-critical)"), "the report names what serves the disk");

    // What Windows' own setup makes, by a foreign reader of the table.
    let disk = scene.disk();
    let Table::Gpt { gpt, faults, .. } = scene.table()? else { panic!("expected a GPT") };
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(gpt.entries.len(), 4);
    for (number, kind, attributes) in [
        (1, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0000000000000000"),
        (2, "E3C9E316-0B5C-4DB8-817D-F92DF00215AE", "0000000000000000"),
        (3, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "0000000000000000"),
        (4, "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "8000000000000001"),
    ] {
        let said = Command::new("sgdisk").arg(format!("--info={number}")).arg(&disk).output()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains(kind) && text.contains(&format!("Attribute flags: {attributes}")), "{text}");
    }
    let (system, volume) = (partition_start(&disk, 1)?, partition_start(&disk, 3)?);
    let recovery = partition_start(&disk, 4)?;
    let windows = dir.join("windows.ntfs");
    copy_partition(&disk, volume, recovery - volume, &windows)?;

    // The firmware's entry, then a machine without one.
    let mut by_entry = scene.machine.clone();
    by_entry.boot = BootOrder::Firmware;
    let mut by_fallback = VmOptions { name: "pc-fallback".to_owned(), ..scene.machine.clone() };
    by_fallback.boot = BootOrder::DiskOnly;
    for (machine, from) in [(by_entry, "/EFI/Microsoft/Boot"), (by_fallback, "/EFI/Boot")] {
        let told = listen(&scene, &machine, dir)?;
        assert!(told.started_from.to_lowercase().contains(&from.to_lowercase()), "{}", told.started_from);
        let store = read_fat(&disk, system, "/EFI/Microsoft/Boot/BCD")?;
        assert_eq!(told.hashes.get("boot store"), Some(&sha256(&store, dir)?), "{:?}", told.hashes);
        for path in READ_BY_STAND_IN {
            let content = read_ntfs(&windows, path)?;
            assert_eq!(told.hashes.get(path), Some(&sha256(&content, dir)?), "{path}: {:?}", told.hashes);
        }
        let name = format!("<ComputerName>{NAME}</ComputerName>");
        assert!(told.answers.contains(&name) && told.answers.contains("pnputil"), "{}", told.answers);
        assert!(told.answers.contains("<UILanguage>de-DE</UILanguage>"), "{}", told.answers);
    }

    // What is in there.
    assert_eq!(read_ntfs(&windows, "/Windows/Gravure/room.txt")?, b"B7 pc-win-1 WIN-1");
    assert_eq!(read_ntfs(&windows, "/Windows/Gravure/beside.txt")?, b"content of the layer's own file");
    let hive = dir.join("SYSTEM");
    std::fs::write(&hive, read_ntfs(&windows, "/Windows/System32/config/SYSTEM")?)?;
    let hive = hive.display().to_string();
    let start = scene.site.run(&["hive", "get", &hive, "ControlSet001\\Services\\vblk", "Start"])?;
    assert_eq!(start.trim(), "0", "the boot loader loads the disk's driver");
    let driver = std::fs::read(package.join("vblk.sys"))?;
    assert_eq!(read_ntfs(&windows, "/Windows/System32/drivers/vblk.sys")?, driver);
    Ok(())
}

/// The image of a disk with Windows on it, of a machine with another controller: refused while nobody has the driver, then put back with driver,
/// settings and a layer in its volume.
#[test]
fn a_restored_windows_gets_what_it_needs_to_start_from_another_machine() -> Result<()> {
    let tools = ["grub-mkstandalone", "sha256sum", "ntfscat", "mtype", "sgdisk", "qemu-img"];
    if !in_full_run("a Windows disk on another machine") || !tools.iter().all(|tool| oracle(tool).is_some()) {
        return Ok(());
    }
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path();
    let Some(program) = gravure_testkit::gravure_program() else { return Ok(()) };
    let (files, wim) = windows::windows_image(&program, dir)?;
    let image = windows::disk_image(&program, dir, &files, &wim)?;
    let Some(mut scene) = Scene::with_image(Firmware::Uefi, dir, &image, RESTORED_BYTES)? else {
        return Ok(());
    };
    "WIN-1".clone_into(&mut scene.machine.serial);
    scene.machine.end_on_reboot = true;
    add_layer(&scene)?;

    order(&scene, "windows.gim", dir)?;
    let mut vm = scene.switch_on()?;
    let report = scene.expect(&vm, MachineState::Failed)?;
    let failure = report.plan.and_then(|plan| plan.failure).context("a failed machine has a failure")?;
    assert_eq!((failure.stage.as_str(), failure.code), ("restore_disk", 4), "{}", failure.message);
    assert!(failure.message.starts_with("partition 3: "), "{}", failure.message);
    assert!(
        failure.message.contains("Windows cannot start from it: no driver for it"),
        "{}",
        failure.message
    );
    assert!(failure.cure.is_some_and(|cure| cure.contains("gravure driver add")));
    assert!(looks_blank(&scene.disk())?, "the disk was not touched");
    vm.kill()?;

    let package = add_driver(&scene, dir)?;
    order(&scene, "windows.gim", dir)?;
    let mut vm = scene.switch_on()?;
    let report = scene.expect(&vm, MachineState::Verified)?;
    vm.wait(APPLY_PATIENCE).context("the machine does not restart")?;
    let screen = vm.console().text();
    let plan = report.plan.context("a verified machine has a plan")?;
    assert!(plan.failure.is_none(), "{:?}", plan.failure);
    assert_eq!(report.host_name.as_deref(), Some(NAME));
    let stages: Vec<&str> = plan.stages.iter().map(|stage| stage.stage.as_str()).collect();
    assert_eq!(stages, ["check_disk", "restore_disk", "firmware_entry"], "{:?}", plan.warnings);
    assert!(screen.contains("vblk.inf 1.2.3.4 (boot-critical)"), "the report names what serves the disk");
    assert!(
        screen.contains("Windows gets or has a driver for it"),
        "another controller is no reason any more"
    );

    let (disk, volume) = (scene.disk(), dir.join("restored.ntfs"));
    let start = partition_start(&disk, 3)?;
    copy_partition(&disk, start, RESTORED_BYTES - start - (1 << 20), &volume)?;
    let driver = std::fs::read(package.join("vblk.sys"))?;
    assert_eq!(read_ntfs(&volume, "/Windows/System32/drivers/vblk.sys")?, driver);
    assert_eq!(read_ntfs(&volume, "/Windows/Gravure/room.txt")?, b"B7 pc-win-1 WIN-1");
    assert_eq!(read_ntfs(&volume, "/Windows/Gravure/beside.txt")?, b"content of the layer's own file");
    let record = String::from_utf8(read_ntfs(&volume, "/Windows/Gravure/changes/0001.json")?)?;
    assert!(record.contains("vblk.sys"), "{record}");
    let hive = dir.join("RESTORED");
    std::fs::write(&hive, read_ntfs(&volume, "/Windows/System32/config/SYSTEM")?)?;
    let hive = hive.display().to_string();
    let start = scene.site.run(&["hive", "get", &hive, "ControlSet001\\Services\\vblk", "Start"])?;
    assert_eq!(start.trim(), "0", "the boot loader loads the disk's driver");
    // What the kernel's file system made of the volume is sound.
    scene.site.run(&["ntfs", "check", &volume.display().to_string()])?;

    let mut by_entry = scene.machine.clone();
    by_entry.boot = BootOrder::Firmware;
    let told = listen(&scene, &by_entry, dir)?;
    for path in READ_BY_STAND_IN {
        let content = read_ntfs(&volume, path)?;
        assert_eq!(told.hashes.get(path), Some(&sha256(&content, dir)?), "{path}: {:?}", told.hashes);
    }
    let name = format!("<ComputerName>{NAME}</ComputerName>");
    assert!(told.answers.contains(&name) && told.answers.contains("pnputil"), "{}", told.answers);
    assert!(told.answers.contains("<UILanguage>de-DE</UILanguage>"), "{}", told.answers);
    Ok(())
}

/// The same image on a machine that starts by BIOS: an MBR, captured boot code (here one that stands for Microsoft's), the boot manager's
/// files on the active partition.
#[test]
fn a_windows_image_starts_on_a_bios_machine_by_captured_boot_code() -> Result<()> {
    const STARTED: &str = "the code of the volume runs";
    let tools = ["grub-mkstandalone", "ntfscat", "sfdisk", "qemu-img"];
    if !in_full_run("Windows on a BIOS machine") || !tools.iter().all(|tool| oracle(tool).is_some()) {
        return Ok(());
    }
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path();
    let Some(program) = gravure_testkit::gravure_program() else { return Ok(()) };
    let (_, image) = windows::windows_image(&program, dir)?;
    let Some(mut scene) = Scene::with_image(Firmware::Bios, dir, &image, DISK_BYTES)? else { return Ok(()) };
    "WIN-1".clone_into(&mut scene.machine.serial);
    scene.machine.end_on_reboot = true;
    add_driver(&scene, dir)?;
    let (code, file) = (windows_boot_code(&format!("{STARTED}\r\n\0")), dir.join("bios.boot"));
    std::fs::write(&file, &code)?;
    let file = file.display().to_string();
    let plan = [
        "plan",
        "create",
        "--machine",
        &scene.machine.mac,
        "--image",
        "windows.wim",
        "--name",
        "pc-{serial}",
    ];
    scene.site.run(&[&plan[..], &["--boot-code", &file]].concat())?;

    let mut vm = scene.switch_on()?;
    let report = scene.expect(&vm, MachineState::Verified)?;
    vm.wait(APPLY_PATIENCE).context("the machine does not restart")?;
    let plan = report.plan.context("a verified machine has a plan")?;
    assert!(plan.failure.is_none(), "{:?}", plan.failure);
    let disk = scene.disk();
    let said = Command::new("sfdisk").arg("--json").arg(&disk).output()?;
    let table: String =
        String::from_utf8_lossy(&said.stdout).chars().filter(|c| !c.is_whitespace()).collect();
    assert!(
        table.contains("\"label\":\"dos\"") && table.contains("\"type\":\"7\",\"bootable\":true"),
        "{table}"
    );
    assert!(table.contains("\"type\":\"27\""), "{table}");
    let Table::Mbr(mbr) = scene.table()? else { panic!("expected an MBR") };
    let system = mbr.entries.iter().find(|entry| entry.active).context("an active partition")?;
    let volume = dir.join("system.ntfs");
    copy_partition(&disk, system.first_lba * 512, system.sectors * 512, &volume)?;
    assert_eq!(read_ntfs(&volume, "/bootmgr")?, b"stands for the boot manager of BIOS machines");
    let store = dir.join("BCD");
    std::fs::write(&store, read_ntfs(&volume, "/Boot/BCD")?)?;
    let shown = scene.site.run(&["bcd", "show", &store.display().to_string(), "{bootmgr}"])?;
    let device = format!("mbr:{:#010x}:{}", mbr.disk_signature, system.first_lba * 512);
    assert!(shown.contains(&device), "{device} in {shown}");

    let mut started = scene.machine.clone();
    started.boot = BootOrder::DiskOnly;
    let vm = scene.site.lab().start_vm(&started, dir)?;
    vm.wait_for(STARTED, BOOT_PATIENCE)?;
    Ok(())
}
