//! FAT's date and time: local time without a zone, two-second steps, 1980 to 2107. We write UTC, as firmware does.

/// A moment as FAT stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FatTime {
    /// Year since 1980 (bits 9..16), month 1..=12 (5..9), day 1..=31 (0..5).
    pub date: u16,
    /// Hour (bits 11..16), minute (5..11), second / 2 (0..5).
    pub time: u16,
}

const SECONDS_PER_DAY: i64 = 86400;
/// 1980-01-01, days since 1970-01-01.
const FIRST_DAY: i64 = 3652;
/// 2107-12-31.
const LAST_DAY: i64 = 50403;

impl FatTime {
    /// From seconds since 1970-01-01 UTC. Times outside of FAT's range become its first or last moment.
    pub fn from_unix(seconds: i64) -> Self {
        let day = seconds.div_euclid(SECONDS_PER_DAY);
        if day < FIRST_DAY {
            return Self::pack(1980, 1, 1, 0);
        }
        if day > LAST_DAY {
            return Self::pack(2107, 12, 31, SECONDS_PER_DAY.saturating_sub(1));
        }
        let (year, month, day) = civil(day);
        Self::pack(year, month, day, seconds.rem_euclid(SECONDS_PER_DAY))
    }

    fn pack(year: i64, month: i64, day: i64, second_of_day: i64) -> Self {
        let field =
            |value: i64, shift: u32| u16::try_from(value).unwrap_or(0).checked_shl(shift).unwrap_or(0);
        let part = |unit: i64, modulus: i64| {
            second_of_day.checked_div(unit).and_then(|value| value.checked_rem(modulus)).unwrap_or(0)
        };
        Self {
            date: field(year.saturating_sub(1980), 9) | field(month, 5) | field(day, 0),
            time: field(part(3600, 24), 11) | field(part(60, 60), 5) | field(part(2, 30), 0),
        }
    }
}

/// Year, month and day of a day since 1970-01-01 within FAT's range, where every fourth year is a leap year but 2100.
fn civil(day: i64) -> (i64, i64, i64) {
    let mut left = day.saturating_sub(FIRST_DAY);
    let mut year = 1980;
    loop {
        let leap = year % 4 == 0 && year != 2100;
        let months = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (length, month) in months.into_iter().zip(1..) {
            if left < length {
                return (year, month, left.saturating_add(1));
            }
            left = left.saturating_sub(length);
        }
        year = i64::saturating_add(year, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let unpack = |t: FatTime| {
            let date = (1980 + (t.date >> 9), t.date >> 5 & 15, t.date & 31);
            (date, (t.time >> 11, t.time >> 5 & 63, (t.time & 31) * 2))
        };
        for (seconds, expected) in [
            (0, ((1980, 1, 1), (0, 0, 0))),
            (315_532_800, ((1980, 1, 1), (0, 0, 0))),
            (951_782_399, ((2000, 2, 28), (23, 59, 58))),
            (951_868_799, ((2000, 2, 29), (23, 59, 58))),
            (1_700_000_000, ((2023, 11, 14), (22, 13, 20))),
            (4_107_542_400, ((2100, 3, 1), (0, 0, 0))),
            (4_354_819_199, ((2107, 12, 31), (23, 59, 58))),
            (i64::MAX, ((2107, 12, 31), (23, 59, 58))),
            (i64::MIN, ((1980, 1, 1), (0, 0, 0))),
        ] {
            assert_eq!(unpack(FatTime::from_unix(seconds)), expected, "{seconds}");
        }
    }
}
