//! Runs of bytes, collected in bounded memory. File systems say what is *free*; everything else is used, so whatever is
//! overlooked, unsorted or said twice errs on the safe side.

use std::ops::Range;

/// Why used bytes need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Excluded {
    /// Memory paged out by Windows: any content will do.
    PageFile,
    /// A woken Windows: must read as zeros afterwards, or the loader might wake what it finds.
    Hibernation,
    /// Swap space behind its header: any content will do.
    Swap,
}

impl Excluded {
    /// Stable word for programs.
    pub fn id(self) -> &'static str {
        match self {
            Self::PageFile => "page-file",
            Self::Hibernation => "hibernation",
            Self::Swap => "swap",
        }
    }
}

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Must be kept.
    Used,
    /// Used, but made anew by the system that owns it. Best restored as zeros.
    Excluded(Excluded),
}

/// Bytes side by side of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Absolute byte.
    pub offset: u64,
    /// Bytes, never 0.
    pub len: u64,
    /// What they are.
    pub class: Class,
}

impl Run {
    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Makes runs out of what is said to be free.
#[derive(Debug)]
pub(crate) struct Runs {
    size: u64,
    max: usize,
    runs: Vec<Run>,
    /// Gaps, and excluded runs, shorter than this count as used.
    min_gap: u64,
    /// All before it is decided.
    next: u64,
    allocated: u64,
    /// Ascending, not overlapping.
    excluded: Vec<(Range<u64>, Excluded)>,
    /// Index of the first of `excluded` that does not end before `next`.
    pending: usize,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) runs: Vec<Run>,
    pub(crate) allocated: u64,
    /// Free bytes that count as used, because more runs would have been needed.
    pub(crate) filled: u64,
}

impl Runs {
    /// For a device of `size` bytes; at most `max` runs.
    pub(crate) fn new(size: u64, max: usize) -> Self {
        Self {
            size,
            max: max.max(16),
            runs: Vec::new(),
            min_gap: 0,
            next: 0,
            allocated: 0,
            excluded: Vec::new(),
            pending: 0,
        }
    }

    /// Used bytes that need not be kept. To be said before anything is free.
    pub(crate) fn exclude(&mut self, mut ranges: Vec<(Range<u64>, Excluded)>) {
        ranges.retain(|(range, _)| range.start < range.end);
        ranges.sort_by_key(|(range, _)| range.start);
        // Two that overlap contradict each other: the later one is kept.
        let mut end = 0;
        ranges.retain(|(range, _)| {
            let is_apart = range.start >= end;
            end = end.max(range.end);
            is_apart
        });
        self.excluded = ranges;
    }

    /// `range` is free. Ascending; what lies before an earlier call's end is ignored.
    pub(crate) fn free(&mut self, range: Range<u64>) {
        let (start, end) = (range.start.max(self.next), range.end.min(self.size));
        if start >= end {
            return;
        }
        self.used_until(start);
        self.next = end;
    }

    /// Everything from `next` to `end` is used.
    fn used_until(&mut self, end: u64) {
        self.allocated = self.allocated.saturating_add(end.saturating_sub(self.next));
        while self.next < end {
            while self.excluded.get(self.pending).is_some_and(|(range, _)| range.end <= self.next) {
                self.pending = self.pending.saturating_add(1);
            }
            let (until, class) = match self.excluded.get(self.pending) {
                Some((range, why)) if range.start <= self.next => (range.end.min(end), Class::Excluded(*why)),
                Some((range, _)) => (range.start.min(end), Class::Used),
                None => (end, Class::Used),
            };
            self.push(Run { offset: self.next, len: until.saturating_sub(self.next), class });
            self.next = until;
        }
    }

    fn push(&mut self, run: Run) {
        if !join(&mut self.runs, run, self.min_gap) {
            return;
        }
        while self.runs.len() > self.max {
            self.min_gap = self.min_gap.saturating_mul(2).max(1024);
            let mut fewer: Vec<Run> = Vec::new();
            for run in self.runs.drain(..) {
                join(&mut fewer, run, self.min_gap);
            }
            self.runs = fewer;
        }
    }

    /// All that was not said to be free is used.
    pub(crate) fn finish(mut self) -> Collected {
        self.used_until(self.size);
        self.runs.shrink_to_fit();
        let kept = self.runs.iter().fold(0u64, |sum, run| sum.saturating_add(run.len));
        Collected { filled: kept.saturating_sub(self.allocated), allocated: self.allocated, runs: self.runs }
    }
}

/// Adds a run behind the others; true when there is one more then. Gaps below `min_gap` between used runs are filled, excluded
/// runs below it are used.
fn join(runs: &mut Vec<Run>, mut run: Run, min_gap: u64) -> bool {
    if run.len < min_gap {
        run.class = Class::Used;
    }
    if let Some(last) = runs.last_mut().filter(|last| last.class == run.class) {
        let gap = run.offset.saturating_sub(last.end());
        if gap == 0 || (run.class == Class::Used && gap < min_gap) {
            last.len = run.end().saturating_sub(last.offset);
            return false;
        }
    }
    runs.push(run);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The class of each byte; `None` where free.
    fn classes(runs: &[Run], size: usize) -> Vec<Option<Class>> {
        let mut out = vec![None; size];
        for run in runs {
            out[run.offset as usize..run.end() as usize].fill(Some(run.class));
        }
        out
    }

    #[test]
    fn what_is_not_free_is_used_and_files_that_need_not_be_kept_are_told_apart() {
        let mut runs = Runs::new(100, 16);
        runs.exclude(vec![
            (70..200, Excluded::Hibernation),
            (20..40, Excluded::PageFile),
            (30..35, Excluded::Hibernation),
        ]);
        runs.free(10..15);
        runs.free(12..18);
        runs.free(30..32);
        runs.free(5..31);
        runs.free(80..80);
        let used = |offset, len| Run { offset, len, class: Class::Used };
        let excluded = |offset, len, why| Run { offset, len, class: Class::Excluded(why) };
        let got = runs.finish();
        assert_eq!(
            got.runs,
            [
                used(0, 10),
                used(18, 2),
                excluded(20, 10, Excluded::PageFile),
                excluded(32, 8, Excluded::PageFile),
                used(40, 30),
                excluded(70, 30, Excluded::Hibernation),
            ]
        );
        assert_eq!((got.allocated, got.filled), (90, 0));
    }

    proptest! {
        #[test]
        fn few_runs_cover_at_least_what_many_do(
            free in prop::collection::vec((0u64..60_000, 0u64..2000), 0..200),
            excluded in prop::collection::vec((0u64..60_000, 1u64..3000), 0..20),
        ) {
            let collect = |max| {
                let mut runs = Runs::new(60_000, max);
                let excluded = excluded.iter().map(|(start, len)| (*start..start + len, Excluded::Swap));
                runs.exclude(excluded.collect());
                let mut free = free.clone();
                free.sort_unstable();
                free.iter().for_each(|(start, len)| runs.free(*start..start + len));
                runs.finish()
            };
            let (all, few) = (collect(usize::MAX), collect(16));
            prop_assert!(few.runs.len() <= 16);
            prop_assert_eq!(all.filled, 0);
            prop_assert_eq!(all.allocated, few.allocated);
            prop_assert!(few.runs.is_sorted_by(|a, b| a.end() <= b.offset));
            let mut expected: Vec<Option<Class>> = vec![Some(Class::Used); 60_000];
            for (start, len) in &free {
                let end = (start + len).min(60_000) as usize;
                expected[*start as usize..end].fill(None);
            }
            for (exact, (all, few)) in
                expected.iter().zip(classes(&all.runs, 60_000).iter().zip(&classes(&few.runs, 60_000)))
            {
                prop_assert_eq!(exact.is_some(), all.is_some());
                // What must be kept is kept; what may be dropped may be kept.
                prop_assert!(*all != Some(Class::Used) || *few == Some(Class::Used));
                prop_assert!(all.is_none() || few.is_some());
            }
        }
    }
}
