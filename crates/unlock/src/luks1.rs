//! The header of LUKS 1 (LUKS On-Disk Format Specification 1.2.3, figures 1 to 4). Numbers are big-endian.

use gravure_io::ReadAt;

use crate::cipher::UNIT_BYTES;
use crate::hash::Hash;
use crate::kdf::{Kdf, MAX_KEY_BYTES};
use crate::luks::{Digest, Header, Segment, Slot};
use crate::{Error, luks2::text};

const WHAT: &str = "LUKS 1 header";
const HEADER_BYTES: usize = 592;
const SLOTS: usize = 208;
const SLOT_BYTES: usize = 48;
const SLOT_COUNT: usize = 8;
/// A slot that holds a key.
const ENABLED: u32 = 0x00ac_71f3;
const DISABLED: u32 = 0x0000_dead;

pub(crate) fn header(source: &dyn ReadAt) -> Result<Header, Error> {
    let mut head = [0; HEADER_BYTES];
    source.read_exact_at(0, &mut head).map_err(Error::read(WHAT, 0))?;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let spec = format!("{}-{}", text(&head[8..40]), text(&head[40..72]));
    let hash = Hash::named(&text(&head[72..104]))?;
    let key_bytes = number(108) as usize;
    if !(16..=MAX_KEY_BYTES).contains(&key_bytes) {
        return Err(Error::corrupt(WHAT, 108, "a key of 16 to 64 bytes", key_bytes.to_string()));
    }
    let mut slots = Vec::new();
    for index in 0..SLOT_COUNT {
        let at = SLOTS + index * SLOT_BYTES;
        match number(at) {
            ENABLED => {}
            DISABLED => continue,
            other => {
                let expected = format!("{ENABLED:#x} or {DISABLED:#x}");
                return Err(Error::corrupt(
                    "state of a key slot",
                    at as u64,
                    expected,
                    format!("{other:#x}"),
                ));
            }
        }
        slots.push(Slot {
            kdf: Kdf::Pbkdf2 { hash, iterations: number(at + 4), salt: head[at + 8..at + 40].to_vec() },
            key_bytes,
            stripes: number(at + 44) as usize,
            splitter: hash,
            offset: u64::from(number(at + 40)) * UNIT_BYTES,
            spec: spec.clone(),
            area_key_bytes: key_bytes,
        });
    }
    let digest = Digest {
        kdf: Kdf::Pbkdf2 { hash, iterations: number(164), salt: head[132..164].to_vec() },
        expected: head[112..132].to_vec(),
        slots: (0..slots.len()).collect(),
    };
    let offset = u64::from(number(104)) * UNIT_BYTES;
    let len = source.size().checked_sub(offset);
    let len = len.ok_or_else(|| {
        Error::corrupt(
            WHAT,
            104,
            format!("content within {} bytes", source.size()),
            format!("at {offset:#x}"),
        )
    })?;
    let len = len - len % UNIT_BYTES;
    let segment = Segment { offset, len, spec, sector_bytes: UNIT_BYTES as usize, first: 0 };
    Ok(Header { slots, digests: vec![digest], segment })
}
