//! $Boot: the boot sector and what follows it.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::plan::VolumePlan;
use super::writes::Write;
use crate::disk::{
    BOOT_FILE_BYTES, BOOT_HEAD_BYTES, BOOT_MARK, BOOT_MARK_POS, BootDisk, INDEX_BLOCK_BYTES, power_or_count,
};

/// Jump over the parameters to the code.
const JUMP: [u8; 3] = [0xeb, 0x52, 0x90];
/// 16-bit code for BIOS machines that start this volume, which has no loader: prints the text behind it and waits.
const CODE: [u8; 27] = [
    0xfa, // cli
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0x8e, 0xd0, // mov ss, ax
    0xbc, 0x00, 0x7c, // mov sp, 0x7c00
    0xbe, 0x6f, 0x7c, // mov si, text
    0xfb, // sti
    0xac, // lodsb
    0x84, 0xc0, // test al, al
    0x74, 0xfe, // jz itself
    0xb4, 0x0e, // mov ah, 0x0e
    0xb3, 0x07, // mov bl, 7
    0xcd, 0x10, // int 0x10
    0xeb, 0xf3, // jmp lodsb
];
/// Code ends here in `$Boot` of any Windows; behind it the volume snapshot service has the place of its catalogue, which means nothing on a
/// volume laid out anew.
const CODE_END: usize = 0x1e00;
const TEXT: &[u8] = b"This volume cannot start a BIOS machine.\r\n\0";
const _: () = assert!(BOOT_HEAD_BYTES + CODE.len() == 0x6f);
const _: () = assert!(BOOT_HEAD_BYTES + CODE.len() + TEXT.len() < BOOT_MARK_POS);

impl VolumePlan<'_> {
    /// $Boot, the boot sector in front.
    fn boot_file(&self) -> Vec<u8> {
        let geometry = &self.geometry;
        let hidden = u32::try_from(self.options.hidden_sectors).unwrap_or(u32::MAX);
        let cluster = u32::try_from(geometry.cluster_bytes).unwrap_or(u32::MAX);
        let record = u32::try_from(geometry.record_bytes).unwrap_or(u32::MAX);
        let index_block = u32::try_from(INDEX_BLOCK_BYTES).unwrap_or(u32::MAX);
        let head = BootDisk {
            jump: JUMP,
            oem_name: *b"NTFS    ",
            sector_bytes: U16::new(u16::try_from(geometry.sector_bytes).unwrap_or(u16::MAX)),
            cluster_sectors: cluster_sectors(cluster / geometry.sector_bytes),
            zeros: [0; 7],
            media: 0xf8,
            zeros2: [0; 2],
            track_sectors: U16::new(63),
            heads: U16::new(255),
            hidden_sectors: U32::new(hidden),
            zeros3: [0; 4],
            drive: [0x80, 0, 0x80, 0],
            sectors: U64::new(geometry.sectors),
            mft_cluster: U64::new(self.clusters.mft),
            mirror_cluster: U64::new(self.clusters.mirror),
            record_clusters: [power_or_count(record, cluster), 0, 0, 0],
            index_block_clusters: [power_or_count(index_block, cluster), 0, 0, 0],
            serial: U64::new(self.serial()),
            checksum: U32::new(0),
        };
        let mut out = head.as_bytes().to_vec();
        match &self.options.boot_code {
            // Its jump, then our parameters, then its code.
            Some(code) => {
                out[..JUMP.len()].copy_from_slice(&code[..JUMP.len()]);
                out.extend_from_slice(&code[BOOT_HEAD_BYTES..CODE_END]);
            }
            None => {
                out.extend_from_slice(&CODE);
                out.extend_from_slice(TEXT);
            }
        }
        out.resize(usize::try_from(BOOT_FILE_BYTES).unwrap_or(0), 0);
        out[BOOT_MARK_POS..BOOT_MARK_POS + BOOT_MARK.len()].copy_from_slice(&BOOT_MARK);
        out
    }

    /// The serial number: as the options say, else from the seed.
    pub fn serial(&self) -> u64 {
        if let Some(serial) = self.options.serial {
            return serial;
        }
        let hash = blake3::derive_key("gravure NTFS volume serial number 1", &self.options.seed);
        hash.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Offset of the copy of the boot sector: the last sector of the partition.
    fn backup_offset(&self) -> u64 {
        self.geometry.sectors * u64::from(self.geometry.sector_bytes)
    }

    /// What makes the volume one, to be written when everything else is on stable storage: the copy in the last sector, then
    /// $Boot.
    pub fn boot_sectors(&self) -> [Write; 2] {
        let boot = self.boot_file();
        let sector = usize::try_from(self.geometry.sector_bytes).unwrap_or(usize::MAX).min(boot.len());
        let copy = boot[..sector].to_vec();
        [Write { offset: self.backup_offset(), bytes: copy }, Write { offset: 0, bytes: boot }]
    }

    /// Zeros that unmake whatever volume was there, to be on stable storage before anything else is written: first the boot
    /// sector, then its copy.
    pub fn wipes(&self) -> [Write; 2] {
        let [copy, boot] = self.boot_sectors();
        let zeros = |write: Write| Write { offset: write.offset, bytes: vec![0; write.bytes.len()] };
        [zeros(boot), zeros(copy)]
    }
}

/// Sectors of a cluster: a count up to 128, then a power of two.
fn cluster_sectors(count: u32) -> u8 {
    match count {
        0..=128 => u8::try_from(count).unwrap_or(128),
        _ => u8::try_from(256 - count.trailing_zeros()).unwrap_or(0),
    }
}
