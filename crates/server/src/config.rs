//! `gravure.toml`: what an operator sets. Every field has a safe default; unknown ones are refused by name.

mod dhcp;
mod starting;
mod store;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::boot::{Entry, Quirk, Quirks, Rule, Rules};
pub use dhcp::{Authority, Dhcp, InterfaceConfig, NetworkConfig, ProxyStyle, ReservationConfig};
pub(crate) use starting::starting_text;
pub(crate) use store::{BucketConfig, PlaceConfig};
pub use store::{CopyConfig, StoreConfig};

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
    /// Networks behind DHCP relays.
    #[serde(rename = "network")]
    pub networks: Vec<NetworkConfig>,
    /// Fixed addresses of machines.
    #[serde(rename = "reservation")]
    pub reservations: Vec<ReservationConfig>,
    /// What single kinds of firmware need otherwise.
    #[serde(rename = "quirk")]
    pub quirks: Vec<Quirk>,
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
    /// Where the store is if not in the directory `paths.store`, with copies and a cache.
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

    /// From its text, with paths as they stand there.
    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
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
        if let Some(store) = &mut self.store {
            store.anchor(dir);
        }
        if !paths.database.contains("://") {
            paths.database = crate::db::Db::sqlite_url(&dir.join(&paths.database));
        }
    }

    /// Rules and entries, checked.
    pub(crate) fn boot_rules(&self) -> Result<Rules, String> {
        Rules::check(&self.rules, &self.entries)
    }

    /// Deviations for single kinds of firmware, checked.
    pub(crate) fn boot_quirks(&self) -> Result<Quirks, String> {
        Quirks::check(&self.quirks)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(store) = &self.store {
            store.check()?;
        }
        dhcp::check(&self.interfaces, &self.networks, &self.reservations)?;
        self.boot_quirks()?;
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

    /// What stands in the file as a comment can be used as it stands.
    #[test]
    fn the_blocks_of_the_starting_text_are_good_when_their_marks_are_taken_away() {
        let interface = InterfaceConfig {
            dhcp: Dhcp::Full,
            pool: Some("10.77.0.100-10.77.0.200".into()),
            ..InterfaceConfig::named("eth0")
        };
        let text = starting_text("site", &[interface], None, Chain::Grub);
        let (before, blocks) = text.split_once("# [[network]]").unwrap();
        let setting = |line: &str| {
            let value = |text: &str| text.starts_with(['"', '[']) || text.parse::<u32>().is_ok();
            let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            line.starts_with("[[")
                || line == "[store]"
                || line.split_once(" = ").is_some_and(|(name, rest)| plain(name) && value(rest))
        };
        let uncommented = format!("# [[network]]{blocks}");
        let lines = uncommented.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if setting(rest) => rest,
            _ => line,
        });
        let text = format!("{before}{}", lines.collect::<Vec<_>>().join("\n"));
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let counts = (config.networks.len(), config.reservations.len(), config.quirks.len());
        assert_eq!((counts, config.rules.len(), config.entries.len()), ((1, 1, 1), 1, 1));
        assert_eq!(config.quirks[0].file_in, Some(crate::boot::FilePlace::Field));
        let store = config.store.unwrap();
        assert_eq!(store.bucket.as_deref(), Some("gravure"));
        assert_eq!((store.cache.as_deref(), store.copies.len()), (Some(Path::new("store-cache")), 1));
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        let cases = [
            ("[site]\nnmae = \"x\"", "nmae"),
            ("[[interface]]\ndhcp = \"proxy\"", "neither name nor address"),
            ("[[interface]]\nname = \"e\"\ndhcp = \"full\"", "needs a pool"),
            ("[[interface]]\nname = \"e\"\npool = \"10.0.0.1-10.0.0.2\"", "only dhcp = \"full\""),
            (
                "[[interface]]\nname = \"e\"\nntp = [\"10.0.0.1\"]",
                "interface e: ntp is set, but only dhcp = \"full\"",
            ),
            (
                "[[interface]]\nname = \"e\"\nauthority = \"sole\"",
                "authority is set, but only dhcp = \"full\"",
            ),
            (
                "[[interface]]\nname = \"e\"\ndhcp = \"off\"\nproxy_style = \"two-phase\"",
                "proxy_style is set, but only dhcp = \"proxy\" makes offers",
            ),
            ("[[interface]]\nname = \"e\"\nproxy_style = \"three-phase\"", "three-phase"),
            ("[[interface]]\nname = \"e\"\ndhcp = \"maybe\"", "maybe"),
            (
                "[[network]]\nnetwork = \"10.1.0.0/24\"",
                "[[network]] \"10.1.0.0/24\": no interface has dhcp = \"full\"",
            ),
            ("[[network]]\nnetwork = \"10.1.0.0/40\"", "not of the form 10.77.0.0/24"),
            (
                "[[network]]\nnetwork = \"10.1.0.0/24\"\npool = \"all\"",
                "not of the form 10.77.0.100-10.77.0.200",
            ),
            (
                "[[reservation]]\nmac = \"printer\"\naddress = \"10.1.0.1\"",
                "mac \"printer\" is no MAC address",
            ),
            (
                "[[reservation]]\nmac = \"52:54:00:00:00:01\"\naddress = \"10.1.0.1\"",
                "[[reservation]] 10.1.0.1: no interface has dhcp = \"full\"",
            ),
            ("[[quirk]]\nname = \"q\"", "[[quirk]] \"q\": nothing is to be done differently"),
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
