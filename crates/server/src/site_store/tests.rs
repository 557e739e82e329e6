//! What machines are given, from places and caches in directories; buckets and web servers that stop are in `tests/it/store.rs`.

use std::path::PathBuf;

use super::*;
use crate::config::CopyConfig;

/// A directory with these objects, which hold their own names and `mark`.
fn place(dir: &Path, name: &str, mark: &str, objects: &[&str]) -> PathBuf {
    let path = dir.join(name);
    for object in objects {
        let path = path.join(object);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{object} {mark}")).unwrap();
    }
    path
}

fn open(first: &Path, copies: &[&Path], cache: Option<&Path>) -> SiteStore {
    let mut config = Config::default();
    config.paths.store = first.to_owned();
    let copy = |path: &&Path| CopyConfig { directory: Some(path.to_path_buf()), ..CopyConfig::default() };
    config.store = Some(StoreConfig {
        copies: copies.iter().map(copy).collect(),
        cache: cache.map(Path::to_owned),
        cache_gib: cache.map(|_| 1),
        ..StoreConfig::default()
    });
    SiteStore::open(&config).unwrap()
}

/// The text of the file that is given.
fn given(store: &SiteStore, object: &str) -> Option<String> {
    match store.find(object, Asking::Content) {
        Found::File { mut file, .. } => {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut file, &mut text).unwrap();
            Some(text)
        }
        _ => None,
    }
}

#[test]
fn a_directory_gives_what_machines_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path, &[], None);
    assert_eq!(store.manifests().unwrap(), []);
    place(dir.path(), "store", "", &["images/a.gim", "packs/00/x", "sessions/s", "catalog.json"]);
    let names: Vec<(String, u64)> =
        store.manifests().unwrap().into_iter().map(|(name, stamp)| (name, stamp.size_bytes)).collect();
    assert_eq!(names, [("a.gim".to_owned(), 13)]);
    let is_there = |name| matches!(store.find(name, Asking::Content), Found::File { .. });
    assert!(is_there("images/a.gim") && is_there("packs/00/x") && is_there("catalog.json"));
    assert!(!is_there("sessions/s") && !is_there("packs/none") && !is_there("images/../sessions/s"));
}

#[test]
fn what_the_first_place_does_not_give_a_copy_does() {
    let dir = tempfile::tempdir().unwrap();
    let first = place(dir.path(), "first", "1", &["catalog.json", "packs/aa/one"]);
    let copy =
        place(dir.path(), "copy", "2", &["catalog.json", "images/a.gim", "packs/aa/one", "packs/bb/two"]);
    let gone = dir.path().join("gone");
    let store = open(&first, &[&gone, &copy], None);
    assert_eq!(given(&store, "packs/aa/one").as_deref(), Some("packs/aa/one 1"));
    assert_eq!(given(&store, "packs/bb/two").as_deref(), Some("packs/bb/two 2"), "the first has it not");
    assert_eq!(given(&store, "packs/cc/three"), None);
    assert_eq!(given(&store, "sessions/x"), None);
    assert_eq!(store.manifests().unwrap(), [], "as the first place has it");
    // The first place goes away; what was seen there a moment ago counts no longer than that.
    let store = open(&first, &[&gone, &copy], None);
    std::fs::rename(&first, dir.path().join("away")).unwrap();
    assert_eq!(given(&store, "packs/aa/one").as_deref(), Some("packs/aa/one 2"));
    assert_eq!(store.manifests().unwrap().len(), 1);
    assert!(!store.is_read_only());
}

#[test]
fn a_cache_keeps_what_was_asked_for_and_gives_it_when_nothing_answers() {
    let dir = tempfile::tempdir().unwrap();
    let objects = ["catalog.json", "images/a.gim", "packs/aa/one", "packs/bb/two"];
    let first = place(dir.path(), "first", "1", &objects);
    let near = dir.path().join("near");
    let store = open(&first, &[], Some(&near));
    for object in ["catalog.json", "images/a.gim", "packs/aa/one"] {
        assert_eq!(given(&store, object), Some(format!("{object} 1")));
        assert_eq!(std::fs::read_to_string(near.join(object)).unwrap(), format!("{object} 1"));
    }
    assert_eq!(cached_bytes(&near), ("images/a.gim 1".len() + "packs/aa/one 1".len()) as u64);
    // What may change is fetched whenever it is asked for, what cannot is not.
    place(dir.path(), "first", "changed", &objects);
    assert_eq!(given(&store, "images/a.gim").as_deref(), Some("images/a.gim changed"));
    assert_eq!(given(&store, "packs/aa/one").as_deref(), Some("packs/aa/one 1"));
    // Gone for good: not given from the cache either.
    std::fs::remove_file(first.join("images/a.gim")).unwrap();
    assert_eq!(given(&store, "images/a.gim"), None);
    assert!(!near.join("images/a.gim").exists());
    // The server starts again, and the store cannot be reached.
    let copies: [&Path; 0] = [];
    let store = open(&dir.path().join("nowhere"), &copies, Some(&near));
    std::fs::remove_dir(dir.path().join("nowhere")).unwrap();
    assert_eq!(given(&store, "packs/aa/one").as_deref(), Some("packs/aa/one 1"));
    assert_eq!(given(&store, "catalog.json").as_deref(), Some("catalog.json 1"), "as it was last");
    assert_eq!(given(&store, "packs/bb/two"), None);
    assert_eq!(given(&store, "sessions/x"), None);
}

/// An index is named by its content: one that went bad in the cache is fetched anew. While nothing answers it is given as it is, and whoever
/// reads it finds out.
#[test]
fn an_index_that_went_bad_in_the_cache_is_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let content = "rows";
    let name = format!("index/{}", gravure_blockimg::ChunkId::of(content.as_bytes()));
    let first = dir.path().join("first");
    let near = dir.path().join("near");
    for path in [&first, &near] {
        std::fs::create_dir_all(path.join("index")).unwrap();
    }
    std::fs::write(first.join(&name), content).unwrap();
    std::fs::write(near.join(&name), "rot!").unwrap();
    let store = open(&first, &[], Some(&near));
    assert_eq!(given(&store, &name).as_deref(), Some("rows"));
    assert_eq!(std::fs::read_to_string(near.join(&name)).unwrap(), "rows");
}
