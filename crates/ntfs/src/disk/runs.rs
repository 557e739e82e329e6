//! Mapping pairs: where the clusters of a stream are.

/// Clusters side by side; a hole when they stand nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many.
    pub(crate) clusters: u64,
    /// The first; `None` is a hole.
    pub(crate) lcn: Option<u64>,
}

/// Appends `runs` and the closing zero: for each a byte with the two lengths, the count, and the distance from the last
/// place, both signed and as short as they go.
pub(crate) fn encode_runs(runs: &[Run], out: &mut Vec<u8>) {
    let mut last = 0i64;
    for run in runs {
        let count = shortest(i64::try_from(run.clusters).unwrap_or(i64::MAX));
        let distance = run.lcn.map(|lcn| {
            let lcn = i64::try_from(lcn).unwrap_or(i64::MAX);
            let distance = shortest(lcn.saturating_sub(last));
            last = lcn;
            distance
        });
        let distance = distance.as_deref().unwrap_or_default();
        let nibble = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(8);
        out.push(nibble(&count) | (nibble(distance) << 4));
        out.extend_from_slice(&count);
        out.extend_from_slice(distance);
    }
    out.push(0);
}

/// Two's complement in as few bytes as keep the sign.
fn shortest(value: i64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    let mut len = bytes.len();
    while let [.., before, last] = bytes.get(..len).unwrap_or_default() {
        let is_sign_only = matches!((before & 0x80, last), (0, 0) | (0x80, 0xff));
        if !is_sign_only {
            break;
        }
        len = len.saturating_sub(1);
    }
    bytes.iter().take(len).copied().collect()
}

/// Bytes that a count of clusters or a distance up to it takes at most in a run.
pub(crate) fn encoded_bytes(clusters: u64) -> usize {
    shortest(i64::try_from(clusters).unwrap_or(i64::MAX)).len()
}

/// Bytes that one run takes at most on a volume of `clusters`, with the closing zero.
pub(crate) fn single_run_bytes(clusters: u64) -> usize {
    encoded_bytes(clusters).saturating_mul(2).saturating_add(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decoded by the book, for comparison.
    fn decode(bytes: &[u8]) -> Vec<Run> {
        let (mut runs, mut at, mut last) = (Vec::new(), 0, 0i64);
        let signed = |bytes: &[u8]| {
            let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
            let mut wide = [fill; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            i64::from_le_bytes(wide)
        };
        while bytes[at] != 0 {
            let (count, distance) = (usize::from(bytes[at] & 0xf), usize::from(bytes[at] >> 4));
            let clusters = u64::try_from(signed(&bytes[at + 1..][..count])).unwrap();
            at += 1 + count;
            let lcn = (distance > 0).then(|| {
                last += signed(&bytes[at..][..distance]);
                u64::try_from(last).unwrap()
            });
            at += distance;
            runs.push(Run { clusters, lcn });
        }
        assert_eq!(at + 1, bytes.len());
        runs
    }

    #[test]
    fn runs_have_the_bytes_that_windows_writes() {
        let cases: [(&[Run], &[u8]); 5] = [
            (&[Run { clusters: 7, lcn: Some(4) }], &[0x11, 7, 4, 0]),
            (&[Run { clusters: 1, lcn: Some(0x1fff) }], &[0x21, 1, 0xff, 0x1f, 0]),
            (&[Run { clusters: 0x80, lcn: Some(0x80) }], &[0x22, 0x80, 0, 0x80, 0, 0]),
            (&[Run { clusters: 0x3fff, lcn: None }], &[0x02, 0xff, 0x3f, 0]),
            (&[Run { clusters: 2, lcn: Some(0) }], &[0x11, 2, 0, 0]),
        ];
        for (runs, bytes) in cases {
            let mut out = Vec::new();
            encode_runs(runs, &mut out);
            assert_eq!(out, bytes, "{runs:?}");
        }
    }

    proptest! {
        #[test]
        fn runs_survive(list in prop::collection::vec((1u64..1 << 40, prop::option::of(0u64..1 << 40)), 0..9)) {
            let runs: Vec<Run> = list.into_iter().map(|(clusters, lcn)| Run { clusters, lcn }).collect();
            let mut out = Vec::new();
            encode_runs(&runs, &mut out);
            prop_assert_eq!(decode(&out), runs.clone());
            if let [run] = runs.as_slice() {
                prop_assert!(out.len() <= single_run_bytes(1 << 40));
                prop_assert_eq!(run.lcn.is_none(), out[0] >> 4 == 0);
            }
        }
    }
}
