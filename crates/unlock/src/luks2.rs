//! The header of LUKS 2 (LUKS2 On-Disk Format Specification 1.1): two binary headers, each with a checksum, and JSON.

use std::collections::BTreeMap;

use argon2::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gravure_io::ReadAt;
use serde::Deserialize;

use crate::Error;
use crate::cipher::UNIT_BYTES;
use crate::hash::Hash;
use crate::kdf::{Kdf, MAX_KEY_BYTES};
use crate::luks::{Digest, Header, MAGIC, Segment, Slot};

const WHAT: &str = "LUKS 2 header";
const BINARY_BYTES: usize = 4096;
const CHECKSUM: usize = 448;
const SECOND_MAGIC: &[u8; 6] = b"SKUL\xba\xbe";
/// Sizes a header may have, which is also where the second one may begin (table 1).
const SIZES: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
/// Key slots and the like: 32 is what `cryptsetup` allows.
const MAX_OBJECTS: usize = 64;

#[derive(Debug, Deserialize)]
struct Metadata {
    keyslots: BTreeMap<String, KeySlot>,
    segments: BTreeMap<String, JsonSegment>,
    digests: BTreeMap<String, JsonDigest>,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    requirements: Option<Requirements>,
}

#[derive(Debug, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct KeySlot {
    #[serde(rename = "type")]
    kind: String,
    key_size: usize,
    af: Option<Splitter>,
    area: Area,
    kdf: Option<JsonKdf>,
}

#[derive(Debug, Deserialize)]
struct Splitter {
    stripes: usize,
    hash: String,
}

#[derive(Debug, Deserialize)]
struct Area {
    offset: String,
    #[serde(default)]
    encryption: String,
    #[serde(default)]
    key_size: usize,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum JsonKdf {
    Pbkdf2 { hash: String, iterations: u32, salt: String },
    Argon2i { time: u32, memory: u32, cpus: u32, salt: String },
    Argon2id { time: u32, memory: u32, cpus: u32, salt: String },
}

#[derive(Debug, Deserialize)]
struct JsonSegment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    #[serde(default)]
    iv_tweak: String,
    #[serde(default)]
    encryption: String,
    #[serde(default)]
    sector_size: usize,
    #[serde(default)]
    integrity: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct JsonDigest {
    keyslots: Vec<String>,
    hash: String,
    iterations: u32,
    salt: String,
    digest: String,
}

/// A text that ends with NUL or with its field.
pub(crate) fn text(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// One of the two headers: its sequence number and its JSON.
fn read(source: &dyn ReadAt, offset: u64, magic: &[u8; 6]) -> Result<(u64, Vec<u8>), Error> {
    let corrupt =
        |at: u64, expected: &str, found: String| Err(Error::corrupt(WHAT, offset + at, expected, found));
    let mut head = [0; BINARY_BYTES];
    source.read_exact_at(offset, &mut head).map_err(Error::read(WHAT, offset))?;
    if !head.starts_with(magic) || head[6..8] != [0, 2] {
        return corrupt(0, "the magic and version 2", format!("{:02x?}", &head[..8]));
    }
    let size = number(&head, 8);
    if !SIZES.contains(&size) {
        return corrupt(8, "a size of the specification's", size.to_string());
    }
    if number(&head, 256) != offset {
        return corrupt(256, "its own place", number(&head, 256).to_string());
    }
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    let mut whole = vec![0; len];
    source.read_exact_at(offset, &mut whole).map_err(Error::read(WHAT, offset))?;
    whole[CHECKSUM..CHECKSUM + 64].fill(0);
    let found = Hash::named(&text(&head[72..104]))?.of(&[&whole]);
    if head[CHECKSUM..CHECKSUM + found.len()] != found {
        return corrupt(CHECKSUM as u64, "the checksum of its content", "another".to_owned());
    }
    let json = &whole[BINARY_BYTES..];
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    Ok((number(&head, 16), json[..end].to_vec()))
}

pub(crate) fn header(source: &dyn ReadAt) -> Result<Header, Error> {
    let first = read(source, 0, MAGIC);
    // The second one begins where the first one ends; while that is damaged, anywhere it may.
    let second = SIZES.iter().filter_map(|offset| read(source, *offset, SECOND_MAGIC).ok()).next();
    let (_, json) = match (first, second) {
        (Ok(first), Some(second)) if second.0 > first.0 => second,
        (Ok(first), _) => first,
        (Err(_), Some(second)) => second,
        (Err(error), None) => return Err(error),
    };
    let corrupt = |found: String| {
        Error::corrupt("LUKS 2 metadata", BINARY_BYTES as u64, "JSON of the specification", found)
    };
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| corrupt(error.to_string()))?;
    let counts = [metadata.keyslots.len(), metadata.segments.len(), metadata.digests.len()];
    if let Some(count) = counts.into_iter().find(|count| *count > MAX_OBJECTS) {
        return Err(corrupt(format!("{count} objects of a kind")));
    }
    // A volume that is being encrypted anew has content under two keys.
    if let Some(needed) = metadata.config.requirements.as_ref().and_then(|needed| needed.mandatory.first()) {
        return Err(Error::unsupported("state of the volume:", needed.clone()));
    }
    let names: Vec<&String> = metadata.keyslots.keys().collect();
    let decimal = |text: &str| text.parse::<u64>().map_err(|_| corrupt(format!("number {text:?}")));
    let binary = |text: &str| STANDARD.decode(text).map_err(|error| corrupt(format!("base64: {error}")));
    let mut slots = Vec::new();
    let mut kept = Vec::new();
    for (name, slot) in &metadata.keyslots {
        // Slots of other kinds belong to changes under way.
        let (Some(af), Some(kdf)) = (&slot.af, &slot.kdf) else { continue };
        if slot.kind != "luks2" {
            continue;
        }
        if !(16..=MAX_KEY_BYTES).contains(&slot.key_size)
            || !(16..=MAX_KEY_BYTES).contains(&slot.area.key_size)
        {
            return Err(corrupt(format!("keys of {} and {} bytes", slot.key_size, slot.area.key_size)));
        }
        let kdf = match kdf {
            JsonKdf::Pbkdf2 { hash, iterations, salt } => {
                Kdf::Pbkdf2 { hash: Hash::named(hash)?, iterations: *iterations, salt: binary(salt)? }
            }
            JsonKdf::Argon2i { time, memory, cpus, salt }
            | JsonKdf::Argon2id { time, memory, cpus, salt } => {
                let is_id = matches!(kdf, JsonKdf::Argon2id { .. });
                Kdf::Argon2 {
                    algorithm: if is_id { Algorithm::Argon2id } else { Algorithm::Argon2i },
                    passes: *time,
                    memory_kib: *memory,
                    lanes: *cpus,
                    salt: binary(salt)?,
                }
            }
        };
        kept.push(name);
        slots.push(Slot {
            kdf,
            key_bytes: slot.key_size,
            stripes: af.stripes,
            splitter: Hash::named(&af.hash)?,
            offset: decimal(&slot.area.offset)?,
            spec: slot.area.encryption.clone(),
            area_key_bytes: slot.area.key_size,
        });
    }
    let mut digests = Vec::new();
    for digest in metadata.digests.values() {
        if let Some(missing) = digest.keyslots.iter().find(|slot| !names.contains(slot)) {
            return Err(corrupt(format!("a digest of key slot {missing}, which is not there")));
        }
        let slots = kept.iter().enumerate().filter(|(_, name)| digest.keyslots.contains(name));
        let expected = binary(&digest.digest)?;
        if !(16..=MAX_KEY_BYTES).contains(&expected.len()) {
            return Err(corrupt(format!("a digest of {} bytes", expected.len())));
        }
        digests.push(Digest {
            kdf: Kdf::Pbkdf2 {
                hash: Hash::named(&digest.hash)?,
                iterations: digest.iterations,
                salt: binary(&digest.salt)?,
            },
            expected,
            slots: slots.map(|(position, _)| position).collect(),
        });
    }
    let segment = segment(source, &metadata, &decimal, &corrupt)?;
    Ok(Header { slots, digests, segment })
}

fn segment(
    source: &dyn ReadAt,
    metadata: &Metadata,
    decimal: &dyn Fn(&str) -> Result<u64, Error>,
    corrupt: &dyn Fn(String) -> Error,
) -> Result<Segment, Error> {
    let mut segments = metadata.segments.values();
    let (Some(segment), None) = (segments.next(), segments.next()) else {
        return Err(Error::unsupported("count of segments", metadata.segments.len().to_string()));
    };
    if segment.kind != "crypt" {
        return Err(Error::unsupported("segment of type", segment.kind.clone()));
    }
    if segment.integrity.is_some() {
        return Err(Error::unsupported("segment", "with authenticated encryption (dm-integrity)"));
    }
    if ![512, 1024, 2048, 4096].contains(&segment.sector_size) {
        return Err(corrupt(format!("sectors of {} bytes", segment.sector_size)));
    }
    let offset = decimal(&segment.offset)?;
    let len = match segment.size.as_str() {
        "dynamic" => source.size().checked_sub(offset),
        size => Some(decimal(size)?),
    };
    let len = len.ok_or_else(|| corrupt(format!("a segment at {offset}, behind the end")))?;
    let len = len - len % segment.sector_size as u64;
    // The number counts 512 bytes also where sectors are larger.
    let first = if segment.iv_tweak.is_empty() { 0 } else { decimal(&segment.iv_tweak)? };
    if offset % UNIT_BYTES != 0 {
        return Err(corrupt(format!("a segment at {offset}, which is no sector's")));
    }
    Ok(Segment { offset, len, spec: segment.encryption.clone(), sector_bytes: segment.sector_size, first })
}
