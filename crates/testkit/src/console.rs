//! Text that a program writes while it runs, kept as it comes, with waiting for a pattern.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Lines shown when waiting fails.
const SHOWN_LINES: usize = 40;

/// A growing text: a serial port, or what a program prints. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything so far, without terminal escapes.
    text: String,
    /// Where the next wait begins: behind the last match.
    pos: usize,
    /// Streams still open.
    open: usize,
}

impl Console {
    /// Reads `stream` in a thread of its own until it ends; the raw bytes also go to `log`.
    pub fn follow(&self, mut stream: impl Read + Send + 'static, mut log: Option<File>) {
        self.state().open += 1;
        let console = self.clone();
        thread::spawn(move || {
            let (mut buf, mut plain) = ([0; 4096], Plain::default());
            while let Ok(count @ 1..) = stream.read(&mut buf) {
                let bytes = &buf[..count];
                if let Some(log) = &mut log {
                    // A full disk must not end the machine; the text is in memory all the same.
                    let _ = log.write_all(bytes);
                }
                let text = plain.take(bytes);
                console.state().text.push_str(&text);
                console.shared.1.notify_all();
            }
            console.state().open -= 1;
            console.shared.1.notify_all();
        });
    }

    /// Waits until `pattern` appears behind the last match, and returns the line it stands in. Fails when the
    /// program ends or `timeout` passes before; the error shows the last lines.
    pub fn wait_for(&self, pattern: &str, timeout: Duration) -> Result<String> {
        self.wait_for_any(&[pattern], timeout).map(|(_, line)| line)
    }

    /// Like [`Console::wait_for`] for the first of several patterns; returns its index too.
    pub fn wait_for_any(&self, patterns: &[&str], timeout: Duration) -> Result<(usize, String)> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            let rest = &state.text[state.pos..];
            let hit =
                patterns.iter().enumerate().filter_map(|(i, p)| Some((rest.find(p)?, i, p.len()))).min();
            if let Some((at, index, len)) = hit {
                let (start, end) = (state.pos + at, state.pos + at + len);
                let line = line_around(&state.text, start, end).to_owned();
                state.pos = end;
                return Ok((index, line));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.open == 0 {
                let why = if state.open == 0 { "the program ended" } else { "time is up" };
                bail!(
                    "waited for {patterns:?}, {why} ({timeout:?}); the last lines:\n{}",
                    last_lines(&state.text)
                );
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `pattern` stands anywhere in the text, before or behind the last match, which stays where it is.
    pub fn wait_for_anywhere(&self, pattern: &str, timeout: Duration) -> Result<()> {
        let mark = std::mem::replace(&mut self.state().pos, 0);
        let result = self.wait_for(pattern, timeout);
        self.state().pos = mark;
        result.map(drop)
    }

    /// Waits until every stream has ended.
    pub fn wait_for_end(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        while state.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "waited {timeout:?} for the program to end; the last lines:\n{}",
                    last_lines(&state.text)
                );
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Whether every stream has ended.
    pub fn has_ended(&self) -> bool {
        self.state().open == 0
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.state().text.clone()
    }

    /// The last lines, for an error.
    pub fn last_lines(&self) -> String {
        last_lines(&self.state().text)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The text is valid whatever thread died while holding it.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line that holds the bytes `start..end`.
fn line_around(text: &str, start: usize, end: usize) -> &str {
    let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let to = text[end..].find('\n').map_or(text.len(), |at| end + at);
    text[from..to].trim_end_matches('\r')
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Takes terminal escapes out of a stream that comes in pieces (ECMA-48 control sequences and two-byte escapes).
#[derive(Debug, Default)]
struct Plain {
    escape: Escape,
    /// Bytes of a character that is not complete yet.
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

impl Plain {
    fn take(&mut self, bytes: &[u8]) -> String {
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (Escape::None, 0x1b) => Escape::Started,
                (Escape::None, _) => {
                    if byte == b'\n' || byte == b'\t' || byte >= 0x20 {
                        self.partial.push(byte);
                    }
                    Escape::None
                }
                (Escape::Started, b'[') => Escape::Sequence,
                (Escape::Sequence, 0x40..=0x7e) | (Escape::Started, _) => Escape::None,
                (Escape::Sequence, _) => Escape::Sequence,
            };
        }
        let complete = match std::str::from_utf8(&self.partial) {
            // Only an incomplete character at the very end is kept for the next piece.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.partial.len(),
        };
        let rest = self.partial.split_off(complete);
        let text = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial = rest;
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::pipe;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_pattern_is_found_across_pieces_and_waiting_goes_on_behind_it() {
        let (reader, mut writer) = pipe().unwrap();
        let console = Console::default();
        console.follow(reader, None);
        writer.write_all(b"one: rea").unwrap();
        let waiting = thread::spawn({
            let console = console.clone();
            move || console.wait_for("ready", SOON).unwrap()
        });
        writer.write_all(b"dy\r\ntwo: ready").unwrap();
        assert_eq!(waiting.join().unwrap(), "one: ready");
        assert_eq!(console.wait_for("ready", SOON).unwrap(), "two: ready");
        console.wait_for_anywhere("one", SOON).unwrap();
        writer.write_all(b"\nb a\n").unwrap();
        assert_eq!(console.wait_for_any(&["a", "b"], SOON).unwrap(), (1, "b a".to_owned()));
        drop(writer);
        let error = console.wait_for("ready", SOON).unwrap_err().to_string();
        assert!(error.contains("the program ended") && error.contains("two: ready"), "{error}");
        console.wait_for_end(SOON).unwrap();
    }

    #[test]
    fn time_is_up_when_nothing_comes() {
        let (reader, _writer) = pipe().unwrap();
        let console = Console::default();
        console.follow(reader, None);
        let error = console.wait_for("x", Duration::from_millis(1)).unwrap_err().to_string();
        assert!(error.starts_with("waited for [\"x\"], time is up"), "{error}");
        assert!(console.wait_for_end(Duration::from_millis(1)).is_err());
    }

    #[test]
    fn escapes_and_cut_characters_do_not_hide_text() {
        let mut plain = Plain::default();
        let bytes = "\x1b[2J\x1b[01;01HSta\x1b[0mrt \u{e4}\x1b7\r\n".as_bytes();
        let text: String = bytes.chunks(1).map(|piece| plain.take(piece)).collect();
        assert_eq!(text, "Start \u{e4}\n");
        assert_eq!(plain.take(b"\xff!"), "\u{fffd}!");
    }
}
