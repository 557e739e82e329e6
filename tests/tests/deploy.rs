//! The main job on real firmware: a blank disk becomes a confirmed system (issue: happy path UEFI, happy path BIOS).

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use gravure_e2e::{BOOT_PATIENCE, Scenario, partition_start, read_text};
use gravure_model::api::MachineState;
use gravure_testkit::Firmware;

fn blank_disk_to_confirmed(firmware: Firmware, root_partition: u32) {
    let Some(scenario) = Scenario::start().unwrap() else { return };
    let machine = scenario.machine(firmware).unwrap();
    scenario.plan(&machine).unwrap();
    let mut vm = scenario.switch_on(&machine).unwrap();
    vm.wait_for("Deploying ", BOOT_PATIENCE).unwrap();
    let verified = scenario.wait_for(&machine, MachineState::Verified).unwrap();
    let plan = verified.plan.unwrap();
    let bytes =
        |name: &str| plan.stages.iter().find(|stage| stage.stage == name).map_or(0, |stage| stage.bytes);
    assert!(bytes("apply") > 10_000_000, "{:?}", plan.stages);
    assert!(bytes("verify") > 10_000_000, "{:?}", plan.stages);

    let confirmed = scenario.wait_for(&machine, MachineState::Confirmed).unwrap();
    assert_eq!(confirmed.host_name.as_deref(), Some("pc-e2e7"));
    let plan = confirmed.plan.unwrap();
    assert!(plan.confirmed >= plan.ended && plan.failure.is_none(), "{plan:?}");
    vm.kill().unwrap();

    // Judged by tools that share no code with ours.
    let root = partition_start(&scenario.disk(), root_partition).unwrap();
    assert_eq!(read_text(&scenario.disk(), root, "/etc/hostname").unwrap().trim(), "pc-e2e7");
    assert_eq!(read_text(&scenario.disk(), root, "/etc/machine-id").unwrap().trim().len(), 32);
}

#[test]
fn a_blank_uefi_machine_ends_confirmed() {
    blank_disk_to_confirmed(Firmware::Uefi, 2);
}

#[test]
fn a_blank_bios_machine_ends_confirmed() {
    blank_disk_to_confirmed(Firmware::Bios, 2);
}
