//! Identifiers derived from the seed of a plan: the same seed gives the same disk, another seed another one.

use gravure_nttypes::Guid;

/// Context strings of BLAKE3's key derivation. Changing one changes every identifier, so they carry a version.
const DISK: &str = "gravure-disk v1 disk guid";
const PARTITION: &str = "gravure-disk v1 partition guid";
const VOLUME: &str = "gravure-disk v1 volume uuid";
const DIRECTORY_HASH: &str = "gravure-disk v1 directory hash seed";
const FAT_SERIAL: &str = "gravure-disk v1 fat serial";
const MBR_SIGNATURE: &str = "gravure-disk v1 mbr signature";

/// All identifiers of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    seed: [u8; 32],
}

impl Identity {
    /// Identifiers for the plan with this seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// GUID of the disk in its GPT header.
    pub fn disk_guid(&self) -> Guid {
        self.guid(DISK, 0)
    }

    /// Unique GUID of the partition with this zero-based index.
    pub fn partition_guid(&self, index: u32) -> Guid {
        self.guid(PARTITION, index)
    }

    /// UUID of the volume on the partition with this index, in the order in which it is printed (ext4, XFS, Btrfs).
    pub fn volume_uuid(&self, index: u32) -> [u8; 16] {
        self.uuid(VOLUME, index)
    }

    /// Seed of the directory hashes of an ext4 volume, printed like a UUID (`mke2fs -E hash_seed=`).
    pub fn directory_hash_seed(&self, index: u32) -> [u8; 16] {
        self.uuid(DIRECTORY_HASH, index)
    }

    /// Serial number of a FAT volume.
    pub fn fat_serial(&self, index: u32) -> u32 {
        self.short(FAT_SERIAL, index)
    }

    /// Disk signature of an MBR; never zero, which means "none".
    pub fn mbr_signature(&self) -> u32 {
        self.short(MBR_SIGNATURE, 0).max(1)
    }

    fn derive(&self, context: &str, index: u32) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.seed).update(&index.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// RFC 9562 version 8 ("custom"), in printing order.
    fn uuid(&self, context: &str, index: u32) -> [u8; 16] {
        let [mut uuid @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.derive(context, index);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    fn guid(&self, context: &str, index: u32) -> Guid {
        crate::guid::from_printed(self.uuid(context, index))
    }

    fn short(&self, context: &str, index: u32) -> u32 {
        let [a, b, c, d, ..] = self.derive(context, index);
        u32::from_le_bytes([a, b, c, d])
    }
}

/// Prints a UUID given in printing order, e.g. for `mke2fs -U`.
pub fn print_uuid(uuid: [u8; 16]) -> String {
    crate::guid::from_printed(uuid).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_the_place_decide() {
        let one = Identity::new([1; 32]);
        assert_eq!(one.partition_guid(0), Identity::new([1; 32]).partition_guid(0));
        let all = [one.disk_guid(), one.partition_guid(0), one.partition_guid(1)];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert_ne!(one.disk_guid(), Identity::new([2; 32]).disk_guid());
        assert_ne!(one.volume_uuid(0), one.directory_hash_seed(0));
    }

    #[test]
    fn values_are_pinned_so_that_a_retry_by_a_newer_version_agrees() {
        let identity = Identity::new([7; 32]);
        let text = identity.disk_guid().to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "8"), "{text}");
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert_eq!(text, "1d5c7952-a18d-8b80-84af-5885bb528cea");
        assert_eq!(print_uuid(identity.volume_uuid(1)), "8e9d74c8-3713-88fd-baa8-23c4e117192f");
        assert_eq!(identity.fat_serial(0), 2543958259);
    }
}
