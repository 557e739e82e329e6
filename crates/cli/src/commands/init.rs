//! `gravure init`: makes a site.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use gravure_server::secure_boot::{self, SignedImage};
use gravure_server::{CONFIG_NAME, Config, Dhcp, InitOptions};

use crate::exit::Failure;
use crate::output;
use crate::{Common, commands::serve};

/// Make the directory of a new site: configuration, keys, database, the first operator's token
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure init --dir /srv/gravure --interface enp1s0
  gravure init --dir /srv/gravure --interface enp1s0 --dhcp full --pool 10.77.0.100-10.77.0.200
  gravure init --dir /srv/gravure --listen 10.77.0.1 --name workshop --boot-dir target/payload
  gravure init --dir /srv/gravure --interface enp1s0 --boot-dir target/payload --uki   with a Secure Boot key of its own
  gravure init --dir /srv/gravure --uki         for a site that is there: makes its signed image (again)

Nothing that is there is overwritten, except the signed image by --uki: make it again after each new payload. The files to enrol
are in keys/secureboot; its site.key is needed only for that image and belongs off this machine too.
 The site's root key (keys/root.key) signs the plan key and is needed again only to
replace that: move it to a place off this machine.")]
pub(crate) struct Options {
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", conflicts_with = "interface")]
    listen: Option<Ipv4Addr>,
    /// Interface to serve on [default: the only one]
    #[arg(long, value_name = "INTERFACE")]
    interface: Option<String>,
    /// Name of the site, shown in boot menus
    #[arg(long)]
    name: Option<String>,
    /// proxy: beside the DHCP server that is there; full: gives addresses too; off
    #[arg(long, value_name = "MODE", default_value = "proxy", value_parser = parse_dhcp)]
    dhcp: Dhcp,
    /// Addresses to give with --dhcp full
    #[arg(long, value_name = "FIRST-LAST")]
    pool: Option<String>,
    /// Network boot over IPv6 too: DHCPv6 and router advertisements, where no other server does that
    #[arg(long)]
    ipv6: bool,
    /// Kernel, initramfs and boot loaders, as `cargo xtask payload` makes them
    #[arg(long, value_name = "DIR", visible_alias = "payload")]
    boot_dir: Option<PathBuf>,
    /// Sign kernel, initramfs and command line as one image by a key of the site's own, which is enrolled in each machine; UEFI
    /// machines then start that and nothing else, by HTTP boot
    #[arg(long)]
    uki: bool,
}

#[derive(Debug, serde::Serialize)]
struct Signed {
    image: PathBuf,
    bytes: u64,
    key: PathBuf,
    enrol: PathBuf,
}

impl Signed {
    fn of(signed: SignedImage) -> Self {
        Self { image: signed.path, bytes: signed.bytes, key: signed.key, enrol: signed.enrol }
    }

    fn text(&self) -> String {
        format!(
            "Signed image: {} ({})\n  Files to enrol in each machine: {}\n  Its key: {}\n  Move that off this machine; it is needed for new images.\n",
            self.image.display(),
            output::bytes(self.bytes),
            self.enrol.display(),
            self.key.display()
        )
    }
}

#[derive(Debug, serde::Serialize)]
struct Made {
    dir: PathBuf,
    server: String,
    root_key: PathBuf,
    token: String,
    signed: Option<Signed>,
}

fn parse_dhcp(text: &str) -> Result<Dhcp, String> {
    match text {
        "proxy" => Ok(Dhcp::Proxy),
        "full" => Ok(Dhcp::Full),
        "off" => Ok(Dhcp::Off),
        _ => Err("expected proxy, full or off".to_owned()),
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let config = options.dir.join(CONFIG_NAME);
    if options.uki && config.is_file() {
        let signed = Signed::of(secure_boot::build(&Config::load(&config)?)?);
        output::document(common.format, &signed, |signed| {
            let chain =
                "UEFI machines start it when [boot] in gravure.toml says chain = \"shim-uki\" or \"uki\".\n";
            format!("{}{chain}", signed.text())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = InitOptions {
        dir: options.dir.clone(),
        listen: options.listen,
        interface: options.interface.clone(),
        name: options.name.clone(),
        dhcp: Some(options.dhcp),
        pool: options.pool.clone(),
        ipv6: options.ipv6,
        boot_dir: options.boot_dir.clone(),
        uki: options.uki,
    };
    let site = serve::runtime()?.block_on(gravure_server::init(&wanted))?;
    let token = site.token.reveal().to_owned();
    let signed = site.signed.map(Signed::of);
    let made = Made { dir: site.dir, server: site.server, root_key: site.root_key, token, signed };
    output::document(common.format, &made, |made| {
        let dir = made.dir.display();
        format!(
            "Site made in {dir}\n\n\
             API token of the first operator (shown once; kept in {dir}/client.toml):\n  {}\n\n\
             Root key: {}\n  Move it off this machine; it is needed only to replace the plan key.\n\n{}\
             Next: look through {dir}/gravure.toml, put images into {dir}/images, then\n  \
             gravure serve --config {dir}/gravure.toml\n\n\
             As a service without root: {dir}/gravure.service says how.\n",
            made.token,
            made.root_key.display(),
            made.signed.as_ref().map(|signed| signed.text() + "\n").unwrap_or_default()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
