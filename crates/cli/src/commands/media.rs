//! `gravure media`: boot media for machines without PXE.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use gravure_model::Assurance;
use gravure_model::identity::MachineSelector;
use gravure_model::job::{Afterwards, DiskRule, JobRequest};
use gravure_server::{CONFIG_NAME, Config, media};
use serde::Serialize;

use super::serve;
use crate::Common;
use crate::exit::Failure;
use crate::output::{self, bytes};
use gravure_imaging::ErrorKind;

/// Make boot media for machines that cannot boot from the network
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Build),
}

/// Make the image of a USB stick or disc that starts this site's payload
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure media build --usb gravure.img --site /srv/gravure
  gravure media build --iso gravure.iso --site /srv/gravure             the same for management boards and virtual machines
  gravure media build --usb lab.img --site /srv/gravure --image debian.wim --name 'lab-{serial:-6}' --expires 30d
                                                                        deploys without a server
  dd if=gravure.img of=/dev/sdX bs=4M oflag=direct status=progress      write it; everything on sdX is lost

An image serves both ways, whatever it is called. It starts UEFI machines, with Secure Boot on too, and BIOS machines. The machine then asks this site's server as if it had
booted from the network; since anybody may carry a stick, it is not given a plan that needs more than `claimed` until an
operator approves it: gravure machine approve MACHINE CODE.

A medium knows the addresses that the server has now. When none of them answers, it asks where the server is by DNS-SD, and tries the boot
server that the site's DHCP names (next-server or option 66), which also works behind routers. Whoever answers has to prove that it is the
server of this site.

With --image the medium brings the image and an order signed by the site's plan key, and needs no server: chosen in its menu, it deploys
to the one disk of the machine that is empty (--wipe: or not), shows what it does, verifies, and switches the machine off. It cannot be
called back and counts no machines, so it ends by itself (--expires), and it never holds secrets.")]
struct Build {
    /// The image file to make, for a stick
    #[arg(long, value_name = "FILE", required_unless_present = "iso", conflicts_with = "iso")]
    usb: Option<PathBuf>,
    /// The image file to make, for a disc
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,
    /// Directory of the site
    #[arg(long, value_name = "DIR", env = "GRAVURE_SITE", default_value = ".")]
    site: PathBuf,
    /// Deploy this image file of the site's image directory without a server; :N for its Nth image
    #[arg(long, value_name = "FILE[:N]", value_parser = super::plan::parse_image, requires_all = ["name", "expires"])]
    image: Option<(String, u32)>,
    /// Host name of the machines; {serial}, {uuid}, {mac}, {model} and {asset} are filled in
    #[arg(long, value_name = "TEMPLATE", requires = "image")]
    name: Option<String>,
    /// When the medium stops deploying, from now: 12h, 30d
    #[arg(long, value_name = "SPAN", value_parser = super::site::parse_span, requires = "image")]
    expires: Option<i64>,
    /// Only this machine: MAC address or SMBIOS UUID
    #[arg(long, value_name = "MAC|UUID|any", default_value = "any", requires = "image")]
    machine: MachineSelector,
    /// Target disk: only, smallest, largest, serial=NUMBER or name=vda
    #[arg(long, value_name = "RULE", default_value = "only", value_parser = super::plan::parse_disk, requires = "image")]
    disk: DiskRule,
    /// Data on the target disk may be destroyed
    #[arg(long, requires = "image")]
    wipe: bool,
    /// Begin after ten seconds instead of when somebody chooses it in the medium's menu
    #[arg(long, requires = "image")]
    unattended: bool,
}

impl Build {
    fn order(&self) -> Option<media::OfflineOrder> {
        let (image, image_index) = self.image.clone()?;
        let request = JobRequest {
            machine: self.machine.clone(),
            image,
            image_index,
            name: self.name.clone()?,
            disk: self.disk.clone(),
            // Nobody is there to whom a machine could prove more.
            assurance: Assurance::Claimed,
            expires: None,
            max_machines: None,
            // Starting again would start the medium again.
            then: Afterwards::PowerOff,
            wipe: self.wipe,
            windows: None,
            capture: None,
        };
        Some(media::OfflineOrder { request, lifetime_seconds: self.expires?, unattended: self.unattended })
    }
}

#[derive(Debug, Serialize)]
struct Made {
    image: PathBuf,
    bytes: u64,
    servers: Vec<String>,
    uefi: bool,
    bios: bool,
    /// The image it deploys without a server.
    deploys: Option<String>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let Command::Build(build) = &options.command;
    let config = Config::load(&build.site.join(CONFIG_NAME))?;
    let image = build.usb.as_ref().or(build.iso.as_ref());
    let image = image.ok_or_else(|| Failure::new(ErrorKind::Usage, "no image file is named"))?;
    let order = build.order();
    let medium = match &order {
        None => media::build(&config, image)?,
        Some(order) => {
            let made = media::build_offline(&config, image, order, Arc::new(serve::describe));
            serve::runtime()?.block_on(made)?
        }
    };
    let made = Made {
        image: image.clone(),
        bytes: medium.bytes,
        servers: medium.servers,
        uefi: true,
        bios: medium.bios,
        deploys: order.map(|order| order.request.image),
    };
    output::document(common.format, &made, |made| {
        let firmware = if made.bios { "UEFI (Secure Boot too) and BIOS" } else { "UEFI (Secure Boot too)" };
        let then = match &made.deploys {
            None => format!("which then ask {}", made.servers.join(" or ")),
            Some(image) => format!("and deploys {image} to them without a server"),
        };
        format!("{}: {}, starts {firmware} machines, {then}", made.image.display(), bytes(made.bytes))
    })?;
    Ok(ExitCode::SUCCESS)
}
