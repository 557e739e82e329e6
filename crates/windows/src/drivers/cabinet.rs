//! Microsoft cabinets (MS-CAB): which files lie where, read here; decoded by the `cab` crate.
//!
//! Files of a cabinet lie one behind another in folders, each compressed as one stream. The crate reads a file by decoding its folder from
//! the start, which for a pack of thousands of files is the square of what one pass costs, and it trusts where files begin. So each folder
//! is shown to it as a cabinet with one file, which is read once, front to back. Sets of several cabinets and Quantum are refused.

use std::io::{self, Read, Seek, SeekFrom};

use crate::Error;

/// Fixed part of the header (MS-CAB 2.1), of a folder (2.2) and of a file (2.3), in bytes.
const HEADER_BYTES: usize = 36;
const FOLDER_BYTES: usize = 8;
const FILE_BYTES: usize = 16;
/// Longest name of a file, with its end.
const MAX_NAME_BYTES: usize = 256;
/// `cfhdrPREV_CABINET`, `cfhdrNEXT_CABINET`, `cfhdrRESERVE_PRESENT`.
const HAS_PREVIOUS: u16 = 1;
const HAS_NEXT: u16 = 2;
const HAS_RESERVES: u16 = 4;
/// Most bytes of a folder: 65,535 blocks of 32 KiB.
const MAX_FOLDER_BYTES: u64 = 65_535 << 15;
/// Header of what the decoder is shown: fixed part, sizes of reserves, a folder, a file and its name of one letter.
const SHOWN_BYTES: usize = HEADER_BYTES + 4 + FOLDER_BYTES + FILE_BYTES + 2;

/// A run of compressed blocks.
#[derive(Debug, Clone, Copy)]
struct Folder {
    /// Of its first block.
    offset: u32,
    blocks: u16,
    compression: u16,
}

/// A file in a folder.
#[derive(Debug, Clone)]
struct File {
    name: String,
    folder: usize,
    /// In the decoded folder.
    pos: u64,
    size: u64,
}

/// Gives every file to `put`, folder by folder, in the order in which they lie.
pub(super) fn read<S: Read + Seek>(
    mut source: S,
    put: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), Error>,
    damaged: &dyn Fn(String) -> Error,
) -> Result<(), Error> {
    let cut = |error: io::Error| damaged(error.to_string());
    let (folders, mut files, reserved) = directory(&mut source, damaged)?;
    files.sort_by_key(|file| (file.folder, file.pos));
    let mut rest = files.as_slice();
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|file| file.folder == first.folder).count();
        let (here, next) = rest.split_at(count);
        rest = next;
        let folder =
            folders.get(first.folder).ok_or_else(|| damaged(format!("{}: in no folder", first.name)))?;
        let len = here.iter().map(|file| file.pos.saturating_add(file.size)).max().unwrap_or(0);
        if len > MAX_FOLDER_BYTES {
            return Err(damaged(format!("folder {}: {len} bytes", first.folder)));
        }
        let mut shown = cab::Cabinet::new(Shown::new(&mut source, *folder, reserved, len)).map_err(cut)?;
        let mut decoded = shown.read_file("f").map_err(cut)?;
        let mut at = 0u64;
        for file in here {
            let skipped = file.pos.checked_sub(at);
            let skipped = skipped.ok_or_else(|| damaged(format!("{}: lies in another file", file.name)))?;
            let gone = io::copy(&mut decoded.by_ref().take(skipped), &mut io::sink()).map_err(cut)?;
            let mut content = Whole { left: file.size, from: &mut decoded };
            if gone < skipped {
                return Err(damaged(format!("{}: begins behind its folder", file.name)));
            }
            put(&file.name, &mut content)?;
            if content.left > 0 {
                return Err(damaged(format!("{}: was not read to its end", file.name)));
            }
            at = file.pos.saturating_add(file.size);
        }
    }
    Ok(())
}

/// A file's part of its folder. An end before the file's is an error.
struct Whole<'a> {
    left: u64,
    from: &'a mut dyn Read,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else { return Ok(0) };
        let len = self.from.read(part)?;
        if len == 0 {
            let what = format!("{} bytes are missing", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.left = self.left.saturating_sub(u64::try_from(len).unwrap_or(u64::MAX));
        Ok(len)
    }
}

/// Folders, files, and the bytes that each block has for others.
fn directory<S: Read + Seek>(
    source: &mut S,
    damaged: &dyn Fn(String) -> Error,
) -> Result<(Vec<Folder>, Vec<File>, u8), Error> {
    let cut = |error: io::Error| damaged(error.to_string());
    source.seek(SeekFrom::Start(0)).map_err(cut)?;
    let mut source = io::BufReader::new(source);
    let header: [u8; HEADER_BYTES] = bytes(&mut source).map_err(cut)?;
    let (first_file, count) = (u32_at(&header, 16), u16_at(&header, 28));
    let (folder_count, flags) = (u16_at(&header, 26), u16_at(&header, 30));
    if header.get(25) != Some(&1) {
        return Err(damaged(format!("version {:?}", header.get(25))));
    }
    if flags & (HAS_PREVIOUS | HAS_NEXT) != 0 {
        return Err(damaged("one cabinet of a set".to_owned()));
    }
    let (mut of_folder, mut of_block) = (0u8, 0u8);
    if flags & HAS_RESERVES != 0 {
        let [low, high, folder, block] = bytes(&mut source).map_err(cut)?;
        (of_folder, of_block) = (folder, block);
        skip(&mut source, u64::from(u16::from_le_bytes([low, high]))).map_err(cut)?;
    }
    let mut folders = Vec::new();
    for _ in 0..folder_count {
        let entry: [u8; FOLDER_BYTES] = bytes(&mut source).map_err(cut)?;
        skip(&mut source, u64::from(of_folder)).map_err(cut)?;
        folders.push(Folder {
            offset: u32_at(&entry, 0),
            blocks: u16_at(&entry, 4),
            compression: u16_at(&entry, 6),
        });
    }
    source.seek(SeekFrom::Start(u64::from(first_file))).map_err(cut)?;
    let mut files = Vec::new();
    for _ in 0..count {
        let entry: [u8; FILE_BYTES] = bytes(&mut source).map_err(cut)?;
        let mut name = Vec::new();
        loop {
            let [byte] = bytes(&mut source).map_err(cut)?;
            match byte {
                0 => break,
                _ if name.len() < MAX_NAME_BYTES => name.push(byte),
                _ => return Err(damaged(format!("a name of more than {MAX_NAME_BYTES} bytes"))),
            }
        }
        files.push(File {
            // Without the mark for UTF-8 the code page is not told; Latin letters are what vendors' names are made of.
            name: String::from_utf8(name)
                .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect()),
            folder: usize::from(u16_at(&entry, 8)),
            pos: u64::from(u32_at(&entry, 4)),
            size: u64::from(u32_at(&entry, 0)),
        });
    }
    Ok((folders, files, of_block))
}

fn bytes<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    source.read_exact(&mut out)?;
    Ok(out)
}

fn skip(source: &mut impl Read, count: u64) -> io::Result<()> {
    io::copy(&mut source.take(count), &mut io::sink()).map(drop)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u16::from_le_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// A cabinet of one folder and one file `f`: a header of our own, and behind it the blocks where they are.
struct Shown<'a, S> {
    header: [u8; SHOWN_BYTES],
    source: &'a mut S,
    /// Of the first block in `source`.
    offset: u64,
    at: u64,
}

impl<'a, S: Read + Seek> Shown<'a, S> {
    fn new(source: &'a mut S, folder: Folder, reserved: u8, len: u64) -> Self {
        let mut header = Vec::with_capacity(SHOWN_BYTES);
        let start = u32::try_from(SHOWN_BYTES).unwrap_or(0);
        let files = start.saturating_sub(u32::try_from(FILE_BYTES).unwrap_or(0)).saturating_sub(2);
        header.extend(b"MSCF");
        header.extend([0; 12]);
        header.extend(files.to_le_bytes());
        header.extend([0; 4]);
        // Version 1.3, one folder, one file, reserves, of no set.
        header.extend([3, 1, 1, 0, 1, 0]);
        header.extend(HAS_RESERVES.to_le_bytes());
        header.extend([0; 4]);
        header.extend([0, 0, 0, reserved]);
        header.extend(start.to_le_bytes());
        header.extend(folder.blocks.to_le_bytes());
        header.extend(folder.compression.to_le_bytes());
        header.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        header.extend([0; 12]);
        header.extend(b"f\0");
        let mut fixed = [0; SHOWN_BYTES];
        fixed.iter_mut().zip(header).for_each(|(to, byte)| *to = byte);
        Self { header: fixed, source, offset: u64::from(folder.offset), at: 0 }
    }
}

impl<S: Read + Seek> Read for Shown<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        let len = match self.header.get(at..).filter(|rest| !rest.is_empty()) {
            Some(mut rest) => rest.read(buffer)?,
            None => {
                let behind = self.at.saturating_sub(u64::try_from(SHOWN_BYTES).unwrap_or(0));
                self.source.seek(SeekFrom::Start(self.offset.saturating_add(behind)))?;
                self.source.read(buffer)?
            }
        };
        self.at = self.at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        Ok(len)
    }
}

impl<S: Read + Seek> Seek for Shown<'_, S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            // The decoder never asks from the end.
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
