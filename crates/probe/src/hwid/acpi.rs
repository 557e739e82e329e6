//! IDs of ACPI devices and processors.

use super::Ids;

/// IDs of a device by its `_HID` and `_CID`s, as the kernel shows them.
///
/// A `_CID` may be a number (an EISA ID) or a text, and Windows reports `*PNP0303` for the one and `ACPI\PNP0303`, `PNP0303`
/// for the other. The kernel shows both alike, so all three are listed, the number's first; no ID of Windows is missing.
pub fn ids(hid: &str, cids: &[&str]) -> Ids {
    let mut out = Ids::default();
    if let Some((vendor, device)) = parts(hid) {
        out.hardware.push(format!("ACPI\\VEN_{vendor}&DEV_{device}"));
    }
    out.hardware.extend([format!("ACPI\\{hid}"), format!("*{hid}")]);
    for cid in cids.iter().filter(|cid| !cid.eq_ignore_ascii_case(hid)) {
        if parts(cid).is_some() {
            out.compatible.push(format!("*{cid}"));
        }
        out.compatible.extend([format!("ACPI\\{cid}"), (*cid).to_owned()]);
    }
    out
}

/// Vendor (three letters of EISA, four characters of ACPI) and device (four hexadecimal digits).
fn parts(id: &str) -> Option<(&str, &str)> {
    let (vendor, device) = id.split_at_checked(id.len().checked_sub(4)?)?;
    let is_vendor = match vendor.len() {
        3 => vendor.bytes().all(|b| b.is_ascii_alphabetic()),
        4 => vendor.bytes().all(|b| b.is_ascii_alphanumeric()),
        _ => false,
    };
    (is_vendor && device.bytes().all(|b| b.is_ascii_hexdigit())).then_some((vendor, device))
}

/// `_HID` and `_CID`s out of the kernel's alias, `acpi:PNP0A08:PNP0A03:`; `None` for other aliases.
pub fn from_modalias(alias: &str) -> Option<(&str, Vec<&str>)> {
    let mut ids = alias.trim().strip_prefix("acpi:")?.split(':').filter(|id| !id.is_empty());
    let hid = ids.next()?;
    // The kernel's own names for what has no ID.
    if hid.starts_with("LNX") {
        return None;
    }
    Some((hid, ids.filter(|id| !id.starts_with("LNX")).collect()))
}

/// IDs of an x86 processor by what CPUID tells.
pub fn processor(vendor: &str, family: u32, model: u32) -> Ids {
    let name = match vendor {
        "GenuineIntel" => "Intel64",
        "AuthenticAMD" => "AMD64",
        other => other,
    };
    let plain = format!("{vendor}_-_{name}");
    let with_family = format!("{plain}_Family_{family}");
    let hardware = [format!("{with_family}_Model_{model}"), with_family, plain];
    Ids {
        hardware: hardware.iter().flat_map(|id| [format!("ACPI\\{id}"), format!("*{id}")]).collect(),
        compatible: vec!["ACPI\\Processor".to_owned()],
    }
}
