//! Hostile and damaged trees of a file system that is as simple as can be: a table of 32-bit numbers at byte 0, clusters of 512 bytes from byte
//! 512 on, records of 32 bytes: kind, first cluster, clusters, name.

use std::io;

use super::*;
use crate::field::{le32, slice, text, u8};
use crate::{Owned, Owner};

const CLUSTERS: u32 = 100;

struct Toy;

impl Layout for Toy {
    fn clusters(&self) -> u32 {
        CLUSTERS
    }

    fn cluster_bytes(&self) -> u64 {
        512
    }

    fn start(&self, cluster: u32) -> u64 {
        512 + u64::from(cluster - 2) * 512
    }

    fn tables(&self) -> Vec<u64> {
        vec![0]
    }

    fn entry_bits(&self) -> u64 {
        32
    }

    fn table_entry(&self, bytes: &[u8], index: u64) -> u32 {
        le32(bytes, index as usize * 4)
    }

    fn root(&self) -> Place {
        Place::Clusters(Content { first: 2, clusters: None, is_contiguous: false })
    }

    fn entries(&self, directory: &[u8], found: &mut dyn FnMut(Entry)) {
        for record in directory.as_chunks::<32>().0.iter().filter(|record| u8(*record, 0) != 0) {
            let clusters = u64::from(le32(record, 8));
            found(Entry {
                name: text(slice(record, 12, 20)).unwrap(),
                is_directory: u8(record, 0) == b'd',
                size: clusters * 512,
                content: Content {
                    first: le32(record, 4),
                    clusters: Some(clusters).filter(|_| u8(record, 0) != b'd'),
                    is_contiguous: u8(record, 0) == b'c',
                },
            });
        }
    }
}

/// A volume whose bytes in `bad` cannot be read.
struct Volume {
    bytes: Vec<u8>,
    bad: Range<u64>,
}

impl ReadAt for Volume {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset < self.bad.end && self.bad.start < offset + buf.len() as u64 {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.read_exact_at(offset, buf)
    }
}

impl Volume {
    fn new() -> Self {
        Self { bytes: vec![0; 512 + CLUSTERS as usize * 512], bad: 0..0 }
    }

    fn link(mut self, from: u32, to: u32) -> Self {
        self.bytes[from as usize * 4..][..4].copy_from_slice(&to.to_le_bytes());
        self
    }

    /// Enters something into the directory cluster `at`, as its record `index`.
    fn put(mut self, at: u32, index: usize, kind: u8, name: &str, first: u32, clusters: u32) -> Self {
        let record = &mut self.bytes[Toy.start(at) as usize + index * 32..][..32];
        record[0] = kind;
        record[4..8].copy_from_slice(&first.to_le_bytes());
        record[8..12].copy_from_slice(&clusters.to_le_bytes());
        record[12..12 + name.len()].copy_from_slice(name.as_bytes());
        self
    }

    fn owners(&self) -> Vec<(Range<u32>, String)> {
        let whole = 512..self.size();
        let mut claims = Claims::new(std::slice::from_ref(&whole));
        let names = claim(self, &Toy, &mut claims, &|| true).unwrap();
        let number = |at: u64| (at / 512) as u32 + 1;
        let found = claims.finish(&names, "file").into_iter().filter(|owned| owned.owner != Owner::Unknown);
        found
            .map(|Owned { range, owner }| (number(range.start)..number(range.end), owner.to_string()))
            .collect()
    }
}

fn owned(expected: &[(Range<u32>, &str)]) -> Vec<(Range<u32>, String)> {
    expected.iter().map(|(range, name)| (range.clone(), (*name).to_owned())).collect()
}

/// A directory of two clusters with a directory, a file in pieces and one side by side.
fn good() -> Volume {
    Volume::new()
        .link(2, 9)
        .put(2, 0, b'd', "sub", 3, 0)
        .put(9, 0, b'f', "pieces", 4, 3)
        .link(4, 5)
        .link(5, 20)
        .put(3, 0, b'c', "side", 30, 5)
        .put(3, 1, b'f', "empty", 0, 0)
}

#[test]
fn files_and_directories_own_their_clusters() {
    let expected = [
        (2..3, "/"),
        (3..4, "/sub"),
        (4..6, "/pieces"),
        (9..10, "/"),
        (20..21, "/pieces"),
        (30..35, "/sub/side"),
    ];
    assert_eq!(good().owners(), owned(&expected));
}

#[test]
fn chains_in_circles_shared_clusters_and_directories_in_themselves_end() {
    let circle = good().link(20, 4).link(9, 2);
    assert_eq!(circle.owners(), good().owners(), "the root once");
    let longer = good().link(20, 40).link(40, 41);
    assert_eq!(longer.owners(), good().owners(), "no more than the file has");
    // A directory that holds itself, the root and its parent's other names; a file of all clusters in a circle.
    let hostile = good()
        .put(3, 2, b'd', "self", 3, 0)
        .put(3, 3, b'd', "root", 2, 0)
        .put(3, 4, b'f', "all", 50, 99)
        .link(50, 50);
    let found = hostile.owners();
    assert!(found.contains(&(50..51, "/sub/all".to_owned())), "{found:?}");
    assert!(found.contains(&(30..35, "/sub/side".to_owned())), "{found:?}");
    // Whoever comes first has a shared cluster; numbers of no cluster are none.
    let shared = good()
        .put(9, 1, b'f', "other", 5, 2)
        .put(9, 2, b'f', "wild", 5000, 2)
        .put(9, 3, b'c', "long", 99, 500);
    let found = shared.owners();
    assert!(found.contains(&(4..6, "/pieces".to_owned())), "{found:?}");
    assert_eq!(found.last().unwrap(), &(99..102, "/long".to_owned()), "as far as the volume goes");
}

#[test]
fn what_cannot_be_read_has_its_own_name_and_takes_no_others_with_it() {
    let mut volume = good();
    // The directory "sub": what is in it has no name any more, it has.
    volume.bad = Toy.start(3)..Toy.start(3) + 512;
    let expected = [(2..3, "/"), (3..4, "/sub"), (4..6, "/pieces"), (9..10, "/"), (20..21, "/pieces")];
    assert_eq!(volume.owners(), owned(&expected));
    assert!(matches!(list(&volume, &Toy, "/sub", &|| true), Err(Error::Io { .. })));
    // The table: first clusters, and what lies side by side.
    volume.bad = 0..512;
    let expected = [(2..3, "/"), (3..4, "/sub"), (30..35, "/sub/side")];
    assert_eq!(volume.owners(), owned(&expected));
    assert!(matches!(claim(&good(), &Toy, &mut Claims::new(&[]), &|| false), Err(Error::Stopped)));
}

#[test]
fn directories_are_listed_by_path() {
    let volume = good();
    let names = |path: &str| {
        let listed = list(&volume, &Toy, path, &|| true).unwrap()?;
        Some(listed.into_iter().map(|one| (one.name, one.kind, one.size)).collect::<Vec<_>>())
    };
    let of = |name: &str, kind, size| (name.to_owned(), kind, size);
    let root = vec![of("pieces", ListKind::File, 1536), of("sub", ListKind::Directory, 0)];
    assert_eq!(names("/"), Some(root.clone()));
    assert_eq!(names(""), Some(root));
    let sub = vec![of("empty", ListKind::File, 0), of("side", ListKind::File, 2560)];
    assert_eq!(names("/sub"), Some(sub.clone()));
    assert_eq!(names("SUB/"), Some(sub));
    assert_eq!(names("/sub/side"), Some(vec![of("side", ListKind::File, 2560)]));
    for path in ["/nothing", "/pieces/x", "/sub/side/x"] {
        assert_eq!(names(path), None, "{path}");
    }
}
