//! Rules, entries of one's own, and boots chosen once, as a loader sees them.

use crate::common::{Boot, Machine, TestSite};
use gravure_model::Assurance;
use gravure_model::identity::MachineSelector;
use gravure_model::job::{Afterwards, DiskRule, JobRequest};
use gravure_server::CONFIG_NAME;

const RULES: &str = r#"
[[rule]]
name = "the old ones run their memory test"
mac = ["02:00:00:00:00:0*"]
known = false
boot = "memtest"

[[rule]]
name = "everybody else waits"
firmware = ["uefi"]
boot = "menu"

[[entry]]
name = "memtest"
title = "Memory test"
file = "memtest/mt64.bin"
"#;

#[test]
fn rules_and_operators_choose_and_once_is_once() {
    let mut site = TestSite::new();
    site.stop();
    let config = site.dir.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap() + RULES;
    std::fs::write(&config, text).unwrap();
    std::fs::create_dir_all(site.dir.join("extra/memtest")).unwrap();
    std::fs::write(site.dir.join("extra/memtest/mt64.bin"), b"a memory test").unwrap();
    std::fs::write(site.dir.join("extra/secret"), b"also below extra").unwrap();
    site.start();

    let machine = Machine { number: 7 };
    let menu = |site: &TestSite| {
        let path = format!("boot/grub.cfg?{}&arch=x86_64-efi", machine.query());
        String::from_utf8(site.fetch(&path)).unwrap()
    };
    assert!(menu(&site).contains("set timeout=0\nset default=memtest\n"), "{}", menu(&site));
    assert!(menu(&site).contains("linux \"$base/extra/memtest/mt64.bin\""));
    assert_eq!(site.fetch("extra/memtest/mt64.bin"), b"a memory test");

    // Once it is known, the second rule fits.
    Boot::new(&site.ca_pem()).hello(&site, &machine, None).unwrap();
    assert!(menu(&site).contains("set timeout=5\nset default=local\n"), "{}", menu(&site));

    // Chosen by an operator: this boot, and not the next.
    let operator = site.operator();
    let name = machine.inventory().identity().macs[0].to_string();
    let error = operator.boot_once(&name, Some("nothing")).unwrap_err().to_string();
    assert!(error.contains("expected local, register, menu or an entry (memtest)"), "{error}");
    operator.boot_once(&name, Some("memtest")).unwrap();
    assert!(menu(&site).contains("set timeout=0\nset default=memtest\n"));
    assert!(menu(&site).contains("set timeout=5\nset default=local\n"));
    operator.boot_once(&name, Some("register")).unwrap();
    operator.boot_once(&name, None).unwrap();
    assert!(menu(&site).contains("set timeout=5\nset default=local\n"));
    let audit = operator.audit().unwrap();
    for action in ["next boot chosen", "chosen boot served"] {
        assert!(audit.iter().any(|entry| entry.action == action), "{action}");
    }

    // The journal tells what the menu offered, and is complete once the server has stopped.
    site.stop();
    site.start();
    let operator = site.operator();
    let lines = operator.journal(Some(&name), 100).unwrap();
    assert!(lines.iter().any(|line| line.text == "boot menu: memtest, as chosen"), "{lines:?}");
}

const HELD: &str = r#"
[[rule]]
name = "strangers are looked at first"
known = false
boot = "quarantine"
"#;

#[test]
fn a_machine_in_quarantine_registers_and_gets_nothing_until_it_is_let_go() {
    let mut site = TestSite::new();
    site.stop();
    let config = site.dir.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap() + HELD;
    std::fs::write(&config, text).unwrap();
    site.start();
    let machine = Machine { number: 9 };
    let menu = |site: &TestSite| {
        let path = format!("boot/grub.cfg?{}&arch=x86_64-efi", machine.query());
        String::from_utf8(site.fetch(&path)).unwrap()
    };
    // It is not known: it registers at once, and is held back with that.
    assert!(menu(&site).contains("set timeout=0\nset default=register\n"), "{}", menu(&site));
    Boot::new(&site.ca_pem()).hello(&site, &machine, None).unwrap();
    let operator = site.operator();
    let name = machine.inventory().identity().macs[0].to_string();
    let held = operator.machine(&name).unwrap().quarantine;
    assert_eq!(held.as_deref(), Some("by rule \"strangers are looked at first\""));
    assert!(menu(&site).contains("set timeout=0\nset default=local\n"), "{}", menu(&site));
    // What is ordered waits.
    let request = JobRequest {
        machine: MachineSelector::Mac(machine.mac()),
        image: "test.wim".into(),
        image_index: 0,
        name: "pc".into(),
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
    operator.create_job(&request).unwrap();
    assert!(menu(&site).contains("set timeout=0\nset default=local\n"), "{}", menu(&site));
    assert_eq!(operator.machine(&name).unwrap().state.as_str(), "registered");
    operator.quarantine(&name, None).unwrap();
    assert_eq!(operator.machine(&name).unwrap().quarantine, None);
    assert!(menu(&site).contains("set default=deploy\n"), "{}", menu(&site));
    // And again, by hand.
    operator.quarantine(&name, Some("lost")).unwrap();
    assert!(menu(&site).contains("set default=local\n"), "{}", menu(&site));
    assert!(operator.quarantine(&name, Some(" ")).unwrap_err().to_string().contains("1 to 200 characters"));
    let audit = operator.audit().unwrap();
    for action in ["machine quarantined", "machine let go"] {
        assert!(audit.iter().any(|entry| entry.action == action), "{action}");
    }
}

/// UEFI HTTP boot and GRUB under it ask for the length of everything first; firmware allocates what it is told.
#[test]
fn asking_for_the_length_gives_that_of_the_chosen_boot_and_uses_nothing_up() {
    let mut site = TestSite::new();
    site.stop();
    let config = site.dir.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap() + RULES;
    std::fs::write(&config, text).unwrap();
    site.start();
    let machine = Machine { number: 7 };
    let name = machine.mac().to_string();
    Boot::new(&site.ca_pem()).hello(&site, &machine, None).unwrap();
    for path in ["boot/grub.cfg", "boot.ipxe"] {
        site.operator().boot_once(&name, Some("memtest")).unwrap();
        let path = format!("{path}?{}&arch=x86_64-efi", machine.query());
        let (status, len) = site.head(&path);
        let again = site.head(&path);
        let menu = site.fetch(&path);
        assert_eq!((status, len), (200, menu.len() as u64), "{path}: {}", String::from_utf8_lossy(&menu));
        assert_eq!(again, (status, len), "{path}");
        // Served by the first GET, and gone.
        let (_, after) = site.head(&path);
        assert_eq!(after, site.fetch(&path).len() as u64, "{path}");
        assert_ne!(after, len, "{path}");
    }
    let served = site.operator().audit().unwrap();
    assert_eq!(served.iter().filter(|entry| entry.action == "chosen boot served").count(), 2);
    // A question for the length is no boot, and the journal does not say it was one.
    site.stop();
    site.start();
    let lines = site.operator().journal(Some(&name), 100).unwrap();
    let told = |text: &str| lines.iter().filter(|line| line.text.starts_with(text)).count();
    assert_eq!((told("boot menu: memtest, as chosen"), told("boot menu: ")), (2, 4), "{lines:?}");
}

#[test]
fn firmware_that_asks_for_the_length_first_gets_the_signed_image() {
    for chain in ["shim-uki", "uki"] {
        let mut site = TestSite::new();
        site.stop();
        let config = site.dir.join(CONFIG_NAME);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("chain = \"grub\"", &format!("chain = {chain:?}"))).unwrap();
        std::fs::create_dir_all(site.dir.join("boot/pxe")).unwrap();
        std::fs::create_dir_all(site.dir.join("uki")).unwrap();
        let files = [("boot/pxe/shimx64.efi", 1), ("boot/pxe/mmx64.efi", 2), ("uki/gravure.efi", 3)];
        for (name, byte) in files {
            std::fs::write(site.dir.join(name), vec![byte; 1000 + usize::from(byte)]).unwrap();
        }
        site.start();
        let machine = Machine { number: 7 };
        let name = machine.mac().to_string();
        Boot::new(&site.ca_pem()).hello(&site, &machine, None).unwrap();
        let first = if chain == "uki" { "uki/gravure.efi" } else { "uki/shimx64.efi" };
        let first = format!("{first}?{}", machine.query());
        // Known, and nothing to do here: it starts from its disk.
        assert_eq!((site.head(&first).0, site.status(&first)), (404, 404), "{chain}");
        site.operator().boot_once(&name, Some("register")).unwrap();
        let (status, len) = site.head(&first);
        assert_eq!((status, len), (200, site.fetch(&first).len() as u64), "{chain}");
        assert_eq!((site.head(&first).0, site.status(&first)), (404, 404), "{chain}: once");
        // What comes behind the first file is not asked for by machines without business.
        assert_eq!(site.fetch("uki/grubx64.efi"), vec![3; 1003]);
        // MokManager, in whatever directory shim lies.
        for path in ["uki/mmx64.efi", "uki//mmx64.efi", "mmx64.efi", "//mmx64.efi"] {
            assert_eq!(site.head(path), (200, 1002), "{path}");
            assert_eq!(site.fetch(path), vec![2; 1002], "{path}");
        }
    }
}
