//! Files in pieces, compressed or not, as one stream.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::PathBuf;

use crate::Error;

/// Bytes that tell what a stream is.
const HEAD_BYTES: usize = 16;
/// zstd streams of `--long` windows up to 128 MiB are read.
const MAX_WINDOW_LOG: u32 = 27;
/// Memory for the dictionary of a stream of lzma: `-9` takes 64 MiB.
const MAX_LZMA_KIB: u32 = 256 << 10;

/// Files one after the other.
struct Joined {
    paths: VecDeque<PathBuf>,
    open: Option<File>,
}

impl Read for Joined {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.open {
                match file.read(buf)? {
                    0 => self.open = None,
                    read => return Ok(read),
                }
            }
            match self.paths.pop_front() {
                Some(path) => self.open = Some(File::open(path)?),
                None => return Ok(0),
            }
        }
    }
}

/// Frames of LZ4 one after the other, as `cat` joins them.
struct Lz4Frames<R: Read>(lz4_flex::frame::FrameDecoder<R>);

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buf)? {
                // The end of a frame; the next read begins another one.
                0 if !buf.is_empty() && !self.0.get_mut().fill_buf()?.is_empty() => {}
                read => return Ok(read),
            }
        }
    }
}

/// What a decoder gives. That its input makes no sense is damage, not an error of the system.
struct Decoded<R>(R);

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|error| match error.raw_os_error() {
            Some(_) => error,
            None => io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}

/// Whether a word is the extension of a kind of compression, not a piece's number.
pub(super) fn is_extension(word: &str) -> bool {
    ["gz", "bz2", "lzo", "lzma", "xz", "lz4", "lrz", "zst", "zstd", "lz"].contains(&word)
}

/// The content of `paths` one after the other, decompressed.
pub(super) fn open(paths: &[PathBuf]) -> Result<Box<dyn Read>, Error> {
    let name = paths.first().map_or_else(String::new, |path| path.display().to_string());
    let mut input = Joined { paths: paths.iter().cloned().collect(), open: None };
    let mut head = Vec::new();
    (&mut input).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(Error::io("read", &name))?;
    let compression = match head.as_slice() {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x89, b'L', b'Z', b'O', ..] => "lzop",
        [b'L', b'R', b'Z', b'I', ..] => "lrzip",
        [0x5d, 0, 0, ..] => "lzma",
        _ => "",
    };
    let input: Chain<Cursor<Vec<u8>>, Joined> = Cursor::new(head).chain(input);
    let input = BufReader::with_capacity(1 << 20, input);
    match compression {
        "" => Ok(Box::new(input)),
        "gzip" => {
            let decoder = Decoded(flate2::bufread::MultiGzDecoder::new(input));
            Ok(Box::new(BufReader::with_capacity(1 << 20, decoder)))
        }
        "zstd" => {
            let mut decoder = zstd::Decoder::with_buffer(input).map_err(Error::io("read", &name))?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(Error::io("read", &name))?;
            Ok(Box::new(Decoded(decoder)))
        }
        "xz" => Ok(Box::new(Decoded(lzma_rust2::XzReader::new(input, true)))),
        "lzma" => {
            let decoder = lzma_rust2::LzmaReader::new_mem_limit(input, MAX_LZMA_KIB, None);
            Ok(Box::new(Decoded(decoder.map_err(Error::io("read", &name))?)))
        }
        "lz4" => Ok(Box::new(Decoded(Lz4Frames(lz4_flex::frame::FrameDecoder::new(input))))),
        "bzip2" => Ok(Box::new(Decoded(bzip2::bufread::MultiBzDecoder::new(input)))),
        other => {
            Err(Error::Unsupported { what: "compression of the image", value: format!("{other}: {name}") })
        }
    }
}

/// Whether it is an image of partclone.
pub(super) fn is_partclone(paths: &[PathBuf]) -> Result<bool, Error> {
    let mut input = match open(paths) {
        Ok(input) => input,
        Err(Error::Unsupported { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut head = Vec::new();
    // What does not decompress is nothing of ours.
    let _ = (&mut input).take(HEAD_BYTES as u64).read_to_end(&mut head);
    Ok(gravure_blockimg::is_partclone(&head))
}
