//! Decoding mapping pairs.

use super::fault::Fault;
use crate::disk::Run;
use crate::rule::Rule;

/// Decodes the pairs at the start of `bytes`, up to and with the closing zero. Runs lie below cluster `clusters`. `holes` says
/// whether the stream may have any.
pub(crate) fn decode_runs(bytes: &[u8], clusters: u64, holes: Holes) -> Result<(Vec<Run>, usize), Fault> {
    let (mut runs, mut pos, mut last, mut total) = (Vec::new(), 0usize, 0i64, 0u64);
    loop {
        let head = bytes.get(pos).copied();
        let head =
            head.ok_or_else(|| Fault::new(Rule::RunsEnd, pos, "a closing zero", "the attribute's end"))?;
        if head == 0 {
            return Ok((runs, pos.saturating_add(1)));
        }
        let (count_len, distance_len) = (usize::from(head & 0xf), usize::from(head >> 4));
        let start = pos.saturating_add(1);
        let middle = start.saturating_add(count_len);
        let end = middle.saturating_add(distance_len);
        let (Some(count), Some(distance)) = (bytes.get(start..middle), bytes.get(middle..end)) else {
            return Err(Fault::new(
                Rule::RunsEnd,
                pos,
                "a pair inside the attribute",
                format!("{head:#04x}"),
            ));
        };
        if !(1..=8).contains(&count_len) || distance_len > 8 {
            return Err(Fault::new(
                Rule::RunHead,
                pos,
                "lengths of 1 to 8 and 0 to 8 bytes",
                format!("{head:#04x}"),
            ));
        }
        let count = u64::try_from(signed(count)).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| {
            Fault::new(
                Rule::RunLength,
                start,
                "1 cluster or more",
                signed(bytes.get(start..middle).unwrap_or_default()),
            )
        })?;
        // A stream cannot have more clusters than 64-bit sizes can tell.
        total = total.checked_add(count).filter(|total| *total <= MAX_STREAM_CLUSTERS).ok_or_else(|| {
            Fault::new(
                Rule::RunLength,
                start,
                format!("at most {MAX_STREAM_CLUSTERS} clusters in all"),
                count,
            )
        })?;
        let lcn = if distance_len == 0 {
            if holes == Holes::Refused {
                return Err(Fault::new(
                    Rule::RunHole,
                    pos,
                    "clusters, as the stream is not sparse",
                    "a hole",
                ));
            }
            None
        } else {
            last = last.saturating_add(signed(distance));
            let lcn = u64::try_from(last).ok();
            let inside = lcn.filter(|lcn| lcn.checked_add(count).is_some_and(|end| end <= clusters));
            let inside = inside.ok_or_else(|| {
                let found = format!("{count} clusters from {last}");
                Fault::new(Rule::RunPlace, middle, format!("clusters below {clusters}"), found)
            })?;
            Some(inside)
        };
        runs.push(Run { clusters: count, lcn });
        pos = end;
    }
}

/// Most clusters of a stream: sizes are signed 64-bit numbers of bytes.
const MAX_STREAM_CLUSTERS: u64 = 1 << 54;

/// Whether runs may stand nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    Allowed,
    Refused,
}

/// A number of 0 to 8 bytes in two's complement.
fn signed(bytes: &[u8]) -> i64 {
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if is_negative { [0xff; 8] } else { [0; 8] };
    wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    i64::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::encode_runs;

    #[test]
    fn runs_by_the_book() {
        let hole = |clusters| Run { clusters, lcn: None };
        let run = |clusters, lcn| Run { clusters, lcn: Some(lcn) };
        // An example with a negative distance and a hole, as sparse streams have them.
        let bytes = [0x21, 0x18, 0x34, 0x56, 0x11, 0x10, 0xf0, 0x01, 0x30, 0];
        let expected = vec![run(0x18, 0x5634), run(0x10, 0x5624), hole(0x30)];
        assert_eq!(decode_runs(&bytes, 0x10000, Holes::Allowed), Ok((expected, bytes.len())));
        assert_eq!(decode_runs(&bytes, 0x10000, Holes::Refused).unwrap_err().rule, Rule::RunHole);
        assert_eq!(decode_runs(&bytes, 0x5640, Holes::Allowed).unwrap_err().rule, Rule::RunPlace);
        assert_eq!(decode_runs(&[0x11, 0, 5, 0], 9, Holes::Allowed).unwrap_err().rule, Rule::RunLength);
        assert_eq!(decode_runs(&[0x19, 1], 9, Holes::Allowed).unwrap_err().rule, Rule::RunsEnd);
        assert_eq!(decode_runs(&[0x10, 1, 0], 9, Holes::Allowed).unwrap_err().rule, Rule::RunHead);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(list in prop::collection::vec((1u64..1 << 20, prop::option::of(0u64..1 << 40)), 0..9)) {
            let runs: Vec<Run> = list.into_iter().map(|(clusters, lcn)| Run { clusters, lcn }).collect();
            let mut bytes = Vec::new();
            encode_runs(&runs, &mut bytes);
            let len = bytes.len();
            prop_assert_eq!(decode_runs(&bytes, 1 << 41, Holes::Allowed), Ok((runs, len)));
            for cut in 0..len {
                prop_assert!(decode_runs(&bytes[..cut], 1 << 41, Holes::Allowed).is_err());
            }
        }
    }
}
