//! `gravure.toml`: what an operator sets. Every field has a safe default; unknown ones are refused by name.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::boot::{Entry, Rule, Rules};

/// The file's name in a site directory.
pub const CONFIG_NAME: &str = "gravure.toml";

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The site's name, shown in boot menus.
    pub site: Site,
    /// Interfaces that are served.
    #[serde(rename = "interface")]
    pub interfaces: Vec<InterfaceConfig>,
    /// What happens to which machines at boot, tried in order.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// The site's own entries in boot menus.
    #[serde(rename = "entry")]
    pub entries: Vec<Entry>,
    /// How firmware starts machines.
    pub boot: Boot,
    /// Port numbers.
    pub ports: Ports,
    /// Where things are.
    pub paths: Paths,
    /// A bucket in place of the directory `paths.store`.
    pub store: Option<StoreConfig>,
    /// How long things hold.
    pub limits: Limits,
}

/// `[site]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Shown in boot menus and in the certificate.
    pub name: String,
    /// Further names and addresses machines may use for this server; they stand in its certificate.
    pub names: Vec<String>,
}

impl Default for Site {
    fn default() -> Self {
        Self { name: "gravure".into(), names: Vec::new() }
    }
}

/// How DHCP is done on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dhcp {
    /// Beside the DHCP server that is there: only boot files, no addresses.
    #[default]
    Proxy,
    /// Addresses too. Only where no other server does.
    Full,
    /// Not at all: the site's DHCP server names our boot files.
    Off,
}

/// `[[interface]]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceConfig {
    /// Its name; the address decides when it is left out.
    pub name: Option<String>,
    /// Its IPv4 address; the interface's first when it is left out.
    pub address: Option<Ipv4Addr>,
    /// DHCP service.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// With `dhcp = "full"`: addresses to give, `10.77.0.100-10.77.0.200`.
    pub pool: Option<String>,
    /// With `dhcp = "full"`: default routers.
    #[serde(default)]
    pub routers: Vec<Ipv4Addr>,
    /// With `dhcp = "full"`: name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// With `dhcp = "full"`: domain name.
    pub domain: Option<String>,
    /// With `dhcp = "full"`: lease time.
    pub lease_minutes: Option<u32>,
    /// Network boot over IPv6 too: DHCPv6 and router advertisements, where no other server does that.
    #[serde(default)]
    pub ipv6: bool,
}

/// What stands between firmware and payload on UEFI machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chain {
    /// shim, GRUB and kernel as Debian signs them: nothing is enrolled, and initramfs and command line are not covered.
    #[default]
    Grub,
    /// shim, then the image that the site's own key signed: the key is enrolled by MokManager or in firmware.
    ShimUki,
    /// That image alone: the key is enrolled in firmware.
    Uki,
}

/// `[boot]`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Boot {
    /// The chain of UEFI machines.
    pub chain: Chain,
    /// Whether firmware fetches by HTTPS; the authority (`keys/https.pem`) is then enrolled in each machine.
    pub https: bool,
}

/// `[ports]`; 0 takes any free one, which only tests want.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// Boot files and images.
    pub http: u16,
    /// The same over TLS, with `https` in `[boot]`.
    pub https: u16,
    /// The API, over TLS.
    pub api: u16,
    /// TFTP.
    pub tftp: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 80, https: 443, api: 8443, tftp: 69 }
    }
}

/// `[paths]`, relative to the site directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Images that can be deployed.
    pub images: PathBuf,
    /// Store of block images: what machines' disks are captured into, and what is put there with `gravure capture DISK STORE/`.
    pub store: PathBuf,
    /// Driver repository, as `gravure driver add` makes it.
    pub drivers: PathBuf,
    /// Layers: a directory for each, with its `layer.toml`.
    pub layers: PathBuf,
    /// What the server makes of drivers and layers for machines to fetch; can be deleted while it is not running.
    pub bundles: PathBuf,
    /// Table of machines with their names: a CSV file.
    pub names: PathBuf,
    /// Kernel, initramfs and boot loaders, as `cargo xtask payload` makes them.
    pub boot: PathBuf,
    /// Keys.
    pub keys: PathBuf,
    /// Templates that replace the built-in ones.
    pub pxe: PathBuf,
    /// Files of the site's own entries.
    pub extra: PathBuf,
    /// The image that the site's own key signed, as `gravure init --uki` makes it.
    pub uki: PathBuf,
    /// A SQLite file, or `postgres://user:password@host/name`.
    pub database: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            images: "images".into(),
            store: "store".into(),
            drivers: "drivers".into(),
            layers: "layers".into(),
            bundles: "bundles".into(),
            names: "names.csv".into(),
            boot: "boot".into(),
            keys: "keys".into(),
            pxe: "pxe".into(),
            extra: "extra".into(),
            uki: "uki".into(),
            database: "db/gravure.sqlite3".into(),
        }
    }
}

/// `[store]`: an S3-compatible bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Its name.
    pub bucket: String,
    /// Address of the server, e.g. `http://10.77.0.5:9000`.
    pub endpoint: String,
    /// The same as machines reach it, by HTTP or by HTTPS with a certificate that everybody trusts; `endpoint` when it is left out.
    pub public_endpoint: Option<String>,
    /// A TOML file with `access_key` and `secret_key`, relative to the site directory; `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` of
    /// the server's environment when it is left out.
    pub credentials: Option<PathBuf>,
    /// Names of all objects begin with it.
    #[serde(default)]
    pub prefix: String,
    /// Its region.
    #[serde(default = "usual_region")]
    pub region: String,
}

fn usual_region() -> String {
    "us-east-1".to_owned()
}

/// `[limits]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long a boot token may wait to be traded: firmware and kernel have to start in between.
    pub token_minutes: u32,
    /// How long a plan may be begun after it was handed out.
    pub plan_minutes: u32,
    /// Seconds a boot menu waits.
    pub menu_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { token_minutes: 20, plan_minutes: 60, menu_seconds: 5 }
    }
}

impl Config {
    /// Reads the file and makes its paths absolute.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        let mut config =
            Self::parse(&text).map_err(|message| Error::Config { path: path.to_owned(), message })?;
        let absolute = std::path::absolute(path).map_err(|source| Error::io("find", path, source))?;
        config.anchor(absolute.parent().unwrap_or(Path::new("/")));
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    fn anchor(&mut self, dir: &Path) {
        let paths = &mut self.paths;
        let Paths {
            images,
            store,
            drivers,
            layers,
            bundles,
            names,
            boot,
            keys,
            pxe,
            extra,
            uki,
            database: _,
        } = paths;
        for path in [images, store, drivers, layers, bundles, names, boot, keys, pxe, extra, uki] {
            *path = dir.join(&*path);
        }
        if let Some(path) = self.store.as_mut().and_then(|store| store.credentials.as_mut()) {
            *path = dir.join(&*path);
        }
        if !paths.database.contains("://") {
            paths.database = crate::db::Db::sqlite_url(&dir.join(&paths.database));
        }
    }

    /// Rules and entries, checked.
    pub(crate) fn boot_rules(&self) -> Result<Rules, String> {
        Rules::check(&self.rules, &self.entries)
    }

    fn check(&self) -> Result<(), String> {
        let endpoints =
            self.store.iter().flat_map(|store| [Some(&store.endpoint), store.public_endpoint.as_ref()]);
        for endpoint in endpoints.flatten() {
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(format!(
                    "[store]: expected an endpoint like http://10.77.0.5:9000, found {endpoint:?}"
                ));
            }
        }
        for interface in &self.interfaces {
            let label = interface.label();
            if interface.name.is_none() && interface.address.is_none() {
                return Err("[[interface]]: neither name nor address is set".into());
            }
            if interface.dhcp == Dhcp::Full && interface.pool.is_none() {
                return Err(format!("interface {label}: dhcp = \"full\" needs a pool of addresses"));
            }
            if interface.dhcp != Dhcp::Full && interface.pool.is_some() {
                return Err(format!(
                    "interface {label}: pool is set, but only dhcp = \"full\" gives addresses"
                ));
            }
        }
        self.boot_rules()?;
        if self.boot.https && self.boot.chain == Chain::Grub {
            return Err(
                "boot: https = true needs chain = \"shim-uki\" or \"uki\"; GRUB does not speak HTTPS".into(),
            );
        }
        let limits = [
            ("token_minutes", self.limits.token_minutes, 1..=1440),
            ("plan_minutes", self.limits.plan_minutes, 1..=1440),
            ("menu_seconds", self.limits.menu_seconds, 1..=3600),
        ];
        for (name, value, range) in limits {
            if !range.contains(&value) {
                return Err(format!(
                    "limits: {name} is {value}, expected {} to {}",
                    range.start(),
                    range.end()
                ));
            }
        }
        Ok(())
    }
}

impl InterfaceConfig {
    /// An interface known by its address, with DHCP as by default.
    pub fn at(address: Ipv4Addr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// An interface known by its name, with DHCP as by default.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// What messages call it.
    pub fn label(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        self.name.clone().or(address).unwrap_or_else(|| "(unnamed)".into())
    }
}

/// The file a new site starts with.
pub(crate) fn starting_text(
    name: &str,
    interfaces: &[InterfaceConfig],
    boot: Option<&Path>,
    chain: Chain,
) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!(
        "# A Gravure site. Everything not set here has a safe default.\n\
         \n\
         [site]\n\
         # Shown in boot menus.\n\
         name = {}\n\
         # Further host names or addresses of this server, for its certificate.\n\
         names = []\n\
         \n\
         # One block for each network interface that is served.\n\
         # dhcp = \"proxy\": beside the DHCP server that is there (the default; gives no addresses).\n\
         # dhcp = \"full\":  gives addresses too; only where no other server does. Needs a pool.\n\
         # dhcp = \"off\":   the site's own DHCP server names our boot files.\n",
        quoted(name)
    );
    for interface in interfaces {
        text.push_str("[[interface]]\n");
        if let Some(name) = &interface.name {
            text.push_str(&format!("name = {}\n", quoted(name)));
        }
        if let Some(address) = interface.address {
            text.push_str(&format!("address = \"{address}\"\n"));
        }
        let dhcp = match interface.dhcp {
            Dhcp::Proxy => "proxy",
            Dhcp::Full => "full",
            Dhcp::Off => "off",
        };
        text.push_str(&format!("dhcp = \"{dhcp}\"\n"));
        match &interface.pool {
            Some(pool) => text.push_str(&format!("pool = {}\n", quoted(pool))),
            None => text.push_str("# pool = \"10.77.0.100-10.77.0.200\"\n"),
        }
        text.push_str(
            "# routers = [\"10.77.0.1\"]\n# dns = [\"10.77.0.1\"]\n\
             # domain = \"example.org\"\n# lease_minutes = 60\n",
        );
        text.push_str("# Network boot over IPv6 too: DHCPv6 and router advertisements, where no other server does that.\n");
        text.push_str(&format!("ipv6 = {}\n\n", interface.ipv6));
    }
    text.push_str(
        "# What happens to which machines at boot; the first rule that fits decides. Without one, a machine that is not\n\
         # known registers and one that is known starts from its disk. What was ordered comes before all rules but \"ignore\".\n\
         # boot = ignore (no boot file), local, register, quarantine (registers, then is held back until `gravure machine\n\
         # quarantine MACHINE --release`), menu, or the name of an entry. Conditions: mac, uuid, serial,\n\
         # firmware (bios, uefi), subnet, known.\n\
         # [[rule]]\n# name = \"printers are left alone\"\n# mac = [\"00:11:22:*\"]\n# boot = \"ignore\"\n\
         # Something of your own in the menus; its files lie below `extra`. kind = linux, efi or wimboot.\n\
         # [[entry]]\n# name = \"memtest\"\n# title = \"Memory test\"\n# kind = \"linux\"\n# file = \"memtest/memtest64.bin\"\n\n",
    );
    text.push_str(&format!(
        "[boot]\n\
         # What UEFI machines start: \"grub\": Debian's shim, GRUB and kernel, nothing to enrol; \"shim-uki\": shim, then one image\n\
         # signed by this site's own key (`gravure init --uki`); \"uki\": that image alone. See pxe/TRUST.md.\n\
         chain = \"{}\"\n\
         # Firmware fetches that image by HTTPS; keys/https.pem is then enrolled in each machine's firmware.\n\
         https = false\n\n",
        match chain {
            Chain::Grub => "grub",
            Chain::ShimUki => "shim-uki",
            Chain::Uki => "uki",
        }
    ));
    let boot = boot.map_or_else(|| "boot".to_owned(), |path| path.display().to_string());
    let defaults = Config::default();
    let (ports, paths, limits) = (defaults.ports, defaults.paths, defaults.limits);
    text.push_str(&format!(
        "[ports]\n\
         http = {}\n\
         https = {}\n\
         api = {}\n\
         tftp = {}\n\
         \n\
         # Relative to this file's directory.\n\
         [paths]\n\
         images = {}\n\
         # Images of disks, captured from machines or put there.\n\
         store = {}\n\
         # Driver repository, filled by `gravure driver add --repository`.\n\
         drivers = {}\n\
         # Layers for Windows images: DIRECTORY/layer.toml each.\n\
         layers = {}\n\
         # Made by the server of both.\n\
         bundles = {}\n\
         # Names and rooms of machines, for --name '{name}': columns serial, mac or uuid, then any others.\n\
         names = {}\n\
         # Kernel, initramfs and boot loaders, as `cargo xtask payload` makes them.\n\
         boot = {}\n\
         keys = {}\n\
         # Templates here replace the built-in boot menus.\n\
         pxe = {}\n\
         # Files of your own menu entries.\n\
         extra = {}\n\
         # The image that this site's own key signed.\n\
         uki = {}\n\
         # A SQLite file, or \"postgres://user:password@host/name\".\n\
         database = {}\n\
         \n\
         # The store in an S3-compatible bucket; machines read from there themselves, by signed addresses.\n\
         # [store]\n# bucket = \"gravure\"\n# endpoint = \"http://10.77.0.5:9000\"\n\
         # credentials = \"keys/store.toml\"   # access_key = \"...\", secret_key = \"...\"; or AWS_ACCESS_KEY_ID and so on\n\
         \n\
         [limits]\n\
         # How long a boot token may wait until the machine has started.\n\
         token_minutes = {}\n\
         # How long a plan may be begun after it was handed out.\n\
         plan_minutes = {}\n\
         menu_seconds = {}\n",
        ports.http,
        ports.https,
        ports.api,
        ports.tftp,
        quoted(&paths.images.display().to_string()),
        quoted(&paths.store.display().to_string()),
        quoted(&paths.drivers.display().to_string()),
        quoted(&paths.layers.display().to_string()),
        quoted(&paths.bundles.display().to_string()),
        quoted(&paths.names.display().to_string()),
        quoted(&boot),
        quoted(&paths.keys.display().to_string()),
        quoted(&paths.pxe.display().to_string()),
        quoted(&paths.extra.display().to_string()),
        quoted(&paths.uki.display().to_string()),
        quoted(&paths.database),
        limits.token_minutes,
        limits.plan_minutes,
        limits.menu_seconds,
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starting_text_says_what_the_defaults_are() {
        let interfaces = [InterfaceConfig::named("eth0"), InterfaceConfig::at([10, 0, 0, 1].into())];
        let text =
            starting_text("a \"quoted\" site", &interfaces, Some(Path::new("/srv/payload")), Chain::ShimUki);
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.site.name, "a \"quoted\" site");
        assert_eq!(config.interfaces.len(), 2);
        assert_eq!(config.interfaces[0].name.as_deref(), Some("eth0"));
        assert_eq!(config.interfaces[1].address, Some([10, 0, 0, 1].into()));
        assert_eq!((config.boot.chain, config.boot.https, config.ports.https), (Chain::ShimUki, false, 443));
        assert_eq!((config.ports.http, config.ports.api, config.ports.tftp), (80, 8443, 69));
        assert_eq!(config.paths.boot, Path::new("/srv/payload"));
        assert_eq!(config.paths.database, Paths::default().database);
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        let cases = [
            ("[site]\nnmae = \"x\"", "nmae"),
            ("[[interface]]\ndhcp = \"proxy\"", "neither name nor address"),
            ("[[interface]]\nname = \"e\"\ndhcp = \"full\"", "needs a pool"),
            ("[[interface]]\nname = \"e\"\npool = \"10.0.0.1-10.0.0.2\"", "only dhcp = \"full\""),
            ("[[interface]]\nname = \"e\"\ndhcp = \"maybe\"", "maybe"),
            ("[boot]\nhttps = true", "GRUB does not speak HTTPS"),
            ("[boot]\nchain = \"lilo\"", "lilo"),
            ("[limits]\nplan_minutes = 0", "plan_minutes is 0, expected 1 to 1440"),
        ];
        for (text, expected) in cases {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn paths_are_of_the_site_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG_NAME), "[paths]\nboot = \"/elsewhere\"\n").unwrap();
        let config = Config::load(&dir.path().join(CONFIG_NAME)).unwrap();
        assert_eq!(config.paths.boot, Path::new("/elsewhere"));
        assert_eq!(config.paths.images, dir.path().join("images"));
        assert_eq!(config.paths.store, dir.path().join("store"));
        assert!(config.paths.database.starts_with("sqlite:///"), "{}", config.paths.database);
    }
}
