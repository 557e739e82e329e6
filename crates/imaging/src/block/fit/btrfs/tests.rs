//! What is judged before the kernel is asked, and what is said when it refuses.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::File;

use gravure_fsmap::BtrfsChunk;

use super::*;
use crate::capture::chain;

const GIB: u64 = 1 << 30;

fn chunk(content: BtrfsContent, used: u64, len: u64, places: &[u64]) -> BtrfsChunk {
    BtrfsChunk { content, len, used, places: places.to_vec() }
}

fn layout(device_bytes: u64, chunks: Vec<BtrfsChunk>) -> BtrfsLayout {
    BtrfsLayout { device_id: 1, device_bytes, sector_bytes: 4096, chunks }
}

/// 100 GiB as they are used for some years: data from the front on, `behind` GiB of it at 80 GiB, metadata twice in the middle.
fn used_for_years(stays: u64, behind: u64) -> BtrfsLayout {
    let data = |at: u64, used: u64| chunk(BtrfsContent::Data, used, GIB, &[at * GIB]);
    let mut chunks = vec![
        chunk(BtrfsContent::System, 16384, 8 * MIB, &[MIB, 9 * MIB]),
        chunk(BtrfsContent::Metadata, 256 * MIB, GIB, &[40 * GIB, 41 * GIB]),
    ];
    chunks.extend((1..=10).map(|at| data(at, stays)));
    chunks.extend((0..behind).map(|at| data(80 + at, GIB)));
    layout(100 * GIB, chunks)
}

#[test]
fn the_least_size_counts_what_moves_twice_where_it_is_twice_and_keeps_a_reserve() {
    let empty = layout(
        10 * GIB,
        vec![
            chunk(BtrfsContent::System, 16384, 8 * MIB, &[MIB, 9 * MIB]),
            chunk(BtrfsContent::Metadata, 16384, 256 * MIB, &[17 * MIB, 273 * MIB]),
        ],
    );
    // Nothing moves: they end at 529 MiB, and room for the trees is in them.
    assert!(has_room(&empty, 529 * MIB));
    assert_eq!(least_bytes(&empty), LEAST_BYTES);
    // Below 256 MiB the kernel makes nothing.
    assert_eq!(least_bytes(&layout(128 * MIB, Vec::new())), LEAST_BYTES);
    // Full chunks that stay give no room; what moves needs as much again, and a chunk that is not full.
    let full = used_for_years(GIB, 10);
    let least = least_bytes(&full);
    // Data 20 GiB and a chunk, metadata twice with what is kept and a chunk.
    assert!((23 * GIB..26 * GIB).contains(&least), "{least}");
    // Chunks that stay and are empty by half take a quarter of what would fit.
    let scattered = least_bytes(&used_for_years(GIB / 2, 10));
    assert!(scattered < least - 2 * GIB && scattered > least - 3 * GIB, "{scattered} {least}");
    // What moves within 42 GiB or more leaves metadata where it is.
    assert!(has_room(&full, 42 * GIB) && has_room(&full, least) && !has_room(&full, least - MIB));
    // Nothing is gained where everything is full.
    let chunks = (0..9).map(|at| chunk(BtrfsContent::Data, GIB, GIB, &[MIB + at * GIB])).collect();
    let whole = layout(9 * GIB + MIB, chunks);
    assert_eq!(least_bytes(&whole), 9 * GIB + MIB);
    let chunks = (0..9).map(|at| chunk(BtrfsContent::Mixed, GIB, GIB, &[MIB + at * GIB])).collect();
    assert_eq!(least_bytes(&layout(9 * GIB + MIB, chunks)), 9 * GIB + 2 * MIB, "no room for the trees");
}

#[test]
fn what_the_kernel_has_no_room_for_is_said_with_its_cure() {
    let (Some(mut mkfs), true) = (gravure_testkit::oracle("mkfs.btrfs"), needs_driver(TYPE).is_ok()) else {
        gravure_testkit::skipped("cannot mount Btrfs");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    File::create(&volume).unwrap().set_len(768 * MIB).unwrap();
    assert!(mkfs.arg("-q").arg(&volume).status().unwrap().success());
    let filled = mounted(&volume, TYPE, MOUNT_DATA, |place| {
        std::fs::write(place.join("large"), vec![7; 400 << 20]).unwrap();
        resize(place, 1, 300 * MIB, "partition 2 of disk.gim")
    });
    let text = chain(&filled.unwrap_err());
    let words =
        ["partition 2 of disk.gim: making Btrfs smaller, to 314572800 bytes: ", "ENOSPC", "btrfs balance"];
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}
