//! Which blocks are here, wanted, or on their way.
//!
//! What is fetched ahead is what the reader said it would read; when it said nothing, or reads elsewhere, the blocks behind
//! the last one, twice as many each time as long as it reads on without a gap. Blocks that stand side by side are
//! fetched with one request.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gravure_model::Ctl;

use super::fetch::FetchError;
use crate::Error;

/// How often a waiting reader looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(100);

/// Blocks by number, shared by one or more readers and the fetchers.
pub(super) struct Cache {
    state: Mutex<State>,
    changed: Condvar,
    count: u64,
    read_ahead: usize,
    kept: usize,
    /// Most blocks of one request.
    per_request: u64,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<u64, Slot>,
    queue: VecDeque<u64>,
    clock: u64,
    closed: bool,
    /// Blocks that readers wait for, once for each of them: these are not dropped.
    awaited: Vec<u64>,
    /// What will be read, ascending and without overlap.
    plan: Vec<Range<u64>>,
    /// The block that was read last, and how many to fetch ahead while reading goes on behind it.
    last: Option<u64>,
    streak: usize,
}

enum Slot {
    Wanted,
    Ready { bytes: Arc<Vec<u8>>, used: u64 },
    Failed(FetchError),
}

/// What a fetcher is to do.
pub(super) enum Next {
    Fetch(Range<u64>),
    End,
}

impl Cache {
    pub(super) fn new(count: u64, read_ahead: usize, kept: usize, per_request: u64) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { state, changed, count, read_ahead, kept, per_request }
    }

    /// Takes note of what will be read, by block.
    pub(super) fn expect(&self, ranges: impl Iterator<Item = Range<u64>>) {
        let mut plan: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match plan.last_mut() {
                Some(last) if range.start <= last.end && range.start >= last.start => {
                    last.end = last.end.max(range.end);
                }
                // A file whose order is not that of its offsets; it is read without looking ahead.
                Some(last) if range.start < last.start => {}
                _ => plan.push(range),
            }
        }
        self.lock().plan = plan;
    }

    /// Waits for block `index`; asks for it, for the rest of what is being read, up to block `end`, and for what will be
    /// read after that.
    pub(super) fn get(&self, index: u64, end: u64, ctl: &Ctl) -> Result<Arc<Vec<u8>>, Error> {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        // An old failure is no reason not to try again.
        if matches!(state.slots.get(&index), Some(Slot::Failed(_))) {
            state.slots.remove(&index);
        }
        self.want(&mut state, index, true);
        let rest = index + 1..end.min(index + 1 + self.read_ahead as u64);
        let ahead = self.ahead(&mut state, index);
        for ahead in rest.chain(ahead) {
            self.want(&mut state, ahead, false);
        }
        self.changed.notify_all();
        state.awaited.push(index);
        let found = loop {
            match state.slots.get_mut(&index) {
                Some(Slot::Ready { bytes, used }) => {
                    *used = now;
                    break Ok(Arc::clone(bytes));
                }
                Some(Slot::Failed(error)) => break Err(error.to_error()),
                Some(Slot::Wanted) => {}
                // Requests of other readers pushed it out of the queue. The fetchers may all be waiting.
                None => {
                    self.want(&mut state, index, true);
                    self.changed.notify_all();
                }
            }
            if let Err(stopped) = ctl.check() {
                break Err(stopped.into());
            }
            state = self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        };
        if let Some(at) = state.awaited.iter().position(|awaited| *awaited == index) {
            state.awaited.swap_remove(at);
        }
        found
    }

    /// The blocks that will be read after `index`.
    fn ahead(&self, state: &mut State, index: u64) -> Vec<u64> {
        state.streak = match state.last.replace(index) {
            Some(last) if last == index => state.streak,
            Some(last) if last + 1 == index => (state.streak * 2).clamp(1, self.read_ahead.max(1)),
            _ => 0,
        };
        let at = state.plan.partition_point(|range| range.end <= index);
        let rest = state.plan.get(at..).unwrap_or_default();
        if rest.first().is_some_and(|range| range.start <= index) {
            let planned = rest.iter().flat_map(|range| range.clone()).skip_while(|block| *block <= index);
            return planned.take(self.read_ahead).collect();
        }
        (index + 1..).take(state.streak.min(self.read_ahead)).collect()
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
            if let Some(first) = state.queue.pop_front() {
                let mut end = first + 1;
                while end - first < self.per_request && state.queue.front() == Some(&end) {
                    state.queue.pop_front();
                    end += 1;
                }
                return Next::Fetch(first..end);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a fetched block and drops those that were not used for longest.
    pub(super) fn put(&self, index: u64, result: Result<Vec<u8>, FetchError>) {
        let mut state = self.lock();
        let used = state.clock;
        let last = state.last.unwrap_or(0);
        let slot = match result {
            Ok(bytes) => Slot::Ready { bytes: Arc::new(bytes), used },
            Err(error) => Slot::Failed(error),
        };
        state.slots.insert(index, slot);
        loop {
            // What will be read yet goes last: tables at the end of a file often share a block with the last contents.
            let ready = state.slots.iter().filter_map(|(index, slot)| match slot {
                Slot::Ready { used, .. } => {
                    let is_awaited = state.awaited.contains(index);
                    Some((is_awaited, *index > last && is_planned(&state.plan, *index), *used, *index))
                }
                _ => None,
            });
            let (count, oldest) = ready.fold((0, None), |(count, oldest): (usize, Option<_>), this| {
                (count + 1, Some(oldest.map_or(this, |oldest| std::cmp::min(oldest, this))))
            });
            match oldest {
                // One that is awaited is dropped by nobody: its reader, once it has run, takes it.
                Some((false, _, _, oldest)) if count > self.kept => state.slots.remove(&oldest),
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

fn is_planned(plan: &[Range<u64>], index: u64) -> bool {
    let at = plan.partition_point(|range| range.end <= index);
    plan.get(at).is_some_and(|range| range.start <= index)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn is_ready(cache: &Cache, index: u64) -> bool {
        matches!(cache.lock().slots.get(&index), Some(Slot::Ready { .. }))
    }

    #[test]
    fn what_a_reader_waits_for_is_not_dropped() {
        let cache = Cache::new(20, 3, 2, 1);
        cache.lock().awaited.push(5);
        for index in [5, 8, 9, 10] {
            cache.put(index, Ok(vec![1]));
        }
        // Another reader went on behind it meanwhile.
        cache.lock().last = Some(9);
        cache.put(11, Ok(vec![1]));
        assert!(is_ready(&cache, 5) && is_ready(&cache, 11));
        cache.lock().awaited.clear();
        cache.put(12, Ok(vec![1]));
        assert!(!is_ready(&cache, 5), "nobody waits any more");
    }

    #[test]
    fn a_request_that_was_pushed_out_reaches_fetchers_that_wait() {
        let cache = Arc::new(Cache::new(20, 3, 2, 1));
        let (sender, done) = mpsc::channel();
        let reading = Arc::clone(&cache);
        std::thread::spawn(move || sender.send(reading.get(7, 8, &Ctl::default()).map(drop)));
        while !cache.lock().slots.contains_key(&7) {
            std::thread::yield_now();
        }
        {
            let mut state = cache.lock();
            state.slots.clear();
            state.queue.clear();
        }
        let fetching = Arc::clone(&cache);
        let fetcher = std::thread::spawn(move || {
            while let Next::Fetch(blocks) = fetching.next() {
                blocks.for_each(|index| fetching.put(index, Ok(vec![index as u8])));
            }
        });
        done.recv_timeout(Duration::from_secs(60)).expect("the reader hangs").unwrap();
        cache.close();
        fetcher.join().unwrap();
    }
}
