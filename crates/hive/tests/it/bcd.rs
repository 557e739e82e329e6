//! Boot stores: real ones understood whole, device records byte for byte, new ones as Windows makes them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support;

use gravure_hive::bcd::{
    Device, ElementType, ElementValue, Firmware, Recovery, Store, StoreEditor, StoreIds, StoreOptions,
    object_id,
};
use gravure_hive::{Data, Error, Hive, State, check};
use gravure_nttypes::Guid;
use support::{NOW, assert_same_dump, can_read_with, corpus_file, dump, foreign_dump};

const STORES: [&str; 3] = ["regipy/BCD.xz", "bcd/gzu/boot/bcd", "bcd/gzu/efi/bcd"];

fn guid(text: &str) -> Guid {
    text.parse().unwrap()
}

#[test]
fn real_stores_are_understood_whole_and_written_alike() {
    for name in STORES {
        let Some(bytes) = corpus_file(name) else { return };
        let hive = Hive::parse(bytes).unwrap();
        let mut count = 0;
        for object in Store::new(&hive).unwrap().objects().unwrap() {
            for element in &object.elements {
                let path = format!("Objects\\{{{}}}\\Elements\\{}", object.id, element.kind);
                let data = hive.open(&path).unwrap().data("Element").unwrap().unwrap();
                let is_raw =
                    matches!(element.value, ElementValue::Raw(_) | ElementValue::Device(Device::Raw(_)));
                assert!(!is_raw, "{name}: {path}: {}", element.value);
                let written = element.value.to_data().unwrap();
                // Numbers may be shorter on media, and texts have a second terminator now and then.
                let is_prefix =
                    data.bytes.starts_with(&written.bytes) || written.bytes.starts_with(&data.bytes);
                assert!(written.kind == data.kind && is_prefix, "{name}: {path}");
                if matches!(element.value, ElementValue::Device(_)) {
                    assert_eq!(written, data, "{name}: {path}");
                }
                let again = ElementValue::from_text(element.kind, &element.value.to_string()).unwrap();
                let on_media = name.contains("gzu");
                assert!(on_media || again == element.value, "{name}: {path}: {again}");
                count += 1;
            }
        }
        assert!(count >= 30, "{name}: {count}");
    }
}

/// The options that describe the real store of an installed Windows 10.
fn installed() -> StoreOptions {
    let disk = "0b2394a9-095e-487d-8d48-719ecd4d78ca";
    let device = |partition: &str| format!("gpt:{disk}:{partition}").parse::<Device>().unwrap();
    StoreOptions {
        firmware: Firmware::Uefi,
        system: device("36be3955-63bf-4068-a6ab-00195cca3a22"),
        windows: device("8e0f2c38-e4ea-47ba-b7fc-9d8c74dccf0b"),
        recovery: Some(Recovery {
            device: device("6cdfcd69-de75-4490-8f99-5a84bf264917"),
            directory: "\\Recovery\\WindowsRE".to_owned(),
        }),
        description: "Windows 10".to_owned(),
        locale: "en-US".to_owned(),
        timeout_seconds: 30,
        ids: StoreIds {
            loader: guid("733b62e5-f608-11eb-825c-c112f60133ab"),
            resume: guid("733b62e4-f608-11eb-825c-c112f60133ab"),
            recovery: guid("733b62e6-f608-11eb-825c-c112f60133ab"),
            ramdisk: guid("733b62e7-f608-11eb-825c-c112f60133ab"),
        },
        now: NOW,
    }
}

#[test]
fn a_new_store_has_what_the_real_one_of_the_same_machine_has() {
    let Some(bytes) = corpus_file("regipy/BCD.xz") else { return };
    let real = Hive::parse(bytes).unwrap();
    let made = Hive::parse(installed().create().unwrap()).unwrap();
    assert_eq!(made.base().minor, real.base().minor);
    assert_eq!(made.root().unwrap().security().unwrap(), real.root().unwrap().security().unwrap());
    let (real, made) = (Store::new(&real).unwrap(), Store::new(&made).unwrap());
    for object in made.objects().unwrap() {
        let twin = real.object(&object.id).unwrap().unwrap();
        assert_eq!(object.kind, twin.kind, "{}", object.id);
        for element in &twin.elements {
            // What Windows itself notes about the last boot, and entries of other systems.
            let is_state = element.kind == ElementType(0x1500_0066);
            let is_order =
                object.id == object_id("{fwbootmgr}").unwrap() && element.kind == ElementType(0x2400_0001);
            if is_state || is_order {
                continue;
            }
            let ours = object.element(element.kind).map(ToString::to_string).unwrap_or_default();
            assert_eq!(
                ours.to_lowercase(),
                element.value.to_string().to_lowercase(),
                "{} {}",
                object.id,
                element.kind
            );
        }
        let more = object.elements.iter().find(|element| twin.element(element.kind).is_none());
        assert_eq!(more, None, "{}", object.id);
    }
}

#[test]
fn new_stores_are_sound_and_read_by_foreign_readers() {
    let mbr: Device = "mbr:0x12345678:1048576".parse().unwrap();
    let bios = StoreOptions {
        firmware: Firmware::Bios,
        system: mbr.clone(),
        windows: mbr,
        recovery: None,
        ..installed()
    };
    for options in [installed(), bios] {
        let bytes = options.create().unwrap();
        assert_eq!(bytes, options.create().unwrap(), "the same options make the same store");
        let hive = Hive::parse(bytes).unwrap();
        assert_eq!(*hive.state(), State::Clean);
        assert_eq!(check(&hive).faults, []);
        let dir = tempfile::tempdir().unwrap();
        if can_read_with("hivex") {
            assert_same_dump(&dump(&hive), &foreign_dump("hivex", hive.as_bytes(), &dir), "new store");
        }
        let store = Store::new(&hive).unwrap();
        assert_eq!(store.resolve("{default}").unwrap(), options.ids.loader);
        let loader = store.object(&options.ids.loader).unwrap().unwrap();
        let path = loader.element(ElementType(0x1200_0002)).unwrap().to_string();
        let expected = if options.firmware == Firmware::Uefi { "winload.efi" } else { "winload.exe" };
        assert!(path.ends_with(expected), "{path}");
        let has_recovery = store.object(&options.ids.recovery).unwrap().is_some();
        assert_eq!(has_recovery, options.recovery.is_some());
    }
}

#[test]
fn stores_are_edited() {
    let hive = Hive::parse(installed().create().unwrap()).unwrap();
    let mut editor = StoreEditor::new(hive, NOW).unwrap();
    let loader = editor.store().resolve("{default}").unwrap();
    let manager = object_id("{bootmgr}").unwrap();
    let new = guid("11111111-2222-3333-4444-555555555555");
    editor.set(&manager, ElementType(0x2500_0004), &ElementValue::Integer(5)).unwrap();
    editor.set(&loader, ElementType(0x1600_0049), &ElementValue::Boolean(true)).unwrap();
    editor.delete(&loader, ElementType(0x1400_0008)).unwrap();
    editor.create_object(&new, 0x1020_0003).unwrap();
    assert!(matches!(editor.create_object(&new, 1), Err(Error::Exists { .. })));
    editor.delete_object(&installed().ids.recovery).unwrap();
    assert!(matches!(editor.delete(&new, ElementType(0x1100_0001)), Err(Error::NotFound { .. })));
    let absent = guid("99999999-2222-3333-4444-555555555555");
    assert!(matches!(
        editor.set(&absent, ElementType(0x2500_0004), &ElementValue::Integer(5)),
        Err(Error::NotFound { .. })
    ));
    let hive = Hive::parse(editor.finish().unwrap()).unwrap();
    assert_eq!(check(&hive).faults, []);
    let store = Store::new(&hive).unwrap();
    let timeout = store.object(&manager).unwrap().unwrap();
    assert_eq!(timeout.element(ElementType(0x2500_0004)), Some(&ElementValue::Integer(5)));
    let stored =
        hive.open(&format!("Objects\\{{{loader}}}\\Elements\\16000049")).unwrap().data("Element").unwrap();
    assert_eq!(stored, Some(Data::binary([1])));
    assert_eq!(store.object(&new).unwrap().unwrap().elements, []);
    assert_eq!(store.object(&installed().ids.recovery).unwrap(), None);
}

#[test]
fn says_what_is_no_store_and_no_options() {
    let error = Store::new(&support::empty(3)).unwrap_err().to_string();
    assert_eq!(error, "boot store: expected a hive with the keys Objects and Description, found no Objects");
    let mut twice = installed();
    twice.ids.resume = twice.ids.loader;
    assert!(twice.create().unwrap_err().to_string().contains("four different"));
    let mut known = installed();
    known.ids.resume = object_id("{bootmgr}").unwrap();
    assert!(known.create().unwrap_err().to_string().contains("9dea862c"));
}
