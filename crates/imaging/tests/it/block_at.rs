//! Block images read at any place without being restored.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use gravure_blockimg::UsedSpan;
use gravure_blockimg::facts::{Facts, Scope, Source, Volume};
use gravure_imaging::{BlockCapture, BlockCaptureOptions, BlockImage, BlockImageAt, BlockLayout, no_hits};
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_store::{LocalObjects, OnExisting, Store};
use gravure_testkit::Random;

const SIZE: usize = 70 << 20;

/// A device of which three parts are in use, with noise, text and zeros in them.
fn device() -> (Vec<u8>, BlockLayout) {
    let mut random = Random::new(9);
    let mut bytes = vec![0xee; SIZE];
    let spans = [(0, 3 << 20), (5 << 20, (1 << 20) + 4096), (66 << 20, 4 << 20)];
    for (start, len) in spans {
        let mut at = start;
        while at < start + len {
            let step = usize::try_from(512 * (1 + random.below(300))).unwrap().min(start + len - at);
            match random.below(3) {
                0 => bytes[at..at + step].fill(0),
                1 => bytes[at..at + step].iter_mut().for_each(|byte| *byte = random.below(256) as u8),
                _ => bytes[at..at + step].iter_mut().zip(at..).for_each(|(byte, at)| *byte = (at / 97) as u8),
            }
            at += step;
        }
    }
    let used = spans.map(|(start, len)| UsedSpan { offset: start as u64, len: len as u64, excluded: None });
    (bytes, BlockLayout { used: used.to_vec(), files: Vec::new() })
}

/// The same with zeros where nothing is in use.
fn expected(bytes: &[u8], layout: &BlockLayout) -> Vec<u8> {
    let mut out = vec![0; bytes.len()];
    for span in &layout.used {
        let range = span.offset as usize..(span.offset + span.len) as usize;
        out[range.clone()].copy_from_slice(&bytes[range]);
    }
    out
}

#[test]
fn every_place_reads_as_a_restored_device_would() {
    let (bytes, layout) = device();
    let expected = expected(&bytes, &layout);
    let source =
        Source { name: "test".into(), size_bytes: SIZE as u64, sector_bytes: 512, ..Source::default() };
    let volumes = vec![Volume { size_bytes: SIZE as u64, ..Volume::default() }];
    let facts = Facts { version: 1, scope: Scope::Volume, source, volumes, ..Facts::default() };
    let capture =
        BlockCapture { source: &bytes, name: "test", layout: &layout, facts: &facts, hits: &no_hits };
    let options = BlockCaptureOptions::default();
    let mut file = Vec::new();
    capture.to_stream(&mut file, "memory", &options, &Ctl::default(), &Silent).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(Arc::new(LocalObjects::new(dir.path()))).unwrap());
    capture.to_store(&store, "x", OnExisting::Refuse, &options, &Ctl::default(), &Silent).unwrap();

    let images = [
        BlockImage::open(Arc::new(file.clone()), "file").unwrap(),
        BlockImage::open_stored(Arc::clone(&store), "x").unwrap(),
    ];
    for image in images {
        let disk = BlockImageAt::new(image);
        assert_eq!(disk.size(), SIZE as u64);
        let mut random = Random::new(4);
        for _ in 0..300 {
            let most = [1, 600, 70_000, 3 << 20][random.below(4) as usize];
            let len = usize::try_from(1 + random.below(most)).unwrap();
            let at = usize::try_from(random.below((SIZE - len) as u64)).unwrap();
            assert!(disk.read_vec_at(at as u64, len).unwrap() == expected[at..at + len], "{len} at {at}");
        }
        assert!(disk.read_exact_at(SIZE as u64 - 1, &mut [0; 2]).is_err());
        assert!(disk.read_vec_at(0, SIZE).unwrap() == expected);
        // Many at once see the same.
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (disk, expected) = (&disk, &expected);
                scope.spawn(move || {
                    for at in (thread * 1000..6 << 20).step_by(300_001) {
                        assert!(disk.read_vec_at(at as u64, 9000).unwrap() == expected[at..at + 9000]);
                    }
                });
            }
        });
        // Holes hold nothing, and all data is named.
        let mut at = 0;
        let mut data = 0;
        while let Some(range) = disk.next_data(at).unwrap() {
            assert!(range.start >= at && range.end > range.start);
            assert!(expected[at as usize..range.start as usize].iter().all(|byte| *byte == 0));
            data += range.end - range.start;
            at = range.end;
        }
        assert!(expected[at as usize..].iter().all(|byte| *byte == 0));
        assert!(data < 9 << 20 && data > 4 << 20, "{data}");
    }

    // A chunk that is damaged is an error, and only where it is.
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let disk = BlockImageAt::new(BlockImage::open(Arc::new(file), "bad").unwrap());
    let (mut good, mut bad) = (0, 0);
    for at in (0..SIZE as u64).step_by(32 << 10) {
        match disk.read_vec_at(at, 4096) {
            Ok(read) => {
                assert!(read == expected[at as usize..at as usize + 4096]);
                good += 1;
            }
            Err(_) => bad += 1,
        }
    }
    assert!(good > 200 && bad > 0, "{good} {bad}");
}
