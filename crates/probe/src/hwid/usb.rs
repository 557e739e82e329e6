//! IDs of USB devices, their interfaces, and root hubs.

use super::Ids;

/// Class of a hub.
const HUB: u8 = 0x09;
/// Class "each interface says it", and class, subclass and protocol of devices with associated interfaces.
const PER_INTERFACE: u8 = 0x00;
const ASSOCIATED: Class = Class { class: 0xef, subclass: 0x02, protocol: 0x01 };

/// Class, subclass and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Class {
    /// `bDeviceClass` or `bInterfaceClass`.
    pub class: u8,
    /// The subclass beside it.
    pub subclass: u8,
    /// The protocol beside it.
    pub protocol: u8,
}

/// Vendor, product, release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Product {
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// `bcdDevice`.
    pub release: u16,
}

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interface {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// Its class.
    pub class: Class,
}

/// Whether Windows takes the device apart and drives its interfaces one by one.
pub fn is_composite(class: Class, interfaces: &[Interface], configurations: usize) -> bool {
    (class.class == PER_INTERFACE || class == ASSOCIATED) && interfaces.len() > 1 && configurations == 1
}

/// IDs of a device with the class of its descriptor; `speed_mbits` tells hubs apart.
pub fn device(
    product: Product,
    class: Class,
    interfaces: &[Interface],
    configurations: usize,
    speed_mbits: u32,
) -> Ids {
    let compatible = if is_composite(class, interfaces, configurations) {
        let mut ids = class_ids("USB\\DevClass_", class);
        ids.push("USB\\COMPOSITE".to_owned());
        ids
    } else {
        // A device without a class of its own has that of its only interface.
        let class = match interfaces.first() {
            Some(first) if class.class == PER_INTERFACE => first.class,
            _ => class,
        };
        let mut ids = class_ids("USB\\Class_", class);
        if class.class == HUB {
            let hub = if speed_mbits >= 5000 { "USB\\USB30_HUB" } else { "USB\\USB20_HUB" };
            ids.insert(0, hub.to_owned());
        }
        ids
    };
    let (with_release, plain) = product_ids(product);
    Ids { hardware: vec![with_release, plain], compatible }
}

/// IDs of an interface of a composite device.
pub fn interface(product: Product, interface: Interface) -> Ids {
    let (with_release, plain) = product_ids(product);
    let part = format!("&MI_{:02X}", interface.number);
    Ids {
        hardware: vec![with_release + &part, plain + &part],
        compatible: class_ids("USB\\Class_", interface.class),
    }
}

/// IDs of the hub that a PCI host controller itself is; all three numbers are the controller's.
pub fn root_hub(controller: Product, speed_mbits: u32) -> Ids {
    let name = match speed_mbits {
        5000.. => "USB\\ROOT_HUB30",
        480.. => "USB\\ROOT_HUB20",
        _ => "USB\\ROOT_HUB",
    };
    let plain = format!("{name}&VID{:04X}&PID{:04X}", controller.vendor, controller.product);
    let hardware = vec![format!("{plain}&REV{:04X}", controller.release), plain, name.to_owned()];
    Ids { hardware, compatible: Vec::new() }
}

/// With and without the release.
fn product_ids(product: Product) -> (String, String) {
    let plain = format!("USB\\VID_{:04X}&PID_{:04X}", product.vendor, product.product);
    (format!("{plain}&REV_{:04X}", product.release), plain)
}

fn class_ids(start: &str, class: Class) -> Vec<String> {
    let short = format!("{start}{:02X}", class.class);
    let middle = format!("{short}&SubClass_{:02X}", class.subclass);
    vec![format!("{middle}&Prot_{:02X}", class.protocol), middle, short]
}
