//! Stores in directories, on web servers, behind caches and in several places; collections beside writers; damage.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{CrashFiles, content, contents, read_image, store_image, write_contents};
use gravure_blockimg::{ChunkId, FrameDecoder};
use gravure_fetch::{Patience, agent};
use gravure_model::Ctl;
use gravure_store::{
    CachedObjects, CollectOptions, ErrorKind, FailoverObjects, HttpObjects, LocalObjects, Objects,
    OnExisting, Put, Store,
};

fn local(dir: &Path) -> Store {
    Store::open(Arc::new(LocalObjects::new(dir))).unwrap()
}

fn pack_bytes(store: &Store) -> u64 {
    store.packs().iter().map(|(_, len)| len).sum()
}

#[test]
fn content_is_kept_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = local(dir.path());
    let all: Vec<u32> = (0..60).collect();
    store_image(&store, "one", &all, OnExisting::Refuse).unwrap();
    let first = pack_bytes(&store);
    store_image(&store, "two", &all[5..], OnExisting::Refuse).unwrap();
    // Only a table is new.
    assert!(pack_bytes(&store) - first < 5000);
    store.write_index().unwrap();
    for store in [store, local(dir.path())] {
        assert_eq!(read_image(&store, "one").unwrap(), contents(&all));
        assert_eq!(read_image(&store, "two").unwrap(), contents(&all[5..]));
        let names: Vec<String> = store.images().unwrap().into_iter().map(|image| image.name).collect();
        assert_eq!(names, ["one", "two"]);
    }
    let store = local(dir.path());
    let refused = store_image(&store, "one", &[1], OnExisting::Refuse).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    store_image(&store, "one", &[1], OnExisting::Replace).unwrap();
    assert_eq!(read_image(&store, "one").unwrap(), contents(&[1]));
    // The index is a copy: without it, and with a damaged one, everything is found.
    for file in std::fs::read_dir(dir.path().join("index")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let damaged = local(dir.path());
    assert_eq!(damaged.warnings().len(), 1, "{:?}", damaged.warnings());
    assert_eq!(read_image(&damaged, "two").unwrap(), contents(&all[5..]));
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    assert_eq!(read_image(&local(dir.path()), "two").unwrap(), contents(&all[5..]));
}

#[test]
fn names_that_leave_the_store_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let objects = LocalObjects::new(dir.path());
    for name in ["../x", "a/../b", "/etc/x", "", "a//b", "a/.hidden", "a\0b", "a/\u{e9}"] {
        assert_eq!(objects.put_new(name, b"").unwrap_err().kind(), ErrorKind::Refused, "{name:?}");
    }
    assert_eq!(objects.put_new("packs/ab/x", b"1").unwrap(), Put::Created);
    assert_eq!(objects.put_new("packs/ab/x", b"2").unwrap(), Put::Exists);
    assert_eq!(std::fs::read(dir.path().join("packs/ab/x")).unwrap(), b"1");
}

#[test]
fn a_collection_beside_a_writer_keeps_what_the_writer_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    let (old, collector) = (local(dir.path()), local(dir.path()));
    let numbers: Vec<u32> = (0..12).collect();
    store_image(&old, "old", &numbers, OnExisting::Refuse).unwrap();
    let store = local(dir.path());
    let mut writer = store.writer().unwrap();
    // The writer finds everything there and stores next to nothing; then the image it was found in goes.
    let manifest = write_contents(&mut writer, "new", &numbers).unwrap();
    collector.remove_image("old").unwrap();
    let collect = || local(dir.path()).collect(&CollectOptions::default(), &Ctl::default()).unwrap();
    let report = collect();
    assert!(report.removed_packs == 0 && report.waiting_packs > 0, "{report:?}");
    // One that begins now does not count on what is going.
    let later = local(dir.path());
    let late_writer = later.writer().unwrap();
    assert!(!late_writer.contains(&ChunkId::of(&content(1))).unwrap());
    drop(late_writer);
    writer.commit("new", &manifest, OnExisting::Refuse).unwrap();
    assert_eq!(collect().removed_packs, 0);
    assert_eq!(read_image(&local(dir.path()), "new").unwrap(), contents(&numbers));
    local(dir.path()).remove_image("new").unwrap();
    let report = collect();
    assert!(report.removed_packs > 0 && report.wanted == 0);
    assert_eq!(local(dir.path()).packs(), []);
}

#[test]
fn writers_begin_while_collections_clean_up() {
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let objects = LocalObjects::new(dir.path());
            while !done.load(Ordering::Relaxed) {
                objects.clean().unwrap();
            }
        });
        let objects = LocalObjects::new(dir.path());
        let begun: Result<Vec<bool>, _> = (0..3000)
            .map(|_| {
                let session = objects.begin_session()?;
                Ok::<bool, gravure_store::Error>(objects.sessions()? == [session.name()])
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(begun.unwrap().into_iter().all(|is_seen| is_seen));
    });
}

#[test]
fn many_writers_at_once_spoil_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..4u32 {
            let dir = dir.path();
            scope.spawn(move || {
                let numbers: Vec<u32> = (number * 3..number * 3 + 10).collect();
                store_image(&local(dir), &format!("image{number}"), &numbers, OnExisting::Refuse).unwrap();
            });
        }
        scope.spawn(|| local(dir.path()).collect(&CollectOptions::default(), &Ctl::default()).map(drop));
    });
    let store = local(dir.path());
    for number in 0..4u32 {
        let numbers: Vec<u32> = (number * 3..number * 3 + 10).collect();
        assert_eq!(read_image(&store, &format!("image{number}")).unwrap(), contents(&numbers));
    }
    store.collect(&CollectOptions::default(), &Ctl::default()).unwrap();
    let scrubbed = store.scrub(&Ctl::default(), &mut |_| {}).unwrap();
    assert_eq!((scrubbed.damage, scrubbed.lost), (vec![], vec![]));
}

#[test]
fn scrubbing_finds_every_flipped_bit_of_a_pack() {
    let files = CrashFiles::default();
    let open =
        || Store::open(Arc::new(LocalObjects::with_files(Path::new("/store"), files.clone()))).unwrap();
    store_image(&open(), "one", &[1, 2], OnExisting::Refuse).unwrap();
    let pack = files.names().into_iter().find(|name| name.starts_with("/store/packs/")).unwrap();
    let store = open();
    let (_, len) = store.packs()[0];
    let clean = store.scrub(&Ctl::default(), &mut |_| {}).unwrap();
    assert_eq!((clean.damage.len(), clean.contents, clean.packs), (0, 3, 1));
    for at in (0..len as usize).step_by(37) {
        files.flip(&pack, at);
        let store =
            Store::open(Arc::new(LocalObjects::with_files(Path::new("/store"), files.clone()))).unwrap();
        let report = store.scrub(&Ctl::default(), &mut |_| {}).unwrap();
        let is_harmless = read_image(&store, "one").is_ok_and(|found| found == contents(&[1, 2]));
        assert!(!report.damage.is_empty() || is_harmless, "byte {at} of {len}");
        if !report.lost.is_empty() {
            assert!(!is_harmless, "byte {at}");
        }
        files.flip(&pack, at);
    }
}

/// A web server for files below a directory, with ranges. Breaks off every `break_every`-th answer.
fn serve(dir: PathBuf, break_every: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/store", listener.local_addr().unwrap());
    let count = AtomicU64::new(0);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut range) = (String::new(), None);
            reader.read_line(&mut first).unwrap_or(0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                    let (start, end) = text.trim().split_once('-').unwrap();
                    range = Some((start.parse::<u64>().unwrap(), end.parse::<u64>().unwrap() + 1));
                }
            }
            let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches("/store/").to_owned();
            let answer = match std::fs::File::open(dir.join(path)) {
                Err(_) => {
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
                }
                Ok(mut file) => {
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).unwrap();
                    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                    let (start, end) = range.unwrap_or((0, bytes.len() as u64));
                    let body = &bytes[start as usize..end as usize];
                    let place =
                        format!("content-range: bytes {start}-{}/{}", end.saturating_sub(1), bytes.len());
                    let place = if range.is_some() { place } else { "x-whole: 1".to_owned() };
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{place}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    [head.as_bytes(), body].concat()
                }
            };
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            let is_broken = number.is_multiple_of(break_every);
            let len = if is_broken { answer.len() / 2 } else { answer.len() };
            let _ = stream.write_all(&answer[..len]);
        }
    });
    url
}

#[test]
fn a_web_server_serves_a_store_even_if_it_breaks_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = local(dir.path());
    let numbers: Vec<u32> = (0..20).collect();
    store_image(&store, "one", &numbers, OnExisting::Refuse).unwrap();
    store.collect(&CollectOptions::default(), &Ctl::default()).unwrap();
    let url = serve(dir.path().to_owned(), 3);
    let far = Arc::new(HttpObjects::open(agent(), &format!("{url}/"), Patience::default()).unwrap());
    let store = Store::open(far.clone()).unwrap();
    assert_eq!(store.warnings(), Vec::<String>::new());
    assert_eq!(read_image(&store, "one").unwrap(), contents(&numbers));
    assert_eq!(store.image("two").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.writer().unwrap_err().kind(), ErrorKind::Refused);
    // A cache has everything after the first reading; the web server is not asked for packs again.
    let near = tempfile::tempdir().unwrap();
    let cached = Arc::new(CachedObjects::new(far, Arc::new(LocalObjects::new(near.path()))));
    assert_eq!(read_image(&Store::open(cached.clone()).unwrap(), "one").unwrap(), contents(&numbers));
    let far_packs = dir.path().join("packs");
    std::fs::rename(&far_packs, dir.path().join("gone")).unwrap();
    assert_eq!(read_image(&Store::open(cached).unwrap(), "one").unwrap(), contents(&numbers));
}

#[test]
fn what_one_place_does_not_give_another_does() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let numbers: Vec<u32> = (0..20).collect();
    for dir in [&first, &second] {
        store_image(&local(dir.path()), "one", &numbers, OnExisting::Refuse).unwrap();
    }
    let places = || -> Vec<Arc<dyn Objects>> {
        [&first, &second].map(|dir| Arc::new(LocalObjects::new(dir.path())) as Arc<dyn Objects>).to_vec()
    };
    let (pack, _) = local(first.path()).packs()[1];
    let name = format!("packs/{}/{pack}", &pack.to_string()[..2]);
    std::fs::remove_file(first.path().join(&name)).unwrap();
    assert!(FailoverObjects::new(Vec::new()).is_none());
    let objects = FailoverObjects::new(places()).unwrap();
    assert!(objects.open(&name).is_ok());
    // The listing comes from the first place, which does not know of the pack; another one does.
    let entries = Store::open(Arc::new(LocalObjects::new(second.path()))).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    for number in &numbers {
        let plain = content(*number);
        assert_eq!(entries.content(&ChunkId::of(&plain), &mut decoder).unwrap(), plain);
    }
    std::fs::remove_dir_all(first.path()).unwrap();
    let missing = FailoverObjects::new(places()).unwrap();
    assert!(missing.open("images/one.gim").is_ok());
}

/// Changes a byte amid every pack below `dir`.
fn spoil(dir: &Path) -> usize {
    let objects = LocalObjects::new(dir);
    let packs = objects.list("packs").unwrap();
    for pack in &packs {
        let path = dir.join(&pack.name);
        let mut bytes = std::fs::read(&path).unwrap();
        // Within the content of the first frame: its header takes 60 bytes.
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    packs.len()
}

#[test]
fn a_copy_that_is_wrong_is_fetched_anew_or_taken_from_elsewhere() {
    let [first, second, near] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let numbers: Vec<u32> = (0..20).collect();
    for dir in [&first, &second] {
        let store = local(dir.path());
        store_image(&store, "one", &numbers, OnExisting::Refuse).unwrap();
        store.write_index().unwrap();
    }
    let at = |dir: &tempfile::TempDir| Arc::new(LocalObjects::new(dir.path())) as Arc<dyn Objects>;
    let read = |objects: Arc<dyn Objects>| {
        let store = Store::open(objects).unwrap();
        assert_eq!(store.warnings(), Vec::<String>::new());
        read_image(&store, "one")
    };
    // A cache: the copy goes bad, is found out, and is right again.
    let cached = || Arc::new(CachedObjects::new(at(&first), at(&near)));
    assert_eq!(read(cached()).unwrap(), contents(&numbers));
    let packs = spoil(near.path());
    assert!(packs > 3, "{packs}");
    assert_eq!(read(cached()).unwrap(), contents(&numbers));
    std::fs::rename(first.path().join("packs"), first.path().join("away")).unwrap();
    std::fs::create_dir(first.path().join("packs")).unwrap();
    for pack in at(&near).list("packs").unwrap() {
        // Listings are the far store's: empty packs of these names stand for them.
        let path = first.path().join(&pack.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
    assert_eq!(read(cached()).unwrap(), contents(&numbers), "from the copies alone");
    std::fs::remove_dir_all(first.path().join("packs")).unwrap();
    std::fs::rename(first.path().join("away"), first.path().join("packs")).unwrap();
    // An index that goes bad near is not believed: a wrong row would hide a chunk.
    for object in at(&near).list("index").unwrap() {
        let path = near.path().join(&object.name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(read(cached()).unwrap(), contents(&numbers));

    // Two places: what is wrong in one is right in the other, and what is wrong in both ends, by many threads at once, too.
    spoil(first.path());
    let both = || FailoverObjects::new(vec![at(&first), at(&second)]).unwrap();
    assert_eq!(read(at(&first)).unwrap_err().kind(), ErrorKind::Integrity);
    assert_eq!(read(Arc::new(both())).unwrap(), contents(&numbers));
    let store = Store::open(Arc::new(both())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(read_image(&store, "one").unwrap(), contents(&numbers)));
        }
    });
    // The cache had copied the wrong ones.
    spoil(near.path());
    let all = || Arc::new(CachedObjects::new(Arc::new(both()), at(&near)));
    assert_eq!(read(all()).unwrap(), contents(&numbers));
    spoil(second.path());
    assert_eq!(read(Arc::new(both())).unwrap_err().kind(), ErrorKind::Integrity);
    for dir in [&near, &first, &second] {
        assert!(dir.path().join("packs").exists());
    }
    // Where the first place is missing, nothing is written to another.
    let reading = FailoverObjects::read_only(vec![at(&second)]).unwrap();
    assert!(reading.is_read_only());
    assert_eq!(reading.put_new("images/x.gim", b"x").unwrap_err().kind(), ErrorKind::Refused);
    assert!(!second.path().join("images/x.gim").exists());
}
