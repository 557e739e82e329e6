//! Deployments that go wrong: pulled plugs, a damaged image, a server that goes away. The disk is unbootable or
//! complete, never in between (DESIGN section 1, promise 2). A sample runs in CI, all of them with `--full`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use gravure_e2e::{APPLY_PATIENCE, BOOT_PATIENCE, Scene, looks_blank};
use gravure_model::api::MachineState;
use gravure_testkit::{BootOrder, Firmware, in_sample};

/// Faults in this file that a sample chooses from.
const FAULTS: u64 = 5;

/// Pulls the plug when `moment` appears on the screen; the disk must not boot, the next try must succeed.
fn pulled_plug(index: u64, moment: &str) -> Result<()> {
    if !in_sample(index, FAULTS) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = Scene::new(Firmware::Uefi, dir.path())? else { return Ok(()) };
    scene.order()?;
    let mut vm = scene.switch_on()?;
    vm.wait_for("Deploying ", BOOT_PATIENCE)?;
    vm.wait_for(moment, APPLY_PATIENCE)?;
    vm.kill()?;
    assert!(looks_blank(&scene.disk())?, "the disk looks bootable after a cut at {moment:?}");

    // The firmware agrees: it finds nothing on the disk.
    scene.machine.boot = BootOrder::DiskOnly;
    let mut vm = scene.switch_on()?;
    let nothing = ["No bootable option or device was found", "UEFI Interactive Shell"];
    vm.console().wait_for_any(&nothing, BOOT_PATIENCE)?;
    vm.kill()?;

    scene.machine.boot = BootOrder::NetworkFirst;
    let vm = scene.switch_on()?;
    let report = scene.expect_confirmed(&vm)?;
    assert!(report.plan.is_some_and(|plan| plan.failure.is_none()));
    Ok(())
}

#[test]
fn a_plug_pulled_while_formatting_leaves_nothing_that_boots() -> Result<()> {
    pulled_plug(0, "Format: started")
}

#[test]
fn a_plug_pulled_in_the_middle_of_the_image_leaves_nothing_that_boots() -> Result<()> {
    // The first word of progress; how much is done by then depends on the machine.
    pulled_plug(1, " % (")
}

#[test]
fn a_plug_pulled_while_verifying_leaves_nothing_that_boots() -> Result<()> {
    pulled_plug(2, "Verify: started")
}

#[test]
fn one_flipped_byte_is_refused_with_the_blob_named() -> Result<()> {
    if !in_sample(3, FAULTS) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(scene) = Scene::new(Firmware::Uefi, dir.path())? else { return Ok(()) };
    scene.order()?;
    // After the image was described, in the middle of the content, and without a trace in the file's time, as a disk
    // goes bad: the server would look at a changed file again.
    let image = File::options().read(true).write(true).open(scene.site.image()?)?;
    let before = image.metadata()?;
    let mut byte = [0];
    image.read_exact_at(&mut byte, before.len() / 2)?;
    image.write_all_at(&[byte[0] ^ 1], before.len() / 2)?;
    image.set_modified(before.modified()?)?;

    let vm = scene.switch_on()?;
    let report = scene.expect(&vm, MachineState::Failed)?;
    let failure = report.plan.and_then(|plan| plan.failure).context("a failed machine has a failure")?;
    assert_eq!((failure.stage.as_str(), failure.code), ("apply", 5), "{}", failure.message);
    assert!(failure.message.contains("blob"), "{}", failure.message);
    assert!(vm.console().text().contains("FAILED in Apply image"));
    assert!(looks_blank(&scene.disk())?);
    Ok(())
}

#[test]
fn a_server_that_restarts_during_the_apply_does_not_stop_it() -> Result<()> {
    if !in_sample(4, FAULTS) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = Scene::new(Firmware::Uefi, dir.path())? else { return Ok(()) };
    scene.order()?;
    let vm = scene.switch_on()?;
    vm.wait_for("Apply image: ", BOOT_PATIENCE)?;
    scene.site.restart_server()?;
    let report = scene.expect(&vm, MachineState::Verified)?;
    assert!(report.plan.is_some_and(|plan| plan.failure.is_none()));
    Ok(())
}
