//! IDs of PCI devices.

use gravure_model::inventory::PciDevice;

use super::Ids;
use crate::field::{u8_at, u16_at};

/// Pointer to the first capability (PCI 3.0, 6.7), and the status bit that says there is one.
const CAPABILITIES: usize = 0x34;
const STATUS: usize = 0x06;
const HAS_CAPABILITIES: u16 = 0x10;
/// Capability of PCI Express (PCIe 5.0, 7.5.3).
const PCI_EXPRESS: u8 = 0x10;
/// Capabilities lie behind the header, four bytes each at least.
const MOST_CAPABILITIES: usize = 48;

/// Type of a PCI Express device (0 endpoint, 4 root port, ...) from its configuration space; `None` for other devices,
/// and when only the header is there, which is all that an ordinary user is shown.
pub fn express_type(config: &[u8]) -> Option<u8> {
    if u16_at(config, STATUS)? & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::from(u8_at(config, CAPABILITIES)? & 0xfc);
    // Lists that run in a circle end too.
    for _ in 0..MOST_CAPABILITIES {
        if at < 0x40 {
            return None;
        }
        if u8_at(config, at)? == PCI_EXPRESS {
            let flags = u16_at(config, at.checked_add(2)?)?;
            return u8::try_from((flags >> 4) & 0xf).ok();
        }
        at = usize::from(u8_at(config, at.checked_add(1)?)? & 0xfc);
    }
    None
}

/// IDs of `device`, whose PCI Express type is `express_type`.
pub fn ids(device: &PciDevice, express_type: Option<u8>) -> Ids {
    let vendor = format!("PCI\\VEN_{:04X}", device.vendor);
    let both = format!("{vendor}&DEV_{:04X}", device.device);
    // The device comes first here, unlike everywhere else.
    let subsystem = format!("{both}&SUBSYS_{:04X}{:04X}", device.subsystem_device, device.subsystem_vendor);
    let revision = format!("REV_{:02X}", device.revision);
    let class = format!("{:06X}", device.class & 0x00ff_ffff);
    let short = class.get(..4).unwrap_or_default();

    let mut out =
        Ids { hardware: vec![format!("{subsystem}&{revision}"), subsystem], compatible: Vec::new() };
    let plain = [format!("{both}&{revision}"), both.clone()];
    let by_class = [format!("{both}&CC_{class}"), format!("{both}&CC_{short}")];
    // Without a subsystem the plain pair belongs to the hardware IDs, before the classes.
    if (device.subsystem_vendor, device.subsystem_device) == (0, 0) {
        out.hardware.extend(plain);
        out.hardware.extend(by_class);
    } else {
        out.hardware.extend(by_class);
        out.compatible.extend(plain);
    }
    out.compatible.extend([format!("{vendor}&CC_{class}"), format!("{vendor}&CC_{short}"), vendor]);
    for class in [class.as_str(), short] {
        out.compatible.extend(express_type.map(|kind| format!("PCI\\CC_{class}&DT_{kind:X}")));
        out.compatible.push(format!("PCI\\CC_{class}"));
    }
    out
}
