//! Edits of new hives against a model, foreign readers, and the limits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use crate::support::{
    NOW, assert_same_dump, can_read_with, comparable, dump, editor, empty, foreign_dump, saved,
};
use gravure_hive::{Data, Editor, Error, Hive, KeyId, Severity, ValueType, check};
use gravure_nttypes::{NtName, SecurityDescriptor};
use gravure_testkit::Random;
use proptest::prelude::*;

/// What a hive should hold: path (upper-cased) of each key, and its values by upper-cased name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model(BTreeMap<String, BTreeMap<String, Data>>);

impl Model {
    fn of(hive: &Hive) -> Self {
        let mut out = BTreeMap::new();
        for step in hive.walk() {
            let (key, _) = step.unwrap();
            let values = key.values().unwrap().map(|value| {
                let value = value.unwrap();
                (value.name().to_string().to_uppercase(), value.data().unwrap())
            });
            out.insert(hive.path(key.id()).unwrap().to_uppercase(), values.collect());
        }
        Self(out)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Create { at: u8, name: String },
    Delete { at: u8 },
    Rename { at: u8, name: String },
    Set { at: u8, name: String, kind: u32, len: usize },
    Unset { at: u8, name: String },
    Secure { at: u8, user: u32 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof!["[a-cA-C]{1,2}", "[äÄñЖж]{1,3}", "[a-z_. ]{1,40}"];
    let value = prop_oneof![Just(String::new()), "[a-dA-D]{1,2}", "[éЖ]{1,3}"];
    let len = prop_oneof![0usize..9, 10usize..300, 16_340usize..16_350, 32_680usize..32_700];
    prop_oneof![
        4 => (any::<u8>(), name.clone()).prop_map(|(at, name)| Step::Create { at, name }),
        1 => any::<u8>().prop_map(|at| Step::Delete { at }),
        1 => (any::<u8>(), name).prop_map(|(at, name)| Step::Rename { at, name }),
        4 => (any::<u8>(), value.clone(), 0u32..13, len)
            .prop_map(|(at, name, kind, len)| Step::Set { at, name, kind, len }),
        1 => (any::<u8>(), value).prop_map(|(at, name)| Step::Unset { at, name }),
        1 => (any::<u8>(), 0u32..4).prop_map(|(at, user)| Step::Secure { at, user }),
        1 => Just(Step::Reopen),
    ]
}

fn nth_path(model: &Model, at: u8) -> String {
    model.0.keys().nth(usize::from(at) % model.0.len()).unwrap().clone()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_uppercase() } else { format!("{path}\\{}", name.to_uppercase()) }
}

/// Does a step to the hive and to the model.
fn apply(mut editor: Editor, model: &mut Model, step: &Step, random: &mut Random) -> Editor {
    let find = |editor: &Editor, path: &str| editor.find(path).unwrap().unwrap();
    match step {
        Step::Create { at, name } => {
            let path = nth_path(model, *at);
            let key = find(&editor, &path);
            editor.create_subkey(key, &NtName::from(name.as_str())).unwrap();
            model.0.entry(join(&path, name)).or_default();
        }
        Step::Delete { at } => {
            let path = nth_path(model, *at);
            let key = find(&editor, &path);
            if path.is_empty() {
                assert!(matches!(editor.delete_key(key), Err(Error::Invalid { .. })));
            } else {
                editor.delete_key(key).unwrap();
                let below = format!("{path}\\");
                model.0.retain(|other, _| *other != path && !other.starts_with(&below));
            }
        }
        Step::Rename { at, name } => {
            let path = nth_path(model, *at);
            let key = find(&editor, &path);
            let above = path.rsplit_once('\\').map_or("", |(above, _)| above);
            let new = join(above, name);
            if path.is_empty() {
                assert!(editor.rename_key(key, &NtName::from(name.as_str())).is_err());
            } else if new != path && model.0.contains_key(&new) {
                let error = editor.rename_key(key, &NtName::from(name.as_str())).unwrap_err();
                assert!(matches!(error, Error::Exists { .. }), "{error}");
            } else {
                editor.rename_key(key, &NtName::from(name.as_str())).unwrap();
                let moved = std::mem::take(&mut model.0);
                let rename = |other: String| match other.strip_prefix(&path) {
                    Some("") => new.clone(),
                    Some(rest) if rest.starts_with('\\') => format!("{new}{rest}"),
                    _ => other,
                };
                model.0 = moved.into_iter().map(|(other, values)| (rename(other), values)).collect();
            }
        }
        Step::Set { at, name, kind, len } => {
            let path = nth_path(model, *at);
            let key = find(&editor, &path);
            let mut bytes = vec![0; *len];
            random.fill(&mut bytes);
            let data = Data { kind: ValueType(*kind), bytes };
            editor.set_value(key, &NtName::from(name.as_str()), &data).unwrap();
            model.0.get_mut(&path).unwrap().insert(name.to_uppercase(), data);
        }
        Step::Unset { at, name } => {
            let path = nth_path(model, *at);
            let key = find(&editor, &path);
            let was_there = editor.delete_value(key, &NtName::from(name.as_str())).unwrap();
            assert_eq!(was_there, model.0.get_mut(&path).unwrap().remove(&name.to_uppercase()).is_some());
        }
        Step::Secure { at, user } => {
            let key = find(&editor, &nth_path(model, *at));
            let bytes = descriptor(*user);
            editor.set_security(key, &bytes).unwrap();
            assert_eq!(editor.key(key).unwrap().security().unwrap(), bytes);
        }
        Step::Reopen => editor = self::editor(&saved(editor)),
    }
    editor
}

fn descriptor(user: u32) -> Vec<u8> {
    let text = format!("O:BAG:SYD:(A;CI;KA;;;S-1-5-21-1-2-3-{user})");
    SecurityDescriptor::from_sddl(&text).unwrap().to_bytes().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn hives_hold_what_a_model_holds(minor in 3u32..=6, steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::of(&empty(minor));
        let mut editor = editor(&empty(minor));
        let mut random = Random::new(5);
        for step in &steps {
            editor = apply(editor, &mut model, step, &mut random);
        }
        let hive = saved(editor);
        prop_assert_eq!(Model::of(&hive), model);
        let report = check(&hive);
        prop_assert_eq!(report.faults, []);
        prop_assert_eq!(report.lost_cells, 0);
    }
}

/// Many subkeys in random order: leaves are split and emptied again.
#[test]
fn thousands_of_subkeys_are_found_sorted_and_deleted() {
    for minor in [3, 5] {
        let mut editor = editor(&empty(minor));
        let parent = editor.create("Parent").unwrap();
        let mut random = Random::new(9);
        let mut names: Vec<String> = (0..3000).map(|n| format!("Key {n}")).collect();
        for at in (1..names.len()).rev() {
            names.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
        }
        for name in &names {
            editor.create_subkey(parent, &NtName::from(name.as_str())).unwrap();
        }
        let hive = saved(editor);
        assert_eq!(check(&hive).faults, []);
        let dir = tempfile::tempdir().unwrap();
        for reader in ["hivex", "pyregf"] {
            if can_read_with(reader) {
                let theirs = foreign_dump(reader, hive.as_bytes(), &dir);
                assert_same_dump(&comparable(reader, &dump(&hive)), &comparable(reader, &theirs), reader);
            }
        }
        let mut editor = self::editor(&hive);
        for name in &names {
            let key = editor.find(&format!("parent\\{}", name.to_uppercase())).unwrap().unwrap();
            editor.delete_key(key).unwrap();
        }
        let emptied = saved(editor);
        let report = check(&emptied);
        assert_eq!((report.keys, report.lost_cells, report.faults.len()), (2, 0, 0));
    }
}

#[test]
fn space_is_used_again() {
    let mut editor = editor(&empty(5));
    let key = editor.create("Key").unwrap();
    let set = |editor: &mut Editor, key: KeyId| {
        editor.set_value(key, &NtName::from("big"), &Data::binary(vec![1; 100_000])).unwrap();
    };
    set(&mut editor, key);
    editor.delete_value(key, &NtName::from("big")).unwrap();
    let once = saved(editor);
    let mut editor = self::editor(&once);
    for _ in 0..50 {
        let key = editor.find("Key").unwrap().unwrap();
        set(&mut editor, key);
        editor.delete_value(key, &NtName::from("big")).unwrap();
    }
    let often = saved(editor);
    assert_eq!(often.as_bytes().len(), once.as_bytes().len());
    // Deleted data is gone from the file.
    assert!(!often.as_bytes().windows(64).any(|window| window == [1; 64]));
}

#[test]
fn an_unchanged_hive_keeps_its_bytes_and_a_changed_one_its_padding() {
    let mut bytes = empty(5).as_bytes().to_vec();
    bytes.extend_from_slice(&[0xee; 512]);
    let hive = Hive::parse(bytes.clone()).unwrap();
    assert_eq!(editor(&hive).finish().unwrap(), bytes);
    let mut editor = editor(&hive);
    editor.create("A").unwrap();
    let saved = editor.finish().unwrap();
    assert_eq!(saved[saved.len() - 512..], [0xee; 512]);
    assert_eq!(saved[4..8], [2, 0, 0, 0]);
    assert_eq!(saved[4..8], saved[8..12]);
}

#[test]
fn descriptors_are_shared_and_go_with_their_last_key() {
    let mut editor = editor(&empty(5));
    for name in ["A", "B", "C"] {
        let key = editor.create(name).unwrap();
        editor.set_security(key, &descriptor(7)).unwrap();
        editor.create(&format!("{name}\\below")).unwrap();
    }
    let hive = saved(editor);
    assert_eq!(check(&hive).descriptors, 2);
    let below = hive.open("B\\below").unwrap().security().unwrap().to_vec();
    assert_eq!(below, descriptor(7), "a new key has the descriptor of the one above");
    let mut editor = self::editor(&hive);
    for name in ["A", "B", "C"] {
        let key = editor.find(name).unwrap().unwrap();
        editor.delete_key(key).unwrap();
    }
    let report = check(&saved(editor));
    assert_eq!((report.descriptors, report.lost_cells), (1, 0));
}

#[test]
fn refuses_what_a_hive_cannot_hold() {
    let mut editor = editor(&empty(5));
    let root = editor.root();
    for name in ["", "a\\b", &"x".repeat(256)] {
        let error = editor.create_subkey(root, &NtName::from(name)).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let long = NtName::from("v".repeat(16_384).as_str());
    assert!(editor.set_value(root, &long, &Data::dword(1)).is_err());
    let longest = NtName::from("v".repeat(16_383).as_str());
    editor.set_value(root, &longest, &Data::dword(1)).unwrap();
    assert!(editor.set_security(root, &[1, 2, 3]).is_err());
    let path = vec!["d"; 512].join("\\");
    editor.create(&path).unwrap();
    let error = editor.create(&format!("{path}\\d")).unwrap_err().to_string();
    assert_eq!(error, "key d: expected at most 512 levels, found 513");
    assert_eq!(check(&saved(editor)).keys, 513);
}

#[test]
fn class_names_and_case_survive() {
    let mut editor = editor(&empty(5));
    let key = editor.create("MixedCase").unwrap();
    editor.set_class(key, &NtName::from("Klasse")).unwrap();
    editor.set_value(key, &NtName::from("Wert"), &Data::sz("a")).unwrap();
    editor.set_value(key, &NtName::from("WERT"), &Data::sz("b")).unwrap();
    assert_eq!(editor.create("MIXEDCASE").unwrap(), key);
    let hive = saved(editor);
    let key = hive.open("mixedcase").unwrap();
    assert_eq!(key.name(), NtName::from("MixedCase"));
    assert_eq!(key.class().unwrap(), NtName::from("Klasse"));
    let names: Vec<String> = key.values().unwrap().map(|value| value.unwrap().name().to_string()).collect();
    assert_eq!(names, ["Wert"]);
    assert_eq!(key.data("wert").unwrap(), Some(Data::sz("b")));
}

/// What hivex writes into hives of version 1.5: read, reported, and put right when the value is set again.
#[test]
fn big_values_in_one_cell_are_read_and_reported() {
    let mut editor = editor(&empty(3));
    let root = editor.root();
    editor.set_value(root, &NtName::from("big"), &Data::binary(vec![3; 20_000])).unwrap();
    let mut bytes = editor.finish().unwrap();
    bytes[0x18] = 5;
    let sum =
        bytes[..508].chunks_exact(4).fold(0, |sum, word| sum ^ u32::from_le_bytes(word.try_into().unwrap()));
    bytes[508..512].copy_from_slice(&sum.to_le_bytes());
    let hive = Hive::parse(bytes).unwrap();
    assert_eq!(hive.root().unwrap().data("big").unwrap(), Some(Data::binary(vec![3; 20_000])));
    let report = check(&hive);
    let severities: Vec<Severity> = report.faults.iter().map(|fault| fault.severity).collect();
    assert_eq!(severities, [Severity::Warning]);
    assert!(report.faults[0].message.contains("20000 bytes in one cell"), "{}", report.faults[0]);
    let mut editor = self::editor(&hive);
    editor.set_value(root, &NtName::from("big"), &Data::binary(vec![4; 20_000])).unwrap();
    assert_eq!(check(&saved(editor)).faults, []);
}

/// Every structure damaged in turn: the check names it, and no editor takes the hive.
#[test]
fn damage_is_found_and_named() {
    let mut editor = editor(&empty(5));
    for path in ["A", "B", "C"] {
        let key = editor.create(path).unwrap();
        editor.set_value(key, &NtName::from("v"), &Data::binary(vec![1; 50])).unwrap();
    }
    let good = saved(editor);
    let find =
        |pattern: &[u8]| good.as_bytes().windows(pattern.len()).position(|window| window == pattern).unwrap();
    let root = find(b"nk");
    let leaf = find(b"lh");
    let (value, security) = (find(b"vk"), find(b"sk"));
    for (at, with, expected) in [
        (root, 0x20, "key signature"),
        (root + 0x14, 7, "list of subkeys"),
        (root + 0x2c, 8, "security descriptor"),
        (leaf + 4 + 4, 0xff, "hash of subkey A"),
        (leaf + 4, 8, "key"),
        (value + 4, 0xff, "value data"),
        (value, 0, "value signature"),
        (security + 0xc, 99, "references of descriptor"),
        (security + 4, 16, "security descriptor"),
        (0x1000 + 0x20, 0x10, "cell"),
    ] {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] = with;
        let hive = Hive::parse(bytes).unwrap();
        let report = check(&hive);
        let found: Vec<String> = report.damage().map(ToString::to_string).collect();
        assert!(found.iter().any(|message| message.contains(expected)), "{at:#x}: {expected}: {found:#?}");
        let error = Editor::new(hive, NOW).unwrap_err();
        assert!(error.to_string().starts_with("hive is damaged: "), "{error}");
    }
}
