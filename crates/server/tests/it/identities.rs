//! Which machine a payload's report is of: what was replaced, what moved, what two have in common.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use gravure_model::identity::{Mac, MachineSelector};
use gravure_model::inventory::{Inventory, Nic};

use crate::common::{Boot, Machine, TestSite};
use crate::deployment::job;

fn nic(last: u8, driver: &str) -> Nic {
    Nic {
        name: format!("eth{last}"),
        mac: Mac([2, 0, 0, 0, 1, last]),
        driver: Some(driver.into()),
        carrier: None,
        speed_mbits: None,
        pci_address: None,
    }
}

/// A machine reports; its id.
fn report(site: &TestSite, uuid: &str, serial: &str, nics: Vec<Nic>) -> String {
    let change = |inventory: &mut Inventory| {
        inventory.smbios.system.uuid = Some(uuid.into());
        inventory.smbios.system.serial = Some(serial.into());
        inventory.nics = nics;
    };
    let boot = Boot::new(&site.ca_pem());
    boot.hello_with(site, &Machine { number: 1 }, None, change).unwrap().machine
}

fn audited(site: &TestSite, action: &str) -> Vec<(String, String)> {
    let audit = site.operator().audit().unwrap().into_iter();
    audit.filter(|entry| entry.action == action).map(|entry| (entry.subject, entry.detail)).collect()
}

const A: &str = "12345678-0000-0000-0000-0000000000a1";
const B: &str = "12345678-0000-0000-0000-0000000000b2";
const SERIES: &str = "12345678-0000-0000-0000-0000000000c3";

#[test]
fn a_machine_stays_itself_when_its_mainboard_or_its_dock_is_replaced() {
    let site = TestSite::new();
    let first = report(&site, A, "PF2ABCDE", vec![nic(1, "e1000e"), nic(2, "iwlwifi")]);
    // Another board with another UUID and adapter; the wireless card moved over.
    let second = report(&site, B, "PF2ABCDE", vec![nic(3, "e1000e"), nic(2, "iwlwifi")]);
    assert_eq!(first, second);
    let changed = audited(&site, "machine changed");
    assert_eq!(changed, [(first.clone(), "same serial number, network adapters; other UUID".to_owned())]);
    // A dock that hung on it, on another machine.
    report(&site, B, "PF2ABCDE", vec![nic(3, "e1000e"), nic(2, "iwlwifi"), nic(9, "r8152")]);
    let other = report(&site, A, "PF2OTHER", vec![nic(9, "r8152"), nic(5, "iwlwifi")]);
    assert_ne!(first, other);
    assert_eq!(audited(&site, "machine like another"), []);
    // Both have the dock now, and an operator who names it is asked which is meant.
    let error = site.operator().machine(&nic(9, "").mac.to_string()).unwrap_err().to_string();
    assert!(error.contains("several machines have 02:00:00:00:01:09"), "{error}");
    assert_eq!(site.operator().machine(&first).unwrap().id, first);
}

#[test]
fn what_may_be_two_machines_is_not_made_one_and_is_told() {
    let mut site = TestSite::new();
    // Boards of one series with one UUID, which is in no list.
    let first = report(&site, SERIES, "S-0001", vec![nic(1, "e1000e")]);
    let second = report(&site, SERIES, "S-0002", vec![nic(2, "e1000e")]);
    assert_ne!(first, second);
    let told = audited(&site, "machine like another");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, second);
    assert_eq!(told[0].1, format!("machine {first} (same UUID; other serial number, network adapters)"));
    // Each is known again by what it has of its own, and nothing is told again.
    assert_eq!(report(&site, SERIES, "S-0001", vec![nic(1, "e1000e")]), first);
    assert_eq!(report(&site, SERIES, "S-0002", vec![nic(2, "e1000e")]), second);
    assert_eq!(audited(&site, "machine like another").len(), 1);

    // A loader that tells the UUID alone is neither: no token of a job for one of them, and the journal says why.
    site.operator().create_job(&job(MachineSelector::Mac(nic(1, "").mac))).unwrap();
    let path = format!("boot/grub.cfg?mac={}&uuid={SERIES}&arch=x86_64-efi", nic(7, "").mac);
    let menu = String::from_utf8(site.fetch(&path)).unwrap();
    assert!(menu.contains("set default=register") && !menu.contains("token.cpio"), "{menu}");
    site.stop();
    site.start();
    let lines = site.operator().journal(Some(&nic(7, "").mac.to_string()), 100).unwrap();
    let doubt = lines.iter().find(|line| line.text.starts_with("which machine this is cannot be told"));
    let doubt = doubt.unwrap_or_else(|| panic!("{lines:?}"));
    assert!(
        doubt.text.contains(&first) && doubt.text.contains(&second) && doubt.advice.is_some(),
        "{doubt:?}"
    );
    // With its own adapter it is itself.
    let path = format!("boot/grub.cfg?mac={}&uuid={SERIES}&arch=x86_64-efi", nic(1, "").mac);
    assert!(String::from_utf8(site.fetch(&path)).unwrap().contains("set default=deploy"));
}

#[test]
fn values_that_whole_series_have_are_nobodys() {
    let site = TestSite::new();
    let junk = "03000200-0400-0500-0006-000700080009";
    let first = report(&site, junk, "To be filled by O.E.M.", vec![nic(1, "e1000e")]);
    let second = report(&site, junk, "To be filled by O.E.M.", vec![nic(2, "e1000e")]);
    assert_ne!(first, second);
    assert_eq!(audited(&site, "machine like another"), []);
    assert_eq!(report(&site, junk, "System Product Name", vec![nic(1, "e1000e")]), first);
}
