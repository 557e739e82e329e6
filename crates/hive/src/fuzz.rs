//! Bodies for fuzzing: any bytes must give a value or an error, in bounded time and memory. Replayed as plain tests in
//! `tests/it/fuzz_bodies.rs`.

use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};
use zerocopy::FromBytes as _;

use crate::base::BaseDisk;
use crate::bcd::{Device, Store};
use crate::reg::{ExportOptions, Mount, RegFile};
use crate::{CreateOptions, Data, Editor, Hive, State, check, recover};

const NOW: FileTime = FileTime(133_444_736_000_000_000);

/// Whole hives: everything is read and checked; a sound one is edited, and what is written must be sound and read alike.
pub fn hive(data: &[u8]) {
    let mut bytes = data.to_vec();
    // Without this nearly every change only makes a dirty hive.
    if let Ok((base, _)) = BaseDisk::mut_from_prefix(&mut bytes) {
        base.secondary_sequence = base.primary_sequence;
        base.seal();
    }
    let Ok(hive) = Hive::parse(bytes) else { return };
    let report = check(&hive);
    let mut values = 0usize;
    for step in hive.walk() {
        let Ok((key, _)) = step else { continue };
        let _ = (key.class(), key.security(), hive.path(key.id()));
        // Damaged keys may share lists and data: not all of them are followed to the end.
        for value in key.values().into_iter().flatten().take(100) {
            values = values.saturating_add(1);
            if let (Ok(value), true) = (value, values < 10_000) {
                let _ = (value.name(), value.bytes().map(|bytes| bytes.len()));
            }
        }
    }
    if let Ok(root) = hive.root() {
        let _ = hive.export(root.id(), &ExportOptions::default());
    }
    if let Ok(store) = Store::new(&hive) {
        let _ = store.objects();
    }
    let Ok(editor) = Editor::new(hive, NOW) else {
        return;
    };
    assert!(report.is_sound());
    let (keys, values) = (report.keys, report.values);
    edit(editor, keys, values);
}

/// Adds a key and three values and takes the key away again.
fn edit(mut editor: Editor, keys: usize, values: usize) {
    let Ok(key) = editor.create("fuzz é\\below") else { return };
    for (name, len) in [("", 3), ("one", 100), ("big", 40_000)] {
        editor
            .set_value(key, &NtName::from(name), &Data::binary(vec![7; len]))
            .expect("a new key takes values");
    }
    let hive =
        Hive::parse(editor.finish().expect("a sound hive stays sound")).expect("what was written is read");
    let big = hive.open("fuzz é\\below").and_then(|key| key.data("big"));
    assert_eq!(big.expect("the key is there"), Some(Data::binary(vec![7; 40_000])));
    let mut editor = Editor::new(hive, NOW).expect("what was written is sound");
    let top = editor.find("fuzz é").expect("the hive is sound").expect("the key is there");
    editor.delete_key(top).expect("a key can be deleted");
    let hive =
        Hive::parse(editor.finish().expect("a sound hive stays sound")).expect("what was written is read");
    let report = check(&hive);
    // The path may have been there before, in part.
    assert!(report.keys <= keys && report.values <= values);
}

/// Logs over a dirty hive: the first two bytes say where the first log ends.
pub fn logs(hive: &[u8], data: &[u8]) {
    let Some((split, rest)) = data.split_first_chunk::<2>() else { return };
    let at = usize::from(u16::from_le_bytes(*split)).min(rest.len());
    let (first, second) = rest.split_at(at);
    if let Ok(recovered) = recover(hive, &[first, second]) {
        assert_eq!(*recovered.hive.state(), State::Clean);
        let _ = check(&recovered.hive);
    }
}

/// `.reg` text: what was applied to an empty hive and exported gives the same hive again.
pub fn reg(data: &[u8]) {
    let Ok(file) = RegFile::parse(data) else { return };
    let empty = || {
        let options = CreateOptions {
            minor: 5,
            root_name: NtName::from("ROOT"),
            security: SecurityDescriptor::default(),
            now: NOW,
        };
        let hive = Hive::create(&options).expect("an empty hive");
        Editor::new(hive, NOW).expect("an empty hive is sound")
    };
    let mut editor = empty();
    if file.apply(&mut editor, &Mount::guess(&file)).is_err() {
        return;
    }
    let first =
        Hive::parse(editor.finish().expect("imports leave a sound hive")).expect("what was written is read");
    let options = ExportOptions { mount: NtName::from("HKEY_CURRENT_USER"), ..ExportOptions::default() };
    let root = first.root().expect("a root").id();
    let Ok(text) = first.export(root, &options) else { return };
    let file = RegFile::parse(&text).expect("what was exported can be read");
    let mut editor = empty();
    file.apply(&mut editor, &Mount::guess(&file)).expect("what was exported can be applied");
    let second =
        Hive::parse(editor.finish().expect("imports leave a sound hive")).expect("what was written is read");
    let root = second.root().expect("a root").id();
    assert_eq!(second.export(root, &options).expect("what was exported once"), text);
}

/// Device elements keep their bytes.
pub fn device(data: &[u8]) {
    let device = Device::parse(data);
    assert_eq!(device.to_bytes().expect("what was read can be written"), data);
}

/// Security descriptors: what is read survives being written, as bytes and as text.
pub fn descriptor(data: &[u8]) {
    let Ok(descriptor) = SecurityDescriptor::parse(data) else { return };
    let Ok(bytes) = descriptor.to_bytes() else { return };
    let again = SecurityDescriptor::parse(&bytes).expect("what was written can be read");
    let rewritten = again.to_bytes().expect("what was written once");
    assert_eq!(rewritten, bytes);
    if let Ok(text) = again.to_sddl() {
        SecurityDescriptor::from_sddl(&text).expect("what was printed can be read");
    }
}

/// SDDL text.
pub fn sddl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(descriptor) = SecurityDescriptor::from_sddl(text) else { return };
    if let Ok(bytes) = descriptor.to_bytes() {
        assert_eq!(SecurityDescriptor::parse(&bytes), Ok(descriptor));
    }
}
