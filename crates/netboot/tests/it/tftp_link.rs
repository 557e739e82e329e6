//! TFTP over a simulated link that loses, duplicates and delays: every transfer ends with the right bytes, and cheaply.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gravure_netboot::Millis;
use gravure_netboot::tftp::{End, Input, Limits, Patience, Send, Stats, Transfer, parse_request};
use proptest::prelude::*;

/// What the link does to packets.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// One way, in milliseconds.
    delay: u64,
    /// Extra delay of some packets, so that they overtake.
    jitter: u64,
    /// Per mille.
    loss: u64,
    /// Per mille.
    duplicates: u64,
}

/// How a client treats blocks it did not expect.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Habit {
    /// Says once what it misses.
    ReportsOnce,
    /// Acknowledges its last block for each unexpected one (edk2).
    ReportsEach,
    /// Waits for its own timer.
    Silent,
}

/// A receiver after RFC 7440.
struct Client {
    habit: Habit,
    window: u16,
    block: usize,
    got: Vec<u8>,
    last: u16,
    unacked: u16,
    reported: bool,
    done: bool,
    started: bool,
    wake: u64,
}

const CLIENT_PATIENCE: u64 = 1000;

impl Client {
    /// Takes a packet from the server; what it says back.
    fn take(&mut self, packet: &[u8], now: u64) -> Option<Vec<u8>> {
        match packet[1] {
            6 if !self.started || (self.last == 0 && self.got.is_empty()) => {
                self.started = true;
                self.wake = now + CLIENT_PATIENCE;
                Some(vec![0, 4, 0, 0])
            }
            3 => {
                self.started = true;
                let number = u16::from_be_bytes([packet[2], packet[3]]);
                if number != self.last.wrapping_add(1) || self.done {
                    return self.unexpected();
                }
                self.wake = now + CLIENT_PATIENCE;
                self.reported = false;
                self.last = number;
                self.unacked += 1;
                self.got.extend(&packet[4..]);
                self.done = packet.len() - 4 < self.block;
                (self.done || self.unacked == self.window).then(|| self.ack())
            }
            _ => None,
        }
    }

    fn unexpected(&mut self) -> Option<Vec<u8>> {
        let say = match self.habit {
            Habit::ReportsEach => true,
            Habit::ReportsOnce => !self.reported || self.done,
            Habit::Silent => self.done,
        };
        self.reported = true;
        say.then(|| self.ack())
    }

    fn ack(&mut self) -> Vec<u8> {
        self.unacked = 0;
        let [high, low] = self.last.to_be_bytes();
        vec![0, 4, high, low]
    }
}

/// A packet on its way: arrival, serial number, whether to the client, bytes.
type Flying = Reverse<(u64, u64, bool, Vec<u8>)>;

struct Run {
    end: End,
    stats: Stats,
    millis: u64,
    got: Vec<u8>,
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index / 251 + index) as u8).collect()
}

/// Runs one transfer to its end.
fn run(size: usize, block: u16, window: u16, habit: Habit, link: Link, mut seed: u64) -> Run {
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let file = content(size);
    let rrq = format!("\0\u{1}f\0octet\0blksize\0{block}\0windowsize\0{window}\0");
    let request = parse_request(rrq.as_bytes()).expect("a request");
    let mut transfer = Transfer::new(request, &Limits::default(), Patience::default(), size as u64);
    let mut client = Client {
        habit,
        window,
        block: block.into(),
        got: Vec::new(),
        last: 0,
        unacked: 0,
        reported: false,
        done: false,
        started: false,
        wake: CLIENT_PATIENCE,
    };
    let mut flying: BinaryHeap<Flying> = BinaryHeap::new();
    let (mut now, mut serial) = (0u64, 0u64);
    let mut output = transfer.on(Input::Start, Millis(0));
    loop {
        let mut out: Vec<(bool, Vec<u8>)> = Vec::new();
        match output.send {
            Send::Nothing => {}
            Send::Packet(bytes) => out.push((true, bytes)),
            Send::Blocks(blocks) => {
                for block in blocks {
                    let from = block.offset as usize;
                    let bytes = [&block.header()[..], &file[from..from + usize::from(block.len)]].concat();
                    out.push((true, bytes));
                }
            }
        }
        if let Some(end) = output.end {
            return Run { end, stats: transfer.stats(), millis: now, got: client.got };
        }
        let deadline = output.deadline.expect("running").0;
        // The client's turn until the server has something to do.
        output = loop {
            for (to_client, bytes) in out.drain(..) {
                let copies = if random(1000) < link.duplicates { 2 } else { 1 };
                for _ in 0..copies {
                    if random(1000) >= link.loss {
                        let late = if link.jitter > 0 { random(link.jitter) } else { 0 };
                        serial += 1;
                        flying.push(Reverse((now + link.delay + late, serial, to_client, bytes.clone())));
                    }
                }
            }
            let arrival = flying.peek().map_or(u64::MAX, |next| next.0.0);
            if deadline <= arrival && deadline <= client.wake {
                now = deadline;
                break transfer.on(Input::Timeout, Millis(now));
            }
            if client.wake < arrival {
                now = client.wake;
                client.wake = if client.done { u64::MAX } else { now + CLIENT_PATIENCE };
                if client.started && !client.done {
                    let ack = client.ack();
                    out.push((false, ack));
                }
                continue;
            }
            let Reverse((at, _, to_client, bytes)) = flying.pop().expect("an arrival");
            now = at;
            if to_client {
                out.extend(client.take(&bytes, now).map(|answer| (false, answer)));
            } else {
                break transfer.on(Input::Packet(&bytes), Millis(now));
            }
        };
    }
}

const CLEAN: Link = Link { delay: 1, jitter: 0, loss: 0, duplicates: 0 };

#[test]
fn a_clean_link_sees_each_block_once() {
    for (block, window) in [(512, 1), (1468, 4), (1468, 64), (8, 16)] {
        let run = run(300_000, block, window, Habit::ReportsEach, CLEAN, 1);
        assert_eq!(run.end, End::Done);
        assert_eq!(run.got, content(300_000));
        let blocks = 300_000 / u64::from(block) + 1;
        assert_eq!(run.stats, Stats { blocks_sent: blocks, ..Stats::default() });
    }
}

#[test]
fn losses_in_a_window_cost_a_round_trip_and_not_a_timeout() {
    let link = Link { loss: 5, ..CLEAN };
    for habit in [Habit::ReportsOnce, Habit::ReportsEach] {
        let run = run(4_000_000, 1468, 16, habit, link, 7);
        assert_eq!(run.end, End::Done);
        assert_eq!(run.got, content(4_000_000));
        assert!(run.stats.gaps >= 8, "{:?}", run.stats);
        // 172 windows of 2 ms; each gap is allowed 0.2 s.
        let allowed = 400 + 200 * run.stats.gaps;
        assert!(run.millis < allowed, "{} ms for {:?}", run.millis, run.stats);
        assert!(run.stats.blocks_sent < 2725 * 12 / 10, "{:?}", run.stats);
    }
}

#[test]
fn duplicated_packets_do_not_multiply() {
    let blocks = 1_000_000 / 512 + 1;
    // At window 1 never. In a window a duplicate draws a report that is none and costs one window; were echoes of that
    // taken for reports too, every window to the end would go out twice.
    let cases = [
        (1, 50, Habit::ReportsEach, blocks),
        (4, 5, Habit::ReportsEach, blocks * 11 / 10),
        (16, 5, Habit::ReportsEach, blocks * 13 / 10),
        (16, 5, Habit::ReportsOnce, blocks * 13 / 10),
    ];
    for (window, duplicates, habit, allowed) in cases {
        let run = run(1_000_000, 512, window, habit, Link { duplicates, ..CLEAN }, 3);
        assert_eq!(run.end, End::Done);
        assert_eq!(run.got, content(1_000_000));
        assert!(run.stats.blocks_sent <= allowed, "window {window} {habit:?}: {:?}", run.stats);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_link_delivers_the_file(
        size in 0usize..60_000,
        block in 8u16..1468,
        window in 1u16..=64,
        habit in prop_oneof![Just(Habit::ReportsOnce), Just(Habit::ReportsEach), Just(Habit::Silent)],
        delay in 0u64..30,
        jitter in prop_oneof![Just(0u64), 1u64..20],
        loss in 0u64..120,
        duplicates in 0u64..60,
        seed: u64,
    ) {
        let run = run(size, block, window, habit, Link { delay, jitter, loss, duplicates }, seed);
        prop_assert!(matches!(run.end, End::Done | End::Unconfirmed), "{:?}", run.end);
        prop_assert_eq!(run.got, content(size));
    }
}
