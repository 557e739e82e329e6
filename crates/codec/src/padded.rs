//! The input of a chunk with zeros behind it, so that wide loads need no special case at its end.

/// Zero bytes behind the input. No load ahead of a bit that exists leaves them, so running out of them proves that
/// the input is too short.
pub(crate) const PADDING: usize = 64;

/// The bytes ended, padding included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exhausted;

/// A copy of one chunk's input, reused from chunk to chunk.
#[derive(Debug)]
pub(crate) struct PaddedInput {
    bytes: Vec<u8>,
}

impl PaddedInput {
    pub(crate) fn new(chunk_size: usize) -> Self {
        // Compressed chunks are shorter than plain ones; only damaged ones would make it grow.
        Self { bytes: Vec::with_capacity(chunk_size + PADDING) }
    }

    /// Takes over `input` as it is.
    pub(crate) fn load(&mut self, input: &[u8]) -> &[u8] {
        self.bytes.clear();
        self.bytes.extend_from_slice(input);
        self.bytes.extend_from_slice(&[0; PADDING]);
        &self.bytes
    }

    /// Takes over the 16-bit words of `input` with their bytes swapped; half a word at its end counts as none.
    pub(crate) fn load_swapped(&mut self, input: &[u8]) -> &[u8] {
        let (words, _) = input.as_chunks::<2>();
        self.bytes.resize(2 * words.len() + PADDING, 0);
        let (to, padding) = self.bytes.split_at_mut(2 * words.len());
        for (to, word) in to.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            *to = u16::from_le_bytes(*word).to_be_bytes();
        }
        padding.fill(0);
        &self.bytes
    }
}

/// Length of the input that `padded` was made from.
pub(crate) fn padded_len(padded: &[u8]) -> usize {
    padded.len().saturating_sub(PADDING)
}
