//! Events on their way to the server: numbered without gaps, spooled before they are sent, sent in the background, each
//! repeated until the server has it. Nothing is lost when the server restarts or the agent aborts.

mod spool;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gravure_model::Timestamp;
use gravure_model::api::EventBatch;
use gravure_model::event::{Event, EventKind, Known, Observer};

use super::api::Failure;
use spool::{Spool, Spooled};

/// Most events in one request.
const MAX_BATCH: usize = 200;
/// Shortest time between two events of progress of a stage; more would tell nothing new.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Waits between tries while the server is silent.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The outbox.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    spool: Spool,
    pending: VecDeque<Spooled>,
    next_sequence: u64,
    plan: Option<String>,
    stage: Option<String>,
    last_progress: Option<Instant>,
}

impl Outbox {
    /// Opens the spool below `dir`; what an earlier agent had not got through is pending again.
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let (spool, kept) = Spool::open(dir).map_err(|error| format!("event spool: {error}"))?;
        let last = kept.last();
        let state = State {
            next_sequence: last.map_or(1, |last| last.event.sequence.saturating_add(1)),
            plan: kept.iter().rev().find_map(|event| event.plan.clone()).filter(|_| is_running(&kept)),
            stage: kept.iter().rev().find_map(|spooled| stage(&spooled.event.kind)),
            pending: kept.into_iter().filter(|event| event.event.sequence > spool.acknowledged()).collect(),
            spool,
            last_progress: None,
        };
        Ok(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events from now on belong to `plan`.
    pub(super) fn begin_plan(&self, plan: &str) {
        let mut state = self.state();
        state.plan = Some(plan.to_owned());
        state.stage = None;
    }

    /// The plan an earlier agent was working on when it aborted, and the stage it was in.
    pub(super) fn running_plan(&self) -> Option<(String, String)> {
        let state = self.state();
        Some((state.plan.clone()?, state.stage.clone().unwrap_or_else(|| "check_plan".to_owned())))
    }

    /// Number of events the server does not have yet.
    pub(super) fn pending(&self) -> usize {
        self.state().pending.len()
    }

    /// Waits until the server has everything; whether it has.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        while !state.pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Sends for ever. `send` is one request; `told` hears about silence once, and again when it is over.
    pub(super) fn run(
        &self,
        send: impl Fn(&EventBatch) -> Result<(), Failure>,
        told: impl Fn(Result<(), &Failure>),
    ) -> ! {
        let (mut wait, mut silent) = (FIRST_WAIT, false);
        loop {
            let batch = self.next_batch();
            match send(&batch) {
                Ok(()) => {
                    self.acknowledge(&batch);
                    wait = FIRST_WAIT;
                    if std::mem::take(&mut silent) {
                        told(Ok(()));
                    }
                }
                // The server will never take these: keeping them would hold up all that follow.
                Err(failure) if failure.never_takes_events() => {
                    told(Err(&failure));
                    self.acknowledge(&batch);
                }
                Err(failure) => {
                    if !std::mem::replace(&mut silent, true) {
                        told(Err(&failure));
                    }
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// The oldest events of one plan, in order; waits until there are some.
    fn next_batch(&self) -> EventBatch {
        let mut state = self.state();
        while state.pending.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let plan = state.pending.front().and_then(|first| first.plan.clone());
        let same = state.pending.iter().take_while(|event| event.plan == plan).take(MAX_BATCH);
        let events = same.map(|spooled| spooled.event.clone()).collect();
        EventBatch { plan, events }
    }

    fn acknowledge(&self, batch: &EventBatch) {
        let Some(last) = batch.events.last().map(|event| event.sequence) else { return };
        let mut state = self.state();
        state.pending.retain(|event| event.event.sequence > last);
        // A lost mark costs a repetition, which the server drops.
        let _ = state.spool.acknowledge(last);
        self.changed.notify_all();
    }
}

impl Observer for Outbox {
    fn event(&self, kind: EventKind) {
        let mut state = self.state();
        if let EventKind::Known(Known::Progress { .. }) = &kind {
            let now = Instant::now();
            if state.last_progress.is_some_and(|last| now.duration_since(last) < PROGRESS_INTERVAL) {
                return;
            }
            state.last_progress = Some(now);
        }
        state.stage = stage(&kind).or(state.stage.take());
        let event = Event { sequence: state.next_sequence, at: Timestamp::now(), kind };
        state.next_sequence = state.next_sequence.saturating_add(1);
        let spooled = Spooled { plan: state.plan.clone(), event };
        // A full /run must not stop a deployment; the event is still sent from memory.
        let _ = state.spool.append(&spooled);
        state.pending.push_back(spooled);
        self.changed.notify_all();
    }
}

fn stage(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::Known(Known::StageStarted { stage, .. }) => Some(stage.clone()),
        _ => None,
    }
}

/// Whether the last plan in the spool has not come to its end.
fn is_running(kept: &[Spooled]) -> bool {
    let Some(plan) = kept.iter().rev().find_map(|event| event.plan.as_ref()) else { return false };
    !kept.iter().filter(|event| event.plan.as_ref() == Some(plan)).any(|event| {
        matches!(
            &event.event.kind,
            EventKind::Known(Known::Failed { .. } | Known::Verified { .. } | Known::Captured { .. })
        )
    })
}

#[cfg(test)]
mod tests;
