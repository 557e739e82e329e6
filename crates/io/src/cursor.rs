//! A forward reader over a byte slice for little-endian formats; every read is checked.

/// What a format crate turns into its own error: a field did not fit into the bytes that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes wanted at {pos:#x}, {left} left")]
pub struct Truncated {
    /// Position in the slice where the field starts.
    pub pos: usize,
    /// Bytes the field needs.
    pub wanted: usize,
    /// Bytes that were left.
    pub left: usize,
}

/// Reads integers and slices in order.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at position 0 of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// Position of the next read, in bytes from the start.
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or_default()
    }

    /// Takes the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let rest = self.rest();
        let taken = rest.get(..len).ok_or(Truncated { pos: self.pos, wanted: len, left: rest.len() })?;
        self.pos = self.pos.saturating_add(len);
        Ok(taken)
    }

    /// Takes the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// Little-endian, 2 bytes.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    /// Little-endian, 4 bytes.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    /// Little-endian, 8 bytes.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    /// Moves on to the next multiple of `align` (a power of two), counted from the start of the slice. Stops at
    /// the end of the slice when the padding is missing.
    pub fn align(&mut self, align: usize) {
        let mask = align.saturating_sub(1);
        self.pos = self.pos.saturating_add(mask).min(usize::MAX ^ mask) & !mask;
        self.pos = self.pos.min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_names_the_place_of_a_cut() {
        let mut cursor = Cursor::new(&[1, 2, 0, 3, 0, 0, 0, 9]);
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(2));
        assert_eq!(cursor.u32(), Ok(3));
        assert_eq!(cursor.u32(), Err(Truncated { pos: 7, wanted: 4, left: 1 }));
        assert_eq!(cursor.rest(), &[9]);
    }

    #[test]
    fn align_stops_at_the_end() {
        let mut cursor = Cursor::new(&[0; 13]);
        cursor.take(1).unwrap();
        cursor.align(8);
        assert_eq!(cursor.pos(), 8);
        cursor.take(1).unwrap();
        cursor.align(8);
        assert_eq!(cursor.pos(), 13);
    }
}
