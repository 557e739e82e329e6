//! Boot stores: real ones understood whole, device records byte for byte, new ones as Windows makes them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support;

use gravure_hive::bcd::{
    Device, ElementType, ElementValue, FilePath, Firmware, ListChange, Recovery, Store, StoreEditor,
    StoreIds, StoreOptions, object_id,
};
use gravure_hive::{Data, Error, Hive, State, check};
use gravure_nttypes::{Guid, NtName};
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
    let real_hive = Hive::parse(bytes).unwrap();
    let made_hive = Hive::parse(installed().create().unwrap()).unwrap();
    assert_eq!(made_hive.base().minor, real_hive.base().minor);
    let security = |hive: &Hive| hive.root().unwrap().security().unwrap().to_vec();
    assert_eq!(security(&made_hive), security(&real_hive));
    let (real, made) = (Store::new(&real_hive).unwrap(), Store::new(&made_hive).unwrap());
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
            if matches!(element.value, ElementValue::Device(_)) {
                let path = format!("Objects\\{{{}}}\\Elements\\{}", object.id, element.kind);
                let stored = |hive: &Hive| hive.open(&path).unwrap().data("Element").unwrap().unwrap();
                assert_eq!(stored(&made_hive), stored(&real_hive), "{path}");
            }
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

/// The ids are read out of the real record here, at the places that are documented; what is made of them must be the record.
#[test]
fn device_records_of_the_same_ids_are_those_of_real_stores_byte_for_byte() {
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let id = |bytes: &[u8], at: usize| Guid(bytes[at..at + 16].try_into().unwrap());
    // A record behind the 16 bytes of its options: the device that ids and kind mean.
    let plain = |bytes: &[u8]| match (number(bytes, 0x10), number(bytes, 0x34)) {
        (5, _) => Device::Boot,
        (6, 0) => Device::Gpt { disk: id(bytes, 0x38), partition: id(bytes, 0x20) },
        (6, 1) => Device::Mbr {
            signature: number(bytes, 0x38),
            offset: u64::from_le_bytes(bytes[0x20..0x28].try_into().unwrap()),
        },
        other => panic!("{other:?}"),
    };
    let (mut partitions, mut files, mut boots) = (0, 0, 0);
    for name in STORES {
        let Some(bytes) = corpus_file(name) else { return };
        let hive = Hive::parse(bytes).unwrap();
        for object in Store::new(&hive).unwrap().objects().unwrap() {
            for element in &object.elements {
                let path = format!("Objects\\{{{}}}\\Elements\\{}", object.id, element.kind);
                let data = hive.open(&path).unwrap().data("Element").unwrap().unwrap().bytes;
                if element.kind.0 >> 24 & 0xf != 1 {
                    continue;
                }
                let ours = match number(&data, 0x10) {
                    0 => {
                        // The device that the file is on has its record at 0x44; the path stands behind that.
                        let nested = [&[0u8; 16][..], &data[0x44..]].concat();
                        let text = &data[0x44 + usize::try_from(number(&nested, 0x18)).unwrap()..];
                        let units: Vec<u16> =
                            text.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
                        let path = String::from_utf16(&units).unwrap();
                        files += 1;
                        let file = FilePath {
                            device: plain(&nested),
                            path: NtName::from(path.trim_end_matches('\0')),
                            has_path_offset: number(&data, 0x2c) != 0,
                        };
                        Device::Ramdisk { options: id(&data, 0), file: Box::new(file) }
                    }
                    kind => {
                        *(if kind == 5 { &mut boots } else { &mut partitions }) += 1;
                        plain(&data)
                    }
                };
                assert_eq!(ours.to_bytes().unwrap(), data, "{name}: {path}");
            }
        }
    }
    assert_eq!((partitions, files, boots), (10, 6, 4));
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
        same_to_foreign_readers(&hive, "new store");
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

/// hivex and an independent reader see every key and value that we see.
fn same_to_foreign_readers(hive: &Hive, context: &str) {
    let dir = tempfile::tempdir().unwrap();
    for reader in ["hivex", "dissect.regf"] {
        if can_read_with(reader) {
            let theirs = foreign_dump(reader, hive.as_bytes(), &dir);
            assert_same_dump(&dump(hive), &theirs, &format!("{context}, {reader}"));
        }
    }
}

/// Real ones and one of ours, with every kind of change.
#[test]
fn edited_stores_are_sound_and_read_by_foreign_readers() {
    let mut stores = vec![("ours", installed().create().unwrap())];
    for name in STORES {
        stores.extend(corpus_file(name).map(|bytes| (name, bytes)));
    }
    for (name, bytes) in stores {
        let mut editor = StoreEditor::new(Hive::parse(bytes).unwrap(), NOW).unwrap();
        let manager = object_id("{bootmgr}").unwrap();
        let loader = editor.store().resolve("{default}").unwrap();
        let new = guid("11111111-2222-3333-4444-555555555555");
        editor.create_object(&new, 0x1020_0003).unwrap();
        for element in editor.store().object(&loader).unwrap().unwrap().elements {
            editor.set(&new, element.kind, &element.value).unwrap();
        }
        let device: Device = "mbr:0x12345678:105906176".parse().unwrap();
        editor.set(&new, ElementType(0x1100_0001), &ElementValue::Device(device)).unwrap();
        let long = ElementValue::Text(NtName::from("é".repeat(9000).as_str()));
        editor.set(&new, ElementType(0x1200_0004), &long).unwrap();
        editor.change_list(&manager, ElementType(0x2400_0001), ListChange::AddFirst, &[new]).unwrap();
        editor.set(&manager, ElementType(0x2300_0003), &ElementValue::Object(new)).unwrap();
        editor.set(&manager, ElementType(0x2500_0004), &ElementValue::Integer(3)).unwrap();
        editor.delete(&loader, ElementType(0x1200_0005)).unwrap();
        let hive = Hive::parse(editor.finish().unwrap()).unwrap();
        assert_eq!(check(&hive).faults, [], "{name}");
        assert_eq!(Store::new(&hive).unwrap().resolve("{default}").unwrap(), new, "{name}");
        same_to_foreign_readers(&hive, name);
        // What went is in no menu any more; another deletion leaves a sound store, too.
        let mut editor = StoreEditor::new(hive, NOW).unwrap();
        editor.delete_object(&new).unwrap();
        editor.unlink(&new).unwrap();
        let hive = Hive::parse(editor.finish().unwrap()).unwrap();
        assert_eq!(check(&hive).faults, [], "{name}");
        let after = Store::new(&hive).unwrap().object(&manager).unwrap().unwrap();
        assert!(
            !after.elements.iter().any(|element| element.value.to_string().contains("11111111-")),
            "{name}"
        );
        assert_eq!(after.element(ElementType(0x2300_0003)), None, "{name}");
        same_to_foreign_readers(&hive, name);
    }
}

#[test]
fn lists_of_objects_are_changed_in_place() {
    let mut editor = StoreEditor::new(Hive::parse(installed().create().unwrap()).unwrap(), NOW).unwrap();
    let manager = object_id("{bootmgr}").unwrap();
    let (order, loader) = (ElementType(0x2400_0001), installed().ids.loader);
    let [a, b] = [1u8, 2].map(|n| Guid([n; 16]));
    let list = |editor: &StoreEditor| match editor.store().object(&manager).unwrap().unwrap().element(order) {
        Some(ElementValue::ObjectList(list)) => list.clone(),
        None => Vec::new(),
        other => panic!("{other:?}"),
    };
    for (change, objects, expected) in [
        (ListChange::AddFirst, vec![a, b], vec![a, b, loader]),
        (ListChange::AddLast, vec![a], vec![b, loader, a]),
        (ListChange::Remove, vec![loader, guid("99999999-2222-3333-4444-555555555555")], vec![b, a]),
        (ListChange::Remove, vec![a, b], vec![]),
        (ListChange::Remove, vec![a], vec![]),
        (ListChange::AddLast, vec![b, a], vec![b, a]),
    ] {
        editor.change_list(&manager, order, change, &objects).unwrap();
        assert_eq!(list(&editor), expected, "{change:?} {objects:?}");
    }
    let timeout = editor.change_list(&manager, ElementType(0x2500_0004), ListChange::AddLast, &[a]);
    assert!(timeout.unwrap_err().to_string().contains("expected a list of objects"));
    assert!(matches!(editor.change_list(&b, order, ListChange::Remove, &[a]), Err(Error::NotFound { .. })));
    let value = editor.store().value(order, "{default},{memdiag}").unwrap();
    assert_eq!(value, ElementValue::ObjectList(vec![loader, object_id("{memdiag}").unwrap()]));
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
