//! Progress and warnings of one operation on their way to the observer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gravure_model::Ctl;
use gravure_model::event::{Known, Observer};

/// Time between two progress events: fast enough for a bar, slow enough for a log and for the network.
const INTERVAL: Duration = Duration::from_millis(200);
/// Warnings passed on one by one; a hostile image could cause millions. The rest is counted.
const MAX_WARNINGS_SHOWN: usize = 1000;
/// No total was stated.
const UNKNOWN: u64 = u64::MAX;

/// What every operation of this crate is given first.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Stops the work when asked to.
    pub ctl: &'a Ctl,
    /// Receives progress and warnings.
    pub observer: &'a dyn Observer,
    /// Threads that decode, compress and hash; see [`default_threads`].
    pub threads: usize,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// One thread for each processor this process may use.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// As many of `threads` threads as memory has room for when each takes `bytes`; at least one. Results never depend on how
/// many there are.
pub(crate) fn affordable_threads(threads: usize, bytes: u64) -> usize {
    match available_memory() {
        // A quarter is left to the page cache and to everybody else.
        Some(available) => {
            let room = usize::try_from(available / 4 * 3 / bytes.max(1)).unwrap_or(usize::MAX);
            threads.min(room).max(1)
        }
        None => threads.max(1),
    }
}

/// Bytes of memory that are to be had without anything being put aside, where the kernel says so.
pub(crate) fn available_memory() -> Option<u64> {
    std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text))
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Counts one operation's bytes and warnings. The start and end of a stage are told by whoever runs the operation: a
/// stage of a deployment is more than one call of this crate.
pub(crate) struct Meter<'a> {
    observer: &'a dyn Observer,
    stage: &'a str,
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    skipped: AtomicU64,
    started: Instant,
    last_event: Mutex<Instant>,
    messages: Mutex<Messages>,
}

#[derive(Debug, Default)]
struct Messages {
    shown: Vec<String>,
    more: u64,
}

/// What an operation counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Plain bytes processed.
    pub bytes: u64,
    /// What was odd, in the order met; the observer was told of each when it was met. At most 1000 and one line that
    /// counts the rest.
    pub warnings: Vec<String>,
    /// How many of them were things asked for and not done; with any, the operation counts as partial (exit code 10).
    pub skipped: u64,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

impl<'a> Meter<'a> {
    /// Starts counting for `stage`.
    pub(crate) fn start(context: &Context<'a>, stage: &'a str) -> Self {
        let now = Instant::now();
        Self {
            observer: context.observer,
            stage,
            total_bytes: AtomicU64::new(UNKNOWN),
            done_bytes: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            started: now,
            last_event: Mutex::new(now),
            messages: Mutex::default(),
        }
    }

    /// States how many bytes there will be, and tells the observer.
    pub(crate) fn expect(&self, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.tell_progress(self.done_bytes.load(Ordering::Relaxed));
    }

    /// As [`Meter::expect`], in addition to what was expected before.
    pub(crate) fn expect_more(&self, bytes: u64) {
        let known = self.total_bytes.load(Ordering::Relaxed);
        self.expect(if known == UNKNOWN { bytes } else { known.saturating_add(bytes) });
    }

    /// Counts `bytes`, and tells about it when it is time.
    pub(crate) fn add(&self, bytes: u64) {
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever finds the lock taken leaves the telling to the other thread.
        let Ok(mut last) = self.last_event.try_lock() else { return };
        if last.elapsed() < INTERVAL {
            return;
        }
        *last = Instant::now();
        drop(last);
        self.tell_progress(done_bytes);
    }

    fn tell_progress(&self, done_bytes: u64) {
        let total = self.total_bytes.load(Ordering::Relaxed);
        let total_bytes = (total != UNKNOWN).then_some(total);
        self.observer.event(Known::Progress { stage: self.stage.to_owned(), done_bytes, total_bytes }.into());
    }

    /// Something odd that does no harm.
    pub(crate) fn warn(&self, message: impl FnOnce() -> String) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.shown.len() >= MAX_WARNINGS_SHOWN {
            messages.more += 1;
            return;
        }
        let message = message();
        messages.shown.push(message.clone());
        drop(messages);
        self.tell_warning(message);
    }

    /// Something that was asked for and is not done.
    pub(crate) fn skip(&self, message: impl FnOnce() -> String) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.warn(message);
    }

    fn tell_warning(&self, message: String) {
        self.observer.event(Known::Warning { stage: Some(self.stage.to_owned()), message }.into());
    }

    /// Tells the last progress and returns what was counted.
    pub(crate) fn finish(self) -> Totals {
        let bytes = self.done_bytes.load(Ordering::Relaxed);
        self.tell_progress(bytes);
        let mut messages = std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner));
        if messages.more > 0 {
            let message = format!("{} further warnings", messages.more);
            self.tell_warning(message.clone());
            messages.shown.push(message);
        }
        Totals {
            bytes,
            warnings: messages.shown,
            skipped: self.skipped.into_inner(),
            milliseconds: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use gravure_model::event::EventKind;

    use super::*;

    #[test]
    fn threads_fit_into_memory() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:      1024 kB\nBuffers: 1 kB\n";
        assert_eq!(available_bytes(text), Some(1 << 20));
        assert_eq!(available_bytes("MemTotal: 1 kB"), None);
        assert_eq!((affordable_threads(3, 1), affordable_threads(3, u64::MAX)), (3, 1));
    }

    #[derive(Default)]
    struct Recorder(Mutex<Vec<EventKind>>);

    impl Observer for Recorder {
        fn event(&self, event: EventKind) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn counts_all_warnings_and_shows_the_first() {
        let (ctl, recorder) = (Ctl::default(), Recorder::default());
        let context = Context { ctl: &ctl, observer: &recorder, threads: 1 };
        let meter = Meter::start(&context, "apply");
        meter.expect(10);
        for n in 0..1500 {
            meter.skip(|| format!("file {n}"));
        }
        meter.warn(|| "odd".to_owned());
        meter.add(7);
        let totals = meter.finish();
        assert_eq!((totals.bytes, totals.skipped, totals.warnings.len()), (7, 1500, 1001));
        let events = recorder.0.into_inner().unwrap();
        let warning =
            |message: &str| Known::Warning { stage: Some("apply".into()), message: message.into() }.into();
        let progress =
            |done_bytes| Known::Progress { stage: "apply".into(), done_bytes, total_bytes: Some(10) }.into();
        assert_eq!(events.first(), Some(&progress(0)));
        assert_eq!(events.get(1), Some(&warning("file 0")));
        assert_eq!(events.get(1000), Some(&warning("file 999")));
        assert_eq!(events.get(1001), Some(&progress(7)));
        assert_eq!(events.get(1002), Some(&warning("501 further warnings")));
        assert_eq!(events.len(), 1003);
    }
}
