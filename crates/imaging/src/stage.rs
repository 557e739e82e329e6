//! The one ordered parallel stage (DESIGN section 4): a source hands out jobs, workers do them, a sink takes the
//! results in the order in which the jobs were handed out.
//!
//! Memory is bounded by permits: each item in flight owns one, from the moment the source makes it until the sink
//! has taken it, and its buffers live in the permit. There are as many as the caller brings and no item goes without.
//! Channels have room for all permits, so workers never wait for anything but work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use gravure_model::Ctl;

use crate::{Error, ErrorKind};

/// Place of an item in the order of the stage. Whoever holds it owes the stage exactly one result.
#[derive(Debug)]
pub(crate) struct Ticket(u64);

/// A job with the permit it runs under.
#[derive(Debug)]
pub(crate) struct Item<J, P> {
    pub(crate) ticket: Ticket,
    pub(crate) job: J,
    pub(crate) permit: P,
}

/// Where workers put results. A worker may keep an item back and hand it out later, or through another worker.
#[derive(Debug)]
pub(crate) struct Outbox<D, P> {
    results: Sender<(u64, D, P)>,
}

impl<D, P> Outbox<D, P> {
    /// Gives the result for `ticket` to the sink.
    pub(crate) fn done(&self, Ticket(number): Ticket, result: D, permit: P) {
        // Fails only when the stage has stopped, and then nobody wants the result.
        let _ = self.results.send((number, result, permit));
    }
}

/// Does the items of one thread.
pub(crate) trait Work<J, P, D>: Send {
    /// Does one item. Its result, an error included, goes to `out`.
    fn work(&mut self, item: Item<J, P>, out: &Outbox<D, P>);
}

/// Runs the stage to its end. `source` fills a permit's buffers and returns a job, or `None` at the end; it runs on a
/// thread of its own. `sink` runs on the calling thread. The first error in the order of the items wins, so that
/// a run with many threads fails as one with a single thread does.
pub(crate) fn run<J, P, D, W>(
    ctl: &Ctl,
    permits: Vec<P>,
    workers: Vec<W>,
    mut source: impl FnMut(&mut P) -> Result<Option<J>, Error> + Send,
    mut sink: impl FnMut(D, &mut P) -> Result<(), Error>,
) -> Result<(), Error>
where
    J: Send,
    P: Send,
    D: Send,
    W: Work<J, P, D>,
{
    let (permit_in, permit_out) = bounded(permits.len());
    let (job_in, job_out) = bounded::<Item<J, P>>(permits.len());
    let (result_in, result_out) = bounded(permits.len());
    for permit in permits {
        // The channel was made with room for all of them.
        let _ = permit_in.send(permit);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let hand_out = scope.spawn(|| hand_out(ctl, &mut source, permit_out, job_in));
        for mut worker in workers {
            let (jobs, outbox) = (job_out.clone(), Outbox { results: result_in.clone() });
            let stop = &stop;
            scope.spawn(move || {
                for item in jobs {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    worker.work(item, &outbox);
                }
            });
        }
        drop((job_out, result_in));
        let taken = take_in_order(ctl, result_out, &permit_in, &mut sink);
        // From here on the source gets no permit and ends, and workers drop what they find.
        stop.store(true, Ordering::Relaxed);
        drop(permit_in);
        let issued = hand_out.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let taken = taken?;
        let issued = issued?;
        if taken == issued {
            return Ok(());
        }
        Err(Error::Other {
            what: "parallel stage".to_owned(),
            source: format!("{taken} of {issued} items came out").into(),
            kind: ErrorKind::Failed,
        })
    })
}

/// Returns how many items were handed out.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the channel must close when this returns, or workers wait forever"
)]
fn hand_out<J, P>(
    ctl: &Ctl,
    source: &mut impl FnMut(&mut P) -> Result<Option<J>, Error>,
    permits: Receiver<P>,
    jobs: Sender<Item<J, P>>,
) -> Result<u64, Error> {
    let mut count = 0;
    for mut permit in permits {
        ctl.check()?;
        let Some(job) = source(&mut permit)? else { break };
        if jobs.send(Item { ticket: Ticket(count), job, permit }).is_err() {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// Returns how many items the sink took.
fn take_in_order<D, P>(
    ctl: &Ctl,
    results: Receiver<(u64, D, P)>,
    permits: &Sender<P>,
    sink: &mut impl FnMut(D, &mut P) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (number, result, permit) in results {
        early.insert(number, (result, permit));
        while let Some((result, mut permit)) = early.remove(&next) {
            ctl.check()?;
            sink(result, &mut permit)?;
            next += 1;
            // The source may have ended and dropped its end.
            let _ = permits.send(permit);
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Takes longer for some items than for others, so that results come out of order.
    struct Uneven<'a> {
        busy: &'a AtomicUsize,
        most: &'a AtomicUsize,
    }

    impl Work<u64, usize, Result<u64, Error>> for Uneven<'_> {
        fn work(&mut self, item: Item<u64, usize>, out: &Outbox<Result<u64, Error>, usize>) {
            let now = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let mut sum = item.job;
            for n in 0..(item.job * 7919 % 2000) {
                sum = std::hint::black_box(sum ^ n ^ n);
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
            let result = if item.job == 700 || item.job == 650 {
                Err(Error::NotFound { what: "item", which: item.job.to_string() })
            } else {
                Ok(sum)
            };
            out.done(item.ticket, result, item.permit);
        }
    }

    fn run_to(limit: u64, threads: usize, permits: usize, ctl: &Ctl) -> (Vec<u64>, Result<(), Error>) {
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut given = 0;
        let mut seen = Vec::new();
        let workers = (0..threads).map(|_| Uneven { busy: &busy, most: &most }).collect();
        let result = run(
            ctl,
            (0..permits).collect(),
            workers,
            |_| {
                given += 1;
                Ok((given <= limit).then_some(given - 1))
            },
            |result, _| {
                seen.push(result?);
                if seen.len() == 600 && limit == 10_000 {
                    ctl.cancel();
                }
                Ok(())
            },
        );
        assert!(most.load(Ordering::SeqCst) <= threads);
        (seen, result)
    }

    #[test]
    fn results_arrive_in_order_whatever_the_threads() {
        for (threads, permits) in [(1, 1), (1, 4), (2, 3), (8, 5), (8, 32)] {
            let (seen, result) = run_to(600, threads, permits, &Ctl::default());
            result.unwrap();
            assert_eq!(seen, (0..600).collect::<Vec<_>>(), "{threads} threads, {permits} permits");
        }
    }

    #[test]
    fn the_first_error_in_order_wins() {
        for threads in [1, 2, 8] {
            let (seen, result) = run_to(1000, threads, 16, &Ctl::default());
            assert_eq!(result.unwrap_err().to_string(), "item 650 not found");
            assert_eq!(seen.len(), 650);
        }
    }

    #[test]
    fn a_request_to_stop_ends_the_stage() {
        // Item 650 fails, so the stop at 600 has to take effect before it.
        let (seen, result) = run_to(10_000, 4, 8, &Ctl::default());
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(seen.len(), 600);
    }

    #[test]
    fn a_failing_source_is_reported_after_what_it_had_given() {
        struct Echo;
        impl Work<u32, u8, u32> for Echo {
            fn work(&mut self, item: Item<u32, u8>, out: &Outbox<u32, u8>) {
                out.done(item.ticket, item.job, item.permit);
            }
        }
        let mut given = 0;
        let mut seen = Vec::new();
        let result = run(
            &Ctl::default(),
            vec![0; 3],
            vec![Echo, Echo],
            |_| {
                given += 1;
                if given > 10 {
                    return Err(Error::NotFound { what: "file", which: "x".into() });
                }
                Ok(Some(given))
            },
            |n, _| {
                seen.push(n);
                Ok(())
            },
        );
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    }
}
