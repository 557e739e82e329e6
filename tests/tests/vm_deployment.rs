//! A blank machine boots from our server and comes up in the system we deployed: UEFI, with and without Secure Boot, and BIOS.

use anyhow::{Context, Result, ensure};
use gravure_disk::Table;
use gravure_e2e::{APPLY_PATIENCE, BOOT_PATIENCE, Replayed, Scene, partition_start};
use gravure_model::Assurance;
use gravure_testkit::{Bus, Disk, Firmware, in_full_run};

fn deploys(firmware: Firmware) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(scene) = Scene::new(firmware, dir.path())? else { return Ok(()) };
    scene.order()?;
    let mut vm = scene.switch_on()?;
    let report = scene.expect_confirmed(&vm)?;
    vm.kill()?;

    assert_eq!(report.host_name.as_deref(), Some("pc-e2e-1"));
    assert_eq!(report.assurance, Assurance::Token);
    let plan = report.plan.expect("a confirmed machine has a plan");
    assert!(plan.failure.is_none(), "{:?}", plan.failure);
    let secure = (firmware != Firmware::Bios).then_some(firmware == Firmware::UefiSecureBoot);
    let payload = report.inventory.expect("the payload reported an inventory").firmware;
    assert_eq!(payload.secure_boot, secure, "in the payload");
    assert_eq!(plan.first_boot.expect("the system reported").secure_boot, secure, "in the deployed system");
    let stages: Vec<&str> = plan.stages.iter().map(|stage| stage.stage.as_str()).collect();
    for wanted in ["check_disk", "prepare", "format", "apply", "personalise", "verify", "write_table"] {
        assert!(stages.contains(&wanted), "{wanted} is missing in {stages:?}");
    }
    let bytes =
        |name: &str| plan.stages.iter().find(|stage| stage.stage == name).map_or(0, |stage| stage.bytes);
    assert!(bytes("apply") > 50 << 20, "{} bytes applied", bytes("apply"));
    // What the personality changed is compared by itself and not counted here.
    let changed = bytes("apply").abs_diff(bytes("verify"));
    assert!(changed < 1 << 20, "{} bytes applied, {} read back", bytes("apply"), bytes("verify"));
    match scene.table()? {
        Table::Gpt { gpt, faults, .. } => {
            assert!(faults.is_empty(), "{faults:?}");
            assert_eq!(gpt.entries.len(), 2);
        }
        other => panic!("expected a GPT, found {other}"),
    }
    // Judged by tools that share no code with ours, too.
    let root = partition_start(&scene.disk(), 2)?;
    let root = Replayed::new(&scene.disk(), root, dir.path().join("root.ext4"))?;
    assert_eq!(root.read_text("/etc/hostname")?.trim(), "pc-e2e-1");
    assert_eq!(root.read_text("/etc/machine-id")?.trim().len(), 32);
    Ok(())
}

#[test]
fn a_machine_with_secure_boot_comes_up_in_the_deployed_system() -> Result<()> {
    deploys(Firmware::UefiSecureBoot)
}

#[test]
fn a_uefi_machine_comes_up_in_the_deployed_system() -> Result<()> {
    // The same way without the checks: the machine with Secure Boot stands for both in quick runs.
    if !in_full_run("a UEFI machine without Secure Boot") {
        return Ok(());
    }
    deploys(Firmware::Uefi)
}

#[test]
fn a_bios_machine_comes_up_in_the_deployed_system() -> Result<()> {
    deploys(Firmware::Bios)
}

/// A stick with order and image, no server and no network that answers.
#[test]
fn a_stick_deploys_without_a_server() -> Result<()> {
    if !in_full_run("a stick that deploys by itself") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = Scene::new(Firmware::UefiSecureBoot, dir.path())? else { return Ok(()) };
    let image = scene.site.image()?.file_name().and_then(|name| name.to_str()).context("image")?.to_owned();
    let stick = dir.path().join("stick.img");
    let stick_name = stick.display().to_string();
    let args = ["media", "build", "--usb", &stick_name, "--image", &image, "--name", "pc-{serial}"];
    scene.site.run(&[&args[..], &["--expires", "1d", "--unattended"]].concat())?;
    ensure!(scene.site.server().terminate(BOOT_PATIENCE)?.success(), "the server did not end well");
    scene.machine.medium = Some(Disk::existing(&stick, Bus::Usb));
    let mut vm = scene.switch_on()?;
    vm.wait_for("deploys without a server", BOOT_PATIENCE)?;
    // What is about to be destroyed, by name, before it is.
    vm.wait_for("serial GRVDISK0", BOOT_PATIENCE)?;
    vm.wait_for("Deployed and verified", APPLY_PATIENCE)?;
    vm.wait(BOOT_PATIENCE)?;
    let root = partition_start(&scene.disk(), 2)?;
    let root = Replayed::new(&scene.disk(), root, dir.path().join("root.ext4"))?;
    assert_eq!(root.read_text("/etc/hostname")?.trim(), "pc-e2e-1");
    // Once more: the disk holds data now, and the order does not allow destroying it.
    let vm = scene.switch_on()?;
    vm.wait_for("holds data", BOOT_PATIENCE)?;
    Ok(())
}
