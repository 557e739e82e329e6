//! `gravure media`: boot media for machines without PXE.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use gravure_server::{CONFIG_NAME, Config, media};
use serde::Serialize;

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
  dd if=gravure.img of=/dev/sdX bs=4M oflag=direct status=progress      write it; everything on sdX is lost

An image serves both ways, whatever it is called. It starts UEFI machines, with Secure Boot on too, and BIOS machines. The machine then asks this site's server as if it had
booted from the network; since anybody may carry a stick, it is not given a plan that needs more than `claimed` until an
operator approves it: gravure machine approve MACHINE CODE.")]
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
}

#[derive(Debug, Serialize)]
struct Made {
    image: PathBuf,
    bytes: u64,
    servers: Vec<String>,
    uefi: bool,
    bios: bool,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let Command::Build(build) = &options.command;
    let config = Config::load(&build.site.join(CONFIG_NAME))?;
    let image = build.usb.as_ref().or(build.iso.as_ref());
    let image = image.ok_or_else(|| Failure::new(ErrorKind::Usage, "no image file is named"))?;
    let medium = media::build(&config, image)?;
    let made = Made {
        image: image.clone(),
        bytes: medium.bytes,
        servers: medium.servers,
        uefi: true,
        bios: medium.bios,
    };
    output::document(common.format, &made, |made| {
        let firmware = if made.bios { "UEFI (Secure Boot too) and BIOS" } else { "UEFI (Secure Boot too)" };
        format!(
            "{}: {}, starts {firmware} machines, which then ask {}",
            made.image.display(),
            bytes(made.bytes),
            made.servers.join(" or ")
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
