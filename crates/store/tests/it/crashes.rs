//! Every step of a writer and of a collection fails, or is the last one before the power goes: the store opens, what was committed is
//! whole, what was not is gone or whole, and the next attempt succeeds.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;

use crate::support::{CrashFiles, Strike, contents, read_image, store_image};
use gravure_model::Ctl;
use gravure_store::{CollectOptions, ErrorKind, LocalObjects, OnExisting, Store, read_whole};

const OLD: [u32; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const NEW: [u32; 8] = [2, 3, 5, 10, 11, 12, 13, 14];
const STRIKES: [Strike; 3] = [Strike::Fail, Strike::Cut, Strike::CutHalfway];

fn open(files: &CrashFiles) -> Store {
    Store::open(Arc::new(LocalObjects::with_files(Path::new("/store"), files.clone()))).unwrap()
}

/// A store with the image `old`.
fn prepared() -> CrashFiles {
    let files = CrashFiles::default();
    store_image(&open(&files), "old", &OLD, OnExisting::Refuse).unwrap();
    files
}

/// What web servers are told is there, and what is.
fn catalogued(files: &CrashFiles) -> Vec<(String, u64)> {
    let objects = LocalObjects::with_files(Path::new("/store"), files.clone());
    let bytes = read_whole(&objects, "catalog.json", 1 << 20).unwrap();
    let catalog: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    serde_json::from_value(catalog["objects"].clone()).unwrap()
}

fn listed(store: &Store) -> Vec<(String, u64)> {
    let folders = ["images", "index", "packs"].map(|folder| store.objects().list(folder).unwrap());
    folders.into_iter().flatten().map(|object| (object.name, object.len)).collect()
}

/// What a machine finds afterwards, in the worst case and in the best.
fn outcomes(files: &CrashFiles) -> [CrashFiles; 2] {
    [files.after_crash(false), files.after_crash(true)]
}

/// Steps that are struck: each of them in full runs, another share with every kind of strike and every seed in ordinary ones.
fn sampled(steps: u64, nth_strike: usize) -> impl Iterator<Item = u64> {
    let stride: u64 = if gravure_testkit::full_run() { 1 } else { 4 };
    let first = (nth_strike as u64 + gravure_testkit::seed()) % stride;
    (first..steps).step_by(usize::try_from(stride).unwrap())
}

#[test]
fn a_writer_that_ends_anywhere_loses_only_what_was_not_committed() {
    let base = prepared();
    let files = base.after_crash(true);
    let before = files.steps();
    store_image(&open(&files), "new", &NEW, OnExisting::Refuse).unwrap();
    let steps = files.steps() - before;
    assert!(steps > 20, "{steps}");
    for (nth, strike) in STRIKES.into_iter().enumerate() {
        for at in sampled(steps, nth) {
            let files = base.after_crash(true);
            files.strike(at, strike);
            let store = Store::open(Arc::new(LocalObjects::with_files(Path::new("/store"), files.clone())));
            let result = store.and_then(|store| store_image(&store, "new", &NEW, OnExisting::Refuse));
            for (state, found) in ["durable", "all"].into_iter().zip(outcomes(&files)) {
                let context = format!("{strike:?} at {at} of {steps}, {state}");
                let store = open(&found);
                assert_eq!(read_image(&store, "old").unwrap(), contents(&OLD), "{context}");
                match read_image(&store, "new") {
                    Ok(found) => assert_eq!(found, contents(&NEW), "{context}"),
                    Err(error) => {
                        assert!(result.is_err(), "{context}: committed, but {error}");
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{context}: {error}");
                    }
                }
                // Whoever writes next puts right what web servers are told, and whoever failed may try again.
                drop(store.writer().unwrap());
                assert_eq!(catalogued(&found), listed(&store), "{context}: catalogue");
                if let Err(error) = store_image(&store, "new", &NEW, OnExisting::Refuse) {
                    panic!("{context}: once more: {error}");
                }
                assert_eq!(read_image(&open(&found), "new").unwrap(), contents(&NEW), "{context}");
                assert_eq!(catalogued(&found), listed(&store), "{context}: catalogue at the end");
                let report = store.collect(&CollectOptions::default(), &Ctl::default()).unwrap();
                assert_eq!(report.missing, Vec::<String>::new(), "{context}");
                let scrubbed = open(&found).scrub(&Ctl::default(), &mut |_| {}).unwrap();
                assert_eq!((scrubbed.damage, scrubbed.lost), (vec![], vec![]), "{context}");
                assert!(!found.names().iter().any(|name| name.starts_with("/store/tmp/")), "{context}");
            }
        }
    }
}

#[test]
fn a_collection_that_ends_anywhere_removes_nothing_that_is_wanted() {
    let prepared = || {
        let files = prepared();
        let store = open(&files);
        store_image(&store, "new", &NEW, OnExisting::Refuse).unwrap();
        store_image(&store, "third", &[20, 21, 22, 23, 24, 1], OnExisting::Refuse).unwrap();
        store.remove_image("old").unwrap();
        store.remove_image("third").unwrap();
        files
    };
    let collect = |store: &Store| store.collect(&CollectOptions::default(), &Ctl::default());
    let base = prepared();
    let files = base.after_crash(true);
    let before = files.steps();
    let report = collect(&open(&files)).unwrap();
    assert!(report.removed_packs >= 3 && report.waiting_packs == 0, "{report:?}");
    let steps = files.steps() - before;
    for (nth, strike) in STRIKES.into_iter().enumerate() {
        for at in sampled(steps, nth) {
            let files = base.after_crash(true);
            files.strike(at, strike);
            let _ = Store::open(Arc::new(LocalObjects::with_files(Path::new("/store"), files.clone())))
                .and_then(|store| collect(&store));
            for (state, found) in ["durable", "all"].into_iter().zip(outcomes(&files)) {
                let context = format!("{strike:?} at {at} of {steps}, {state}");
                let store = open(&found);
                assert_eq!(read_image(&store, "new").unwrap(), contents(&NEW), "{context}");
                collect(&store).unwrap();
                // What a collection left half done, the next ones end.
                let report = collect(&open(&found)).unwrap();
                assert_eq!(report.missing, Vec::<String>::new(), "{context}");
                let store = open(&found);
                assert_eq!(read_image(&store, "new").unwrap(), contents(&NEW), "{context}");
                let wanted = NEW.len() as u64 + 1;
                assert_eq!(report.wanted, wanted, "{context}");
                let scrubbed = store.scrub(&Ctl::default(), &mut |_| {}).unwrap();
                assert_eq!((scrubbed.damage, scrubbed.lost), (vec![], vec![]), "{context}");
                assert!(scrubbed.contents <= wanted + 3, "{context}: {} contents stay", scrubbed.contents);
            }
        }
    }
}
