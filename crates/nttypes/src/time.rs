//! FILETIME: ticks of 100 ns since 1601-01-01 00:00 UTC, unsigned (wim-container section 1).

/// Ticks between 1601 and 1970.
const UNIX_EPOCH_TICKS: i128 = 116_444_736_000_000_000;
const TICKS_PER_SECOND: i128 = 10_000_000;

/// A point in time as Windows stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileTime(pub u64);

impl FileTime {
    /// From Unix seconds and nanoseconds (0..1e9). Times before 1601 become 0, times past the range its end;
    /// what is finer than 100 ns is dropped.
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        let ticks = i128::from(seconds)
            .saturating_mul(TICKS_PER_SECOND)
            .saturating_add(i128::from(nanos).checked_div(100).unwrap_or(0))
            .saturating_add(UNIX_EPOCH_TICKS);
        Self(u64::try_from(ticks.max(0)).unwrap_or(u64::MAX))
    }

    /// Unix seconds and nanoseconds (0..1e9, a multiple of 100). Always fits.
    pub fn to_unix(self) -> (i64, u32) {
        let ticks = i128::from(self.0).saturating_sub(UNIX_EPOCH_TICKS);
        let seconds = ticks.div_euclid(TICKS_PER_SECOND);
        let nanos = ticks.rem_euclid(TICKS_PER_SECOND).saturating_mul(100);
        (i64::try_from(seconds).unwrap_or(i64::MAX), u32::try_from(nanos).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times_survive_to_100_ns() {
        for (seconds, nanos) in
            [(0, 0), (1_700_000_000, 123_456_700), (-1, 999_999_900), (-11_644_473_600, 0)]
        {
            assert_eq!(FileTime::from_unix(seconds, nanos).to_unix(), (seconds, nanos));
        }
        assert_eq!(FileTime::from_unix(0, 0), FileTime(116_444_736_000_000_000));
        assert_eq!(FileTime::from_unix(i64::MIN, 0), FileTime(0));
    }
}
