//! Real hives: every key and value as foreign readers see them, replay as recorded, edits that foreign readers accept.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support::{
    CORPUS, NOW, assert_same_dump, can_read_with, comparable, corpus_file, dump, foreign_dump,
};
use gravure_hive::{Data, Editor, Error, Hive, State, ValueType, check, recover};
use gravure_nttypes::{Acl, NtName, SecurityDescriptor};
use gravure_testkit::Random;

#[test]
fn real_hives_are_sound_and_counted_right() {
    for (name, keys, values, is_clean) in CORPUS {
        let Some(bytes) = corpus_file(name) else { return };
        let hive = Hive::parse(bytes).unwrap();
        let report = check(&hive);
        assert_eq!((report.keys, report.values), (*keys, *values), "{name}");
        assert_eq!(*hive.state() == State::Clean, *is_clean, "{name}");
        // The only damage is the unfinished write itself: an edit of the others may start.
        let damage: Vec<String> = report.damage().map(ToString::to_string).collect();
        assert_eq!(damage.len(), usize::from(!is_clean), "{name}: {damage:?}");
        assert_eq!((report.lost_cells, report.unordered_keys), (0, 0), "{name}");
    }
}

/// libregf ends names at a zero, and this hive has names with zeros in them.
fn is_gap_of(reader: &str, name: &str) -> bool {
    reader == "pyregf" && name.ends_with("special")
}

#[test]
fn foreign_readers_see_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for reader in ["hivex", "pyregf"] {
        if !can_read_with(reader) {
            continue;
        }
        for (name, ..) in CORPUS {
            let Some(bytes) = corpus_file(name) else { return };
            if is_gap_of(reader, name) {
                continue;
            }
            let hive = Hive::parse(bytes.clone()).unwrap();
            let theirs = foreign_dump(reader, &bytes, &dir);
            assert_same_dump(
                &comparable(reader, &dump(&hive)),
                &comparable(reader, &theirs),
                &format!("{name} by {reader}"),
            );
        }
    }
}

#[test]
fn a_damaged_hive_is_refused_with_the_place() {
    let Some(bytes) = corpus_file("regipy/corrupted_system_hive.xz") else { return };
    let error = Hive::parse(bytes).unwrap_err().to_string();
    assert_eq!(error, "bin signature at 0x1a000: expected \"hbin\", found [00, 00, 00, 00]");
}

#[test]
fn logs_are_replayed_as_recorded() {
    let Some(hive) = corpus_file("regipy/UsrClass.dat.xz") else { return };
    let logs = ["LOG1", "LOG2"].map(|log| corpus_file(&format!("regipy/UsrClass.dat.{log}.xz")).unwrap());
    for order in [[0, 1], [1, 0]] {
        let recovered = recover(&hive, &order.map(|at| logs[at].as_slice())).unwrap();
        let replay = &recovered.replay;
        assert_eq!((replay.entries, replay.pages), (14, 158));
        assert_eq!(replay.sequences, Some((287, 300)));
        let report = check(&recovered.hive);
        assert_eq!((report.keys, report.values), (6238, 12531));
        assert_eq!(report.faults, []);
        let dir = tempfile::tempdir().unwrap();
        if can_read_with("pyregf") {
            let theirs = foreign_dump("pyregf", recovered.hive.as_bytes(), &dir);
            assert_same_dump(
                &comparable("pyregf", &dump(&recovered.hive)),
                &comparable("pyregf", &theirs),
                "replayed",
            );
        }
    }
    // The later log alone does not follow anything, but nothing says that entries before it were lost either; the
    // earlier one alone is a state the hive was in.
    let first = recover(&hive, &[&logs[0]]).unwrap();
    assert_eq!(first.replay.sequences, Some((287, 290)));
    // A log with one bit turned is used up to the entry before it.
    let mut torn = logs[1].clone();
    torn[512 + 600] ^= 1;
    let recovered = recover(&hive, &[&logs[0], &torn]).unwrap();
    assert_eq!(recovered.replay.sequences, Some((287, 290)));
    assert!(
        recovered.replay.notes.iter().any(|note| note.contains("hashes")),
        "{:?}",
        recovered.replay.notes
    );
}

#[test]
fn dirty_hives_without_logs_are_refused() {
    for (name, _, _, is_clean) in CORPUS.iter().filter(|(.., is_clean)| !is_clean) {
        let Some(bytes) = corpus_file(name) else { return };
        assert!(!is_clean);
        let error = recover(&bytes, &[]).unwrap_err();
        assert!(matches!(error, Error::NotRecoverable { .. }), "{name}: {error}");
        let error = recover(&bytes, &[&[0; 4096]]).unwrap_err();
        assert!(error.to_string().contains("log 1 is empty"), "{name}: {error}");
        let error = Editor::new(Hive::parse(bytes).unwrap(), NOW).unwrap_err();
        assert!(matches!(error, Error::Dirty { .. }), "{name}: {error}");
    }
}

/// A clean copy of a dirty hive, for edits: as if a log had completed it.
fn made_clean(mut bytes: Vec<u8>) -> Vec<u8> {
    let primary: [u8; 4] = bytes[4..8].try_into().unwrap();
    bytes[8..12].copy_from_slice(&primary);
    let sum =
        bytes[..508].chunks_exact(4).fold(0, |sum, word| sum ^ u32::from_le_bytes(word.try_into().unwrap()));
    bytes[508..512].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn random_edits_of_real_hives_are_read_alike_by_foreign_readers() {
    let dir = tempfile::tempdir().unwrap();
    for (name, ..) in CORPUS {
        // The largest takes minutes under load and shows nothing that the second largest does not.
        if name.contains("1709") && !gravure_testkit::full_run() {
            continue;
        }
        let Some(bytes) = corpus_file(name) else { return };
        let hive = Hive::parse(made_clean(bytes)).unwrap();
        let mut random = Random::new(gravure_testkit::seed());
        let mut editor = Editor::new(hive, NOW).unwrap();
        let paths = |editor: &Editor| -> Vec<String> {
            let keys = editor.hive().walk().map(|step| step.unwrap().0.id());
            keys.map(|id| editor.hive().path(id).unwrap()).collect()
        };
        let mut known = paths(&editor);
        let mut edits = 0;
        for step in 0..400 {
            let mut found = editor.find(random.pick(&known).unwrap()).unwrap();
            if found.is_none() {
                // An earlier edit took it away, with all below it.
                known = paths(&editor);
                found = editor.find(random.pick(&known).unwrap()).unwrap();
            }
            let key = found.unwrap();
            let done = edit(&mut editor, key, step, &mut random);
            edits += usize::from(done);
        }
        assert!(edits > 50, "{name}: {edits} edits");
        let saved = Hive::parse(editor.finish().unwrap()).unwrap();
        let ours = dump(&saved);
        for reader in ["hivex", "pyregf"] {
            if is_gap_of(reader, name) || !can_read_with(reader) {
                continue;
            }
            let theirs = foreign_dump(reader, saved.as_bytes(), &dir);
            assert_same_dump(
                &comparable(reader, &ours),
                &comparable(reader, &theirs),
                &format!("{name} edited, by {reader}"),
            );
        }
    }
}

fn edit(editor: &mut Editor, key: gravure_hive::KeyId, step: u64, random: &mut Random) -> bool {
    let value_names: Vec<NtName> =
        editor.key(key).unwrap().values().unwrap().map(|value| value.unwrap().name()).collect();
    let is_root = key == editor.root();
    let result = match random.below(7) {
        0 => {
            let name = NtName::from(format!("Neu é {step} 名").as_str());
            editor.create_subkey(key, &name).map(|_| true)
        }
        // Seldom a key with many below it, or nothing is left of small hives.
        1 if !is_root && (editor.key(key).unwrap().subkey_count() < 2 || random.once_in(50)) => {
            editor.delete_key(key).map(|()| true)
        }
        2 if !is_root => {
            let name = NtName::from(format!("renamed {step}").as_str());
            editor.rename_key(key, &name).map(|_| true)
        }
        3 if !value_names.is_empty() => {
            let name = random.pick(&value_names).unwrap().clone();
            editor.delete_value(key, &name)
        }
        4 => {
            let text = format!("O:BAG:SYD:(A;CI;KA;;;SY)(A;;KR;;;S-1-5-21-1-2-3-{})", step % 5);
            let security = SecurityDescriptor::from_sddl(&text).unwrap();
            editor.set_security(key, &security.to_bytes().unwrap()).map(|()| true)
        }
        _ => {
            let len = *random.pick(&[0usize, 1, 3, 4, 5, 100, 5000, 16_344, 16_345, 40_000]).unwrap();
            let mut bytes = vec![0; len];
            random.fill(&mut bytes);
            let name = match random.pick(&value_names) {
                Some(name) if random.once_in(2) => name.clone(),
                _ => NtName::from(format!("value {step}").as_str()),
            };
            editor.set_value(key, &name, &Data { kind: ValueType::BINARY, bytes }).map(|()| true)
        }
    };
    match result {
        Ok(done) => done,
        // Links and predefined keys are refused before anything is touched.
        Err(Error::Unsupported { .. }) => false,
        Err(error) => panic!("step {step}: {error}"),
    }
}

#[test]
fn descriptors_of_real_hives_survive_as_bytes_and_as_text() {
    let (mut all, mut same_bytes, mut texts) = (0, 0, 0);
    for (name, ..) in CORPUS {
        let Some(bytes) = corpus_file(name) else { return };
        let hive = Hive::parse(bytes).unwrap();
        let mut seen = std::collections::HashSet::new();
        for step in hive.walk() {
            let bytes = step.unwrap().0.security().unwrap();
            if !seen.insert(bytes) {
                continue;
            }
            all += 1;
            let descriptor = SecurityDescriptor::parse(bytes).unwrap();
            let written = descriptor.to_bytes().unwrap();
            assert_eq!(SecurityDescriptor::parse(&written), Ok(descriptor.clone()), "{name}");
            same_bytes += usize::from(written == bytes);
            if let Ok(text) = descriptor.to_sddl() {
                texts += 1;
                let again = SecurityDescriptor::from_sddl(&text).unwrap();
                assert_eq!(again.to_sddl().as_deref(), Ok(text.as_str()), "{name}");
                // The revision of a list is not part of the text.
                let entries = |list: &Option<Option<Acl>>| {
                    list.as_ref().map(|list| list.as_ref().map(|list| list.entries.clone()))
                };
                assert_eq!(again.owner, descriptor.owner, "{text}");
                assert_eq!(entries(&again.dacl), entries(&descriptor.dacl), "{text}");
                assert_eq!(entries(&again.sacl), entries(&descriptor.sacl), "{text}");
            }
        }
    }
    // The others have their parts in another order, or entries with conditions.
    assert_eq!((all, same_bytes, texts), (1221, 1060, 1219));
}
