//! `[[quirk]]`: what single kinds of firmware need otherwise (specs/netboot.md, 3.2 and 3.4): no option 67, the boot file in two
//! phases, shorter TFTP blocks.

use std::net::{IpAddr, Ipv4Addr};

use gravure_bootd::Seen;
use gravure_bootd::tftp::BlockLimits;
use gravure_model::identity::Mac;
use gravure_netboot::dhcp::{BootClient, FileIn, Network, Quirks as Deviations};
use serde::{Deserialize, Serialize};

use super::rules::{ipv4, mac_pattern, matches, networks};
use crate::config::ProxyStyle;

/// Blocks of less are not asked for by anybody, and without the option a block has 512 bytes; longer ones fill no frame.
const BLOCK_RANGE: std::ops::RangeInclusive<u16> = 512..=1468;

/// `[[quirk]]`: conditions, all of which must hold, and what is done differently then.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quirk {
    /// Shown in errors.
    pub name: String,
    /// What the firmware calls itself (DHCP option 60), or beginnings of it with a star.
    #[serde(default)]
    pub vendor_class: Vec<String>,
    /// MAC addresses, or their beginnings with a star.
    #[serde(default)]
    pub mac: Vec<String>,
    /// Networks the machine's address, or its relay, is in.
    #[serde(default)]
    pub subnet: Vec<String>,
    /// Where the name of the boot file stands.
    pub file_in: Option<FilePlace>,
    /// How the boot file is offered beside another DHCP server.
    pub proxy_style: Option<ProxyStyle>,
    /// Longest TFTP block.
    pub block_bytes: Option<u16>,
}

/// Where the name of the boot file stands in a DHCP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilePlace {
    /// In the `file` field and in option 67.
    Both,
    /// Only in the `file` field.
    Field,
}

/// The quirks of a site, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quirks(Vec<Checked>);

#[derive(Debug, Clone)]
struct Checked {
    quirk: Quirk,
    networks: Vec<Network>,
}

/// Whom a quirk is asked about. What is not known fits no condition.
#[derive(Debug, Clone, Copy, Default)]
struct Whom<'a> {
    mac: Option<[u8; 6]>,
    class: Option<&'a str>,
    address: Option<Ipv4Addr>,
}

impl Quirks {
    /// Refuses what cannot be meant, naming the quirk.
    pub(crate) fn check(quirks: &[Quirk]) -> Result<Self, String> {
        let check =
            |quirk: &Quirk| check_one(quirk).map_err(|why| format!("[[quirk]] {:?}: {why}", quirk.name));
        Ok(Self(quirks.iter().map(check).collect::<Result<_, _>>()?))
    }

    /// What the DHCP answer for `client`'s firmware does differently; `address` is its own or its relay's, as far as known.
    pub(crate) fn for_firmware(&self, client: &BootClient, address: Option<Ipv4Addr>) -> Deviations {
        let whom = Whom { mac: client.hardware.mac(), class: client.vendor_class.as_deref(), address };
        let place = self.first(whom, |quirk| quirk.file_in);
        Deviations {
            file_in: match place {
                Some(FilePlace::Field) => FileIn::Field,
                Some(FilePlace::Both) | None => FileIn::Both,
            },
            proxy_style: self.first(whom, |quirk| quirk.proxy_style).map(Into::into),
        }
    }

    /// Each thing is as the first fitting quirk has it that speaks of it.
    fn first<T>(&self, whom: Whom<'_>, what: impl Fn(&Quirk) -> Option<T>) -> Option<T> {
        self.0.iter().filter(|checked| checked.fits(whom)).find_map(|checked| what(&checked.quirk))
    }
}

impl BlockLimits for Quirks {
    fn longest_block(&self, peer: IpAddr, seen: Option<Seen>, class: Option<&str>) -> Option<u16> {
        let whom = Whom { mac: seen.map(|seen| seen.mac), class, address: ipv4(peer) };
        self.first(whom, |quirk| quirk.block_bytes)
    }
}

impl Checked {
    fn fits(&self, whom: Whom<'_>) -> bool {
        let any = |patterns: &[String], value: Option<&str>| {
            patterns.is_empty()
                || value.is_some_and(|value| patterns.iter().any(|pattern| matches(pattern, value)))
        };
        let mac = whom.mac.map(|mac| Mac(mac).to_string());
        any(&self.quirk.mac, mac.as_deref())
            && any(&self.quirk.vendor_class, whom.class)
            && (self.networks.is_empty()
                || whom.address.is_some_and(|at| self.networks.iter().any(|network| network.contains(at))))
    }
}

fn check_one(quirk: &Quirk) -> Result<Checked, String> {
    for mac in &quirk.mac {
        mac_pattern(mac)?;
    }
    if quirk.vendor_class.iter().any(String::is_empty) {
        return Err("an empty vendor_class fits nobody; leave it out to mean everybody".to_owned());
    }
    if quirk.file_in.is_none() && quirk.proxy_style.is_none() && quirk.block_bytes.is_none() {
        return Err(
            "nothing is to be done differently; set file_in, proxy_style or block_bytes, or remove it"
                .to_owned(),
        );
    }
    if let Some(bytes) = quirk.block_bytes.filter(|bytes| !BLOCK_RANGE.contains(bytes)) {
        return Err(format!(
            "block_bytes is {bytes}, expected {} to {}; 1428 passes most tunnels",
            BLOCK_RANGE.start(),
            BLOCK_RANGE.end()
        ));
    }
    Ok(Checked { quirk: quirk.clone(), networks: networks(&quirk.subnet)? })
}

#[cfg(test)]
mod tests {
    use gravure_netboot::dhcp::{ClientClass, HardwareAddress, Loader, ProxyStyle as Phases};

    use super::*;

    fn client(mac: [u8; 6], class: &str) -> BootClient {
        BootClient {
            hardware: HardwareAddress::ethernet(mac),
            uuid: None,
            architectures: Vec::new(),
            class: ClientClass::Pxe,
            loader: Loader::Firmware,
            host_name: None,
            vendor_class: Some(class.to_owned()),
            relay: None,
            address: None,
        }
    }

    #[test]
    fn each_deviation_is_of_the_first_quirk_that_fits_and_has_it() {
        let text = "
            [[quirk]]
            name = 'old ROMs'
            vendor_class = ['PXEClient:Arch:00000:UNDI:0020*']
            file_in = 'field'
            [[quirk]]
            name = 'the lab'
            mac = ['02:00:00:00:01:*']
            proxy_style = 'two-phase'
            block_bytes = 1400
            [[quirk]]
            name = 'behind the tunnel'
            subnet = ['10.9.0.0/16']
            block_bytes = 1428
            file_in = 'both'";
        #[derive(Deserialize)]
        struct Text {
            quirk: Vec<Quirk>,
        }
        let quirks = Quirks::check(&toml::from_str::<Text>(text).unwrap().quirk).unwrap();
        let far = Some([10, 9, 1, 1].into());
        let (lab, other) = ([2, 0, 0, 0, 1, 9], [2, 0, 0, 0, 2, 9]);
        let (old, new) = ("PXEClient:Arch:00000:UNDI:002001", "PXEClient:Arch:00007:UNDI:003000");
        let cases = [
            (other, new, None, FileIn::Both, None, None),
            (other, old, None, FileIn::Field, None, None),
            (lab, old, far, FileIn::Field, Some(Phases::TwoPhase), Some(1400)),
            (lab, new, None, FileIn::Both, Some(Phases::TwoPhase), Some(1400)),
            (other, new, far, FileIn::Both, None, Some(1428)),
        ];
        for (mac, class, address, file_in, proxy_style, block) in cases {
            let deviations = quirks.for_firmware(&client(mac, class), address);
            assert_eq!(deviations, Deviations { file_in, proxy_style }, "{mac:?} {class} {address:?}");
            let peer = address.unwrap_or(Ipv4Addr::LOCALHOST).into();
            let seen = Some(Seen { mac, uuid: None });
            assert_eq!(quirks.longest_block(peer, seen, Some(class)), block, "{mac:?} {class} {address:?}");
        }
        // Where DHCP saw nobody, the network still tells.
        assert_eq!(quirks.longest_block([10, 9, 7, 7].into(), None, None), Some(1428));
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        let quirk = || Quirk { name: "q".into(), block_bytes: Some(1428), ..Quirk::default() };
        let cases = [
            (Quirk { block_bytes: Some(100), ..quirk() }, "block_bytes is 100, expected 512 to 1468"),
            (Quirk { mac: vec!["printer".into()], ..quirk() }, "is no MAC address"),
            (Quirk { subnet: vec!["10.0.0.0".into()], ..quirk() }, "[[quirk]] \"q\":"),
            (Quirk { vendor_class: vec![String::new()], ..quirk() }, "an empty vendor_class"),
            (Quirk { block_bytes: None, ..quirk() }, "nothing is to be done differently"),
        ];
        for (quirk, expected) in cases {
            let error = Quirks::check(&[quirk]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
