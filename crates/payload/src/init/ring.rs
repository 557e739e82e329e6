//! The last lines of everything init and agent said, for whoever looks at a machine that failed.

use std::collections::VecDeque;
use std::time::Duration;

/// Lines kept.
const MAX_LINES: usize = 2000;
/// Longest line kept, bytes; a longer one is cut.
pub(super) const MAX_LINE_BYTES: usize = 2000;

/// A bounded log in memory: at most 4 MB.
#[derive(Debug, Default)]
pub(super) struct Ring {
    lines: VecDeque<String>,
    dropped: u64,
}

impl Ring {
    /// Keeps `line`, said `at` after the start.
    pub(super) fn push(&mut self, at: Duration, line: &str) {
        if self.lines.len() >= MAX_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(format!("[{:5}.{:03}] {}", at.as_secs(), at.subsec_millis(), cut(line)));
    }

    /// The last `count` lines, oldest first, and how many before them are gone for good.
    pub(super) fn tail(&self, count: usize) -> (u64, Vec<String>) {
        let skip = self.lines.len().saturating_sub(count);
        (self.dropped, self.lines.iter().skip(skip).cloned().collect())
    }
}

/// `line` without control characters, at most [`MAX_LINE_BYTES`] long.
pub(super) fn cut(line: &str) -> String {
    let mut out = String::new();
    for c in line.trim_end().chars() {
        if out.len() + c.len_utf8() > MAX_LINE_BYTES {
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_lines_and_counts_the_others() {
        let mut ring = Ring::default();
        for n in 0..MAX_LINES + 5 {
            ring.push(Duration::from_millis(1500), &format!("line {n}\x1b[2J\n"));
        }
        let (dropped, tail) = ring.tail(2);
        assert_eq!(dropped, 5);
        assert_eq!(tail, ["[    1.500] line 2003 [2J", "[    1.500] line 2004 [2J"]);
        assert_eq!(ring.tail(9999).1.len(), MAX_LINES);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let line = "é".repeat(MAX_LINE_BYTES);
        assert_eq!(cut(&line).len(), MAX_LINE_BYTES);
    }
}
