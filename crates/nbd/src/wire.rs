//! Numbers of the protocol, all big-endian, and how they go over the wire.

use std::io::{Read, Write};

use crate::Error;

pub(crate) const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(crate) const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags: fixed newstyle, no zeros behind an export.
pub(crate) const FLAG_FIXED: u16 = 1;
pub(crate) const FLAG_NO_ZEROES: u16 = 2;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED: u32 = 8;
pub(crate) const OPT_LIST_META: u32 = 9;
pub(crate) const OPT_SET_META: u32 = 10;

pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_META: u32 = 4;
pub(crate) const REP_ERR_UNSUPPORTED: u32 = 0x8000_0001;
pub(crate) const REP_ERR_INVALID: u32 = 0x8000_0003;
pub(crate) const REP_ERR_UNKNOWN: u32 = 0x8000_0006;
pub(crate) const REP_ERR_TOO_BIG: u32 = 0x8000_0009;

pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_DESCRIPTION: u16 = 2;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags: there are some, read-only, DF may be set, several connections see the same.
pub(crate) const TRANSMISSION: u16 = 1 | 2 | (1 << 7) | (1 << 8);

pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
pub(crate) const CMD_DISCONNECT: u16 = 2;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_CACHE: u16 = 5;
pub(crate) const CMD_BLOCK_STATUS: u16 = 7;
pub(crate) const CMD_FLAG_ONE: u16 = 1 << 3;
pub(crate) const CMD_FLAG_DF: u16 = 1 << 2;

pub(crate) const CHUNK_DONE: u16 = 1;
pub(crate) const CHUNK_NONE: u16 = 0;
pub(crate) const CHUNK_DATA: u16 = 1;
pub(crate) const CHUNK_HOLE: u16 = 2;
pub(crate) const CHUNK_STATUS: u16 = 5;
pub(crate) const CHUNK_ERROR: u16 = 0x8001;

pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const EOVERFLOW: u32 = 75;

/// `base:allocation`: nothing is stored, and it reads as zeros.
pub(crate) const STATE_HOLE: u32 = 3;
pub(crate) const META_CONTEXT: &str = "base:allocation";
pub(crate) const META_ID: u32 = 1;

pub(crate) fn array<const N: usize>(input: &mut dyn Read, what: &'static str) -> Result<[u8; N], Error> {
    let mut out = [0; N];
    input.read_exact(&mut out).map_err(Error::io(what))?;
    Ok(out)
}

pub(crate) fn u16(input: &mut dyn Read, what: &'static str) -> Result<u16, Error> {
    array(input, what).map(u16::from_be_bytes)
}

pub(crate) fn u32(input: &mut dyn Read, what: &'static str) -> Result<u32, Error> {
    array(input, what).map(u32::from_be_bytes)
}

pub(crate) fn u64(input: &mut dyn Read, what: &'static str) -> Result<u64, Error> {
    array(input, what).map(u64::from_be_bytes)
}

/// Reads `len` bytes; what does not come is not allocated.
pub(crate) fn bytes(input: &mut dyn Read, len: u32, what: &'static str) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    input.take(len.into()).read_to_end(&mut out).map_err(Error::io(what))?;
    if u32::try_from(out.len()) != Ok(len) {
        return Err(Error::io(what)(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(out)
}

/// Reads `len` bytes and forgets them.
pub(crate) fn skip(input: &mut dyn Read, len: u32, what: &'static str) -> Result<(), Error> {
    let skipped =
        std::io::copy(&mut input.take(len.into()), &mut std::io::sink()).map_err(Error::io(what))?;
    if skipped != u64::from(len) {
        return Err(Error::io(what)(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

pub(crate) fn send(output: &mut dyn Write, bytes: &[u8], what: &'static str) -> Result<(), Error> {
    output.write_all(bytes).and_then(|()| output.flush()).map_err(Error::io(what))
}

/// A length in memory that was bounded before.
pub(crate) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
