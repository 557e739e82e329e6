//! The output of one chunk while it is decoded, with slack behind it so that matches copy in wide steps.

/// Bytes a copy may write beyond the end of its match, and a literal beyond the end of the chunk.
pub(crate) const SLACK: usize = 64;

/// A buffer for the largest chunk plus slack.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Box<[u8]>,
}

impl Window {
    pub(crate) fn new(chunk_size: usize) -> Self {
        Self { bytes: vec![0; chunk_size + SLACK].into_boxed_slice() }
    }

    /// Room for a chunk of `len` bytes (at most the chunk size) plus slack. Old content shows through.
    pub(crate) fn open(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[..len + SLACK]
    }

    /// The first `len` bytes.
    pub(crate) fn head(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[..len]
    }
}

/// Length of the chunk that `open` was asked for.
pub(crate) fn limit(window: &[u8]) -> usize {
    window.len() - SLACK
}

#[inline(always)]
fn load<const N: usize>(window: &[u8], pos: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&window[pos..pos + N]);
    bytes
}

#[inline(always)]
fn store<const N: usize>(window: &mut [u8], pos: usize, bytes: [u8; N]) {
    window[pos..pos + N].copy_from_slice(&bytes);
}

/// Repeats `length` bytes from `offset` back at `pos`, as if byte by byte. The caller has checked
/// `1 <= offset <= pos` and `pos + length <= limit`; bytes up to the slack beyond the match are clobbered.
#[inline(always)]
pub(crate) fn copy_match(window: &mut [u8], pos: usize, offset: usize, length: usize) {
    let from = pos - offset;
    if offset >= 16 || offset >= length {
        store(window, pos, load::<16>(window, from));
        store(window, pos + 16, load::<16>(window, from + 16));
        let mut done = 32;
        while done < length {
            store(window, pos + done, load::<16>(window, from + done));
            done += 16;
        }
    } else {
        copy_near(window, pos, offset, length);
    }
}

/// [`copy_match`] for offsets 1 to 15, where a wide load would read what the match itself has to produce.
#[inline(always)]
fn copy_near(window: &mut [u8], pos: usize, offset: usize, length: usize) {
    let from = pos - offset;
    if offset == 1 {
        let bytes = [window[from]; 16];
        let mut done = 0;
        while done < length {
            store(window, pos + done, bytes);
            done += 16;
        }
        return;
    }
    // Each store is right for `offset` bytes and the next one mends the rest.
    let pattern = load::<16>(window, from);
    let mut done = 0;
    while done < length && done < 32 {
        store(window, pos + done, pattern);
        done += offset;
    }
    // By now `done >= 32` bytes repeat with a period that divides `done`; go on in wide steps.
    let period = done;
    while done < length {
        store(window, pos + done, load::<16>(window, pos + done - period));
        done += 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_as_if_byte_by_byte() {
        for offset in 1..80 {
            for length in 1..300 {
                let mut window = Window::new(1000);
                let bytes = window.open(100 + length);
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = (at * 7 + at / 11) as u8;
                }
                let mut expected = bytes[..100].to_vec();
                for _ in 0..length {
                    expected.push(expected[expected.len() - offset]);
                }
                copy_match(bytes, 100, offset, length);
                assert_eq!(limit(bytes), 100 + length);
                assert_eq!(&bytes[..100 + length], &expected[..], "offset {offset} length {length}");
            }
        }
    }
}
