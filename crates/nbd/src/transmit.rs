//! Requests and their answers, one after the other.

use std::io::{Read, Write};
use std::ops::Range;

use crate::Error;
use crate::export::MAX_READ_BYTES;
use crate::negotiate::Chosen;
use crate::wire::{
    CHUNK_DATA, CHUNK_DONE, CHUNK_ERROR, CHUNK_HOLE, CHUNK_MAGIC, CHUNK_NONE, CHUNK_STATUS, CMD_BLOCK_STATUS,
    CMD_CACHE, CMD_DISCONNECT, CMD_FLAG_DF, CMD_FLAG_ONE, CMD_FLUSH, CMD_READ, CMD_WRITE, EINVAL, EIO,
    EOVERFLOW, EPERM, META_ID, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STATE_HOLE, len32, send, skip, u16, u32,
    u64,
};

/// Stretches told in one answer.
const MAX_STATES: usize = 1024;
/// Holes shorter than this travel as the zeros they are.
const MIN_HOLE_BYTES: u64 = 4096;

struct Session<'s, 'a> {
    output: &'s mut dyn Write,
    chosen: &'s Chosen<'a>,
}

pub(crate) fn transmit(
    input: &mut dyn Read,
    output: &mut dyn Write,
    chosen: &Chosen<'_>,
) -> Result<(), Error> {
    let mut session = Session { output, chosen };
    loop {
        let magic = u32(input, "request")?;
        if magic != REQUEST_MAGIC {
            return Err(Error::client("request", "its magic", format!("{magic:#x}")));
        }
        let (flags, command) = (u16(input, "request")?, u16(input, "request")?);
        let (cookie, offset, len) = (u64(input, "request")?, u64(input, "request")?, u32(input, "request")?);
        let range = offset..offset.saturating_add(len.into());
        let is_inside = range.end <= chosen.export.source.size();
        match command {
            CMD_DISCONNECT => return Ok(()),
            CMD_READ if !is_inside => session.fail(cookie, EINVAL, "beyond the end")?,
            CMD_READ if len > MAX_READ_BYTES => session.fail(cookie, EOVERFLOW, "too much at once")?,
            CMD_READ => session.read(cookie, range, flags)?,
            CMD_BLOCK_STATUS if !chosen.tells_holes || !is_inside || len == 0 => {
                session.fail(cookie, EINVAL, "not agreed on, or beyond the end")?;
            }
            CMD_BLOCK_STATUS => session.status(cookie, range, flags)?,
            CMD_FLUSH | CMD_CACHE => session.done(cookie)?,
            CMD_WRITE => {
                skip(input, len, "request")?;
                session.fail(cookie, EPERM, "read-only")?;
            }
            // Trimming, zeroing.
            4 | 6 => session.fail(cookie, EPERM, "read-only")?,
            _ => session.fail(cookie, EINVAL, "unknown command")?,
        }
    }
}

impl Session<'_, '_> {
    fn chunk(&mut self, flags: u16, kind: u16, cookie: u64, parts: &[&[u8]]) -> Result<(), Error> {
        let mut out = CHUNK_MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&cookie.to_be_bytes());
        let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        out.extend_from_slice(&len32(len).to_be_bytes());
        parts.iter().for_each(|part| out.extend_from_slice(part));
        send(self.output, &out, "answer a request")
    }

    fn simple(&mut self, cookie: u64, error: u32, data: &[u8]) -> Result<(), Error> {
        let mut out = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&error.to_be_bytes());
        out.extend_from_slice(&cookie.to_be_bytes());
        out.extend_from_slice(data);
        send(self.output, &out, "answer a request")
    }

    fn fail(&mut self, cookie: u64, error: u32, why: &str) -> Result<(), Error> {
        if !self.chosen.is_structured {
            return self.simple(cookie, error, b"");
        }
        let len = u16::try_from(why.len()).unwrap_or(0);
        let parts: [&[u8]; 3] = [&error.to_be_bytes(), &len.to_be_bytes(), why.as_bytes()];
        self.chunk(CHUNK_DONE, CHUNK_ERROR, cookie, &parts)
    }

    fn done(&mut self, cookie: u64) -> Result<(), Error> {
        match self.chosen.is_structured {
            true => self.chunk(CHUNK_DONE, CHUNK_NONE, cookie, &[]),
            false => self.simple(cookie, 0, b""),
        }
    }

    fn read(&mut self, cookie: u64, range: Range<u64>, flags: u16) -> Result<(), Error> {
        let is_whole = !self.chosen.is_structured || flags & CMD_FLAG_DF != 0;
        let pieces = if is_whole { None } else { self.stretches(&range, usize::MAX).ok() };
        let Some(pieces) = pieces else {
            return match self.bytes(&range) {
                Ok(bytes) if !self.chosen.is_structured => self.simple(cookie, 0, &bytes),
                Ok(bytes) => {
                    self.chunk(CHUNK_DONE, CHUNK_DATA, cookie, &[&range.start.to_be_bytes(), &bytes])
                }
                Err(_) => self.fail(cookie, EIO, "cannot be read"),
            };
        };
        let count = pieces.len();
        for (number, (piece, is_hole)) in pieces.into_iter().enumerate() {
            let last = if number.saturating_add(1) == count { CHUNK_DONE } else { 0 };
            let start = piece.start.to_be_bytes();
            if is_hole {
                let len = u32::try_from(piece.end.saturating_sub(piece.start)).unwrap_or(0);
                self.chunk(last, CHUNK_HOLE, cookie, &[&start, &len.to_be_bytes()])?;
                continue;
            }
            match self.bytes(&piece) {
                Ok(bytes) => self.chunk(last, CHUNK_DATA, cookie, &[&start, &bytes])?,
                Err(_) => return self.fail(cookie, EIO, "cannot be read"),
            }
        }
        if count == 0 { self.done(cookie) } else { Ok(()) }
    }

    fn bytes(&self, range: &Range<u64>) -> std::io::Result<Vec<u8>> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let read = self.chosen.export.source.read_vec_at(range.start, len);
        read.inspect_err(|error| (self.chosen.export.on_error)(error))
    }

    /// Data and holes of a range, at most `most` of them.
    fn stretches(&self, range: &Range<u64>, most: usize) -> std::io::Result<Vec<(Range<u64>, bool)>> {
        let mut out: Vec<(Range<u64>, bool)> = Vec::new();
        let mut at = range.start;
        while at < range.end && out.len() < most {
            let data = self.chosen.export.source.next_data(at);
            let data = data.inspect_err(|error| (self.chosen.export.on_error)(error))?;
            let start = data.as_ref().map_or(range.end, |data| data.start.min(range.end));
            let end = data.map_or(range.end, |data| data.end.min(range.end));
            let is_hole = start.saturating_sub(at) >= MIN_HOLE_BYTES || start == range.end && start > at;
            let first = if is_hole { start } else { at };
            if is_hole {
                out.push((at..start, true));
            }
            if first < end {
                match out.last_mut() {
                    Some((last, false)) if last.end == first => last.end = end,
                    _ => out.push((first..end, false)),
                }
            }
            at = end.max(at.saturating_add(1));
        }
        Ok(out)
    }

    fn status(&mut self, cookie: u64, range: Range<u64>, flags: u16) -> Result<(), Error> {
        let most = if flags & CMD_FLAG_ONE != 0 { 1 } else { MAX_STATES };
        let Ok(mut found) = self.stretches(&range, most) else {
            return self.fail(cookie, EIO, "cannot be read");
        };
        found.truncate(most);
        let mut data = META_ID.to_be_bytes().to_vec();
        for (piece, is_hole) in found {
            let len = u32::try_from(piece.end.saturating_sub(piece.start)).unwrap_or(u32::MAX);
            data.extend_from_slice(&len.to_be_bytes());
            data.extend_from_slice(&(if is_hole { STATE_HOLE } else { 0 }).to_be_bytes());
        }
        self.chunk(CHUNK_DONE, CHUNK_STATUS, cookie, &[&data])
    }
}
