//! Which orders of steps are executed at all. What the steps do is tested in virtual machines: `vm_deployment`, `vm_faults` and `vm_windows` in `/tests`.

use gravure_model::inventory::FirmwareMode;
use gravure_model::job::RestoreRequest;
use gravure_model::plan::FileSystem;

use super::*;

fn good() -> Vec<Step> {
    vec![
        Step::CheckDisk {},
        Step::Prepare { partitions: Vec::new() },
        Step::Format { partition: PartitionRole::Root, file_system: FileSystem::Ext4, label: "root".into() },
        Step::Apply { partition: PartitionRole::Root },
        Step::Personalise {},
        Step::InstallUefiBoot {},
        Step::Verify {},
        Step::WriteTable {},
        Step::FirmwareEntry {},
    ]
}

#[test]
fn the_planners_order_is_accepted() {
    assert!(check_order(&good(), false).is_ok());
    let mut bios = good();
    bios[5] = Step::InstallBiosBoot {};
    bios.pop();
    assert!(check_order(&bios, false).is_ok());
}

#[test]
fn layers_of_a_linux_are_put_in_before_the_disk_is_touched() {
    let mut steps = good();
    steps.insert(1, Step::ServiceLinux {});
    assert!(check_order(&steps, false).is_ok());
    for at in [0, 2, 3, 4, 5, 6, 9] {
        let mut steps = good();
        steps.insert(at, Step::ServiceLinux {});
        assert_eq!(check_order(&steps, false).unwrap_err().code, code::REFUSED, "at {at}");
    }
    let mut twice = steps.clone();
    twice.insert(1, Step::ServiceLinux {});
    assert!(check_order(&twice, false).is_err());
    let mut windows = crate::planner::windows_steps(FirmwareMode::Uefi, Vec::new());
    windows.insert(1, Step::ServiceLinux {});
    assert!(check_order(&windows, false).is_err());
}

#[test]
fn windows_is_serviced_before_the_disk_is_touched() {
    let good = || crate::planner::windows_steps(FirmwareMode::Uefi, Vec::new());
    assert!(check_order(&good(), false).is_ok());
    for (first, second) in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)] {
        let mut steps = good();
        steps.swap(first, second);
        assert!(check_order(&steps, false).is_err(), "{first} and {second}");
    }
    for left_out in 0..7 {
        let mut steps = good();
        steps.remove(left_out);
        assert!(check_order(&steps, false).is_err(), "without {}", good()[left_out].name());
    }
}

#[test]
fn a_plan_that_captures_does_nothing_else() {
    let restore = || vec![Step::CheckDisk {}, Step::RestoreDisk { restore: RestoreRequest::default() }];
    assert!(check_order(&[Step::CaptureDisk {}], true).is_ok());
    assert!(check_order(&restore(), false).is_ok());
    let more = vec![Step::CaptureDisk {}, Step::RestoreDisk { restore: RestoreRequest::default() }];
    for (steps, captures) in [
        (vec![Step::CaptureDisk {}], false),
        (restore(), true),
        (more, true),
        (good(), true),
        (Vec::new(), true),
    ] {
        let error = check_order(&steps, captures).unwrap_err();
        assert_eq!(error.code, code::REFUSED, "{steps:?}");
    }
}

#[test]
fn a_table_before_the_verification_is_refused() {
    for (first, second) in [(6, 7), (0, 1), (3, 4), (2, 3), (5, 6), (4, 5)] {
        let mut steps = good();
        steps.swap(first, second);
        let error = check_order(&steps, false).unwrap_err();
        assert_eq!(error.code, code::REFUSED, "{first} and {second}");
        assert!(error.message.starts_with("steps of the plan are "), "{}", error.message);
    }
}

#[test]
fn missing_and_doubled_steps_are_refused() {
    for left_out in 0..8 {
        let mut steps = good();
        steps.remove(left_out);
        assert!(check_order(&steps, false).is_err(), "without {}", good()[left_out].name());
    }
    for doubled in [0, 1, 2, 3, 4, 6, 7] {
        let mut steps = good();
        steps.insert(doubled, good()[doubled].clone());
        assert!(check_order(&steps, false).is_err(), "twice {}", good()[doubled].name());
    }
}
