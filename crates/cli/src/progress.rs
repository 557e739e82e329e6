//! Progress on standard error: bars on a terminal, JSON lines for programs, nothing when it would only be noise.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use gravure_model::event::{EventKind, Known, Observer};
use indicatif::{ProgressBar, ProgressStyle};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    /// Bars on a terminal, warnings only otherwise
    Auto,
    /// One JSON document a line on standard error
    Jsonl,
    /// Warnings only
    None,
}

/// Reads the stream of events.
#[derive(Debug)]
pub(crate) struct Reporter {
    show: Show,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Reporter {
    pub(crate) fn new(show: Show) -> Self {
        let show = match show {
            Show::Auto if !std::io::stderr().is_terminal() => Show::None,
            other => other,
        };
        Self { show, bars: Mutex::default() }
    }

    /// Tells a step of a command that reports no events.
    pub(crate) fn say(&self, line: &str) {
        match self.show {
            Show::Jsonl => print_json(&serde_json::json!({ "event": "note", "message": line })),
            Show::Auto | Show::None => eprintln!("{line}"),
        }
    }

    fn bar(&self, known: &Known) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Known::StageStarted { stage, total_bytes } => {
                bars.insert(stage.clone(), new_bar(stage, *total_bytes));
            }
            Known::Progress { stage, done_bytes, total_bytes } => {
                let bar = bars.entry(stage.clone()).or_insert_with(|| new_bar(stage, *total_bytes));
                if let Some(total) = total_bytes {
                    bar.set_length(*total);
                }
                bar.set_position(*done_bytes);
            }
            Known::StageFinished { stage, .. } => {
                if let Some(bar) = bars.remove(stage) {
                    bar.finish_and_clear();
                }
            }
            Known::Warning { message, .. } => {
                let line = format!("warning: {message}");
                match bars.values().next() {
                    Some(bar) => bar.println(line),
                    None => eprintln!("{line}"),
                }
            }
            Known::Note { .. }
            | Known::Failed { .. }
            | Known::Verified { .. }
            | Known::Windows { .. }
            | Known::Transferred { .. }
            | Known::Captured { .. }
            | Known::Leaving { .. } => {}
        }
    }
}

impl Observer for Reporter {
    fn event(&self, event: EventKind) {
        match (self.show, &event) {
            (Show::Jsonl, event) => {
                if let Ok(value) = serde_json::to_value(event) {
                    print_json(&value);
                }
            }
            (Show::Auto, EventKind::Known(known)) => self.bar(known),
            (Show::None, EventKind::Known(Known::Warning { message, .. })) => eprintln!("warning: {message}"),
            (Show::None | Show::Auto, _) => {}
        }
    }
}

fn print_json(value: &serde_json::Value) {
    // Nobody reading is no reason to stop the work.
    let _ = writeln!(std::io::stderr().lock(), "{value}");
}

fn new_bar(stage: &str, total_bytes: Option<u64>) -> ProgressBar {
    let bar = match total_bytes {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    let template = "{prefix:10} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes} {decimal_bytes_per_sec:>11} {eta:>4}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(stage.to_owned());
    bar
}
