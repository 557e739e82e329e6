//! Any range of any blob, of every layout there is, from many threads.

use std::sync::Arc;

use gravure_testkit::{Random, shared_dir};

use super::*;
use crate::ImageFile;
use crate::chain::sha1_of;

/// Reads every blob of `bytes` whole, in pieces of odd sizes, and backwards, with a cache of `cache_bytes`.
fn check(bytes: Vec<u8>, cache_bytes: usize) -> usize {
    let file = ImageFile::open(Arc::new(bytes), "test").unwrap();
    let reader = BlobReader::new(file.archives().clone(), cache_bytes);
    let source = Archives::source_id(0);
    let read = |id: u64, seed: u64| {
        let mut handles = BlobHandles::default();
        let open = reader.open(source, id).unwrap();
        let size = usize::try_from(open.size).unwrap();
        let mut whole = vec![0; size];
        reader.read(&open, 0, &mut whole, &mut handles).unwrap();
        assert_eq!(sha1_of(&whole), open.sha1);
        let mut random = Random::new(seed);
        for _ in 0..20 {
            let from = usize::try_from(random.below(size as u64)).unwrap();
            let len = usize::try_from(random.below((size - from) as u64 + 1)).unwrap();
            let mut part = vec![0; len];
            reader.read(&open, from as u64, &mut part, &mut handles).unwrap();
            assert!(part == whole[from..from + len], "{from} {len}");
        }
        let beyond = reader.read(&open, open.size, &mut [0], &mut handles);
        assert!(beyond.is_err());
    };
    let blobs: Vec<u64> = file.wim().blobs().map(|(id, _)| id.key()).collect();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (blobs, read) = (&blobs, &read);
            scope.spawn(move || blobs.iter().for_each(|id| read(*id, thread)));
        }
    });
    assert!(reader.open(source, 1 << 40).is_err());
    blobs.len()
}

#[test]
fn every_range_of_every_layout_is_read_whatever_the_cache() {
    let Some(shared) = shared_dir() else { return };
    let vectors = shared.join("vectors/wim");
    for name in ["solid-xpress.wim", "pipable-lzx.wim", "multi.wim", "split.swm"] {
        let bytes = std::fs::read(vectors.join(name)).unwrap();
        for cache_bytes in [0, 100_000, 64 << 20] {
            assert!(check(bytes.clone(), cache_bytes) > 0, "{name}");
        }
    }
}
