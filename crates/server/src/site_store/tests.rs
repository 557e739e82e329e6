//! What machines are given, from places and caches in directories; buckets and web servers that stop are in `tests/it/store.rs`.

use std::path::PathBuf;

use gravure_blockimg::{FrameEncoder, FrameKind, PackBuilder};

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
    bytes_given(store, object, false).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn bytes_given(store: &SiteStore, object: &str, afresh: bool) -> Option<Vec<u8>> {
    match store.find(object, Asking::Content, afresh) {
        Found::File { mut file, .. } => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            Some(bytes)
        }
        _ => None,
    }
}

/// A pack of one content, in a place: its object, and its bytes.
fn pack(place: &Path, content: &[u8]) -> (String, Vec<u8>) {
    let mut pack = PackBuilder::default();
    pack.push(&FrameEncoder::new(1).unwrap().single(FrameKind::Data, content).unwrap());
    let (id, bytes, _) = pack.finish().unwrap();
    let object = format!("packs/aa/{id}");
    std::fs::create_dir_all(place.join("packs/aa")).unwrap();
    std::fs::write(place.join(&object), &bytes).unwrap();
    (object, bytes)
}

/// Changes a byte in the middle of a file, which looks as if nobody had written to it.
fn rot(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x41;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
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
    let is_there = |name| matches!(store.find(name, Asking::Content, false), Found::File { .. });
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
    let objects = ["catalog.json", "images/a.gim"];
    let first = place(dir.path(), "first", "1", &objects);
    let ((one, bytes), (two, _)) = (pack(&first, &[1; 5000]), pack(&first, &[2; 5000]));
    let near = dir.path().join("near");
    let store = open(&first, &[], Some(&near));
    for object in objects {
        assert_eq!(given(&store, object), Some(format!("{object} 1")));
        assert_eq!(std::fs::read_to_string(near.join(object)).unwrap(), format!("{object} 1"));
    }
    assert!(bytes_given(&store, &one, false) == Some(bytes.clone()));
    assert!(std::fs::read(near.join(&one)).unwrap() == bytes);
    assert_eq!(cached_bytes(&near), ("images/a.gim 1".len() + bytes.len()) as u64);
    // What may change is fetched whenever it is asked for, what cannot is not.
    place(dir.path(), "first", "changed", &objects);
    std::fs::remove_file(first.join(&one)).unwrap();
    assert_eq!(given(&store, "images/a.gim").as_deref(), Some("images/a.gim changed"));
    assert!(bytes_given(&store, &one, false) == Some(bytes.clone()));
    // Gone for good: not given from the cache either.
    std::fs::remove_file(first.join("images/a.gim")).unwrap();
    assert_eq!(given(&store, "images/a.gim"), None);
    assert!(!near.join("images/a.gim").exists());
    // The server starts again, and the store cannot be reached.
    let copies: [&Path; 0] = [];
    let store = open(&dir.path().join("nowhere"), &copies, Some(&near));
    std::fs::remove_dir(dir.path().join("nowhere")).unwrap();
    assert!(bytes_given(&store, &one, false) == Some(bytes));
    assert_eq!(given(&store, "catalog.json").as_deref(), Some("catalog.json 1"), "as it was last");
    assert_eq!(bytes_given(&store, &two, false), None);
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

#[test]
fn a_pack_that_went_bad_in_the_cache_is_fetched_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (first, near) = (dir.path().join("first"), dir.path().join("near"));
    let (object, bytes) = pack(&first, &[3; 9000]);
    let store = open(&first, &[], Some(&near));
    let ask = |store: &SiteStore, afresh| bytes_given(store, &object, afresh) == Some(bytes.clone());
    let is_whole = || std::fs::read(near.join(&object)).unwrap() == bytes;
    assert!(ask(&store, false) && is_whole());
    // A file that was changed or cut off is looked at before it is given.
    std::fs::write(near.join(&object), vec![0; bytes.len()]).unwrap();
    assert!(ask(&store, false) && is_whole());
    std::fs::File::options().write(true).open(near.join(&object)).unwrap().set_len(100).unwrap();
    assert!(ask(&store, false) && is_whole());
    // Bits that flip change no time: it is given, and looked at when who read it asks afresh.
    rot(&near.join(&object));
    assert!(!ask(&store, false) && !is_whole());
    assert!(ask(&store, true) && is_whole());
    assert_eq!(damaged(&near, 0).len(), 3, "all of it is told");
    // Not for ever: it costs reading all of it.
    rot(&near.join(&object));
    assert!(!ask(&store, true) && !is_whole());
    // A server that starts knows of nothing that it is right.
    let store = open(&first, &[], Some(&near));
    assert!(ask(&store, false) && is_whole());
    assert_eq!(damaged(&near, 0).len(), 4);

    // Nothing answers: it is given as it is, told once, and put right as soon as something does.
    rot(&near.join(&object));
    let away = dir.path().join("away");
    std::fs::rename(&first, &away).unwrap();
    let store = open(&first, &[], Some(&near));
    std::fs::remove_dir_all(&first).unwrap();
    assert!((0..3).all(|_| !ask(&store, false)) && !is_whole());
    assert_eq!(damaged(&near, 0).len(), 5);
    std::fs::rename(&away, &first).unwrap();
    let store = open(&first, &[], Some(&near));
    assert!(ask(&store, false) && is_whole());

    // Bad where it is fetched from, and right in the copy.
    rot(&first.join(&object));
    let copy = dir.path().join("copy");
    pack(&copy, &[3; 9000]);
    std::fs::remove_dir_all(&near).unwrap();
    let store = open(&first, &[&copy], Some(&near));
    assert!(ask(&store, false) && is_whole());
    // Nowhere right: it is not kept, and the machine gets what there is.
    std::fs::remove_dir_all(&near).unwrap();
    let store = open(&first, &[], Some(&near));
    assert!(!ask(&store, false) && !near.join(&object).exists());
}
