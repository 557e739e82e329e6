//! TFTP transfers step by step with virtual time: what firmware does, and what must not happen.

use std::time::Duration;

use gravure_netboot::Millis;
use gravure_netboot::names::normalise_name;
use gravure_netboot::tftp::{
    End, ErrorCode, Input, Limits, Output, Patience, Repeat, Send, Stats, Transfer, error_packet,
    parse_request,
};

/// A transfer with its clock.
struct Script {
    transfer: Transfer,
    now: Millis,
}

impl Script {
    fn new(rrq: &[u8], size: u64) -> Self {
        let request = parse_request(rrq).expect("a request");
        let transfer = Transfer::new(request, &Limits::default(), Patience::default(), size);
        Self { transfer, now: Millis(0) }
    }

    fn start(&mut self) -> Output {
        self.transfer.on(Input::Start, self.now)
    }

    fn packet(&mut self, bytes: &[u8]) -> Output {
        self.now = self.now.after(Duration::from_millis(1));
        self.transfer.on(Input::Packet(bytes), self.now)
    }

    fn ack(&mut self, number: u16) -> Output {
        let [high, low] = number.to_be_bytes();
        self.packet(&[0, 4, high, low])
    }

    /// Lets the deadline pass.
    fn wait(&mut self) -> Output {
        let idle = self.transfer.on(Input::Packet(&[]), self.now);
        self.now = idle.deadline.expect("a running transfer has a deadline");
        self.transfer.on(Input::Timeout, self.now)
    }
}

/// Numbers of the blocks sent.
fn numbers(output: &Output) -> Vec<u16> {
    match &output.send {
        Send::Blocks(blocks) => blocks.map(|block| block.number).collect(),
        Send::Nothing => Vec::new(),
        Send::Packet(bytes) => panic!("{bytes:?}"),
    }
}

fn packet(output: &Output) -> &[u8] {
    let Send::Packet(bytes) = &output.send else { panic!("{output:?}") };
    bytes
}

const PLAIN: &[u8] = b"\0\x01f\0octet\0";
const WINDOW_4: &[u8] = b"\0\x01f\0octet\0blksize\x00512\0windowsize\x004\0";

#[test]
fn recorded_requests_get_what_they_ask_for() {
    let cases = [
        (fixture!("ovmf-rrq-tsize"), "nofile", "tsize 70000 blksize 1468 windowsize 4", (1468, 4)),
        (fixture!("shim-rrq"), "grubx64.efi", "blksize 512 windowsize 4", (512, 4)),
        (fixture!("grub-rrq"), "grub/grub.cfg", "blksize 1024 tsize 70000", (1024, 1)),
        (fixture!("ipxe-rrq"), "nofile", "blksize 1432 tsize 70000", (1432, 1)),
    ];
    for (rrq, name, oack, terms) in cases {
        let mut script = Script::new(&rrq, 70_000);
        assert_eq!(normalise_name(&script.transfer.request().name).expect("a name").to_string(), name);
        let options = String::from_utf8(packet(&script.start())[2..].to_vec()).expect("text");
        assert_eq!(options.replace('\0', " ").trim(), oack);
        assert_eq!(script.transfer.terms(), terms);
    }
}

#[test]
fn edk2_reads_the_size_refuses_and_comes_back() {
    let mut probe = Script::new(&fixture!("ovmf-rrq-tsize"), 1_052_672);
    assert_eq!(packet(&probe.start()), b"\0\x06tsize\x001052672\0blksize\x001468\0windowsize\x004\0");
    let output = probe.packet(&error_packet(ErrorCode::OptionsRefused, "User aborted the transfer"));
    assert_eq!(output, Output { send: Send::Nothing, deadline: None, end: Some(End::SizeProbe) });
    assert!(End::SizeProbe.is_success());
    // Over: no resent OACK, ever.
    assert_eq!(probe.transfer.on(Input::Timeout, Millis(99_999)).send, Send::Nothing);
}

#[test]
fn an_error_without_a_size_asked_for_is_the_clients_end() {
    let mut script = Script::new(WINDOW_4, 5000);
    script.start();
    let output = script.packet(&error_packet(ErrorCode::DiskFull, "Buffer \x07 too small"));
    let end = output.end.expect("ended");
    assert_eq!(end.to_string(), "the client sent error 3 \"Buffer \\\\x07 too small\"");
    assert!(!end.is_success());
    // Also once data flows, although a size was asked for.
    let mut script = Script::new(&fixture!("ipxe-rrq"), 5000);
    script.start();
    assert_eq!(numbers(&script.ack(0)), [1]);
    let output = script.packet(&error_packet(ErrorCode::NotDefined, ""));
    assert_eq!(output.end, Some(End::ClientError { code: ErrorCode::NotDefined, text: String::new() }));
}

#[test]
fn lock_step_sends_each_block_once_and_closes_with_a_short_one() {
    let mut script = Script::new(PLAIN, 1100);
    let output = script.start();
    let Send::Blocks(mut blocks) = output.send else { panic!() };
    assert_eq!(blocks.len(), 1);
    let block = blocks.next().expect("one");
    assert_eq!((block.header(), block.offset, block.len), ([0, 3, 0, 1], 0, 512));
    assert_eq!(numbers(&script.ack(1)), [2]);
    let Send::Blocks(mut blocks) = script.ack(2).send else { panic!() };
    let last = blocks.next().expect("one");
    assert_eq!((last.number, last.offset, last.len), (3, 1024, 76));
    assert_eq!(script.transfer.acknowledged_bytes(), 1024);
    assert_eq!(script.ack(3).end, Some(End::Done));
    assert_eq!(script.transfer.acknowledged_bytes(), 1100);
    assert_eq!(script.transfer.stats(), Stats { blocks_sent: 3, ..Stats::default() });
}

#[test]
fn sizes_that_are_a_multiple_end_with_an_empty_block() {
    for (size, blocks, last_len) in [(0, 1, 0), (511, 1, 511), (512, 2, 0), (1024, 3, 0), (1025, 3, 1)] {
        let mut script = Script::new(PLAIN, size);
        let mut output = script.start();
        for number in 1..=blocks {
            let Send::Blocks(mut sent) = output.send else { panic!("{size}") };
            let block = sent.next().expect("a block");
            assert_eq!(block.number, number);
            if number == blocks {
                assert_eq!(block.len, last_len, "{size}");
            }
            output = script.ack(number);
        }
        assert_eq!(output.end, Some(End::Done), "{size}");
    }
}

#[test]
fn the_sorcerers_apprentice_stays_out() {
    let mut script = Script::new(PLAIN, 10_000);
    script.start();
    assert_eq!(numbers(&script.ack(1)), [2]);
    for stale in [1, 1, 0, 65535, 7, 3] {
        assert_eq!(script.ack(stale).send, Send::Nothing, "{stale}");
    }
    assert_eq!(numbers(&script.wait()), [2], "only the timer sends again");
    assert_eq!(numbers(&script.ack(2)), [3]);
    assert_eq!(script.ack(2).send, Send::Nothing);
}

#[test]
fn windows_go_out_whole_and_a_gap_restarts_at_the_missing_block_once() {
    let mut script = Script::new(WINDOW_4, 512 * 20);
    assert_eq!(packet(&script.start()), b"\0\x06blksize\x00512\0windowsize\x004\0");
    assert_eq!(numbers(&script.ack(0)), [1, 2, 3, 4]);
    assert_eq!(numbers(&script.ack(4)), [5, 6, 7, 8]);
    // 7 was lost; the client says so for each block it did not expect.
    assert_eq!(numbers(&script.ack(6)), [7, 8, 9, 10]);
    assert_eq!(script.ack(6).send, Send::Nothing);
    // The first block of a window was lost: acknowledged again is its base.
    assert_eq!(numbers(&script.ack(10)), [11, 12, 13, 14]);
    assert_eq!(numbers(&script.ack(14)), [15, 16, 17, 18]);
    assert_eq!(numbers(&script.ack(14)), [15, 16, 17, 18]);
    assert_eq!(script.ack(14).send, Send::Nothing);
    assert_eq!(numbers(&script.ack(18)), [19, 20, 21]);
    assert_eq!(script.ack(21).end, Some(End::Done));
    let stats = script.transfer.stats();
    assert_eq!((stats.gaps, stats.timeouts, stats.blocks_resent), (2, 0, 6));
}

#[test]
fn echoes_of_a_repeated_window_are_not_taken_for_gaps() {
    let mut script = Script::new(WINDOW_4, 512 * 40);
    script.start();
    script.ack(0);
    // The acknowledgement of 4 is lost, so the window goes out twice and the client answers each duplicate.
    assert_eq!(numbers(&script.wait()), [1, 2, 3, 4]);
    assert_eq!(numbers(&script.ack(4)), [5, 6, 7, 8]);
    for _ in 0..3 {
        assert_eq!(script.ack(4).send, Send::Nothing, "an echo, not a gap");
    }
    assert_eq!(numbers(&script.ack(8)), [9, 10, 11, 12]);
    // After a clean window reports count again.
    assert_eq!(numbers(&script.ack(8)), [9, 10, 11, 12]);
}

#[test]
fn a_client_that_acknowledges_every_block_is_not_flooded() {
    let request = b"\0\x01f\0octet\0windowsize\x0064\0";
    let mut script = Script::new(request, 512 * 2000 - 1);
    script.start();
    script.ack(0);
    for block in 1..2000 {
        assert_eq!(script.ack(block).end, None);
    }
    assert_eq!(script.ack(2000).end, Some(End::Done));
    let sent = script.transfer.stats().blocks_sent;
    assert!(sent < 2000 + 9 * 64, "{sent} blocks sent for 2000");
}

#[test]
fn numbers_roll_over_to_zero() {
    let request = b"\0\x01f\0octet\0blksize\x008\0windowsize\x0016\0";
    let blocks: u64 = 200_000;
    let mut script = Script::new(request, blocks * 8 - 1);
    script.start();
    let mut output = script.ack(0);
    let mut seen = 0u64;
    while output.end.is_none() {
        let Send::Blocks(sent) = output.send else { panic!() };
        let mut last = 0;
        for block in sent {
            seen += 1;
            assert_eq!((u64::from(block.number), block.offset), (seen % 65536, (seen - 1) * 8));
            last = block.number;
        }
        output = script.ack(last);
    }
    assert_eq!((seen, output.end), (blocks, Some(End::Done)));
}

#[test]
fn a_gap_across_the_rollover_is_found() {
    let request = b"\0\x01f\0octet\0blksize\x008\0windowsize\x004\0";
    let mut script = Script::new(request, 8 * 70_000);
    script.start();
    script.ack(0);
    for block in (4..=65532).step_by(4) {
        script.ack(block);
    }
    // 65533, 65534, 65535, 0 are out.
    assert_eq!(numbers(&script.ack(65534)), [65535, 0, 1, 2]);
    assert_eq!(numbers(&script.ack(2)), [3, 4, 5, 6]);
    assert_eq!(script.ack(0).send, Send::Nothing, "old");
}

#[test]
fn silence_backs_off_and_ends_without_a_word() {
    let mut script = Script::new(WINDOW_4, 5000);
    let first = script.start();
    let oack = packet(&first).to_vec();
    let mut times = vec![0];
    let end = loop {
        let output = script.wait();
        if let Some(end) = output.end {
            assert_eq!(output.send, Send::Nothing);
            break end;
        }
        assert_eq!(packet(&output), oack);
        times.push(script.now.0);
    };
    assert_eq!(times, [0, 400, 1200]);
    assert_eq!((end, script.now), (End::TimedOut, Millis(2500)));
    assert!(!script.transfer.is_answered());
    // Nor does an interval that the request named keep a transfer for somebody who may not have asked.
    let mut script = Script::new(b"\0\x01f\0octet\0timeout\x00255\0", 5000);
    script.start();
    assert_eq!((script.wait().end, script.now), (Some(End::TimedOut), Millis(15_000)));
}

#[test]
fn an_answering_client_is_given_a_minute_and_progress_starts_it_anew() {
    let mut script = Script::new(PLAIN, 5000);
    script.start();
    script.ack(1);
    for round in 0..3u16 {
        // Fifty seconds of silence, then an answer after all.
        let asleep = script.now.after(Duration::from_secs(50));
        while script.now < asleep {
            assert_eq!(numbers(&script.wait()), [round + 2]);
        }
        assert_eq!(numbers(&script.ack(round + 2)), [round + 3]);
    }
    let since = script.now;
    while script.wait().end.is_none() {}
    assert!((60..66).contains(&script.now.since(since).as_secs()), "{}", script.now.since(since).as_secs());
}

#[test]
fn waits_follow_the_round_trip_but_not_of_what_went_out_twice() {
    let mut script = Script::new(PLAIN, 5000);
    script.start();
    let wait = |output: &Output, now: Millis| output.deadline.expect("running").since(now).as_millis();
    // Repeated after 400 ms: which of the two is acknowledged a millisecond later cannot be told.
    script.wait();
    let output = script.ack(1);
    assert_eq!(wait(&output, script.now), 400);
    // Sent once: one millisecond, so the shortest wait.
    let output = script.ack(2);
    assert_eq!(wait(&output, script.now), 150);
}

#[test]
fn early_timeouts_do_nothing() {
    let mut script = Script::new(PLAIN, 5000);
    let deadline = script.start().deadline.expect("running");
    let early = script.transfer.on(Input::Timeout, Millis(deadline.0 - 1));
    assert_eq!(early, Output { send: Send::Nothing, deadline: Some(deadline), end: None });
}

#[test]
fn the_timeout_option_sets_the_interval() {
    let mut script = Script::new(b"\0\x01f\0octet\0timeout\x003\0", 5000);
    assert_eq!(packet(&script.start()), b"\0\x06timeout\x003\0");
    script.wait();
    assert_eq!(script.now, Millis(3000));
    script.wait();
    assert_eq!(script.now, Millis(6000));
}

#[test]
fn a_lost_last_acknowledgement_is_no_failure() {
    let mut script = Script::new(PLAIN, 600);
    script.start();
    script.ack(1);
    let output = script.transfer.on(Input::Unreachable, script.now);
    assert_eq!(output.end, Some(End::Unconfirmed));
    let mut script = Script::new(PLAIN, 600);
    script.start();
    script.ack(1);
    let end = loop {
        if let Some(end) = script.wait().end {
            break end;
        }
    };
    assert_eq!(end, End::Unconfirmed);
    // In the middle it is one.
    let mut script = Script::new(PLAIN, 5000);
    script.start();
    script.ack(1);
    assert_eq!(script.transfer.on(Input::Unreachable, script.now).end, Some(End::Unreachable));
    let mut script = Script::new(WINDOW_4, 100);
    script.start();
    assert_eq!(script.transfer.on(Input::Unreachable, script.now).end, Some(End::Unreachable));
}

#[test]
fn repeated_requests_resend_and_later_ones_replace() {
    let request = |bytes: &[u8]| parse_request(bytes).expect("a request");
    let mut script = Script::new(WINDOW_4, 5000);
    let oack = packet(&script.start()).to_vec();
    assert_eq!(script.transfer.on_request(&request(WINDOW_4)), Repeat::Resend);
    assert_eq!(packet(&script.transfer.on(Input::Repeated, Millis(7))), oack);
    assert_eq!(script.transfer.on_request(&request(PLAIN)), Repeat::Replace, "other options");
    assert_eq!(script.transfer.on_request(&request(b"\0\x01g\0octet\0")), Repeat::Replace, "other name");
    script.ack(0);
    assert_eq!(script.transfer.on_request(&request(WINDOW_4)), Repeat::Replace, "it has seen the OACK");

    let mut script = Script::new(PLAIN, 5000);
    script.start();
    assert_eq!(script.transfer.on_request(&request(PLAIN)), Repeat::Resend);
    assert_eq!(numbers(&script.transfer.on(Input::Repeated, Millis(7))), [1]);
    script.ack(1);
    assert_eq!(script.transfer.on_request(&request(PLAIN)), Repeat::Replace);
}

#[test]
fn the_engine_can_stop_a_transfer_and_writes_are_refused() {
    let mut script = Script::new(PLAIN, 5000);
    script.start();
    let output = script.transfer.on(Input::Stop(ErrorCode::NotDefined, "read error"), Millis(1));
    assert_eq!((packet(&output), output.end.clone()), (&b"\0\x05\0\0read error\0"[..], Some(End::Stopped)));
    let mut script = Script::new(b"\0\x02f\0octet\0", 0);
    let output = script.start();
    assert_eq!((&packet(&output)[..4], output.end.clone()), (&[0, 5, 0, 2][..], Some(End::Stopped)));
}

#[test]
fn strays_change_nothing() {
    let mut script = Script::new(WINDOW_4, 5000);
    let deadline = script.start().deadline;
    for stray in
        [&b""[..], b"\0", b"\0\x04", b"\0\x03\0\x01data", b"\0\x06x\0", b"\xff\xff\xff\xff", WINDOW_4]
    {
        assert_eq!(script.packet(stray), Output { send: Send::Nothing, deadline, end: None }, "{stray:?}");
    }
    assert_eq!(script.ack(5).send, Send::Nothing, "not the answer to an OACK");
    assert_eq!(numbers(&script.ack(0)), [1, 2, 3, 4]);
}
