//! Work on one thing that several threads bring and one at a time does. Nobody waits: who finds it busy leaves what it brought
//! to whoever is at it, and goes on.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// What waits for its turn.
#[derive(Debug)]
pub(super) struct Turns<T> {
    busy: Mutex<()>,
    waiting: Mutex<VecDeque<T>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { busy: Mutex::new(()), waiting: Mutex::new(VecDeque::new()) }
    }
}

impl<T> Turns<T> {
    /// Brings `item`. `work` is called for it and for what else waits, here or on another thread, never on two at a time;
    /// `after` is called behind each, while the next may be worked on already.
    pub(super) fn bring(&self, item: T, mut work: impl FnMut(&mut T), mut after: impl FnMut(T)) {
        self.waiting().push_back(item);
        loop {
            let busy = match self.busy.try_lock() {
                Ok(busy) => busy,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever is at it looks for more once it has let go, so nothing is left behind.
                Err(TryLockError::WouldBlock) => return,
            };
            let mut next = self.waiting().pop_front();
            if let Some(item) = &mut next {
                work(item);
            }
            drop(busy);
            match next {
                Some(item) => after(item),
                // What came between the look and letting go was left to us.
                None if self.waiting().is_empty() => return,
                None => {}
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn everything_is_worked_on_once_and_by_one_thread_at_a_time() {
        let (turns, busy) = (Turns::default(), AtomicBool::new(false));
        let (sum, after) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (turns, busy, sum, after) = (&turns, &busy, &sum, &after);
                scope.spawn(move || {
                    for number in 0..5000 {
                        let work = |item: &mut usize| {
                            assert!(!busy.swap(true, Ordering::SeqCst), "two at a time");
                            sum.fetch_add(*item, Ordering::SeqCst);
                            busy.store(false, Ordering::SeqCst);
                        };
                        turns.bring(4 * number + thread, work, |_| {
                            after.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!((sum.into_inner(), after.into_inner()), ((0..20_000).sum(), 20_000));
    }
}
