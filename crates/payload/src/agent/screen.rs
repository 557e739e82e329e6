//! What people see: lines from the catalogue, one writer, progress at a readable pace. Standard output leads to init,
//! which shows it on every console.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gravure_model::event::{EventKind, Known, Observer};
use gravure_model::messages::{Language, Message};

/// Shortest time between two lines of progress.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// Progress worth a line before [`MAX_INTERVAL`] is over, percent.
const STEP_PERCENT: u8 = 5;
/// After this long a line comes in any case, as a sign of life.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// The screen.
pub(super) struct Screen {
    pace: Mutex<Pace>,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Screen {
    /// Writes its lines to `out`.
    pub(super) fn new(out: impl Write + Send + 'static) -> Self {
        Self { pace: Mutex::default(), out: Mutex::new(Box::new(out)) }
    }

    /// Shows a message.
    pub(super) fn say(&self, message: &Message) {
        self.line(&message.text(Language::English));
    }

    /// Shows a line that is in no catalogue: texts of errors.
    pub(super) fn line(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a reader there is nobody to tell.
        let _ = writeln!(out, "{}", text.replace('\n', " "));
        let _ = out.flush();
    }
}

impl Observer for Screen {
    fn event(&self, event: EventKind) {
        let EventKind::Known(event) = event else { return };
        let now = Instant::now();
        let messages = self.pace.lock().unwrap_or_else(PoisonError::into_inner).messages(&event, now);
        for message in messages {
            self.say(&message);
        }
        match event {
            Known::Warning { message, .. } => self.line(&format!("Warning: {message}")),
            Known::Note { message, .. } => self.line(&message),
            _ => {}
        }
    }
}

/// When the last line of progress was shown.
#[derive(Debug, Default)]
struct Pace {
    stage: Option<Stage>,
}

#[derive(Debug)]
struct Stage {
    began: Instant,
    shown_at: Instant,
    shown_percent: u8,
}

impl Pace {
    fn messages(&mut self, event: &Known, now: Instant) -> Vec<Message> {
        match event {
            Known::StageStarted { stage, .. } => {
                self.stage = Some(Stage { began: now, shown_at: now, shown_percent: 0 });
                vec![Message::Stage { stage: stage.clone() }]
            }
            Known::Progress { stage, done_bytes, total_bytes: Some(total) } => {
                let Some(pace) = &mut self.stage else { return Vec::new() };
                let percent = percent(*done_bytes, *total);
                let since = now.duration_since(pace.shown_at);
                let worth =
                    percent >= pace.shown_percent.saturating_add(STEP_PERCENT) || since >= MAX_INTERVAL;
                if since < MIN_INTERVAL || !worth {
                    return Vec::new();
                }
                (pace.shown_at, pace.shown_percent) = (now, percent);
                let megabytes_per_second = rate(*done_bytes, now.duration_since(pace.began));
                vec![Message::StageProgress { stage: stage.clone(), percent, megabytes_per_second }]
            }
            Known::StageFinished { stage, milliseconds, .. } => {
                self.stage = None;
                let seconds = format!("{}.{}", milliseconds / 1000, milliseconds % 1000 / 100);
                vec![Message::StageDone { stage: stage.clone(), seconds }]
            }
            Known::Failed { stage, message, cure, .. } => {
                let failed = Message::Failed { stage: stage.clone(), message: message.clone() };
                let cure = cure.iter().map(|cure| Message::Cure { cure: cure.clone() });
                [failed].into_iter().chain(cure).collect()
            }
            Known::Verified { files, bytes, .. } => {
                vec![Message::Verified { files: *files, megabytes: bytes / 1_000_000 }]
            }
            Known::Transferred { stage, network_bytes, written_bytes, kept_bytes } => {
                vec![Message::Transferred {
                    stage: stage.clone(),
                    network_megabytes: network_bytes / 1_000_000,
                    written_megabytes: written_bytes / 1_000_000,
                    kept_megabytes: kept_bytes / 1_000_000,
                }]
            }
            Known::Captured { bytes, .. } => vec![Message::Captured { megabytes: bytes / 1_000_000 }],
            Known::Progress { total_bytes: None, .. }
            | Known::Warning { .. }
            | Known::Note { .. }
            | Known::Windows { .. }
            | Known::Leaving { .. } => Vec::new(),
        }
    }
}

fn percent(done: u64, total: u64) -> u8 {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// MB/s (10^6 bytes).
fn rate(bytes: u64, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes / milliseconds / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_at_a_readable_pace() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        pace.messages(&Known::StageStarted { stage: "apply".into(), total_bytes: Some(100_000_000) }, start);
        let mut shown = Vec::new();
        for (ms, percent) in
            [(100, 1), (500, 10), (2100, 12), (2200, 30), (4000, 31), (4500, 32), (14600, 33)]
        {
            let event = Known::Progress {
                stage: "apply".into(),
                done_bytes: percent * 1_000_000,
                total_bytes: Some(100_000_000),
            };
            let messages = pace.messages(&event, at(ms));
            shown.extend(messages.iter().map(|message| message.text(Language::English)));
        }
        assert_eq!(
            shown,
            ["Apply image: 12 % (5 MB/s)", "Apply image: 32 % (7 MB/s)", "Apply image: 33 % (2 MB/s)"]
        );
    }

    #[test]
    fn failures_come_with_their_cure() {
        let failed = Known::Failed {
            stage: "verify".into(),
            code: 5,
            message: "blob 3 differs".into(),
            cure: Some("import it again".into()),
        };
        let texts: Vec<String> = Pace::default()
            .messages(&failed, Instant::now())
            .iter()
            .map(|m| m.text(Language::English))
            .collect();
        assert_eq!(texts, ["FAILED in Verify: blob 3 differs", "What to do: import it again"]);
        assert_eq!((percent(5, 0), percent(u64::MAX, u64::MAX), rate(5, Duration::ZERO)), (100, 100, 0));
    }
}
