//! One read transfer as a state machine: packets, timeouts and a moment in; blocks to send and a deadline out.
//!
//! RFC 1350 with its RFC 1123 correction (no answer to duplicate acknowledgements at window 1, the sorcerer's
//! apprentice), RFC 7440 windows. Content is never seen here: the output names offsets and the engine fills them in.

use core::fmt;
use core::time::Duration;

use super::packet::{Access, ErrorCode, FromClient, Request, data_header, error_packet, parse_from_client};
use super::patience::{Answered, Patience, Timer};
use super::terms::{Limits, Terms};
use crate::Millis;

/// What happens to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// The transfer begins.
    Start,
    /// A packet from the client's address and port. Packets from elsewhere get [`super::ErrorCode::UnknownTransfer`]
    /// from the engine and never come here.
    Packet(&'a [u8]),
    /// The deadline has come. Early and late calls do no harm.
    Timeout,
    /// The client repeated its request (see [`Transfer::on_request`]).
    Repeated,
    /// The network says the client's port is closed.
    Unreachable,
    /// The content cannot be read on, or the transfer is unwanted; the client is told this code and text.
    Stop(ErrorCode, &'a str),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What to send.
    pub send: Send,
    /// When to call with [`Input::Timeout`]; `None` when the transfer has ended.
    pub deadline: Option<Millis>,
    /// The end, reported once.
    pub end: Option<End>,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// Nothing.
    Nothing,
    /// These bytes: an OACK or an ERROR.
    Packet(Vec<u8>),
    /// These blocks in order, each its header followed by content.
    Blocks(Blocks),
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    next: u64,
    last: u64,
    block_bytes: u16,
    size: u64,
}

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Number on the wire; rolls over from 65535 to 0.
    pub number: u16,
    /// Where its content starts, in bytes.
    pub offset: u64,
    /// Length of its content; 0 in the closing block of a file whose size is a multiple of the block size.
    pub len: u16,
}

impl Block {
    /// The bytes before the content.
    #[must_use]
    pub fn header(&self) -> [u8; 4] {
        data_header(self.number)
    }
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        if self.next > self.last {
            return None;
        }
        let offset = self.next.saturating_sub(1).saturating_mul(self.block_bytes.into());
        let left = self.size.saturating_sub(offset);
        let len = u16::try_from(left).unwrap_or(u16::MAX).min(self.block_bytes);
        let number = wire_number(self.next);
        self.next = self.next.saturating_add(1);
        Some(Block { number, offset, len })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.last.saturating_add(1).saturating_sub(self.next);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Blocks {}

fn wire_number(block: u64) -> u16 {
    let [.., high, low] = block.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The last block was acknowledged.
    Done,
    /// The client wanted the size only: it read the OACK and sent an ERROR. What edk2 does before each file.
    SizeProbe,
    /// The client ended it.
    ClientError {
        /// Its code.
        code: ErrorCode,
        /// Its text, escaped.
        text: String,
    },
    /// Everything was sent, the last acknowledgement is missing: the client most likely has the file.
    Unconfirmed,
    /// The client's port was closed before everything was sent.
    Unreachable,
    /// No progress for too long.
    TimedOut,
    /// The engine stopped it.
    Stopped,
}

impl End {
    /// Whether the client may be expected to have got what it came for.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Done | Self::SizeProbe | Self::Unconfirmed)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::SizeProbe => write!(f, "the client asked for the size only"),
            Self::ClientError { code, text } => write!(f, "the client sent {code} {text:?}"),
            Self::Unconfirmed => write!(f, "sent in full, the last acknowledgement is missing"),
            Self::Unreachable => write!(f, "the client's port was closed"),
            Self::TimedOut => write!(f, "the client fell silent"),
            Self::Stopped => write!(f, "stopped by the server"),
        }
    }
}

/// What to do with a request from an address and port that already has a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The network or the client repeated it: pass [`Input::Repeated`] to the running transfer.
    Resend,
    /// The client began anew (GRUB uses the same ports after a reset): drop the transfer, start another.
    Replace,
}

/// Figures of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// DATA packets sent.
    pub blocks_sent: u64,
    /// Of those, sent again.
    pub blocks_resent: u64,
    /// Windows restarted because the client reported a gap.
    pub gaps: u64,
    /// Deadlines that passed without progress.
    pub timeouts: u64,
}

/// A read transfer.
#[derive(Debug, Clone)]
pub struct Transfer {
    request: Request,
    terms: Terms,
    size: u64,
    last_block: u64,
    stage: Stage,
    /// Everything up to here is acknowledged.
    acked: u64,
    /// Highest block sent so far.
    highest: u64,
    gap: GapGuard,
    timer: Timer,
    /// When the packets now unacknowledged went out, unless some went twice.
    sent_at: Option<Millis>,
    progress_at: Millis,
    answered: Answered,
    deadline: Option<Millis>,
    stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    /// The OACK is out.
    Greeting,
    Sending,
    Ended,
}

/// Tells gap reports from acknowledgements that only look like one.
///
/// A client acknowledges a window's base again when a later block arrives first. It does the same for each duplicate
/// block, so a window sent twice brings late acknowledgements of its end, which is the next window's base: taken for gap
/// reports they would make every window go out twice to the end of the file. And a client that acknowledges every block
/// although it asked for a window would make each block go out a window's number of times.
#[derive(Debug, Clone, Copy, Default)]
struct GapGuard {
    /// This window has been restarted at its base already.
    restarted: bool,
    /// The window before this one went out more than once.
    echoes: bool,
    /// Restarts in a row without one whole window acknowledged.
    row: u8,
}

/// After so many restarts in a row acknowledgements inside the window count as progress only, and lost blocks wait for
/// the timer. Rarely reached by loss alone: at 5 % a window of 16 is torn eight times running once in 10^2 windows.
const GAPS_IN_A_ROW: u8 = 8;

impl Transfer {
    /// A transfer of `size` bytes for `request`. In mode netascii `size` is that of the converted content.
    #[must_use]
    pub fn new(request: Request, limits: &Limits, patience: Patience, size: u64) -> Self {
        let terms = Terms::agree(&request, limits, size);
        let full_blocks = size.checked_div(terms.block.into()).unwrap_or(0);
        Self {
            timer: Timer::new(patience, terms.timeout),
            size,
            last_block: full_blocks.saturating_add(1),
            stage: Stage::New,
            acked: 0,
            highest: 0,
            gap: GapGuard::default(),
            sent_at: None,
            progress_at: Millis(0),
            answered: Answered::Never,
            deadline: None,
            stats: Stats::default(),
            request,
            terms,
        }
    }

    /// The request it answers.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Agreed block and window size.
    #[must_use]
    pub fn terms(&self) -> (u16, u16) {
        (self.terms.block, self.terms.window)
    }

    /// Figures so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether the client has said anything since its request.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answered == Answered::Yes
    }

    /// Bytes of content acknowledged so far.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> u64 {
        self.acked.saturating_mul(self.terms.block.into()).min(self.size)
    }

    /// What a new `request` from the same address and port means.
    #[must_use]
    pub fn on_request(&self, request: &Request) -> Repeat {
        let untouched = match self.stage {
            Stage::New | Stage::Greeting => true,
            Stage::Sending => self.acked == 0 && self.terms.oack.is_none(),
            Stage::Ended => false,
        };
        if untouched && *request == self.request { Repeat::Resend } else { Repeat::Replace }
    }

    /// Takes one input.
    pub fn on(&mut self, input: Input<'_>, now: Millis) -> Output {
        match (self.stage, input) {
            (Stage::Ended, _) => self.idle(),
            (Stage::New, Input::Start) => self.start(now),
            (_, Input::Stop(code, text)) => self.finish(Send::Packet(error_packet(code, text)), End::Stopped),
            (_, Input::Unreachable) => self.finish(Send::Nothing, self.lost_end(End::Unreachable)),
            (Stage::New, _) | (_, Input::Start) => self.idle(),
            (_, Input::Timeout) => self.timeout(now),
            (_, Input::Repeated) => self.resend(now),
            (stage, Input::Packet(bytes)) => match parse_from_client(bytes) {
                FromClient::Ack(number) => self.acknowledged(number, now),
                FromClient::Error { code, text } => {
                    self.answered = Answered::Yes;
                    let probe = stage == Stage::Greeting && self.terms.size_asked;
                    let end = if probe { End::SizeProbe } else { End::ClientError { code, text } };
                    self.finish(Send::Nothing, end)
                }
                FromClient::Stray => self.idle(),
            },
        }
    }

    fn start(&mut self, now: Millis) -> Output {
        self.progress_at = now;
        if self.request.access == Access::Write {
            let refusal = error_packet(ErrorCode::AccessViolation, "this server only sends");
            return self.finish(Send::Packet(refusal), End::Stopped);
        }
        self.stage = if self.terms.oack.is_some() { Stage::Greeting } else { Stage::Sending };
        let output = self.resend(now);
        self.sent_at = Some(now);
        output
    }

    fn acknowledged(&mut self, number: u16, now: Millis) -> Output {
        self.answered = Answered::Yes;
        if self.stage == Stage::Greeting {
            if number != 0 {
                return self.idle();
            }
            self.stage = Stage::Sending;
            self.advance(0, now);
            return self.window(now);
        }
        // At most a window of blocks is unacknowledged and a window is shorter than the number space, so the distance
        // from the base tells which block is meant; anything outside is an old duplicate.
        let ahead = u64::from(number.wrapping_sub(wire_number(self.acked)));
        let block = self.acked.saturating_add(ahead);
        if block > self.highest {
            return self.idle();
        }
        if ahead == 0 {
            let report = self.terms.window > 1 && self.highest > self.acked;
            if !report || self.gap.restarted || self.gap.echoes {
                return self.idle();
            }
            return self.restart(now);
        }
        let before = self.gap;
        self.advance(block, now);
        self.gap = GapGuard { restarted: false, echoes: before.restarted, row: 0 };
        if block == self.last_block {
            return self.finish(Send::Nothing, End::Done);
        }
        if block == self.highest {
            return self.window(now);
        }
        // Inside the window: the client has everything up to here and misses the next block.
        self.gap.row = before.row;
        if before.row >= GAPS_IN_A_ROW { self.extend(now) } else { self.restart(now) }
    }

    /// Answers a gap report: the window again, from its base.
    fn restart(&mut self, now: Millis) -> Output {
        self.stats.gaps = self.stats.gaps.saturating_add(1);
        self.gap = GapGuard { restarted: true, row: self.gap.row.saturating_add(1), ..self.gap };
        self.window(now)
    }

    /// Everything up to `block` has arrived.
    fn advance(&mut self, block: u64, now: Millis) {
        let round_trip: Option<Duration> = self.sent_at.take().map(|sent| now.since(sent));
        self.timer.progress(round_trip);
        self.acked = block;
        self.progress_at = now;
    }

    fn timeout(&mut self, now: Millis) -> Output {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return self.idle();
        }
        self.stats.timeouts = self.stats.timeouts.saturating_add(1);
        if self.timer.exhausted(self.progress_at, now, self.answered) {
            return self.finish(Send::Nothing, self.lost_end(End::TimedOut));
        }
        self.timer.silence();
        self.resend(now)
    }

    /// Sends what is unacknowledged: the OACK, or the window from its base.
    fn resend(&mut self, now: Millis) -> Output {
        match (&self.terms.oack, self.stage) {
            (Some(oack), Stage::Greeting) => {
                let oack = oack.clone();
                self.sent_at = None;
                self.output(Send::Packet(oack), now)
            }
            _ => {
                self.gap.restarted |= self.highest > self.acked;
                self.window(now)
            }
        }
    }

    /// Sends a window from the first unacknowledged block on.
    fn window(&mut self, now: Millis) -> Output {
        self.blocks(self.acked.saturating_add(1), now)
    }

    /// Sends only what has not been sent before.
    fn extend(&mut self, now: Millis) -> Output {
        self.blocks(self.highest.saturating_add(1), now)
    }

    fn blocks(&mut self, next: u64, now: Millis) -> Output {
        let last = self.acked.saturating_add(self.terms.window.into()).min(self.last_block);
        let count = last.saturating_add(1).saturating_sub(next);
        let again = self.highest.min(last).saturating_add(1).saturating_sub(next);
        self.stats.blocks_sent = self.stats.blocks_sent.saturating_add(count);
        self.stats.blocks_resent = self.stats.blocks_resent.saturating_add(again);
        self.sent_at = (again == 0).then_some(now);
        self.highest = self.highest.max(last);
        let blocks = Blocks { next, last, block_bytes: self.terms.block, size: self.size };
        self.output(Send::Blocks(blocks), now)
    }

    fn output(&mut self, send: Send, now: Millis) -> Output {
        let mut deadline = now.after(self.timer.wait());
        if self.answered == Answered::Never {
            // Not the whole interval that an unproven request named.
            deadline = deadline.min(self.progress_at.after(self.timer.limit(self.answered)));
        }
        self.deadline = Some(deadline);
        Output { send, deadline: self.deadline, end: None }
    }

    fn idle(&self) -> Output {
        Output { send: Send::Nothing, deadline: self.deadline, end: None }
    }

    fn finish(&mut self, send: Send, end: End) -> Output {
        self.stage = Stage::Ended;
        self.deadline = None;
        Output { send, deadline: None, end: Some(end) }
    }

    /// The end of a transfer whose client is gone: not a failure when nothing but its last word is missing.
    fn lost_end(&self, otherwise: End) -> End {
        let answered = self.answered == Answered::Yes || self.last_block == 1;
        let sent_all = self.stage == Stage::Sending && self.highest == self.last_block;
        if sent_all && answered { End::Unconfirmed } else { otherwise }
    }
}
