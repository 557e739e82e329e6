//! Encrypted volumes: LUKS and BitLocker. What they say about themselves; what is inside is for whoever has the key.

use gravure_disk::{Found, FoundKind};
use gravure_io::ReadAt;

use crate::field::{array, be16, be32, be64, read, slice, text};
use crate::probe::fact;
use crate::{Error, Kind, Probe, Reason, State};

/// Bytes of a LUKS header that hold what is told here.
const LUKS_HEAD_BYTES: usize = 592;

/// LUKS header (both versions): magic, version, then texts; numbers are big-endian.
fn luks(dev: &dyn ReadAt) -> Result<Probe, Error> {
    let head = read(dev, "LUKS header", 0, LUKS_HEAD_BYTES)?;
    let mut probe = match be16(&head, 6) {
        1 => {
            let mut probe = Probe::new(Kind::Luks1, dev.size());
            let name = text(slice(&head, 8, 32)).unwrap_or_default();
            let mode = text(slice(&head, 40, 32)).unwrap_or_default();
            probe.facts = vec![
                fact("cipher", format!("{name}-{mode}")),
                fact("hash", text(slice(&head, 72, 32)).unwrap_or_default()),
                fact("payload-offset", u64::from(be32(&head, 104)).saturating_mul(512)),
                fact("key-bytes", be32(&head, 108)),
            ];
            probe
        }
        2 => {
            let mut probe = Probe::new(Kind::Luks2, dev.size());
            probe.label = text(slice(&head, 24, 48));
            probe.facts = vec![
                fact("header-bytes", be64(&head, 8)),
                fact("sequence", be64(&head, 16)),
                fact("checksum", text(slice(&head, 72, 32)).unwrap_or_default()),
            ];
            probe.facts.extend(text(slice(&head, 208, 48)).map(|name| fact("subsystem", name)));
            probe
        }
        version => return Err(Error::unsupported("version of LUKS", version)),
    };
    probe.version = Some(be16(&head, 6).to_string());
    probe.uuid = text(slice(&head, 168, 40));
    Ok(probe)
}

/// BitLocker: an NTFS-like boot sector with a signature of its own. The version stands in the first metadata block, whose place
/// the boot sector gives.
fn bitlocker(dev: &dyn ReadAt, found: &Found) -> Result<Probe, Error> {
    let head = read(dev, "BitLocker header", 0, 512)?;
    let mut probe = Probe::new(Kind::BitLocker, dev.size());
    probe.uuid.clone_from(&found.uuid);
    probe.sector_size = Some(u32::from(u16::from_le_bytes(array(&head, 11)))).filter(|size| *size != 0);
    // Three copies of the metadata; Windows Vista has one field for the first instead.
    let place = u64::from_le_bytes(array(&head, 176));
    let block = place.checked_add(64).filter(|end| place != 0 && *end <= dev.size());
    if block.is_some() {
        let block = read(dev, "BitLocker metadata", place, 64)?;
        if block.starts_with(b"-FVE-FS-") {
            probe.version = Some(u16::from_le_bytes(array(&block, 10)).to_string());
            probe.facts.push(fact("metadata-offset", place));
            probe.facts.push(fact("encrypted-bytes", u64::from_le_bytes(array(&block, 16))));
        }
    }
    Ok(probe)
}

pub(crate) fn probe(dev: &dyn ReadAt, found: &Found) -> Result<Probe, Error> {
    let mut probe = if found.kind == FoundKind::Luks { luks(dev)? } else { bitlocker(dev, found)? };
    probe.state = State::Unclean(Reason::Encrypted);
    Ok(probe)
}
