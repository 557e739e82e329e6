//! Network adapters: interfaces with a device behind them.

use gravure_model::inventory::Nic;
use gravure_probe::pci;

use super::devices::driver;
use crate::disks::Roots;
use crate::sysfs;

/// `ARPHRD_ETHER`.
const ETHERNET: u64 = 1;

/// All wired adapters by name. Bridges, VLANs, tunnels and the loopback have no device and are left out; so are
/// wireless adapters' extra interfaces.
pub(super) fn nics(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Nic> {
    let class = roots.sys.join("class/net");
    let names = sysfs::names(&class).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        Vec::new()
    });
    let mut out = Vec::new();
    for name in names {
        let dir = class.join(&name);
        let ethernet = sysfs::number(&dir.join("type")) == Some(ETHERNET);
        if !ethernet || !dir.join("device").exists() {
            continue;
        }
        let address = sysfs::text(&dir.join("address")).unwrap_or_default();
        let mac = match address.parse() {
            Ok(mac) => mac,
            Err(error) => {
                warnings.push(format!("network adapter {name}: {error}"));
                continue;
            }
        };
        let device = sysfs::resolved(&dir.join("device"));
        let pci_address = device.as_deref().and_then(|path| {
            let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
            parts.into_iter().rev().find(|part| pci::is_address(part)).map(str::to_owned)
        });
        out.push(Nic {
            mac,
            driver: driver(&dir.join("device")),
            // Both cannot be read while the interface is down; the speed is -1 without a cable.
            carrier: sysfs::flag(&dir.join("carrier")),
            speed_mbits: sysfs::number(&dir.join("speed"))
                .and_then(|speed| u32::try_from(speed).ok())
                .filter(|speed| *speed != 0 && *speed != u32::MAX),
            pci_address,
            name,
        });
    }
    out
}
