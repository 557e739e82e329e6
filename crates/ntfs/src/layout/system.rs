//! Names and sizes of the system files, and the parts of them that are the same on every volume.

use crate::disk::numbers;

/// A system file as its directory lists it.
#[derive(Debug)]
pub(super) struct SystemName {
    pub(super) record: u32,
    pub(super) units: &'static [u16],
}

const fn units<const N: usize>(text: &[u8; N]) -> [u16; N] {
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        // Lossless; `u16::from` is not to be had in constants.
        #[expect(clippy::as_conversions, reason = "u8 to u16 in a constant")]
        let unit = text[at] as u16;
        out[at] = unit;
        at += 1;
    }
    out
}

/// What the root lists besides the tree's names.
pub(super) static ROOT_NAMES: [SystemName; 12] = [
    SystemName { record: numbers::MFT, units: &units(b"$MFT") },
    SystemName { record: numbers::MFT_MIRROR, units: &units(b"$MFTMirr") },
    SystemName { record: numbers::LOG_FILE, units: &units(b"$LogFile") },
    SystemName { record: numbers::VOLUME, units: &units(b"$Volume") },
    SystemName { record: numbers::ATTRIBUTE_DEFINITIONS, units: &units(b"$AttrDef") },
    SystemName { record: numbers::ROOT, units: &units(b".") },
    SystemName { record: numbers::BITMAP, units: &units(b"$Bitmap") },
    SystemName { record: numbers::BOOT, units: &units(b"$Boot") },
    SystemName { record: numbers::BAD_CLUSTERS, units: &units(b"$BadClus") },
    SystemName { record: numbers::SECURE, units: &units(b"$Secure") },
    SystemName { record: numbers::UPCASE, units: &units(b"$UpCase") },
    SystemName { record: numbers::EXTEND, units: &units(b"$Extend") },
];

/// What $Extend lists, in index order.
pub(super) static EXTEND_NAMES: [SystemName; 3] = [
    SystemName { record: numbers::OBJECT_ID, units: &units(b"$ObjId") },
    SystemName { record: numbers::QUOTA, units: &units(b"$Quota") },
    SystemName { record: numbers::REPARSE, units: &units(b"$Reparse") },
];

/// Names of system streams and indexes.
pub(super) mod stream_names {
    use super::units;

    pub(in crate::layout) static BAD: [u16; 4] = units(b"$Bad");
    pub(in crate::layout) static SDS: [u16; 4] = units(b"$SDS");
    pub(in crate::layout) static SDH: [u16; 4] = units(b"$SDH");
    pub(in crate::layout) static SII: [u16; 4] = units(b"$SII");
    pub(in crate::layout) static INFO: [u16; 5] = units(b"$Info");
    pub(in crate::layout) static OWNERS: [u16; 2] = units(b"$O");
    pub(in crate::layout) static QUOTAS: [u16; 2] = units(b"$Q");
    pub(in crate::layout) static REPARSE: [u16; 2] = units(b"$R");
}

/// The $Volume flag of volumes that Windows 11 calls clean. mkntfs leaves all flags 0, which makes the online scan of recent
/// systems ask for a repair.
pub(super) const VOLUME_FLAGS: u16 = 0x0080;

/// $LogFile is as large as mkntfs makes it: 2 MiB, a 200th of the volume above 400 MiB, 64 MiB from 12 GiB on.
pub(super) fn log_file_bytes(volume_bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    match volume_bytes {
        0..0x0c80_0000 => 2 * MIB,
        0x0c80_0000..0x3_0000_0000 => (volume_bytes / 200).max(2 * MIB) & !0xffff,
        _ => 64 * MIB,
    }
}

/// Owner id of Administrators.
const ADMINISTRATORS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 0x20, 0, 0, 0, 0x20, 2, 0, 0];

/// An entry of a small index: key, data.
pub(super) type SmallEntry = (Vec<u8>, Vec<u8>);

/// Entries of `$O` and `$Q` of $Quota as every fresh volume has them: defaults, and Administrators as owner 0x100.
pub(super) fn quota_entries(time: u64) -> (Vec<SmallEntry>, Vec<SmallEntry>) {
    let control = |flags: u32, sid: &[u8]| {
        let mut data = Vec::new();
        // Version, flags, bytes used, time of change, threshold, limit, time over the threshold.
        data.extend_from_slice(&2u32.to_le_bytes());
        data.extend_from_slice(&flags.to_le_bytes());
        data.extend_from_slice(&0u64.to_le_bytes());
        data.extend_from_slice(&time.to_le_bytes());
        data.extend_from_slice(&(-1i64).to_le_bytes());
        data.extend_from_slice(&(-1i64).to_le_bytes());
        data.extend_from_slice(&0u64.to_le_bytes());
        data.extend_from_slice(sid);
        data
    };
    let owners = vec![(ADMINISTRATORS.to_vec(), 0x100u32.to_le_bytes().to_vec())];
    let quotas = vec![
        (1u32.to_le_bytes().to_vec(), control(1, &[])),
        (0x100u32.to_le_bytes().to_vec(), control(1, &ADMINISTRATORS)),
    ];
    (owners, quotas)
}
