//! Driver packages that Microsoft signed, as vendors give them away. None of them is the project's to hand on, so
//! `GRAVURE_SIGNED_DRIVERS` names a directory that holds some (INF files, catalogues and programs as they were published).
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use gravure_testkit::skipped;
use gravure_windows::Error;
use gravure_windows::drivers::{AddOptions, Repository};

fn infs(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            infs(&path, found);
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("inf")) {
            found.push(path);
        }
    }
}

#[test]
fn packages_of_the_hardware_program_are_taken_and_refused_with_any_file_changed() {
    let Some(dir) = std::env::var_os("GRAVURE_SIGNED_DRIVERS") else {
        skipped(
            "GRAVURE_SIGNED_DRIVERS does not name a directory with driver packages that Microsoft signed",
        );
        return;
    };
    let mut all = Vec::new();
    infs(Path::new(&dir), &mut all);
    assert!(!all.is_empty());
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    for path in all {
        let added = repository.add(&path, AddOptions::default()).unwrap().manifest;
        let signature = added.signature.unwrap();
        assert!(signature.hardware_program && signature.verified, "{}: {signature:?}", path.display());
        // With one bit changed in any of its files it is none.
        for file in &added.files {
            let copy = tempfile::tempdir().unwrap();
            for other in &added.files {
                let to = copy.path().join(&other.path);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(path.parent().unwrap().join(&other.path), to).unwrap();
            }
            let changed = copy.path().join(&file.path);
            let mut bytes = fs::read(&changed).unwrap();
            // Programs may end in signatures of their own, which no catalogue covers.
            let at = (bytes.len() / 2).min(2000);
            bytes[at] ^= 0x04;
            fs::write(&changed, bytes).unwrap();
            let mut other = Repository::create(&copy.path().join("repository")).unwrap();
            let refused = other.add(&copy.path().join(&added.inf), AddOptions::default());
            assert!(
                matches!(refused, Err(Error::Refused { .. } | Error::Inf { .. })),
                "{} with a bit of {} changed: {refused:?}",
                path.display(),
                file.path
            );
        }
    }
    repository.commit().unwrap();
}
