//! Deployments that go wrong: pulled plugs, a damaged image, a server that goes away. The disk is unbootable or
//! complete, never in between (DESIGN section 1, promise 2). A sample runs in CI, all of them with `--full`.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use gravure_e2e::{APPLY_PATIENCE, BOOT_PATIENCE, Scenario, looks_blank};
use gravure_model::api::MachineState;
use gravure_testkit::{BootOrder, Firmware, in_sample};

/// Faults in this file that a sample chooses from.
const FAULTS: u64 = 5;

/// Pulls the plug when `moment` appears on the screen; the disk must not boot, the next try must succeed.
fn pulled_plug(index: u64, moment: &str) {
    if !in_sample(index, FAULTS) {
        return;
    }
    let Some(scenario) = Scenario::start().unwrap() else { return };
    let mut machine = scenario.machine(Firmware::Uefi).unwrap();
    scenario.plan(&machine).unwrap();
    let mut vm = scenario.switch_on(&machine).unwrap();
    vm.wait_for("Deploying ", BOOT_PATIENCE).unwrap();
    vm.wait_for(moment, APPLY_PATIENCE).unwrap();
    vm.kill().unwrap();
    assert!(looks_blank(&scenario.disk()).unwrap(), "the disk looks bootable after a cut at {moment:?}");

    // The firmware agrees: it finds nothing on the disk.
    machine.boot = BootOrder::DiskOnly;
    let mut vm = scenario.switch_on(&machine).unwrap();
    vm.console()
        .wait_for_any(&["No bootable option or device was found", "UEFI Interactive Shell"], BOOT_PATIENCE)
        .unwrap();
    vm.kill().unwrap();

    machine.boot = BootOrder::NetworkFirst;
    let _vm = scenario.switch_on(&machine).unwrap();
    let report = scenario.wait_for(&machine, MachineState::Confirmed).unwrap();
    assert!(report.plan.unwrap().failure.is_none());
}

#[test]
fn a_plug_pulled_while_formatting_leaves_nothing_that_boots() {
    pulled_plug(0, "Format: started");
}

#[test]
fn a_plug_pulled_in_the_middle_of_the_image_leaves_nothing_that_boots() {
    pulled_plug(1, "Apply image: 5");
}

#[test]
fn a_plug_pulled_while_verifying_leaves_nothing_that_boots() {
    pulled_plug(2, "Verify: started");
}

#[test]
fn one_flipped_byte_is_refused_with_the_blob_named() {
    if !in_sample(3, FAULTS) {
        return;
    }
    let Some(scenario) = Scenario::start().unwrap() else { return };
    let machine = scenario.machine(Firmware::Uefi).unwrap();
    scenario.plan(&machine).unwrap();
    // After the plan was signed, and in the middle of the content.
    let image = File::options().read(true).write(true).open(&scenario.image).unwrap();
    let middle = image.metadata().unwrap().len() / 2;
    let mut byte = [0];
    image.read_exact_at(&mut byte, middle).unwrap();
    image.write_all_at(&[byte[0] ^ 1], middle).unwrap();

    let vm = scenario.switch_on(&machine).unwrap();
    let report = scenario.wait_for(&machine, MachineState::Failed).unwrap();
    let failure = report.plan.unwrap().failure.unwrap();
    assert_eq!((failure.stage.as_str(), failure.code), ("apply", 5), "{}", failure.message);
    assert!(failure.message.contains("blob"), "{}", failure.message);
    assert!(vm.console().text().contains("FAILED in Apply image"));
    assert!(looks_blank(&scenario.disk()).unwrap());
}

#[test]
fn a_server_that_restarts_during_the_apply_does_not_stop_it() {
    if !in_sample(4, FAULTS) {
        return;
    }
    let Some(mut scenario) = Scenario::start().unwrap() else { return };
    let machine = scenario.machine(Firmware::Uefi).unwrap();
    scenario.plan(&machine).unwrap();
    let vm = scenario.switch_on(&machine).unwrap();
    vm.wait_for("Apply image: ", BOOT_PATIENCE).unwrap();
    scenario.site.restart_server().unwrap();
    let report = scenario.wait_for(&machine, MachineState::Verified).unwrap();
    assert!(report.plan.unwrap().failure.is_none());
}
