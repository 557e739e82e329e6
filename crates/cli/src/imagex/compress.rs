//! `--compress` and what goes with it.

use gravure_codec::Level;
use gravure_imaging::{
    CaptureForm, Compression, CompressionChange, FormChange, Method, Recompress, RewriteOptions,
};

use super::options::{Given, Opt, flag, value};
use super::{integrity_change, mistake, unsupported};
use crate::exit::Failure;
use crate::limits;

/// Options of everything that compresses.
pub(super) const OPTIONS: [Opt; 7] = [
    value("compress"),
    value("chunk-size"),
    flag("solid"),
    value("solid-compress"),
    value("solid-chunk-size"),
    flag("pipable"),
    flag("recompress"),
];

/// What every reader takes (wim-container section 12).
const MAX_SOLID_CHUNK: u32 = 64 << 20;
/// Wimlib's users write 20, 50 or 100, and this is their default. Above it time does not matter.
const DEFAULT: u32 = 50;

/// Method, chunk size and effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compress {
    pub(super) compression: Option<Compression>,
    pub(super) level: Level,
}

/// How the contents of a new file are laid out. `to_pipe` says that it goes to standard output, which makes it pipable.
pub(super) fn form(given: &Given, to_pipe: bool) -> Result<CaptureForm, Failure> {
    let wants_solid = ["solid", "solid-compress", "solid-chunk-size"].iter().any(|option| given.has(option));
    match (wants_solid, to_pipe || given.has("pipable")) {
        (false, false) => Ok(CaptureForm::Normal),
        (false, true) => Ok(CaptureForm::Pipable),
        (true, true) => Err(unsupported("--solid: a file is either solid or pipable".to_owned())),
        (true, false) => {
            let method = match given.text("solid-compress").map_err(mistake)? {
                Some(text) => parse(text).map_err(mistake)?.0,
                None => Some(Method::Lzms),
            };
            let method = method.ok_or_else(|| mistake("--solid-compress: a solid file is compressed"))?;
            let chunk_size = match given.text("solid-chunk-size").map_err(mistake)? {
                Some(text) => parse_size(text).map_err(mistake)?,
                None => Compression::chunk_range(method).1.min(MAX_SOLID_CHUNK),
            };
            let made = Compression::new(method, chunk_size);
            let made = made.map_err(|error| mistake(format!("--solid-chunk-size: {error}")))?;
            limits::grant_chunk(made.chunk_size())?;
            Ok(CaptureForm::Solid(made))
        }
    }
}

/// What a new file is compressed with: LZX when nothing is said, XPRESS in small chunks for WIMBoot, LZMS beside a solid
/// resource. `is_new` says that there is no file yet whose compression counts.
pub(super) fn of(given: &Given, is_new: bool) -> Result<Compress, Failure> {
    if !is_new {
        refuse(given)?;
    }
    let is_wimboot = given.has("wimboot");
    let (method, level) = match given.text("compress").map_err(mistake)? {
        Some(_) if !is_new => {
            return Err(mistake("--compress: a file that is appended to keeps its compression"));
        }
        Some(text) => parse(text).map_err(mistake)?,
        None if is_wimboot => (Some(Method::Xpress), Level::NearOptimal),
        None if given.has("solid") && !given.has("solid-compress") => (Some(Method::Lzms), Level::Balanced),
        None => (Some(Method::Lzx), Level::Balanced),
    };
    let usual = match method {
        Some(Method::Xpress) if is_wimboot => 4096,
        Some(Method::Lzms) => 131_072,
        _ => 32768,
    };
    let chunk_size = match given.text("chunk-size").map_err(mistake)? {
        Some(text) => parse_size(text).map_err(mistake)?,
        None => usual,
    };
    let made = method.map(|method| Compression::new(method, chunk_size)).transpose();
    let compression = made.map_err(|error| mistake(format!("--chunk-size: {error}")))?;
    compression.map_or(Ok(()), |made| limits::grant_chunk(made.chunk_size()))?;
    Ok(Compress { compression, level })
}

/// Forms that a file does not get by being changed.
fn refuse(given: &Given) -> Result<(), Failure> {
    let option =
        ["solid", "solid-compress", "solid-chunk-size", "pipable"].into_iter().find(|it| given.has(it));
    match option {
        None => Ok(()),
        Some(option) => Err(unsupported(format!("--{option}: only new files are made solid or pipable"))),
    }
}

/// Options of files that are made of others. `to_pipe` says that the file goes to standard output; `is_new` that there is
/// none yet whose compression counts.
pub(super) fn rewrite(
    given: &Given,
    stage: &str,
    is_new: bool,
    to_pipe: bool,
) -> Result<RewriteOptions, Failure> {
    let form = match form(given, to_pipe)? {
        CaptureForm::Normal if !given.has("not-pipable") => FormChange::Keep,
        form => FormChange::To(form),
    };
    // LZMS goes with solid files, as in a capture.
    let is_solid = is_new && given.has("solid") && !given.has("solid-compress");
    // So does what WIMBoot reads with WIMBoot.
    let is_wimboot = is_new && given.has("wimboot");
    let is_changed = given.has("compress") || given.has("chunk-size") || is_solid || is_wimboot;
    let compress = if is_changed { Some(of(given, true)?) } else { None };
    Ok(RewriteOptions {
        stage: stage.to_owned(),
        threads: given.number("threads").map_err(mistake)?,
        compression: compress.map_or(CompressionChange::Keep, |it| CompressionChange::To(it.compression)),
        form,
        level: compress.map_or(Level::Balanced, |it| it.level),
        recompress: if given.has("recompress") { Recompress::Everything } else { Recompress::WhereNeeded },
        integrity: integrity_change(given),
        limits: limits::current(),
        ..RewriteOptions::default()
    })
}

/// `TYPE[:LEVEL]`.
fn parse(text: &str) -> Result<(Option<Method>, Level), String> {
    let (method, level) = match text.split_once(':') {
        Some((method, level)) => (method, Some(level)),
        None => (text, None),
    };
    let method = match method.to_ascii_lowercase().as_str() {
        "none" => None,
        "xpress" | "fast" => Some(Method::Xpress),
        "lzx" | "maximum" => Some(Method::Lzx),
        "lzms" | "recovery" => Some(Method::Lzms),
        other => return Err(format!("--compress: {other:?} is not one of none, XPRESS, LZX, LZMS")),
    };
    let level = match level.map(str::parse::<u32>) {
        None => Level::Balanced,
        Some(Ok(number)) if number < DEFAULT => Level::Fast,
        Some(Ok(DEFAULT)) => Level::Balanced,
        Some(Ok(_)) => Level::NearOptimal,
        Some(Err(_)) => return Err(format!("--compress: the level of {text:?} is no number")),
    };
    Ok((method, level))
}

/// Bytes, with `K`, `M` or `G` (or `KiB` and so on) for powers of 1024.
fn parse_size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        other => return Err(format!("size {text:?}: {other:?} is not one of K, M, G")),
    };
    let number = digits.parse::<u64>().ok();
    let bytes =
        number.and_then(|number| number.checked_mul(1 << shift)).and_then(|it| u32::try_from(it).ok());
    bytes.ok_or_else(|| format!("size {text:?} is no number of bytes below 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_levels_and_sizes() {
        for (text, expected) in [
            ("None", (None, Level::Balanced)),
            ("fast:20", (Some(Method::Xpress), Level::Fast)),
            ("LZX:100", (Some(Method::Lzx), Level::NearOptimal)),
            ("recovery", (Some(Method::Lzms), Level::Balanced)),
        ] {
            assert_eq!(parse(text), Ok(expected));
        }
        assert!(parse("zip").is_err() && parse("lzx:").is_err() && parse("lzx:x").is_err());
        for (text, expected) in [("32768", 32768), ("64K", 65536), ("2MiB", 2 << 20), ("1g", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(expected));
        }
        assert!(parse_size("4G").is_err() && parse_size("x").is_err() && parse_size("1kb").is_err());
    }
}
