//! BitLocker volumes of Windows 7 and later (specs: "BitLocker Drive Encryption (BDE) format", libyal; Ferguson, "AES-CBC + Elephant
//! diffuser", 2006). Little-endian.
//!
//! A protector (recovery password, password, key file, or a clear key while protection is suspended) opens the volume master key, that the
//! volume's key. The first sectors of the file system lie elsewhere in the volume; where they lie, and where the metadata is, reads as zeros.

use std::fmt;
use std::io;
use std::sync::Arc;

use aes::Aes256;
use ccm::Ccm;
use ccm::aead::consts::{U12, U16};
use ccm::aead::generic_array::GenericArray;
use ccm::aead::{AeadInPlace, KeyInit};
use gravure_io::ReadAt;
use zeroize::Zeroizing;

use crate::cipher::{Aes, SectorCipher};
use crate::elephant;
use crate::hash::Hash;
use crate::luks::in_sectors;
use crate::{Error, Key, Limits};

/// In place of the file system's name.
pub(crate) const SIGNATURE: &[u8] = b"-FVE-FS-";
/// The same where the volume is FAT ("To Go").
pub(crate) const TO_GO: &[u8] = b"MSWIN4.1";
/// `4967d63b-2e29-4ad8-8399-f6a339e3d001`.
const IDENTIFIER: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
/// `92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8`: encrypted when written. Only maps of their own say which parts are.
const ON_WRITE: [u8; 16] =
    [0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8];
const HEAD_BYTES: usize = 512;
/// Bytes of the metadata that are read; what a copy has room for.
const METADATA_BYTES: u64 = 64 << 10;
const BLOCK_HEADER_BYTES: usize = 64;
const METADATA_HEADER_BYTES: usize = 48;
/// Hashes of the stretched key: one second of a processor when it was designed.
const STRETCHES: u64 = 1 << 20;
/// Nesting of entries: key protectors have properties, stretch keys an encrypted key.
const MAX_ENTRIES: usize = 1024;

mod value {
    pub(super) const KEY: u16 = 1;
    pub(super) const STRETCH: u16 = 3;
    pub(super) const ENCRYPTED_KEY: u16 = 5;
    pub(super) const MASTER_KEY: u16 = 8;
    pub(super) const EXTERNAL_KEY: u16 = 9;
    pub(super) const PLACE: u16 = 15;
}

mod entry {
    pub(super) const VOLUME_KEY: u16 = 3;
    pub(super) const HEADER_BLOCK: u16 = 15;
}

mod protection {
    pub(super) const CLEAR: u16 = 0;
    pub(super) const STARTUP_KEY: u16 = 0x200;
    pub(super) const RECOVERY: u16 = 0x800;
    pub(super) const PASSWORD: u16 = 0x2000;
}

/// How the volume is encrypted.
enum Cipher {
    Xts(SectorCipher),
    Cbc(Aes),
    /// With the diffuser of Windows 7.
    Elephant(Aes, Aes),
}

/// An opened BitLocker volume.
pub struct BitLocker {
    source: Arc<dyn ReadAt>,
    cipher: Cipher,
    sector_bytes: u64,
    /// Bytes from the start that are encrypted; what follows is plain already.
    encrypted: u64,
    /// Where the first bytes of the file system lie, and how many.
    header: (u64, u64),
    /// What reads as zeros.
    holes: Vec<(u64, u64)>,
}

impl fmt::Debug for BitLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitLocker").field("header", &self.header).finish_non_exhaustive()
    }
}

/// A value with its type.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    kind: u16,
    value: u16,
    data: &'a [u8],
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The entries one after the other, until there is none.
fn entries(mut bytes: &[u8]) -> Vec<Entry<'_>> {
    let mut out = Vec::new();
    while out.len() < MAX_ENTRIES {
        let len = usize::from(short(bytes, 0));
        let Some(data) = bytes.get(8..len) else { break };
        out.push(Entry { kind: short(bytes, 2), value: short(bytes, 4), data });
        bytes = bytes.get(len..).unwrap_or_default();
    }
    out
}

fn find<'a>(entries: &[Entry<'a>], value: u16) -> Option<&'a [u8]> {
    entries.iter().find(|entry| entry.value == value).map(|entry| entry.data)
}

/// The metadata of a volume: the whole block, and where its copies are.
struct Metadata {
    block: Vec<u8>,
    copies: [u64; 3],
}

impl Metadata {
    /// The first copy that is one.
    fn read(source: &dyn ReadAt, head: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "BitLocker metadata";
        let table = if head.get(3..11) == Some(TO_GO) { 424 } else { 160 };
        let identifier = head.get(table..table + 16).unwrap_or_default();
        if identifier == ON_WRITE {
            return Err(Error::unsupported("BitLocker volume", "that is encrypted as it is written"));
        }
        if identifier != IDENTIFIER {
            let found = format!("{identifier:02x?}");
            return Err(Error::unsupported("BitLocker volume (of Windows Vista?) with identifier", found));
        }
        let mut failure = Error::corrupt(WHAT, table as u64 + 16, "a place", "none");
        for copy in 0..3 {
            let offset = long(head, table + 16 + copy * 8);
            let Some(left) = source.size().checked_sub(offset).filter(|_| offset != 0) else { continue };
            let len = usize::try_from(left.min(METADATA_BYTES)).unwrap_or(0);
            let mut block = vec![0; len];
            source.read_exact_at(offset, &mut block).map_err(Error::read(WHAT, offset))?;
            let size = word(&block, BLOCK_HEADER_BYTES) as usize;
            let is_sound = block.starts_with(SIGNATURE) && short(&block, 10) == 2;
            let fits = size >= METADATA_HEADER_BYTES && BLOCK_HEADER_BYTES + size <= block.len();
            if !is_sound || !fits {
                let found = format!("{:02x?}", block.get(..16).unwrap_or_default());
                failure = Error::corrupt(WHAT, offset, "a block of version 2", found);
                continue;
            }
            let copies = [long(&block, 32), long(&block, 40), long(&block, 48)];
            return Ok(Self { block, copies });
        }
        Err(failure)
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let size = word(&self.block, BLOCK_HEADER_BYTES) as usize;
        let range = BLOCK_HEADER_BYTES + METADATA_HEADER_BYTES..BLOCK_HEADER_BYTES + size;
        entries(self.block.get(range).unwrap_or_default())
    }

    fn method(&self) -> u16 {
        short(&self.block, BLOCK_HEADER_BYTES + 36)
    }
}

impl BitLocker {
    /// Opens the volume with the first protector that `key` fits. A clear key, which a volume has while its protection is suspended,
    /// needs none.
    pub fn open(source: Arc<dyn ReadAt>, key: &Key, _limits: &Limits) -> Result<Self, Error> {
        let mut head = [0; HEAD_BYTES];
        source.read_exact_at(0, &mut head).map_err(Error::read("BitLocker header", 0))?;
        let sector_bytes = u64::from(short(&head, 11));
        if ![512, 1024, 2048, 4096].contains(&sector_bytes) {
            return Err(Error::corrupt(
                "BitLocker header",
                11,
                "sectors of 512 to 4096 bytes",
                sector_bytes.to_string(),
            ));
        }
        let metadata = Metadata::read(&*source, &head)?;
        let found = metadata.entries();
        let master = master_key(&found, key)?;
        let wanted = found.iter().find(|it| it.kind == entry::VOLUME_KEY && it.value == value::ENCRYPTED_KEY);
        let corrupt = |expected: &str| Error::corrupt("BitLocker metadata", 0, expected, "none");
        let wanted = wanted.ok_or_else(|| corrupt("a key of the volume"))?;
        let volume = decrypt_key(&master, wanted.data);
        let volume = volume.ok_or_else(|| corrupt("a key of the volume that its master key opens"))?;
        let cipher = cipher(metadata.method(), &volume)?;
        let place = found.iter().find(|it| it.kind == entry::HEADER_BLOCK && it.value == value::PLACE);
        let sectors = u64::from(word(&metadata.block, 28));
        let header = match place.map(|place| (long(place.data, 0), long(place.data, 8))) {
            Some((offset, len)) if len != 0 => (offset, len),
            _ => (long(&metadata.block, 56), sectors.saturating_mul(sector_bytes)),
        };
        if header.0.checked_add(header.1).is_none_or(|end| end > source.size())
            || header.1 % sector_bytes != 0
        {
            return Err(Error::corrupt(
                "BitLocker metadata",
                56,
                "the first sectors within the volume",
                format!("{} bytes at {:#x}", header.1, header.0),
            ));
        }
        let encrypted = match long(&metadata.block, 16) {
            0 => source.size(),
            len => len.min(source.size()),
        };
        let mut holes: Vec<(u64, u64)> =
            metadata.copies.iter().map(|offset| (*offset, offset.saturating_add(METADATA_BYTES))).collect();
        holes.push((header.0, header.0 + header.1));
        Ok(Self { source, cipher, sector_bytes, encrypted, header, holes })
    }

    /// Reads whole sectors at `at`, none of which is partly in a hole.
    fn read_sectors(&self, at: u64, data: &mut [u8]) -> io::Result<()> {
        let step = usize::try_from(self.sector_bytes).map_err(io::Error::other)?;
        let mut done = 0;
        while done < data.len() {
            let offset = at + done as u64;
            let stop = self.next_edge(offset).min(at + data.len() as u64);
            let len = usize::try_from(stop - offset).map_err(io::Error::other)?;
            let piece = &mut data[done..done + len];
            done += len;
            let is_hole = |from: u64| self.holes.iter().any(|(start, end)| *start <= from && from < *end);
            let place = if offset < self.header.1 { self.header.0 + offset } else { offset };
            if offset >= self.header.1 && is_hole(offset) {
                piece.fill(0);
                continue;
            }
            self.source.read_exact_at(place, piece)?;
            // Content is decrypted by where it lies; the first sectors are encrypted as long as anything is.
            if offset >= self.encrypted && offset >= self.header.1 {
                continue;
            }
            for (index, sector) in (0_u64..).zip(piece.chunks_exact_mut(step)) {
                self.decrypt(place + index * self.sector_bytes, sector);
            }
        }
        Ok(())
    }

    /// The next place at or behind which the rule is another one.
    fn next_edge(&self, offset: u64) -> u64 {
        let edges = self.holes.iter().flat_map(|(start, end)| [*start, *end]);
        let edges = edges.chain([self.header.1, self.encrypted, self.source.size()]);
        let sector = self.sector_bytes;
        let edges = edges.map(|edge| edge - edge % sector).filter(|edge| *edge > offset);
        edges.min().unwrap_or(u64::MAX)
    }

    fn decrypt(&self, place: u64, sector: &mut [u8]) {
        match &self.cipher {
            Cipher::Xts(cipher) => cipher.decrypt(place / self.sector_bytes, sector),
            Cipher::Cbc(aes) => decrypt_cbc(aes, place, sector),
            Cipher::Elephant(aes, tweak) => {
                decrypt_cbc(aes, place, sector);
                elephant::undo(tweak, place, sector);
            }
        }
    }
}

/// The vector is the encrypted place.
fn decrypt_cbc(aes: &Aes, place: u64, sector: &mut [u8]) {
    let mut iv = u128::from(place).to_le_bytes();
    aes.encrypt(&mut iv);
    aes.decrypt_chain(iv, sector);
}

fn cipher(method: u16, key: &[u8]) -> Result<Cipher, Error> {
    let part = |range: std::ops::Range<usize>| {
        let corrupt =
            || Error::corrupt("BitLocker key", 0, format!("{} bytes", range.end), key.len().to_string());
        key.get(range.clone()).ok_or_else(corrupt)
    };
    let aes = |range| Aes::new(part(range)?);
    match method {
        0x8000 => Ok(Cipher::Elephant(aes(0..16)?, aes(32..48)?)),
        0x8001 => Ok(Cipher::Elephant(aes(0..32)?, aes(32..64)?)),
        0x8002 => Ok(Cipher::Cbc(aes(0..16)?)),
        0x8003 => Ok(Cipher::Cbc(aes(0..32)?)),
        0x8004 => Ok(Cipher::Xts(SectorCipher::xts(part(0..32)?)?)),
        0x8005 => Ok(Cipher::Xts(SectorCipher::xts(part(0..64)?)?)),
        other => Err(Error::unsupported("encryption method", format!("{other:#x}"))),
    }
}

/// Opens an encrypted key; `None` when the key is another one's.
fn decrypt_key(key: &[u8], data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, mac) = (data.get(..12)?, data.get(12..28)?);
    let mut content = Zeroizing::new(data.get(28..)?.to_vec());
    let cipher = Ccm::<Aes256, U16, U12>::new_from_slice(key).ok()?;
    let (nonce, mac) = (GenericArray::from_slice(nonce), GenericArray::from_slice(mac));
    cipher.decrypt_in_place_detached(nonce, &[], &mut content, mac).ok()?;
    // Size, version and method stand before it.
    Some(Zeroizing::new(content.get(12..)?.to_vec()))
}

fn master_key(found: &[Entry<'_>], key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
    let external = external_key(key.bytes());
    let recovery = key.text().and_then(recovery_key);
    let password = key.text().map(|text| {
        let units: Zeroizing<Vec<u8>> =
            Zeroizing::new(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        Zeroizing::new(Hash::Sha256.of(&[&Hash::Sha256.of(&[&units])]))
    });
    let mut tried = 0;
    for protector in found.iter().filter(|entry| entry.value == value::MASTER_KEY) {
        let properties = entries(protector.data.get(28..).unwrap_or_default());
        let Some(encrypted) = find(&properties, value::ENCRYPTED_KEY) else { continue };
        let stretched = |initial: &Zeroizing<Vec<u8>>| {
            let salt = find(&properties, value::STRETCH)?.get(4..20)?;
            Some(stretch(initial, salt))
        };
        let opener = match short(protector.data, 26) {
            protection::CLEAR => {
                find(&properties, value::KEY).and_then(|key| Some(Zeroizing::new(key.get(4..)?.to_vec())))
            }
            protection::STARTUP_KEY => {
                external.as_ref().filter(|(id, _)| protector.data.starts_with(id)).map(|(_, key)| key.clone())
            }
            protection::RECOVERY => recovery.as_ref().and_then(stretched),
            protection::PASSWORD => password.as_ref().and_then(stretched),
            _ => None,
        };
        tried += 1;
        if let Some(master) = opener.and_then(|opener| decrypt_key(&opener, encrypted)) {
            return Ok(master);
        }
    }
    Err(Error::WrongKey { what: "protectors", tried })
}

/// The number and the key in the content of a `.BEK` file.
fn external_key(bytes: &[u8]) -> Option<(Vec<u8>, Zeroizing<Vec<u8>>)> {
    let len = usize::try_from(word(bytes, 0)).ok()?;
    let content = bytes.get(METADATA_HEADER_BYTES..len)?;
    let found = entries(content);
    let external = find(&found, value::EXTERNAL_KEY)?;
    let key = find(&entries(external.get(24..)?), value::KEY)?.get(4..)?;
    Some((external.get(..16)?.to_vec(), Zeroizing::new(key.to_vec())))
}

/// What 48 digits stand for: eight groups of six, each a multiple of 11.
fn recovery_key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut groups = 0;
    for group in text.trim().split('-') {
        let number: u32 = group.parse().ok().filter(|_| group.len() == 6)?;
        let part = u16::try_from(number / 11).ok().filter(|_| number.is_multiple_of(11))?;
        bytes.extend_from_slice(&part.to_le_bytes());
        groups += 1;
    }
    (groups == 8).then(|| Zeroizing::new(Hash::Sha256.of(&[&bytes])))
}

fn stretch(initial: &[u8], salt: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut last = Zeroizing::new(vec![0; 32]);
    for count in 0..STRETCHES {
        let next = Hash::Sha256.of(&[&last, initial, salt, &count.to_le_bytes()]);
        last.copy_from_slice(&next);
    }
    last
}

impl ReadAt for BitLocker {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.source.size());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let sector = usize::try_from(self.sector_bytes).map_err(io::Error::other)?;
        in_sectors(offset, buf, sector, |at, data| self.read_sectors(at, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_passwords_are_checked() {
        let good = "042647-302313-590458-071500-554323-116567-412181-516978";
        assert!(recovery_key(good).is_some() && recovery_key(&format!(" {good}\n")).is_some());
        for wrong in [
            "042648-302313-590458-071500-554323-116567-412181-516978",
            "042647-302313-590458-071500-554323-116567-412181",
            "42647-302313-590458-071500-554323-116567-412181-516978",
            "042647-302313-590458-071500-554323-116567-412181-516978-000011",
            "720907-302313-590458-071500-554323-116567-412181-516978",
            "password",
        ] {
            assert!(recovery_key(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn entries_end_where_they_say() {
        let mut bytes = Vec::new();
        for (kind, value, data) in [(2_u16, 8_u16, &b"abc"[..]), (3, 5, b"")] {
            bytes.extend_from_slice(&u16::try_from(8 + data.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
            bytes.extend_from_slice(&[1, 0]);
            bytes.extend_from_slice(data);
        }
        let found = entries(&bytes);
        assert_eq!((found.len(), found[0].data, found[1].kind), (2, &b"abc"[..], 3));
        for len in 0..bytes.len() {
            assert!(entries(&bytes[..len]).len() < 2, "{len}");
        }
        assert!(entries(&[0; 100]).is_empty() && entries(&[7, 0, 0, 0, 0, 0, 0, 0]).is_empty());
    }
}
