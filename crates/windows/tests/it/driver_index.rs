//! The index of a repository on disk: damaged, of another version, in the way, and changed by several at once.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gravure_windows::Error;
use gravure_windows::drivers::{AddOptions, Manifest, PackModel, Packages as _, Repository};

/// Takes packages that are an INF file alone.
const ANY: AddOptions = AddOptions { allow_unsigned: true, allow_incomplete: true };

/// An INF file with devices of its own and one that all others have, too.
fn package(dir: &Path, number: usize) -> PathBuf {
    let dir = dir.join(format!("package-{number}"));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("d.inf");
    let own: String =
        (0..8).map(|at| format!("d{at}=I,PCI\\VEN_{number:04x}&DEV_{at:04x}\n")).collect::<String>();
    let text = format!(
        "[Version]\nSignature=\"$Windows NT$\"\nProvider=P\nDriverVer=01/02/2024,1.0.0.{number}\n[Manufacturer]\nm=M,NTamd64\n\
         [M.NTamd64]\n{own}all=I,usb\\vid_1&pid_2\n[I]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn own_id(number: usize) -> String {
    format!("PCI\\VEN_{number:04X}&DEV_0007")
}

const SHARED_ID: &str = "USB\\VID_1&PID_2";

fn take(repository: &mut Repository, dir: &Path, numbers: impl Iterator<Item = usize>) -> Vec<Manifest> {
    numbers.map(|number| repository.add(&package(dir, number), ANY).unwrap().manifest).collect()
}

/// What all packages say of themselves: ids of packages by ID.
fn truth(repository: &Repository) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for manifest in repository.packages().unwrap() {
        manifest.ids.iter().for_each(|id| out.entry(id.clone()).or_default().push(manifest.id.clone()));
    }
    out
}

/// Packages of one ID.
fn found(repository: &Repository, id: &str) -> Vec<String> {
    repository.candidates(&[id]).unwrap().into_iter().collect()
}

fn assert_answers(repository: &Repository, truth: &BTreeMap<String, Vec<String>>, why: &str) {
    for (id, packages) in truth {
        assert_eq!(found(repository, id), *packages, "{why}: {id}");
        assert_eq!(found(repository, &id.to_lowercase()), *packages, "{why}: {id}");
    }
    assert_eq!(found(repository, "PCI\\VEN_FFFF"), [""; 0], "{why}");
}

#[test]
fn a_damaged_index_answers_as_a_fresh_one_and_is_mended() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    take(&mut repository, temp.path(), 0..30);
    repository.commit().unwrap();
    let truth = truth(&repository);
    assert_eq!((truth.len(), truth[SHARED_ID].len(), truth[&own_id(3)].len()), (30 * 8 + 1, 30, 1));
    drop(repository);
    let place = root.join("index.sqlite");
    let good = fs::read(&place).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for at in (0..good.len()).step_by(512) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        cases.push((format!("byte {at:#x}"), bad));
    }
    cases.extend((0..good.len()).step_by(1777).map(|len| (format!("cut at {len}"), good[..len].to_vec())));
    let mut mended = 0;
    for (why, bytes) in cases {
        fs::write(&place, &bytes).unwrap();
        assert_answers(&Repository::open(&root).unwrap(), &truth, &why);
        if fs::read(&place).unwrap() != bytes {
            mended += 1;
            let index = rusqlite::Connection::open(&place).unwrap();
            let verdict: String = index.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "{why}");
        }
    }
    assert!(mended > 40, "{mended}");
    // While it is open.
    let repository = Repository::open(&root).unwrap();
    let mut bad = fs::read(&place).unwrap();
    let len = bad.len();
    bad[100..len].fill(0xff);
    fs::write(&place, bad).unwrap();
    assert_answers(&repository, &truth, "open");
}

#[test]
fn an_index_of_another_version_is_made_anew_and_the_first_format_goes() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    take(&mut repository, temp.path(), 0..2);
    repository.commit().unwrap();
    let truth = truth(&repository);
    drop(repository);
    let version = |new: Option<i32>| -> i32 {
        let index = rusqlite::Connection::open(root.join("index.sqlite")).unwrap();
        if let Some(new) = new {
            index.pragma_update(None, "user_version", new).unwrap();
        }
        index.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    assert_eq!((version(None), version(Some(7))), (1, 7));
    assert_answers(&Repository::open(&root).unwrap(), &truth, "version");
    assert_eq!(version(None), 1);
    // A repository of a version before.
    fs::write(root.join("index"), b"GVDRVIX1 and more").unwrap();
    fs::remove_file(root.join("index.sqlite")).unwrap();
    let mut repository = Repository::open(&root).unwrap();
    assert_answers(&repository, &truth, "gone");
    fs::write(root.join("index"), b"GVDRVIX1 and more").unwrap();
    take(&mut repository, temp.path(), 2..3);
    repository.commit().unwrap();
    assert!(!root.join("index").exists());
    assert_eq!(found(&repository, &own_id(2)).len(), 1);
}

/// Nothing is written where nothing can be written; answers are the same.
#[test]
fn where_no_index_can_be_written_one_in_memory_does() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    take(&mut repository, temp.path(), 0..3);
    repository.commit().unwrap();
    let truth = truth(&repository);
    fs::remove_file(root.join("index.sqlite")).unwrap();
    // A directory that is not empty cannot be replaced by a file, not even by root.
    fs::create_dir_all(root.join("index.sqlite/x")).unwrap();
    assert_answers(&Repository::open(&root).unwrap(), &truth, "in the way");
    take(&mut repository, temp.path(), 3..4);
    let error = repository.commit().unwrap_err();
    assert!(
        matches!(&error, Error::Io { what: "delete", path, .. } if path.ends_with("index.sqlite")),
        "{error:?}"
    );
    // The package is there nevertheless.
    assert_eq!(found(&Repository::open(&root).unwrap(), SHARED_ID).len(), 4);
}

#[test]
fn several_who_add_at_the_same_time_lose_nothing_and_disturb_no_reader() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    Repository::create(&root).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (root, dir) = (&root, temp.path());
                scope.spawn(move || {
                    let mut repository = Repository::open(root).unwrap();
                    for number in writer * 15..writer * 15 + 15 {
                        let taken = take(&mut repository, dir, number..number + 1);
                        repository.commit().unwrap();
                        let ids = taken.into_iter().map(|manifest| manifest.id).collect();
                        repository.note_model(&"dell:0B98".parse().unwrap(), &ids).unwrap();
                        // All that it has added itself, whatever others thought was there.
                        for own in writer * 15..=number {
                            assert_eq!(found(&repository, &own_id(own)).len(), 1, "{own}");
                        }
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let (mut counts, mut open) = (Vec::new(), Repository::open(&root).unwrap());
            while !is_done.load(Ordering::Relaxed) {
                counts.push(found(&open, SHARED_ID).len());
                if counts.len() % 5 == 0 {
                    open = Repository::open(&root).unwrap();
                }
            }
            counts
        });
        // The reader ends whatever became of them.
        let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(Result::unwrap);
        let counts = reader.join().unwrap();
        assert!(counts.is_sorted(), "{counts:?}");
    });
    let place = root.join("index.sqlite");
    let before = fs::read(&place).unwrap();
    let repository = Repository::open(&root).unwrap();
    assert_eq!(found(&repository, SHARED_ID).len(), 60);
    assert_answers(&repository, &truth(&repository), "all");
    let model: PackModel = "dell:0B98".parse().unwrap();
    assert_eq!(repository.of_model(&model).unwrap(), found(&repository, SHARED_ID));
    assert_eq!(fs::read(&place).unwrap(), before, "there was nothing left to do");
}

#[test]
fn what_another_handle_takes_out_is_found_no_more() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    let manifests = take(&mut repository, temp.path(), 0..5);
    repository.commit().unwrap();
    let mut other = Repository::open(&root).unwrap();
    other.remove(&manifests[2]).unwrap();
    // Before the index follows.
    let opened = Repository::open(&root).unwrap();
    assert_eq!((found(&opened, SHARED_ID).len(), found(&opened, &own_id(2)).len()), (4, 0));
    other.remove(&manifests[4]).unwrap();
    other.commit().unwrap();
    for repository in [&repository, &other, &opened] {
        assert_eq!(found(repository, SHARED_ID).len(), 3);
        assert_eq!(found(repository, &own_id(4)), [""; 0]);
        assert_eq!(found(repository, &own_id(3)), [manifests[3].id.clone()]);
    }
    // The empty file of a package that a power cut leaves is none.
    fs::write(root.join(format!("packages/{}.json", manifests[2].id)), b"").unwrap();
    let opened = Repository::open(&root).unwrap();
    assert_answers(&opened, &truth(&opened), "empty");
    take(&mut repository, temp.path(), 5..6);
    repository.commit().unwrap();
    assert_eq!(found(&opened, &own_id(5)).len(), 1);
    // It can be taken in again.
    take(&mut repository, temp.path(), 2..3);
    repository.commit().unwrap();
    assert_eq!(found(&opened, &own_id(2)), [manifests[2].id.clone()]);
}

#[test]
fn packages_noted_for_one_model_at_the_same_time_are_all_kept() {
    let temp = tempfile::tempdir().unwrap();
    Repository::create(temp.path()).unwrap();
    let model: PackModel = "dell:0B98".parse().unwrap();
    thread::scope(|scope| {
        for technician in 0..4 {
            let (root, model) = (temp.path(), &model);
            scope.spawn(move || {
                let repository = Repository::open(root).unwrap();
                for number in 0..25 {
                    let id = format!("{:064x}", technician * 100 + number);
                    repository.note_model(model, &[id].into()).unwrap();
                }
            });
        }
    });
    let kept = fs::read_to_string(temp.path().join("models/dell-0B98.json")).unwrap();
    assert_eq!(kept.matches("\"0000").count(), 100, "{kept}");
}
