//! Numbering, batches, spool, and a server that comes and goes.

use std::sync::Arc;
use std::sync::mpsc;

use super::*;

fn warning(text: &str) -> EventKind {
    Known::Warning { stage: None, message: text.into() }.into()
}

fn started(stage: &str) -> EventKind {
    Known::StageStarted { stage: stage.into(), total_bytes: None }.into()
}

fn sequences(batch: &EventBatch) -> Vec<u64> {
    batch.events.iter().map(|event| event.sequence).collect()
}

#[test]
fn events_are_numbered_without_gaps_and_batched_by_plan() {
    let temp = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(temp.path()).unwrap();
    outbox.event(warning("a"));
    outbox.begin_plan("p1");
    outbox.event(started("apply"));
    outbox.event(warning("b"));
    outbox.begin_plan("p2");
    outbox.event(warning("c"));
    let mut seen = Vec::new();
    while outbox.pending() > 0 {
        let batch = outbox.next_batch();
        seen.push((batch.plan.clone(), sequences(&batch)));
        outbox.acknowledge(&batch);
    }
    assert_eq!(seen, [(None, vec![1]), (Some("p1".into()), vec![2, 3]), (Some("p2".into()), vec![4])]);
}

#[test]
fn progress_is_thinned_before_it_is_numbered() {
    let temp = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(temp.path()).unwrap();
    for done_bytes in 0..1000 {
        outbox.event(Known::Progress { stage: "apply".into(), done_bytes, total_bytes: None }.into());
    }
    outbox.event(warning("end"));
    let batch = outbox.next_batch();
    assert!(batch.events.len() <= 3, "{}", batch.events.len());
    assert_eq!(sequences(&batch), (1..=u64::try_from(batch.events.len()).unwrap()).collect::<Vec<_>>());
}

/// A server that fails twice in each of the ways a restart looks like: no answer before, no answer after it took the
/// events.
#[test]
fn nothing_is_lost_or_doubled_while_the_server_restarts() {
    let temp = tempfile::tempdir().unwrap();
    let outbox = Arc::new(Outbox::open(temp.path()).unwrap());
    for n in 0..10 {
        outbox.event(warning(&n.to_string()));
    }
    let (taken, seen) = mpsc::channel();
    let tries = Mutex::new(0);
    let sender = Arc::clone(&outbox);
    std::thread::spawn(move || {
        sender.run(
            move |batch| {
                let mut tries = tries.lock().unwrap();
                *tries += 1;
                if *tries != 1 {
                    taken.send(sequences(batch)).unwrap();
                }
                if *tries <= 2 { Err(Failure::Silent("gone".into())) } else { Ok(()) }
            },
            |_| {},
        );
    });
    let first = seen.recv().unwrap();
    let again = seen.recv().unwrap();
    assert_eq!(
        (first, again),
        ((1..=10).collect(), (1..=10).collect()),
        "the same numbers, so the server can tell"
    );
    assert!(outbox.flush(Duration::from_secs(20)));
    outbox.event(warning("later"));
    assert!(outbox.flush(Duration::from_secs(20)));
    assert_eq!(seen.recv().unwrap(), [11]);
}

#[test]
fn a_second_agent_goes_on_where_the_first_aborted() {
    let temp = tempfile::tempdir().unwrap();
    let first = Outbox::open(temp.path()).unwrap();
    first.event(warning("before"));
    first.begin_plan("p1");
    first.event(started("apply"));
    let batch = first.next_batch();
    first.acknowledge(&batch);
    drop(first);
    // The abort cut the last line.
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).open(temp.path().join("events.jsonl")).unwrap();
    file.write_all(b"{\"plan\":\"p1\",\"event\":{\"sequ").unwrap();

    let second = Outbox::open(temp.path()).unwrap();
    assert_eq!(second.running_plan(), Some(("p1".into(), "apply".into())));
    second.event(Known::Failed { stage: "apply".into(), code: 1, message: "m".into(), cure: None }.into());
    let batch = second.next_batch();
    assert_eq!((batch.plan.as_deref(), sequences(&batch)), (Some("p1"), vec![2, 3]));
    drop(second);
    assert_eq!(Outbox::open(temp.path()).unwrap().running_plan(), None, "it has failed");
}

#[test]
fn what_the_server_will_never_take_does_not_hold_up_the_rest() {
    let temp = tempfile::tempdir().unwrap();
    let outbox = Arc::new(Outbox::open(temp.path()).unwrap());
    outbox.begin_plan("old");
    outbox.event(warning("a"));
    outbox.begin_plan("new");
    outbox.event(warning("b"));
    let (taken, seen) = mpsc::channel();
    let sender = Arc::clone(&outbox);
    std::thread::spawn(move || {
        sender.run(
            move |batch| {
                taken.send(batch.plan.clone()).unwrap();
                let refused = Failure::Refused { status: 404, message: "no such plan".into(), cure: None };
                if batch.plan.as_deref() == Some("old") { Err(refused) } else { Ok(()) }
            },
            |_| {},
        );
    });
    assert!(outbox.flush(Duration::from_secs(20)));
    assert_eq!(
        (seen.recv().unwrap().as_deref(), seen.recv().unwrap().as_deref()),
        (Some("old"), Some("new"))
    );
}
