//! Which ranges are here, wanted, or on their way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gravure_model::Ctl;

use super::fetch::FetchError;
use crate::Error;

/// How often a waiting reader looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(100);

/// Ranges by number, shared by one or more readers and the fetchers.
pub(super) struct Cache {
    state: Mutex<State>,
    changed: Condvar,
    count: u64,
    read_ahead: usize,
    kept: usize,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<u64, Slot>,
    queue: VecDeque<u64>,
    clock: u64,
    closed: bool,
}

enum Slot {
    Wanted,
    Ready { bytes: Arc<Vec<u8>>, used: u64 },
    Failed(FetchError),
}

/// What a fetcher is to do.
pub(super) enum Next {
    Fetch(u64),
    End,
}

impl Cache {
    pub(super) fn new(count: u64, read_ahead: usize, kept: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), count, read_ahead, kept }
    }

    /// Waits for range `index`; asks for it and for those behind it.
    pub(super) fn get(&self, index: u64, ctl: &Ctl) -> Result<Arc<Vec<u8>>, Error> {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        // An old failure is no reason not to try again.
        if matches!(state.slots.get(&index), Some(Slot::Failed(_))) {
            state.slots.remove(&index);
        }
        self.want(&mut state, index, true);
        for ahead in 1..=self.read_ahead as u64 {
            self.want(&mut state, index + ahead, false);
        }
        self.changed.notify_all();
        loop {
            match state.slots.get_mut(&index) {
                Some(Slot::Ready { bytes, used }) => {
                    *used = now;
                    return Ok(Arc::clone(bytes));
                }
                Some(Slot::Failed(error)) => return Err(error.to_error()),
                Some(Slot::Wanted) => {}
                // Another reader's ranges pushed it out.
                None => self.want(&mut state, index, true),
            }
            ctl.check()?;
            state = self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn want(&self, state: &mut State, index: u64, is_urgent: bool) {
        if index >= self.count {
            return;
        }
        match state.slots.get(&index) {
            Some(Slot::Wanted) if is_urgent => {
                // Move it to the front, unless a fetcher has it already.
                if let Some(at) = state.queue.iter().position(|queued| *queued == index) {
                    state.queue.remove(at);
                    state.queue.push_front(index);
                }
            }
            Some(_) => {}
            None => {
                state.slots.insert(index, Slot::Wanted);
                if is_urgent {
                    state.queue.push_front(index);
                } else {
                    state.queue.push_back(index);
                }
                // What was asked for ahead of a place that was left is not worth fetching any more.
                while state.queue.len() > self.read_ahead + 1 {
                    if let Some(old) = state.queue.pop_back() {
                        state.slots.remove(&old);
                    }
                }
            }
        }
    }

    /// Waits for something to fetch.
    pub(super) fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Next::End;
            }
            if let Some(index) = state.queue.pop_front() {
                return Next::Fetch(index);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a fetched range and drops those that were not used for longest.
    pub(super) fn put(&self, index: u64, result: Result<Vec<u8>, FetchError>) {
        let mut state = self.lock();
        let used = state.clock;
        let slot = match result {
            Ok(bytes) => Slot::Ready { bytes: Arc::new(bytes), used },
            Err(error) => Slot::Failed(error),
        };
        state.slots.insert(index, slot);
        loop {
            let ready = state.slots.iter().filter_map(|(index, slot)| match slot {
                Slot::Ready { used, .. } => Some((*used, *index)),
                _ => None,
            });
            let (count, oldest) = ready.fold((0, None), |(count, oldest): (usize, Option<_>), this| {
                (count + 1, Some(oldest.map_or(this, |oldest| std::cmp::min(oldest, this))))
            });
            match oldest {
                Some((_, oldest)) if count > self.kept => state.slots.remove(&oldest),
                _ => break,
            };
        }
        self.changed.notify_all();
    }

    /// Ends all fetchers.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
