//! Bodies for fuzzing every parser of outside bytes here: nothing may panic, loop for long or take memory that the input does not
//! justify. `tests/it/fuzz_bodies.rs` runs them as plain tests.

use std::collections::BTreeMap;
use std::path::Path;

use crate::answer::{AnswerFile, AnswerSettings};
use crate::boot::Authorities;
use crate::drivers::VendorCatalogue;
use crate::journal::{Change, Record};
use crate::layers::Layer;
use crate::shortcut::Shortcut;

/// Catalogues, signed programs, certificates.
pub fn signature(bytes: &[u8]) {
    crate::signature::fuzz(bytes);
}

/// Answer files: what is read is written and read again the same.
///
/// # Panics
/// When it is not.
pub fn answer(bytes: &[u8]) {
    let Ok(answers) = AnswerFile::parse(bytes) else { return };
    // Characters that XML cannot hold are replaced the first time.
    let Ok(answers) = AnswerFile::parse(&answers.to_bytes()) else { return };
    let again = AnswerFile::parse(&answers.to_bytes());
    assert_eq!(again.ok().as_ref(), Some(&answers), "a written answer file is read as it was");
    answers.commands_in_specialize();
}

/// Variables with the keys of firmware.
pub fn secure_boot(bytes: &[u8]) {
    let _ = Authorities::parse(bytes);
}

/// Cabinets and ZIP files with driver packs.
pub fn archive(bytes: &[u8]) {
    crate::drivers::archive::fuzz(bytes);
}

/// Vendors' catalogues of driver packs.
pub fn vendor(bytes: &[u8]) {
    let Ok(catalogue) = VendorCatalogue::parse(bytes, "catalogue") else { return };
    let _ = serde_json::to_vec(&catalogue);
}

/// Shortcuts: what is read is written and read again the same, as far as it may be written.
///
/// # Panics
/// When it is not.
pub fn shortcut(bytes: &[u8]) {
    let Ok(shortcut) = Shortcut::parse(bytes) else { return };
    if shortcut.check().is_ok() {
        let again = Shortcut::parse(&shortcut.to_bytes());
        assert_eq!(again.ok().as_ref(), Some(&shortcut), "a written shortcut is read as it was");
    }
}

/// Records of changes: told in words, and what they are to put back.
pub fn record(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    for change in &record.changes {
        change.describe(true);
        if let Change::ValueRemoved { before, .. } = change {
            let _ = before.data();
        }
    }
}

/// Settings and layers.
pub fn toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = AnswerSettings::from_toml(text);
    let _ = Layer::parse(text, Path::new("/nowhere"), &BTreeMap::new());
}
