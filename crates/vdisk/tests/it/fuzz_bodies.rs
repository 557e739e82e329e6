//! The fuzz body as a plain test: files cut at many places, with flipped bits, and noise.

use std::sync::Arc;

use gravure_io::ReadAt;
use gravure_testkit::Random;
use gravure_vdisk::{Kind, VirtualDisk, fuzz};

use crate::support::{Sparse, disk, write};

/// A small file of each form, and how much of its front is structure.
fn seeds(dir: &std::path::Path) -> Vec<(Kind, Vec<u8>)> {
    let plain = Sparse(disk(5, 300 << 10));
    let mut out = Vec::new();
    for kind in [Kind::Qcow2, Kind::Vhdx] {
        let path = dir.join("seed");
        write(&plain, kind, 512, &path).unwrap();
        out.push((kind, std::fs::read(&path).unwrap()));
    }
    out.push((Kind::Vhd, dynamic_vhd()));
    out
}

/// A dynamic VHD with one block of 4 KiB.
fn dynamic_vhd() -> Vec<u8> {
    let sum = |bytes: &[u8]| !bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    let mut footer = vec![0; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[16..24].copy_from_slice(&512u64.to_be_bytes());
    footer[48..56].copy_from_slice(&8192u64.to_be_bytes());
    footer[60..64].copy_from_slice(&3u32.to_be_bytes());
    let check = sum(&footer);
    footer[64..68].copy_from_slice(&check.to_be_bytes());
    let mut header = vec![0; 1024];
    header[..8].copy_from_slice(b"cxsparse");
    header[16..24].copy_from_slice(&1536u64.to_be_bytes());
    header[28..32].copy_from_slice(&2u32.to_be_bytes());
    header[32..36].copy_from_slice(&4096u32.to_be_bytes());
    let check = sum(&header);
    header[36..40].copy_from_slice(&check.to_be_bytes());
    let mut table = vec![0xff; 512];
    table[4..8].copy_from_slice(&4u32.to_be_bytes());
    let mut block = vec![0; 512];
    block[0] = 0b1010_0000;
    block.extend((0..4096u32).map(|at| (at / 512) as u8 + 1));
    [&footer[..], &header, &table, &block, &footer].concat()
}

#[test]
fn sectors_that_were_never_written_are_zero() {
    let source: Arc<dyn ReadAt> = Arc::new(dynamic_vhd());
    let disk = VirtualDisk::open(source, Kind::Vhd).unwrap();
    let bytes = crate::support::contents(&disk);
    let mut expected = vec![0; 8192];
    expected[4096..4608].fill(1);
    expected[5120..5632].fill(3);
    assert!(bytes == expected);
}

#[test]
fn any_bytes_are_a_disk_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(11);
    for (kind, seed) in seeds(dir.path()) {
        fuzz::file(&seed, kind);
        for _ in 0..60 {
            let len = usize::try_from(random.below(seed.len() as u64)).unwrap();
            fuzz::file(&seed[..len], kind);
        }
        for round in 0..200 {
            let mut bad = seed.clone();
            for _ in 0..1 + round % 4 {
                let front = if round % 2 == 0 { 512 } else { seed.len() as u64 };
                let at = usize::try_from(random.below(front)).unwrap();
                bad[at] ^= 1 << random.below(8);
            }
            fuzz::file(&bad, kind);
        }
        let noise: Vec<u8> = (0..70_000).map(|_| random.below(256) as u8).collect();
        fuzz::file(&[&seed[..104.min(seed.len())], &noise].concat(), kind);
    }
    for kind in [Kind::Qcow2, Kind::Vhd, Kind::Vhdx] {
        (0..600).for_each(|len| fuzz::file(&vec![0; len], kind));
    }
}
