//! The payload in a virtual machine with Debian's kernel: drivers, network, inventory, greeting, an agent that is killed,
//! console, power off.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use gravure_model::api::{EventBatch, Hello, PlanAnswer};
use gravure_model::event::{Event, EventKind, Known};
use gravure_model::inventory::FirmwareMode;
use gravure_model::site::{SITE_PATH, TOKEN_PATH};
use gravure_testkit::{Console, QmpListener, Running, accelerator, oracle, payload_dir};
use made_site::{Answer, Site};

#[path = "../src/made_site.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the unit tests, which use more of it")]
mod made_site;

/// A boot under software emulation on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// An archive of `files` in the form "newc".
fn cpio(files: &BTreeMap<&str, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut entry = |name: &str, mode: u32, content: &[u8]| {
        let mut head = "070701".to_owned();
        for field in [0, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0] {
            write!(head, "{field:08x}").unwrap();
        }
        out.extend(head.as_bytes());
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (name, content) in files {
        for (end, _) in name.match_indices('/') {
            entry(&name[..end], 0o040_755, &[]);
        }
        entry(name, if *name == "init" { 0o100_755 } else { 0o100_600 }, content);
    }
    entry("TRAILER!!!", 0, &[]);
    out
}

/// Appends what a server would add to `initramfs`, and `init` when this build is to be tested instead of the packed one.
fn initramfs(payload: &Path, site: &Site, api: &str, temp: &Path) -> std::path::PathBuf {
    let mut bytes = std::fs::read(payload.join("initramfs.cpio.zst")).unwrap();
    let settings = serde_json::to_vec(&site.settings(api)).unwrap();
    let mut files = BTreeMap::from([(SITE_PATH, settings), (TOKEN_PATH, b"one-time\n".to_vec())]);
    if let Some(init) = std::env::var_os("GRAVURE_INIT") {
        files.insert("init", std::fs::read(init).unwrap());
    }
    bytes.extend(cpio(&files));
    let path = temp.join("initramfs");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn boots_reports_its_hardware_survives_a_killed_agent_and_obeys_the_console() {
    let (Some(payload), Some(mut qemu)) = (payload_dir(), oracle("qemu-system-x86_64")) else { return };
    let temp = tempfile::tempdir().unwrap();
    let site = std::sync::Arc::new(Site::new());
    let ((tell, hellos), (pass, events)) = (channel(), channel());
    let of_server = std::sync::Arc::clone(&site);
    let api = site.serve(move |path, body| match path {
        "/v1/payload/hello" => {
            let hello: Hello = serde_json::from_slice(body).unwrap();
            let welcome = of_server.welcome(&hello);
            let _ = tell.send(hello);
            Answer::ok(&welcome)
        }
        "/v1/payload/plan" => {
            let reason = "nothing is planned".to_owned();
            Answer::ok(&PlanAnswer::Wait { reason, retry_seconds: 5, boot_local: false })
        }
        _ => {
            let batch: EventBatch = serde_json::from_slice(body).unwrap();
            batch.events.into_iter().for_each(|event| drop(pass.send(event)));
            Answer::Json(204, Vec::new())
        }
    });
    let port = api.rsplit(':').next().unwrap();
    let initramfs = initramfs(&payload, &site, &format!("https://10.0.2.2:{port}"), temp.path());
    let disk = temp.path().join("disk.img");
    std::fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let serial = temp.path().join("serial");
    let listener = UnixListener::bind(&serial).unwrap();
    let monitor = QmpListener::bind(&temp.path().join("qmp")).unwrap();
    arguments(&mut qemu, &payload, &initramfs, &disk, &serial);
    qemu.args(["-chardev", &monitor.argument(), "-mon", "chardev=qmp,mode=control"]);
    let mut machine = Running::start(&mut qemu, None).unwrap();
    let mut monitor = monitor.accept(machine.console()).unwrap();

    let (stream, _) = listener.accept().unwrap();
    let mut keyboard = stream.try_clone().unwrap();
    let console = Console::default();
    console.follow(stream, None);
    let wait_for = |text: &str| {
        console.wait_for(text, PATIENCE).unwrap_or_else(|error| panic!("{error:#}\n{}", console.text()))
    };
    wait_for("Gravure ");
    wait_for("Network: eth");
    let hello = hellos.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", console.text()));
    check(&hello);
    wait_for("Waiting: nothing is planned");
    wait_for("Approval code: 123456");
    // The kernel's hand on the agent: it picks the largest program it may kill. By the serial line and not by a
    // keyboard, whose driver may not be there yet.
    monitor.serial_break("s").unwrap();
    keyboard.write_all(b"f").unwrap();
    wait_for("The agent ended by signal 9; started again in 1 s");
    let again = hellos.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error}\n{}", console.text()));
    assert_eq!((again.nonce, again.token.is_some()), (hello.nonce, false), "the same boot goes on");
    let report = loop {
        let event: Event = events.recv_timeout(PATIENCE).expect("the abort is reported");
        match event.kind {
            EventKind::Known(Known::Warning { message, .. }) if message.contains("signal 9") => {
                break message;
            }
            _ => {}
        }
    };
    assert!(report.contains("Approval code: 123456"), "its last lines: {report}");
    assert!(report.contains("kernel: ") && report.contains("emory"), "the kernel's reason: {report}");
    wait_for("Waiting: nothing is planned");
    // What people can do there.
    keyboard.write_all(b"log\n").unwrap();
    wait_for("modules loaded");
    keyboard.write_all(b"off\n").unwrap();
    wait_for("Switching off");
    assert!(machine.wait(PATIENCE).unwrap().success());
}

fn arguments(qemu: &mut Command, payload: &Path, initramfs: &Path, disk: &Path, serial: &Path) {
    qemu.args(["-machine", "q35", "-m", "1024", "-nodefaults", "-display", "none", "-no-reboot"]);
    qemu.args(["-accel", accelerator().argument()]);
    qemu.arg("-kernel").arg(payload.join("vmlinuz")).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 sysrq_always_enabled BOOTIF=01-52-54-00-12-34-56"]);
    qemu.args(["-chardev", &format!("socket,id=s,path={}", serial.display()), "-serial", "chardev:s"]);
    // The adapter that has no server behind it comes first on the bus.
    qemu.args(["-device", "virtio-net-pci,mac=52:54:00:12:34:99,netdev=nobody"]);
    qemu.args(["-netdev", "socket,id=nobody,udp=127.0.0.1:9,localaddr=127.0.0.1:0"]);
    qemu.args(["-netdev", "user,id=n0", "-device", "e1000,netdev=n0,mac=52:54:00:12:34:56"]);
    qemu.args(["-drive", &format!("file={},format=raw,if=none,id=d0", disk.display())]);
    qemu.args(["-device", "ide-hd,drive=d0,serial=DISK1,bus=ide.0"]);
    qemu.args(["-device", "qemu-xhci", "-device", "usb-kbd"]);
    qemu.args(["-smbios", "type=1,serial=SN42,uuid=6b2f1c0e-93d4-4d5a-8a6e-0f4c2b7d9e31"]);
}

/// The machine that was started is the one that is reported.
fn check(hello: &Hello) {
    assert_eq!(hello.token.as_ref().map(gravure_model::Secret::reveal), Some("one-time"));
    let inventory = &hello.inventory;
    let identity = inventory.identity();
    assert_eq!(identity.uuid.as_deref(), Some("6b2f1c0e-93d4-4d5a-8a6e-0f4c2b7d9e31"));
    assert_eq!(identity.serial.as_deref(), Some("SN42"));
    assert_eq!(inventory.firmware.mode, FirmwareMode::Bios);
    let [disk] = inventory.disks.as_slice() else { panic!("{:?}", inventory.disks) };
    assert_eq!((disk.serial.as_deref(), disk.size_bytes), (Some("DISK1"), 1 << 30));
    assert_eq!((disk.transport.as_deref(), disk.removable), (Some("sata"), false));
    let nics: BTreeMap<String, Option<&str>> =
        inventory.nics.iter().map(|nic| (nic.mac.to_string(), nic.driver.as_deref())).collect();
    let expected = [("52:54:00:12:34:56", "e1000"), ("52:54:00:12:34:99", "virtio_net")];
    assert_eq!(nics, expected.map(|(mac, driver)| (mac.to_owned(), Some(driver))).into());
    assert!(inventory.pci.iter().any(|device| (device.vendor, device.device) == (0x8086, 0x100e)));
    assert!(inventory.usb.iter().any(|device| device.name.as_deref() == Some("QEMU USB Keyboard")));
    assert_eq!(inventory.memory.installed_bytes, 1 << 30);
    assert!(inventory.cpu.threads >= 1 && inventory.smbios.bios.vendor.is_some());
}
