//! IDs of audio codecs on an HD Audio link.

use super::Ids;

/// A codec, as `/sys/bus/hdaudio/devices/*` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Codec {
    /// Type of the function group: 1 audio, 2 modem.
    pub function: u8,
    /// `vendor_id`: vendor in the upper half, device in the lower.
    pub vendor: u32,
    /// `subsystem_id`.
    pub subsystem: u32,
    /// `revision_id`, of which Windows shows the two bytes in the middle.
    pub revision: u32,
    /// PCI vendor of the controller.
    pub controller_vendor: u16,
    /// PCI device of the controller.
    pub controller_device: u16,
}

/// IDs of `codec`.
pub fn ids(codec: &Codec) -> Ids {
    let function = format!("HDAUDIO\\FUNC_{:02X}", codec.function);
    let [vendor_high, vendor_low, device_high, device_low] = codec.vendor.to_be_bytes();
    let vendor = format!("&VEN_{vendor_high:02X}{vendor_low:02X}");
    let device = format!("{vendor}&DEV_{device_high:02X}{device_low:02X}");
    let [_, revision_high, revision_low, _] = codec.revision.to_be_bytes();
    let revision = format!("&REV_{revision_high:02X}{revision_low:02X}");
    let subsystem = format!("&SUBSYS_{:08X}", codec.subsystem);
    let controller_vendor = format!("&CTLR_VEN_{:04X}", codec.controller_vendor);
    let controller = format!("{controller_vendor}&CTLR_DEV_{:04X}", codec.controller_device);

    let full = format!("{function}{device}{subsystem}");
    let mut compatible = Vec::new();
    for what in [format!("{device}{revision}"), device.clone(), vendor] {
        for by in [&controller, &controller_vendor, &String::new()] {
            compatible.push(format!("{function}{by}{what}"));
        }
    }
    compatible.extend([format!("{function}{controller}"), format!("{function}{controller_vendor}")]);
    compatible.push(format!("{function}&GF{device}{subsystem}{revision}"));
    compatible.push(function);
    Ids { hardware: vec![format!("{full}{revision}"), full], compatible }
}
