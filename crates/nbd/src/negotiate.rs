//! Which export, and how to talk: the options of a client, one after the other.

use std::io::{Read, Write};

use crate::Error;
use crate::export::{Export, MAX_READ_BYTES, PREFERRED_BYTES};
use crate::wire::{
    FLAG_FIXED, FLAG_NO_ZEROES, INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT, INIT_MAGIC, META_CONTEXT,
    META_ID, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META, OPT_SET_META,
    OPT_STRUCTURED, OPTION_MAGIC, OPTION_REPLY_MAGIC, REP_ACK, REP_ERR_INVALID, REP_ERR_TOO_BIG,
    REP_ERR_UNKNOWN, REP_ERR_UNSUPPORTED, REP_INFO, REP_META, REP_SERVER, TRANSMISSION, bytes, len32, send,
    skip, u32, u64,
};

/// Bytes of an option that are looked at: names have 4096 at most.
const MAX_OPTION_BYTES: u32 = 64 << 10;
/// Options before a client has to choose.
const MAX_OPTIONS: u32 = 1000;

/// What was agreed on.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) export: Export<'a>,
    pub(crate) is_structured: bool,
    pub(crate) tells_holes: bool,
}

struct Session<'s, 'a> {
    output: &'s mut dyn Write,
    exports: &'s [Export<'a>],
    is_structured: bool,
    /// Name of the export that `base:allocation` was asked for.
    meta_of: Option<Vec<u8>>,
}

pub(crate) fn negotiate<'a>(
    input: &mut dyn Read,
    output: &mut dyn Write,
    exports: &[Export<'a>],
) -> Result<Option<Chosen<'a>>, Error> {
    let mut hello = INIT_MAGIC.to_be_bytes().to_vec();
    hello.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    hello.extend_from_slice(&(FLAG_FIXED | FLAG_NO_ZEROES).to_be_bytes());
    send(output, &hello, "send greeting")?;
    let flags = u32(input, "flags of the client")?;
    if flags & !3 != 0 {
        return Err(Error::client("flags of the client", "bits 0 and 1", format!("{flags:#x}")));
    }
    let no_zeroes = flags & u32::from(FLAG_NO_ZEROES) != 0;
    let mut session = Session { output, exports, is_structured: false, meta_of: None };
    for _ in 0..MAX_OPTIONS {
        let magic = u64(input, "option")?;
        if magic != OPTION_MAGIC {
            return Err(Error::client("option", "\"IHAVEOPT\"", format!("{magic:#x}")));
        }
        let (option, len) = (u32(input, "option")?, u32(input, "option")?);
        if len > MAX_OPTION_BYTES {
            skip(input, len, "option")?;
            if option == OPT_EXPORT_NAME {
                return Err(Error::client("name of an export", "at most 4096 bytes", len.to_string()));
            }
            session.reply(option, REP_ERR_TOO_BIG, b"")?;
            continue;
        }
        let data = bytes(input, len, "option")?;
        match option {
            OPT_EXPORT_NAME => {
                // The old way: there is no answer for a name that is not known.
                let found = session.find(&data);
                let found =
                    found.ok_or_else(|| Error::client("name of an export", "one of ours", text(&data)))?;
                let mut reply = found.source.size().to_be_bytes().to_vec();
                reply.extend_from_slice(&TRANSMISSION.to_be_bytes());
                if !no_zeroes {
                    reply.extend_from_slice(&[0; 124]);
                }
                send(session.output, &reply, "send export")?;
                return Ok(Some(session.chosen(found, &data)));
            }
            OPT_ABORT => {
                // Whoever leaves need not wait for it.
                let _ = session.reply(option, REP_ACK, b"");
                return Ok(None);
            }
            OPT_LIST if data.is_empty() => session.list(option)?,
            OPT_LIST => session.reply(option, REP_ERR_INVALID, b"no data expected")?,
            OPT_INFO | OPT_GO => {
                if let Some(chosen) = session.info(option, &data)? {
                    return Ok(Some(chosen));
                }
            }
            OPT_STRUCTURED if data.is_empty() => {
                session.is_structured = true;
                session.reply(option, REP_ACK, b"")?;
            }
            OPT_STRUCTURED => session.reply(option, REP_ERR_INVALID, b"no data expected")?,
            OPT_LIST_META | OPT_SET_META => session.meta(option, &data)?,
            _ => session.reply(option, REP_ERR_UNSUPPORTED, b"")?,
        }
    }
    Err(Error::client("options", "a choice", format!("{MAX_OPTIONS} options without one")))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(100).collect()
}

/// Splits `u32 length, bytes` off the front.
fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

impl<'a> Session<'_, 'a> {
    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<(), Error> {
        let mut out = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&option.to_be_bytes());
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&len32(data.len()).to_be_bytes());
        out.extend_from_slice(data);
        send(self.output, &out, "answer an option")
    }

    fn find(&self, name: &[u8]) -> Option<Export<'a>> {
        let by_name = self.exports.iter().find(|export| export.name.as_bytes() == name);
        let first = self.exports.first().filter(|_| name.is_empty());
        by_name.or(first).copied()
    }

    fn chosen(&self, export: Export<'a>, name: &[u8]) -> Chosen<'a> {
        let tells_holes = self.is_structured && self.meta_of.as_deref() == Some(name);
        Chosen { export, is_structured: self.is_structured, tells_holes }
    }

    fn list(&mut self, option: u32) -> Result<(), Error> {
        for export in self.exports {
            let mut data = len32(export.name.len()).to_be_bytes().to_vec();
            data.extend_from_slice(export.name.as_bytes());
            data.extend_from_slice(export.description.as_bytes());
            self.reply(option, REP_SERVER, &data)?;
        }
        self.reply(option, REP_ACK, b"")
    }

    fn info(&mut self, option: u32, data: &[u8]) -> Result<Option<Chosen<'a>>, Error> {
        let parsed = counted(data).and_then(|(name, rest)| {
            let (count, wanted) = rest.split_first_chunk::<2>()?;
            let is_whole = wanted.len() == usize::from(u16::from_be_bytes(*count)).checked_mul(2)?;
            is_whole.then_some((name, wanted))
        });
        let Some((name, wanted)) = parsed else {
            self.reply(option, REP_ERR_INVALID, b"name and list expected")?;
            return Ok(None);
        };
        let Some(found) = self.find(name) else {
            self.reply(option, REP_ERR_UNKNOWN, b"no such export")?;
            return Ok(None);
        };
        let mut about = INFO_EXPORT.to_be_bytes().to_vec();
        about.extend_from_slice(&found.source.size().to_be_bytes());
        about.extend_from_slice(&TRANSMISSION.to_be_bytes());
        self.reply(option, REP_INFO, &about)?;
        // Any byte may be asked for, whatever the disk's sectors are.
        let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [1, PREFERRED_BYTES.max(found.sector_bytes), MAX_READ_BYTES] {
            sizes.extend_from_slice(&size.to_be_bytes());
        }
        self.reply(option, REP_INFO, &sizes)?;
        if wanted.chunks_exact(2).any(|kind| kind == INFO_DESCRIPTION.to_be_bytes()) {
            let mut words = INFO_DESCRIPTION.to_be_bytes().to_vec();
            words.extend_from_slice(found.description.as_bytes());
            self.reply(option, REP_INFO, &words)?;
        }
        self.reply(option, REP_ACK, b"")?;
        Ok((option == OPT_GO).then(|| self.chosen(found, name)))
    }

    fn meta(&mut self, option: u32, data: &[u8]) -> Result<(), Error> {
        if !self.is_structured {
            return self.reply(option, REP_ERR_INVALID, b"structured replies first");
        }
        let parsed = counted(data).and_then(|(name, rest)| Some((name, rest.split_first_chunk::<4>()?)));
        let Some((name, (count, mut rest))) = parsed else {
            return self.reply(option, REP_ERR_INVALID, b"name and list expected");
        };
        if self.find(name).is_none() {
            return self.reply(option, REP_ERR_UNKNOWN, b"no such export");
        }
        let count = u32::from_be_bytes(*count);
        let mut wanted = count == 0 && option == OPT_LIST_META;
        for _ in 0..count {
            let Some((query, after)) = counted(rest) else {
                return self.reply(option, REP_ERR_INVALID, b"cut query");
            };
            let is_whole_space = query == b"base:" && option == OPT_LIST_META;
            wanted |= query == META_CONTEXT.as_bytes() || is_whole_space;
            rest = after;
        }
        if option == OPT_SET_META {
            self.meta_of = wanted.then(|| name.to_vec());
        }
        if wanted {
            let id = if option == OPT_SET_META { META_ID } else { 0 };
            let mut data = id.to_be_bytes().to_vec();
            data.extend_from_slice(META_CONTEXT.as_bytes());
            self.reply(option, REP_META, &data)?;
        }
        self.reply(option, REP_ACK, b"")
    }
}
