//! The lab and its machines, proven on real firmware: each asks for an address on the bridge.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use gravure_testkit::{Bus, Disk, Firmware, Lab, VmOptions, can_make_labs, oracle};

/// Firmware under emulation on a loaded machine is slow; waiting ends as soon as the packet is seen.
const PATIENCE: Duration = Duration::from_secs(180);

/// Starts a machine of the given kind and waits for its first DHCP message.
fn asks_for_an_address(firmware: Firmware, vendor_class: &str) {
    if oracle("qemu-system-x86_64").is_none() || oracle("tcpdump").is_none() || !can_make_labs() {
        return;
    }
    let lab = Lab::new().unwrap();
    let packets = lab.watch("udp port 67").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut options = VmOptions::new("smoke", firmware);
    options.disk = Some(Disk::blank(&dir.path().join("disk.img"), 64 << 20, Bus::Nvme).unwrap());
    options.screen = true;
    let start = Instant::now();
    let mut vm = lab.start_vm(&options, dir.path()).unwrap();
    packets.console().wait_for("DHCP-Message (53), length 1: Discover", PATIENCE).unwrap();
    eprintln!("{firmware:?}: DISCOVER after {:?}", start.elapsed());
    packets.console().wait_for(vendor_class, PATIENCE).unwrap();
    assert!(packets.console().text().contains(&options.mac), "the card's address is in the packet");

    let picture = dir.path().join("screen.png");
    vm.screenshot(&picture).unwrap();
    assert_eq!(std::fs::read(&picture).unwrap()[..8], *b"\x89PNG\r\n\x1a\n");
    vm.kill().unwrap();
}

#[test]
fn a_uefi_machine_asks_for_an_address() {
    asks_for_an_address(Firmware::Uefi, "PXEClient:Arch:00007");
}

#[test]
fn a_uefi_machine_with_secure_boot_asks_for_an_address() {
    asks_for_an_address(Firmware::UefiSecureBoot, "PXEClient:Arch:00007");
}

#[test]
fn a_bios_machine_asks_for_an_address() {
    asks_for_an_address(Firmware::Bios, "PXEClient:Arch:00000");
}
