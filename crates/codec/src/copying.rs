//! Copies of matches, in wide steps as long as there is room behind them.

/// Bytes a wide copy may write beyond the end of its match.
const SLACK: usize = 64;

#[inline(always)]
fn load<const N: usize>(output: &[u8], pos: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&output[pos..pos + N]);
    bytes
}

#[inline(always)]
fn store<const N: usize>(output: &mut [u8], pos: usize, bytes: [u8; N]) {
    output[pos..pos + N].copy_from_slice(&bytes);
}

/// Repeats `length` bytes from `offset` back at `pos`, as if byte by byte. The caller has checked `1 <= offset <= pos` and
/// that `pos + length` is in `output`; bytes behind the match, which are not produced yet, are clobbered.
#[inline(always)]
pub(crate) fn copy_match(output: &mut [u8], pos: usize, offset: usize, length: usize) {
    if output.len() - pos - length >= SLACK {
        copy_wide(output, pos, offset, length);
    } else {
        copy_last(output, pos, offset, length);
    }
}

/// Only the last matches of a chunk have no room behind them; kept out of the way.
#[inline(never)]
fn copy_last(output: &mut [u8], pos: usize, offset: usize, length: usize) {
    for to in pos..pos + length {
        output[to] = output[to - offset];
    }
}

#[inline(always)]
fn copy_wide(output: &mut [u8], pos: usize, offset: usize, length: usize) {
    let from = pos - offset;
    if offset >= 16 || offset >= length {
        store(output, pos, load::<16>(output, from));
        store(output, pos + 16, load::<16>(output, from + 16));
        let mut done = 32;
        while done < length {
            store(output, pos + done, load::<16>(output, from + done));
            done += 16;
        }
    } else {
        copy_near(output, pos, offset, length);
    }
}

/// [`copy_wide`] for offsets 1 to 15, where a wide load would read what the match itself has to produce.
#[inline(always)]
fn copy_near(output: &mut [u8], pos: usize, offset: usize, length: usize) {
    let from = pos - offset;
    if offset == 1 {
        let bytes = [output[from]; 16];
        let mut done = 0;
        while done < length {
            store(output, pos + done, bytes);
            done += 16;
        }
        return;
    }
    // Each store is right for `offset` bytes and the next one mends the rest.
    let pattern = load::<16>(output, from);
    let mut done = 0;
    while done < length && done < 32 {
        store(output, pos + done, pattern);
        done += offset;
    }
    // By now `done >= 32` bytes repeat with a period that divides `done`; go on in wide steps.
    let period = done;
    while done < length {
        store(output, pos + done, load::<16>(output, pos + done - period));
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
                // With and without room behind the match.
                for room in [0, 1, SLACK - 1, SLACK, 200] {
                    let mut bytes: Vec<u8> =
                        (0..100 + length + room).map(|at| (at * 7 + at / 11) as u8).collect();
                    let mut expected = bytes[..100].to_vec();
                    for _ in 0..length {
                        expected.push(expected[expected.len() - offset]);
                    }
                    copy_match(&mut bytes, 100, offset, length);
                    assert_eq!(
                        bytes[..100 + length],
                        expected,
                        "offset {offset} length {length} room {room}"
                    );
                }
            }
        }
    }
}
