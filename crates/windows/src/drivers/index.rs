//! The index: a table of (hash of an ID, package), sorted, searched by halving.
//!
//! | offset | content |
//! |---|---|
//! | 0 | `GVDRVIX1` |
//! | 8 | BLAKE3 over the ids of all packages, 32 bytes: what the index is of |
//! | 40 | number of packages, u32; number of entries, u32 |
//! | 48 | ids of the packages, 32 bytes each, sorted |
//! | behind | entries: hash u64, number of the package u32; sorted |
//!
//! Little-endian. A hash is the first eight bytes of BLAKE3 of the ID in upper case; two IDs of one hash only make a
//! package a candidate that the INF file itself then rejects.

use std::path::Path;

use super::manifest::Manifest;

const MAGIC: &[u8; 8] = b"GVDRVIX1";
const HEADER_BYTES: usize = 48;
const ID_BYTES: usize = 32;
const ENTRY_BYTES: usize = 12;

/// An index in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    bytes: Vec<u8>,
    packages: usize,
    entries: usize,
}

impl Index {
    /// Makes the index of `manifests`.
    pub(super) fn build(manifests: &[Manifest]) -> Self {
        let mut sorted: Vec<&Manifest> = manifests.iter().collect();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        let mut entries: Vec<(u64, u32)> = Vec::new();
        for (number, manifest) in (0u32..).zip(&sorted) {
            entries.extend(manifest.ids.iter().map(|id| (hash_of(id), number)));
        }
        entries.sort_unstable();
        entries.dedup();
        let names: Vec<&str> = sorted.iter().map(|manifest| manifest.id.as_str()).collect();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(digest(&names));
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        bytes.extend(count(sorted.len()));
        bytes.extend(count(entries.len()));
        for name in &names {
            bytes.extend(binary(name));
        }
        for (hash, number) in &entries {
            bytes.extend(hash.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        Self { bytes, packages: sorted.len(), entries: entries.len() }
    }

    /// Takes bytes that were written before, if they are the index of the packages `names` (sorted).
    pub(super) fn load(bytes: Vec<u8>, names: &[&str]) -> Option<Self> {
        let word = |at: usize| {
            let word = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(word)).ok()
        };
        let (packages, entries) = (word(40)?, word(44)?);
        let len = packages
            .checked_mul(ID_BYTES)?
            .checked_add(entries.checked_mul(ENTRY_BYTES)?)?
            .checked_add(HEADER_BYTES)?;
        let fits = bytes.starts_with(MAGIC)
            && bytes.len() == len
            && packages == names.len()
            && bytes.get(8..40)? == digest(names);
        fits.then_some(Self { bytes, packages, entries })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Ids of packages that may have the ID.
    pub(super) fn find(&self, id: &str) -> Vec<String> {
        let wanted = hash_of(id);
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle) {
                Some((hash, _)) if hash < wanted => low = middle + 1,
                _ => high = middle,
            }
        }
        let same = (low..self.entries).map_while(|at| self.entry(at).filter(|(hash, _)| *hash == wanted));
        same.filter_map(|(_, number)| self.package(usize::try_from(number).ok()?)).collect()
    }

    fn entry(&self, at: usize) -> Option<(u64, u32)> {
        let start = HEADER_BYTES + self.packages * ID_BYTES + at * ENTRY_BYTES;
        let bytes = self.bytes.get(start..start + ENTRY_BYTES)?;
        let (hash, number) = bytes.split_at_checked(8)?;
        Some((u64::from_le_bytes(hash.try_into().ok()?), u32::from_le_bytes(number.try_into().ok()?)))
    }

    fn package(&self, number: usize) -> Option<String> {
        let start = HEADER_BYTES + number.checked_mul(ID_BYTES)?;
        let bytes = self.bytes.get(start..start + ID_BYTES).filter(|_| number < self.packages)?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Where the index of a repository stands.
pub(super) fn path(root: &Path) -> std::path::PathBuf {
    root.join("index")
}

fn hash_of(id: &str) -> u64 {
    let hash = blake3::hash(id.to_uppercase().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn digest(names: &[&str]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    names.iter().for_each(|name| {
        hash.update(name.as_bytes());
    });
    *hash.finalize().as_bytes()
}

/// The bytes of a hexadecimal id.
fn binary(id: &str) -> [u8; ID_BYTES] {
    blake3::Hash::from_hex(id).map_or([0; ID_BYTES], |hash| *hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::manifest::{FileEntry, MANIFEST_VERSION, id_of};

    fn manifest(name: &str, ids: &[&str]) -> Manifest {
        let files = vec![FileEntry { path: name.into(), size: 1, hash: "00".into() }];
        Manifest {
            version: MANIFEST_VERSION,
            id: id_of(&files),
            inf: name.into(),
            files,
            class: None,
            class_guid: None,
            provider: None,
            date: None,
            driver_version: None,
            architectures: Vec::new(),
            extension: false,
            boot_critical: false,
            has_catalog: false,
            signature: None,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn packages_are_found_by_each_of_their_ids() {
        let all = [manifest("a", &["X", "Y"]), manifest("b", &["Y"]), manifest("c", &[])];
        let index = Index::build(&all);
        let mut both = vec![all[0].id.clone(), all[1].id.clone()];
        both.sort();
        assert_eq!(index.find("x"), [all[0].id.clone()]);
        assert_eq!(index.find("Y"), both);
        assert_eq!(index.find("Z"), [""; 0]);
        assert_eq!(Index::build(&[]).find("X"), [""; 0]);
    }

    #[test]
    fn an_index_of_other_packages_or_with_any_cut_is_not_taken() {
        let all = [manifest("a", &["X", "Y"]), manifest("b", &["Y"])];
        let index = Index::build(&all);
        let mut names: Vec<&str> = all.iter().map(|m| m.id.as_str()).collect();
        names.sort_unstable();
        assert_eq!(Index::load(index.as_bytes().to_vec(), &names), Some(index.clone()));
        assert_eq!(Index::load(index.as_bytes().to_vec(), &names[..1]), None);
        for len in 0..index.as_bytes().len() {
            assert_eq!(Index::load(index.as_bytes()[..len].to_vec(), &names), None, "{len}");
        }
        let mut wild = index.as_bytes().to_vec();
        // Counts that no file could have.
        wild[40..48].fill(0xff);
        assert_eq!(Index::load(wild, &names), None);
    }
}
