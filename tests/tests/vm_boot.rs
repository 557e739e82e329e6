//! Real firmware starts the payload from our server: every way that specs/netboot.md, section 5.2 names, and what must
//! be refused. Each machine ends in the payload's first report.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gravure_e2e::{BOOT_PATIENCE, BootSite, SERVER, changed_payload, damage};
use gravure_model::Assurance;
use gravure_testkit::{
    BootOrder, Bus, Disk, Firmware, NetworkBoot, SiteDhcp, Variable, Vm, VmOptions, full_run, in_full_run,
    in_sample,
};
use serde_json::json;

/// A machine that nobody knows, on a network where our server gives the addresses.
fn alone(case: &str, firmware: Firmware, network: NetworkBoot, reference: &str) -> Result<Option<String>> {
    let dir = tempfile::tempdir()?;
    let Some(scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(None) };
    let vm = scene.switch_on("pc", firmware, network)?;
    scene.expect_registered(&vm, case, reference)?;
    Ok(Some(scene.site.log()))
}

/// The same beside a DHCP server that is not ours and knows nothing of booting.
fn beside(case: &str, firmware: Firmware, network: NetworkBoot, reference: &str) -> Result<Option<String>> {
    let dir = tempfile::tempdir()?;
    let Some(scene) = BootSite::new(SiteDhcp::Proxy, dir.path())? else { return Ok(None) };
    let Some(foreign) = scene.foreign_dhcp()? else { return Ok(None) };
    let vm = scene.switch_on("pc", firmware, network)?;
    scene.expect_registered(&vm, case, reference)?;
    ensure!(
        foreign.log().contains("DHCPACK(eth0) 10.77.0."),
        "the foreign server gave no address:\n{}",
        foreign.log()
    );
    let wanted =
        ["saw DISCOVER from ", "because of rule", "boot menu: nothing planned", "the payload reported in"];
    scene.site.journal_with(&vm.mac, &wanted).with_context(|| case.to_owned())?;
    Ok(Some(scene.site.log()))
}

/// Ways to boot of which quick runs take one, chosen by the seed.
const SAMPLED: u64 = 3;

#[test]
fn bios_ipxe_by_http() -> Result<()> {
    if !in_sample(0, SAMPLED) {
        return Ok(());
    }
    alone("a4, BIOS", Firmware::Bios, NetworkBoot::Pxe, "4.3 s").map(drop)
}

/// iPXE fetches everything by TFTP, script included, and waits neither for a router nor for a proxy: a router advertisement comes at
/// once, and option 175.176 says that no proxy will.
#[test]
fn bios_ipxe_by_tftp() -> Result<()> {
    if !in_full_run("a3") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(()) };
    // The script it is offered by HTTP has it fetch the same again by TFTP, and that goes on from there.
    let boot = format!("tftp://{SERVER}/boot");
    let script = format!(
        "#!ipxe\nisset ${{again}} && goto files ||\nset again yes\nchain tftp://{SERVER}/boot.ipxe || goto failed\n:files\n\
         kernel --name vmlinuz {boot}/vmlinuz console=ttyS0,115200 quiet || goto failed\n\
         initrd --name site.cpio {boot}/site.cpio || goto failed\n\
         initrd --name initramfs.cpio.zst {boot}/initramfs.cpio.zst || goto failed\nboot || goto failed\n\
         :failed\necho a3 failed\nexit 1\n"
    );
    scene.set_ipxe_script(&script)?;
    let wire = scene.site.lab().watch("icmp6 or udp port 67 or udp port 68")?;
    let vm = scene.switch_on("pc", Firmware::Bios, NetworkBoot::Pxe)?;
    scene.expect_registered(&vm, "a3, BIOS iPXE by TFTP", "5.0 s")?;
    let log = scene.site.log();
    for name in ["boot.ipxe", "boot/vmlinuz", "boot/site.cpio", "boot/initramfs.cpio.zst"] {
        let sent = |line: &str| line.contains("sent by TFTP") && line.contains(name);
        ensure!(log.lines().any(sent), "{name} did not come by TFTP:\n{log}");
    }
    let packets = wire.console().text();
    ensure!(packets.contains("router advertisement"), "no router advertisement:\n{packets}");
    // iPXE's own options, as tcpdump shows what it has no name for: sub-option 176, one byte, 1.
    ensure!(packets.contains("176.1.1") || packets.contains("b00101"), "no option 175.176 = 1:\n{packets}");
    Ok(())
}

#[test]
fn uefi_pxe() -> Result<()> {
    if !in_full_run("b2; the machine with Secure Boot takes the same way") {
        return Ok(());
    }
    let Some(log) = alone("b2, UEFI PXE", Firmware::Uefi, NetworkBoot::Pxe, "9.7-10.1 s")? else {
        return Ok(());
    };
    // edk2 asks for the size first and hangs up; that is no failure, and shim is sent once.
    let sent = log.lines().filter(|line| line.contains("sent by TFTP") && line.contains("shimx64.efi"));
    ensure!(sent.count() == 1, "{log}");
    Ok(())
}

#[test]
fn uefi_http() -> Result<()> {
    if !in_full_run("c1; the machine with Secure Boot takes the same way") {
        return Ok(());
    }
    let log = alone("c1, UEFI HTTP boot", Firmware::Uefi, NetworkBoot::Http, "9.0 s")?;
    ensure!(log.is_none_or(|log| !log.contains("sent by TFTP")), "a file came by TFTP");
    Ok(())
}

#[test]
fn uefi_pxe_over_ipv6() -> Result<()> {
    if !in_sample(1, SAMPLED) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(scene) = BootSite::new(SiteDhcp::FullAnd6, dir.path())? else { return Ok(()) };
    let vm = scene.switch_on("pc", Firmware::Uefi, NetworkBoot::Pxe6)?;
    scene.expect_registered(&vm, "b8, UEFI PXE over IPv6", "13.6 s")?;
    let log = scene.site.log();
    // The loaders came that way; the payload then speaks IPv4.
    let loader = log.lines().find(|line| line.contains("sent by TFTP") && line.contains("grubx64.efi"));
    ensure!(loader.is_some_and(|line| line.contains("peer=[fd77::67:")), "{log}");
    Ok(())
}

#[test]
fn secure_boot_by_pxe() -> Result<()> {
    if !in_full_run("d1; the deployment of a machine with Secure Boot begins with it") {
        return Ok(());
    }
    alone("d1, Secure Boot, PXE", Firmware::UefiSecureBoot, NetworkBoot::Pxe, "11.0 s").map(drop)
}

#[test]
fn secure_boot_by_http() -> Result<()> {
    let log = alone("d2, Secure Boot, HTTP boot", Firmware::UefiSecureBoot, NetworkBoot::Http, "10.2 s")?;
    ensure!(log.is_none_or(|log| !log.contains("sent by TFTP")), "a file came by TFTP");
    Ok(())
}

#[test]
fn uefi_pxe_beside_a_foreign_dhcp_server() -> Result<()> {
    let log =
        beside("b7, UEFI, ProxyDHCP in one phase", Firmware::Uefi, NetworkBoot::Pxe, "16.3 s under load")?;
    // The answer on port 67 is enough.
    ensure!(log.is_none_or(|log| !log.contains("4011")), "the firmware went to port 4011");
    Ok(())
}

#[test]
fn uefi_http_beside_a_foreign_dhcp_server() -> Result<()> {
    if !in_full_run("c3") {
        return Ok(());
    }
    beside("c3, UEFI HTTP boot by ProxyDHCP", Firmware::Uefi, NetworkBoot::Http, "9.2 s").map(drop)
}

#[test]
fn bios_beside_a_foreign_dhcp_server() -> Result<()> {
    if !in_full_run("a4 by ProxyDHCP") {
        return Ok(());
    }
    beside("a4, BIOS, ProxyDHCP", Firmware::Bios, NetworkBoot::Pxe, "4.3 s").map(drop)
}

/// GRUB's connections have the same ports at every boot; a server that still holds them makes the second boot hang.
#[test]
fn the_same_machine_boots_again_at_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(()) };
    // A machine that is known and has nothing planned would start from its disk.
    scene.set_grub_menu(
        "set timeout=0\nmenuentry Payload {\n  linux $base/boot/vmlinuz console=ttyS0,115200 quiet\n  \
         initrd $base/boot/site.cpio $base/boot/initramfs.cpio.zst\n}\n",
    )?;
    let mut vm = scene.switch_on("pc", Firmware::Uefi, NetworkBoot::Pxe)?;
    scene.expect_registered(&vm, "first boot", "b2: 9.7-10.1 s")?;
    vm.wait_for("knows this machine as", BOOT_PATIENCE)?;
    let rounds: &[&str] = if full_run() { &["second boot", "third boot"] } else { &["second boot"] };
    for round in rounds {
        vm.qmp().execute("system_reset", &json!({}))?;
        vm.wait_for("knows this machine as", BOOT_PATIENCE)?;
        ensure!(!vm.console().text().contains("Gravure by TFTP"), "{round}: HTTP did not work again");
    }
    Ok(())
}

/// An `[[entry]]` with kernel, initial file system and command line, chosen by a rule: by GRUB on UEFI, by iPXE on BIOS.
fn own_entry(case: &str, firmware: Firmware) -> Result<()> {
    const MARK: &str = "gravure.test=own-entry";
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(()) };
    scene.add_own_entry("own", &format!("console=ttyS0,115200 {MARK}"))?;
    let vm = scene.switch_on("pc", firmware, NetworkBoot::Pxe)?;
    // The kernel repeats its command line; the payload in the initial file system misses the part that names its site, which no
    // entry has.
    vm.wait_for(MARK, BOOT_PATIENCE)?;
    vm.wait_for("site.json", BOOT_PATIENCE)?;
    let wanted = [
        "boot menu: own, as chosen",
        "fetched extra/own/vmlinuz by HTTP",
        "fetched extra/own/initramfs.cpio.zst by HTTP",
    ];
    let journal = scene.site.journal_with(&vm.mac, &wanted).with_context(|| case.to_owned())?;
    ensure!(
        !journal.contains("fetched boot/vmlinuz"),
        "{case}: the payload was started, not the entry:\n{journal}"
    );
    Ok(())
}

#[test]
fn an_entry_of_the_sites_own_starts_on_bios() -> Result<()> {
    if !in_sample(2, SAMPLED) {
        return Ok(());
    }
    own_entry("own entry, BIOS", Firmware::Bios)
}

#[test]
fn an_entry_of_the_sites_own_starts_on_uefi() -> Result<()> {
    if !in_full_run("an entry by GRUB; quick runs start one by iPXE") {
        return Ok(());
    }
    own_entry("own entry, UEFI", Firmware::Uefi)
}

#[test]
fn three_machines_at_once() -> Result<()> {
    if !in_full_run("e, three machines at once") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(()) };
    let machines = ["one", "two", "three"]
        .map(|name| scene.switch_on(name, Firmware::Uefi, NetworkBoot::Pxe))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for (vm, reference) in machines.iter().zip(["19.7 s", "20.1 s", "20.9 s"]) {
        vm.wait_for("knows this machine as", BOOT_PATIENCE)?;
        scene.expect_registered(vm, "e, one of three", reference)?;
    }
    Ok(())
}

/// Nobody gives addresses: the journal says what was offered, and the machine is not left in the dark.
#[test]
fn a_proxy_without_a_dhcp_server_says_so() -> Result<()> {
    if !in_full_run("a proxy alone") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = BootSite::new(SiteDhcp::Proxy, dir.path())? else { return Ok(()) };
    let vm = scene.switch_on("pc", Firmware::Uefi, NetworkBoot::Pxe)?;
    let server = scene.site.server().console().clone();
    server.wait_for("the client asked again without taking any offer", BOOT_PATIENCE)?;
    scene.site.journal_with(&vm.mac, &["-> either no DHCP server of this network gives an address"])?;
    // A DHCP server that comes late is soon enough: the firmware asks again.
    server.wait_for("saw DISCOVER from PXEClient arch 7", BOOT_PATIENCE)?;
    let Some(_foreign) = scene.foreign_dhcp()? else { return Ok(()) };
    scene.expect_registered(&vm, "b7, DHCP server late", "none")
}

/// What Secure Boot must refuse, with the words of firmware, shim and GRUB (specs/netboot.md, 3.6).
fn refused(file: &str, words: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(payload) = changed_payload(dir.path(), |copy| damage(&copy.join(file)))? else { return Ok(()) };
    let Some(scene) = BootSite::serving(&payload, SiteDhcp::Full, dir.path())? else { return Ok(()) };
    let vm = scene.switch_on("pc", Firmware::UefiSecureBoot, NetworkBoot::Pxe)?;
    vm.wait_for(words, BOOT_PATIENCE)?;
    ensure!(!scene.site.log().contains("machine registered"), "a changed {file} was started");
    Ok(())
}

#[test]
fn a_changed_first_loader_is_refused_by_firmware() -> Result<()> {
    if !in_full_run("d5") {
        return Ok(());
    }
    refused("pxe/shimx64.efi", "Access Denied")
}

/// The other half of d5: firmware that refused what came from the network goes on with what is next in its list, here a disk whose
/// loaders are good.
#[test]
fn firmware_goes_on_after_a_loader_it_refused() -> Result<()> {
    if !in_full_run("d5, the next entry") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(payload) = changed_payload(dir.path(), |_| Ok(()))? else { return Ok(()) };
    let media = gravure_testkit::payload_dir().map(|built| built.join("media"));
    if let Some(media) = media.filter(|media| media.is_dir()) {
        std::fs::create_dir_all(payload.join("media"))?;
        for entry in std::fs::read_dir(media)? {
            let entry = entry?;
            std::fs::copy(entry.path(), payload.join("media").join(entry.file_name()))?;
        }
    }
    let Some(scene) = BootSite::serving(&payload, SiteDhcp::Full, dir.path())? else { return Ok(()) };
    let stick = dir.path().join("stick.img");
    let site = scene.site.dir().display().to_string();
    scene.site.run(&["media", "build", "--usb", &stick.display().to_string(), "--site", &site])?;
    // What is on the stick is good; what is served from now on is not.
    damage(&payload.join("pxe/shimx64.efi"))?;
    let mut options = VmOptions::new("pc", Firmware::UefiSecureBoot);
    options.disk = Some(Disk::existing(&stick, Bus::Usb));
    options.boot = BootOrder::NetworkFirst;
    let vm = scene.switch_on_with(&options)?;
    vm.wait_for("Access Denied", BOOT_PATIENCE)?;
    scene.expect_registered(&vm, "d5, the next entry", "none")?;
    let log = scene.site.log();
    ensure!(
        log.contains("shimx64.efi") && !log.contains("grubx64.efi"),
        "GRUB came from the network:\n{log}"
    );
    let report = scene.site.machine(&vm.mac)?;
    ensure!(report.assurance == Assurance::Claimed, "it came from the stick, found {}", report.assurance);
    Ok(())
}

#[test]
fn a_changed_grub_is_refused_by_shim() -> Result<()> {
    if !in_full_run("d6") {
        return Ok(());
    }
    refused("pxe/grubx64.efi", "Verification failed: (0x1A) Security Violation")
}

#[test]
fn a_changed_kernel_is_refused_by_grub() -> Result<()> {
    refused("vmlinuz", "bad shim signature")
}

/// A machine with Secure Boot on whose owner enrolled the site's key, and how it starts the image that key signed.
fn signed(
    dir: &Path,
    chain: &str,
    https: bool,
    enrol: fn(Vec<u8>) -> Vec<Variable>,
) -> Result<Option<(BootSite, Vm)>> {
    let Some(mut scene) = BootSite::new(SiteDhcp::Full, dir)? else { return Ok(None) };
    scene.use_signed_image(chain, https)?;
    let variables = enrol(scene.key_file("secureboot/site.esl")?);
    let https_authorities = https.then(|| scene.site.dir().join("keys/https.esl"));
    let network = NetworkBoot::Http;
    let options =
        VmOptions { network, variables, https_authorities, ..VmOptions::new("pc", Firmware::UefiSecureBoot) };
    let vm = scene.switch_on_with(&options)?;
    Ok(Some((scene, vm)))
}

fn mok(list: Vec<u8>) -> Vec<Variable> {
    vec![Variable::mok_list(list)]
}

fn db(list: Vec<u8>) -> Vec<Variable> {
    vec![Variable::db(list)]
}

#[test]
fn a_signed_image_behind_shim_by_http() -> Result<()> {
    if !in_sample(0, 2) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let case = "d3, Secure Boot, HTTP boot, shim and signed image, key in MokList";
    let Some((scene, vm)) = signed(dir.path(), "shim-uki", false, mok)? else { return Ok(()) };
    scene.expect_registered(&vm, case, "10.4 s")?;
    let log = scene.site.log();
    ensure!(!log.contains("sent by TFTP") && !log.contains("grub.cfg"), "{log}");
    // What it is told when it comes again and nothing is planned: to start from its disk.
    scene.site.journal_with(&vm.mac, &["fetched uki/grubx64.efi by HTTP"])?;
    Ok(())
}

#[test]
fn a_signed_image_alone_by_https() -> Result<()> {
    if !in_sample(1, 2) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let case = "c5, Secure Boot, HTTPS boot, signed image, key in db";
    let Some((scene, vm)) = signed(dir.path(), "uki", true, db)? else { return Ok(()) };
    scene.expect_registered(&vm, case, "11.2-12.0 s")?;
    scene.site.journal_with(&vm.mac, &["fetched uki/gravure.efi by HTTPS"])?;
    Ok(())
}

#[test]
fn a_signed_image_is_refused_where_its_key_is_not_enrolled() -> Result<()> {
    if !in_full_run("the negative of d3") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some((scene, vm)) = signed(dir.path(), "shim-uki", false, |_| Vec::new())? else { return Ok(()) };
    vm.wait_for("Verification failed: (0x1A) Security Violation", BOOT_PATIENCE)?;
    ensure!(!scene.site.log().contains("machine registered"), "{}", scene.site.log());
    Ok(())
}

/// shim would fetch the image twice over TFTP, and firmware is told nothing there.
#[test]
fn a_signed_image_never_goes_over_tftp() -> Result<()> {
    if !in_full_run("d4") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let Some(mut scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(()) };
    scene.use_signed_image("shim-uki", false)?;
    let vm = scene.switch_on("pc", Firmware::UefiSecureBoot, NetworkBoot::Pxe)?;
    scene.site.server().console().wait_for("switch the firmware from PXE to HTTP boot", BOOT_PATIENCE)?;
    scene.site.journal_with(&vm.mac, &["switch the firmware from PXE to HTTP boot"])?;
    ensure!(!scene.site.log().contains("sent by TFTP"), "{}", scene.site.log());
    Ok(())
}

/// Block numbers of TFTP roll over after 65535: GRUB fetches more than that by TFTP alone.
#[test]
fn a_hundred_megabytes_by_tftp() -> Result<()> {
    /// Zeros behind an initramfs mean nothing to the kernel.
    const PADDING_BYTES: u64 = 100 << 20;
    if !in_full_run("100 MB by TFTP") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let padded = changed_payload(dir.path(), |copy| {
        let file = std::fs::File::create(copy.join("padding"))?;
        Ok(file.set_len(PADDING_BYTES)?)
    })?;
    let Some(payload) = padded else { return Ok(()) };
    let Some(mut scene) = BootSite::serving(&payload, SiteDhcp::Full, dir.path())? else { return Ok(()) };
    let base = format!("(tftp,{SERVER})");
    let menu = format!(
        "set timeout=0\nmenuentry TFTP {{\n  linux {base}/boot/vmlinuz console=ttyS0,115200 quiet\n  \
         initrd {base}/boot/site.cpio {base}/boot/initramfs.cpio.zst {base}/boot/padding\n}}\n"
    );
    scene.set_grub_menu(&menu)?;
    let vm = scene.switch_on("pc", Firmware::Uefi, NetworkBoot::Pxe)?;
    let sent =
        scene.site.server().console().wait_for("/boot/padding", BOOT_PATIENCE + Duration::from_secs(60))?;
    ensure!(sent.contains(&format!("bytes={PADDING_BYTES}")), "{sent}");
    scene.expect_registered(&vm, "100 MB by TFTP", "none")
}

/// Whether the addresses on a stick are those of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addresses {
    Right,
    /// The server has moved since the stick was made.
    Old,
}

/// A stick or disc instead of PXE: the same payload, which finds the server by what is on the stick, or else by the name of its service.
fn from_a_medium(case: &str, firmware: Firmware, bus: Bus, addresses: Addresses) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(scene) = BootSite::new(SiteDhcp::Full, dir.path())? else { return Ok(()) };
    let stick = dir.path().join("stick.img");
    let site = scene.site.dir().display().to_string();
    let config = scene.site.dir().join("gravure.toml");
    let right = std::fs::read_to_string(&config)?;
    if addresses == Addresses::Old {
        // The running server has read its configuration already.
        let old = right.replace("api = 8443", "api = 8449");
        ensure!(old != right, "no port of the API in {right}");
        std::fs::write(&config, old)?;
    }
    let kind = if bus == Bus::Disc { "--iso" } else { "--usb" };
    scene.site.run(&["media", "build", kind, &stick.display().to_string(), "--site", &site])?;
    std::fs::write(&config, right)?;
    let mut options = VmOptions::new("pc", firmware);
    options.disk = Some(Disk::existing(&stick, bus));
    options.boot = BootOrder::DiskOnly;
    let vm = scene.site.lab().start_vm(&options, dir.path())?;
    scene.expect_registered(&vm, case, "none")?;
    let report = scene.site.machine(&vm.mac)?;
    ensure!(report.assurance == Assurance::Claimed, "a stick proves nothing, found {}", report.assurance);
    let log = scene.site.log();
    ensure!(
        !log.contains("sent by TFTP") && !log.contains("saw DISCOVER from PXEClient"),
        "it came by PXE: {log}"
    );
    Ok(())
}

#[test]
fn secure_boot_from_a_stick() -> Result<()> {
    if !in_sample(2, SAMPLED) {
        return Ok(());
    }
    from_a_medium("USB stick, Secure Boot", Firmware::UefiSecureBoot, Bus::Usb, Addresses::Right)
}

#[test]
fn bios_from_a_stick() -> Result<()> {
    if !in_full_run("BIOS machine from a stick") {
        return Ok(());
    }
    from_a_medium("USB stick, BIOS, old addresses", Firmware::Bios, Bus::Usb, Addresses::Old)
}

#[test]
fn secure_boot_from_a_disc() -> Result<()> {
    if !in_full_run("UEFI machine from a disc") {
        return Ok(());
    }
    from_a_medium("disc, Secure Boot", Firmware::UefiSecureBoot, Bus::Disc, Addresses::Right)
}

#[test]
fn bios_from_a_disc() -> Result<()> {
    if !in_full_run("BIOS machine from a disc") {
        return Ok(());
    }
    from_a_medium("disc, BIOS", Firmware::Bios, Bus::Disc, Addresses::Right)
}
