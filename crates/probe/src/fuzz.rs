//! Fuzz bodies: what any bytes must survive. They run as plain tests over their corpora and over random input.

use crate::modules::{ModuleTexts, Modules};
use crate::{content, pci, procfs, smbios, usb};

/// One body for all parsers: the first byte picks, the rest is the input.
pub fn body(data: &[u8]) {
    let Some((kind, input)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(input);
    match kind % 6 {
        0 => smbios_body(input),
        1 => {
            let _ = pci::from_config("0000:00:00.0", input);
            let _ = usb::from_descriptor("1-1", input);
            let _ = content::recognise(input);
            let _ = procfs::firmware_flag(input);
        }
        2 => {
            let _ = procfs::cpu(&text, "x86_64");
            let _ = procfs::usable_memory(&text);
            let _ = pci::is_address(&text);
        }
        _ => modules_body(&text),
    }
}

/// The first 24 bytes are an entry point, which is made to add up, the rest a table.
fn smbios_body(input: &[u8]) {
    let _ = smbios::parse(input, input);
    let entry = entry_point(3, 2);
    let Ok(tables) = smbios::parse(&entry, input) else { return };
    assert!(tables.modules.len() <= smbios::MAX_STRUCTURES, "bounded by the number of structures");
    let mut count = 0usize;
    for structure in smbios::Structures::new(input).flatten() {
        count = count.saturating_add(1);
        let _ = structure.text(4);
    }
    assert!(count <= smbios::MAX_STRUCTURES, "bounded by the limit");
}

/// A correct entry point of version 3.
pub fn entry_point(major: u8, minor: u8) -> [u8; 24] {
    let mut entry = [0; 24];
    for (to, from) in entry.iter_mut().zip([b'_', b'S', b'M', b'3', b'_', 0, 24, major, minor, 0, 1]) {
        *to = from;
    }
    let sum = entry.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(check) = entry.get_mut(5) {
        *check = 0u8.wrapping_sub(sum);
    }
    entry
}

/// The text serves as all lists; its first line as what is looked for.
fn modules_body(text: &str) {
    let modules = Modules::parse(ModuleTexts { dep: text, alias: text, softdep: text, builtin: text });
    for wanted in text.lines().take(8) {
        for name in modules.resolve(wanted) {
            let order = modules.load_order(name);
            assert!(order.len() <= modules.len(), "each module once");
            assert!(order.iter().any(|load| load.name == name), "the module itself is loaded");
        }
    }
}
