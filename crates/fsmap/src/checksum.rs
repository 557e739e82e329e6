//! Checksums of the formats: CRC-32C, CRC-16 and LVM's CRC-32, all of them least significant bit first.

/// Tables for eight bytes at a time.
type Tables = [[u32; 256]; 8];

const CASTAGNOLI: Tables = tables(0x82f6_3b78);
const ETHERNET: Tables = tables(0xedb8_8320);

#[expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "computed while compiling: an index that is wrong does not compile"
)]
const fn tables(polynomial: u32) -> Tables {
    let mut tables = [[0; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { (crc >> 1) ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        tables[0][n] = crc;
        n += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut n = 0;
        while n < 256 {
            let before: u32 = tables[table - 1][n];
            tables[table][n] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            n += 1;
        }
        table += 1;
    }
    tables
}

fn entry(table: &[u32; 256], byte: u8) -> u32 {
    table.get(usize::from(byte)).copied().unwrap_or(0)
}

fn update([t0, t1, t2, t3, t4, t5, t6, t7]: &Tables, mut crc: u32, bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in chunks {
        let [w, x, y, z] = crc.to_le_bytes();
        crc = entry(t7, a ^ w) ^ entry(t6, b ^ x) ^ entry(t5, c ^ y) ^ entry(t4, d ^ z);
        crc ^= entry(t3, *e) ^ entry(t2, *f) ^ entry(t1, *g) ^ entry(t0, *h);
    }
    for byte in rest {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ entry(t0, low ^ byte);
    }
    crc
}

/// CRC-32C carried on from `crc`, neither end inverted: what ext4 stores, starting at all ones.
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    update(&CASTAGNOLI, crc, bytes)
}

/// CRC-32C as everybody else stores it: both ends inverted.
pub(crate) fn crc32c_inverted(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(u32::MAX, |crc, part| crc32c(crc, part))
}

/// LVM's: the polynomial of Ethernet, a start of its own, nothing inverted.
pub(crate) fn lvm(bytes: &[u8]) -> u32 {
    update(&ETHERNET, 0xf597_a6cf, bytes)
}

/// Ethernet's CRC-32 most significant bit first, carried on from `crc`, nothing inverted: what the first journals with checksums
/// store, starting at all ones.
pub(crate) fn crc32_be(crc: u32, bytes: &[u8]) -> u32 {
    // The same as least significant bit first with the bits of everything reversed.
    let reversed = bytes.iter().map(|byte| byte.reverse_bits());
    let crc = reversed.fold(crc.reverse_bits(), |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        let [table, ..] = &ETHERNET;
        (crc >> 8) ^ entry(table, low ^ byte)
    });
    crc.reverse_bits()
}

/// CRC-16 carried on from `crc`: what ext4 stores in descriptors without `metadata_csum`, starting at all ones.
pub(crate) fn crc16(mut crc: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of the catalogues of CRCs: over the digits 1 to 9.
    #[test]
    fn known_values() {
        let digits = b"123456789";
        assert_eq!(crc32c_inverted(&[digits]), 0xe306_9283);
        assert_eq!(crc32c_inverted(&[&digits[..4], &digits[4..]]), 0xe306_9283);
        assert_eq!(!update(&ETHERNET, u32::MAX, digits), 0xcbf4_3926);
        // CRC-32/MPEG-2.
        assert_eq!(crc32_be(u32::MAX, digits), 0x0376_e6e7);
        assert_eq!(crc16(0, digits), 0xbb3d);
        // CRC-16/MODBUS starts at all ones, as ext4 does.
        assert_eq!(crc16(0xffff, digits), 0x4b37);
    }

    #[test]
    fn eight_at_a_time_is_one_at_a_time() {
        let bytes: Vec<u8> = (0..200u32).map(|n| ((n * 37) >> 2) as u8).collect();
        for start in 0..9 {
            for end in start..bytes.len() {
                let single = bytes[start..end].iter().fold(7, |crc, byte| crc32c(crc, &[*byte]));
                assert_eq!(crc32c(7, &bytes[start..end]), single);
            }
        }
    }
}
