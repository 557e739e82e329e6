//! A site whose machines only have to start the payload: what network boot tests share.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use gravure_model::api::MachineState;
use gravure_testkit::{
    Firmware, ForeignDhcp, HOST_ADDRESS, Lab, NetworkBoot, Site, SiteDhcp, SiteSetup, Vm, VmOptions,
    can_make_labs, gravure_program, oracle, payload_dir,
};

use crate::BOOT_PATIENCE;

/// A running site without images.
#[derive(Debug)]
pub struct BootSite {
    /// The server and its lab.
    pub site: Site,
    dir: PathBuf,
    started: Instant,
}

impl BootSite {
    /// Starts a site in `dir`, serving the payload that was built; `None` after a loud skip when something is missing.
    pub fn new(dhcp: SiteDhcp, dir: &Path) -> Result<Option<Self>> {
        let Some(payload) = payload_dir() else { return Ok(None) };
        Self::serving(&payload, dhcp, dir)
    }

    /// The same with boot files of one's own.
    pub fn serving(payload: &Path, dhcp: SiteDhcp, dir: &Path) -> Result<Option<Self>> {
        let Some(program) = gravure_program() else { return Ok(None) };
        if oracle("qemu-system-x86_64").is_none() || !can_make_labs() {
            return Ok(None);
        }
        let setup = SiteSetup { program: &program, payload, dir: &dir.join("site"), image: None, dhcp };
        let site = Site::start(Lab::new()?, &setup)?;
        Ok(Some(Self { site, dir: dir.to_owned(), started: Instant::now() }))
    }

    /// Replaces the menu that GRUB gets for each machine, as an operator would.
    pub fn set_grub_menu(&mut self, text: &str) -> Result<()> {
        self.set_template("grub-machine.cfg", text)
    }

    /// The same for the script of machines that run iPXE.
    pub fn set_ipxe_script(&mut self, text: &str) -> Result<()> {
        self.set_template("machine.ipxe", text)
    }

    fn set_template(&mut self, name: &str, text: &str) -> Result<()> {
        let dir = self.site.dir().join("pxe");
        std::fs::create_dir_all(&dir).context("cannot make the directory for templates")?;
        std::fs::write(dir.join(name), text).context("cannot write the template")?;
        self.site.restart_server()
    }

    /// Adds an entry of the site's own, made of kernel and initramfs of the payload, that every machine starts at once.
    pub fn add_own_entry(&mut self, name: &str, arguments: &str) -> Result<()> {
        let Some(payload) = payload_dir() else { anyhow::bail!("no payload") };
        let extra = self.site.dir().join("extra").join(name);
        std::fs::create_dir_all(&extra).context("cannot make the directory of the entry")?;
        for file in ["vmlinuz", "initramfs.cpio.zst"] {
            std::fs::copy(payload.join(file), extra.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let path = self.site.dir().join("gravure.toml");
        let old = std::fs::read_to_string(&path).context("cannot read the configuration")?;
        let entry = format!(
            "\n[[entry]]\nname = \"{name}\"\ntitle = \"{name}\"\nfile = \"{name}/vmlinuz\"\n\
             initrd = [\"{name}/initramfs.cpio.zst\"]\narguments = \"{arguments}\"\n\n\
             [[rule]]\nname = \"all start {name}\"\nboot = \"{name}\"\n"
        );
        std::fs::write(&path, old + &entry).context("cannot write the configuration")?;
        self.site.restart_server()
    }

    /// Makes the image that the site's own key signs, and has UEFI machines start it by `chain`.
    pub fn use_signed_image(&mut self, chain: &str, https: bool) -> Result<()> {
        let dir = self.site.dir().to_owned();
        self.site.run(&["init", "--uki", "--dir", &dir.display().to_string()])?;
        let path = dir.join("gravure.toml");
        let old = std::fs::read_to_string(&path).context("cannot read the configuration")?;
        let new = old.replace("chain = \"grub\"", &format!("chain = \"{chain}\""));
        let new = new.replace("https = false", &format!("https = {https}"));
        anyhow::ensure!(new != old, "no chain in {old}");
        std::fs::write(&path, new).context("cannot write the configuration")?;
        self.site.restart_server()
    }

    /// A file among the site's keys.
    pub fn key_file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.site.dir().join("keys").join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Switches a machine on that nobody knows yet.
    pub fn switch_on(&self, name: &str, firmware: Firmware, network: NetworkBoot) -> Result<Vm> {
        self.switch_on_with(&VmOptions { network, ..VmOptions::new(name, firmware) })
    }

    /// The same with more to say about the machine.
    pub fn switch_on_with(&self, options: &VmOptions) -> Result<Vm> {
        self.site.lab().start_vm(options, &self.dir)
    }

    /// Waits until the payload of `vm` has reported its inventory, and prints how long the boot took beside what
    /// specs/netboot.md, section 5.2 measured for the case.
    pub fn expect_registered(&self, vm: &Vm, case: &str, reference: &str) -> Result<()> {
        let waited = self.site.wait_for_state(MachineState::Registered, BOOT_PATIENCE);
        waited.with_context(|| {
            let server = self.site.log();
            format!(
                "{case}: the server said:\n{server}\nthe machine's screen:\n{}",
                vm.console().last_lines()
            )
        })?;
        let took = self.started.elapsed().as_secs_f64();
        println!("{case}: payload reported after {took:.1} s; reference, until init: {reference}");
        let machine = self.site.machine(&vm.mac)?;
        anyhow::ensure!(machine.inventory.is_some(), "{case}: no inventory of {}", vm.mac);
        Ok(())
    }

    /// A DHCP server that is not ours, on the same network. `None` after a loud skip.
    pub fn foreign_dhcp(&self) -> Result<Option<ForeignDhcp>> {
        ForeignDhcp::start(self.site.lab(), &self.dir)
    }
}

/// A copy of the built boot files in which `change` may replace some.
pub fn changed_payload(dir: &Path, change: impl FnOnce(&Path) -> Result<()>) -> Result<Option<PathBuf>> {
    let Some(payload) = payload_dir() else { return Ok(None) };
    let copy = dir.join("payload");
    for part in ["", "pxe"] {
        std::fs::create_dir_all(copy.join(part)).context("cannot make a directory for boot files")?;
        for entry in std::fs::read_dir(payload.join(part)).context("cannot list the payload")? {
            let entry = entry.context("cannot list the payload")?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let to = copy.join(part).join(entry.file_name());
                std::fs::copy(entry.path(), to).context("cannot copy a boot file")?;
            }
        }
    }
    change(&copy)?;
    Ok(Some(copy))
}

/// Flips a byte in the middle of a file: its signature no longer fits.
pub fn damage(file: &Path) -> Result<()> {
    let mut bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// The address machines reach the server at.
pub const SERVER: &str = HOST_ADDRESS;
