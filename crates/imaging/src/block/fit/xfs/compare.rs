//! Two XFS volumes compared by our own reader: names, metadata, attributes, contents. What the kernel wrote is not asked of the kernel.

use std::collections::BTreeMap;

use gravure_fsmap::{XfsFile, XfsPiece, XfsVolume};
use gravure_io::ReadAt;
use gravure_model::Ctl;

use super::copy::STEP_BYTES;
use super::failed;
use crate::Error;
use crate::meter::Meter;

/// Compares the second volume with the first; bytes of content that are equal.
pub(super) fn compare(
    volumes: [&XfsVolume<'_>; 2],
    devices: [&dyn ReadAt; 2],
    names: [&str; 2],
    meter: &Meter<'_>,
    ctl: &Ctl,
) -> Result<u64, Error> {
    let mut comparison = Comparison {
        volumes,
        devices,
        names,
        meter,
        ctl,
        numbers: [BTreeMap::new(), BTreeMap::new()],
        bytes: 0,
    };
    let [first, second] = [0, 1].map(|side| comparison.volumes[side].root());
    let roots = [first.map_err(failed(names[0], ctl))?, second.map_err(failed(names[1], ctl))?];
    comparison.pair("/", &roots)?;
    // Only directories wait, and by their numbers.
    let mut todo = vec![("/".to_owned(), roots.map(|file| file.number))];
    while let Some((path, numbers)) = todo.pop() {
        comparison.directories(&path, numbers, &mut todo)?;
    }
    Ok(comparison.bytes)
}

struct Comparison<'a> {
    volumes: [&'a XfsVolume<'a>; 2],
    devices: [&'a dyn ReadAt; 2],
    names: [&'a str; 2],
    meter: &'a Meter<'a>,
    ctl: &'a Ctl,
    /// Of files with several names: which one is which one on the other side.
    numbers: [BTreeMap<u64, u64>; 2],
    bytes: u64,
}

impl Comparison<'_> {
    fn differs(&self, path: &str, what: &'static str, expected: String, found: String) -> Error {
        let path = format!("{path} of {}", self.names[1]);
        Error::Differs { path, what, expected, found, more: 0 }
    }

    /// The same asked of both sides.
    fn both<T>(
        &self,
        files: &[XfsFile; 2],
        ask: impl Fn(&XfsVolume<'_>, &XfsFile) -> Result<T, gravure_fsmap::Error>,
    ) -> Result<[T; 2], Error> {
        let [first, second] = [0, 1].map(|side| ask(self.volumes[side], &files[side]));
        Ok([
            first.map_err(failed(self.names[0], self.ctl))?,
            second.map_err(failed(self.names[1], self.ctl))?,
        ])
    }

    fn files(&self, numbers: [u64; 2]) -> Result<[XfsFile; 2], Error> {
        let [old, new] = [0, 1].map(|side| self.volumes[side].file(numbers[side]));
        Ok([old.map_err(failed(self.names[0], self.ctl))?, new.map_err(failed(self.names[1], self.ctl))?])
    }

    /// Compares all of a file, or all of a directory but what is in it.
    fn pair(&mut self, path: &str, files: &[XfsFile; 2]) -> Result<(), Error> {
        let [old, new] = files;
        // Directories are as large as their blocks.
        let size = |file: &XfsFile| if file.is_directory() { 0 } else { file.size };
        for (what, expected, found) in [
            ("mode", format!("{:o}", old.mode), format!("{:o}", new.mode)),
            ("owner", format!("{}:{}", old.uid, old.gid), format!("{}:{}", new.uid, new.gid)),
            ("count of names", old.links.to_string(), new.links.to_string()),
            ("size", size(old).to_string(), size(new).to_string()),
            ("device number", format!("{:?}", old.device), format!("{:?}", new.device)),
            (
                "times",
                format!("{:?}", [old.accessed, old.written]),
                format!("{:?}", [new.accessed, new.written]),
            ),
        ] {
            if expected != found {
                return Err(self.differs(path, what, expected, found));
            }
        }
        let [expected, found] = self.both(files, |xfs, file| xfs.attributes(file))?;
        // A security module may have put one on every new file.
        if let Some(missing) = expected.iter().find(|one| !found.contains(one)) {
            let name = String::from_utf8_lossy(&missing.name).into_owned();
            return Err(self.differs(path, "extended attribute", name, "none, or another value".to_owned()));
        }
        if old.is_directory() {
            return Ok(());
        }
        if old.links > 1 {
            match (self.numbers[0].get(&old.number), self.numbers[1].get(&new.number)) {
                (None, None) => {
                    self.numbers[0].insert(old.number, new.number);
                    self.numbers[1].insert(new.number, old.number);
                }
                // Compared under another name.
                (Some(forth), Some(back)) if *forth == new.number && *back == old.number => return Ok(()),
                _ => {
                    let (expected, found) = ("those of one file".to_owned(), "several files".to_owned());
                    return Err(self.differs(path, "names", expected, found));
                }
            }
        }
        if old.is_link() {
            let [expected, found] = self.both(files, |xfs, file| xfs.target(file))?;
            if expected != found {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return Err(self.differs(path, "target", text(&expected), text(&found)));
            }
        }
        if old.is_file() { self.contents(path, files) } else { Ok(()) }
    }

    /// Compares the names in a directory, and what they lead to.
    fn directories(
        &mut self,
        path: &str,
        numbers: [u64; 2],
        todo: &mut Vec<(String, [u64; 2])>,
    ) -> Result<(), Error> {
        let files = self.files(numbers)?;
        let [expected, found] = self.both(&files, |xfs, file| {
            let mut entries = xfs.entries(file)?;
            entries.sort();
            Ok(entries)
        })?;
        let names = |entries: &[(Vec<u8>, u64)]| -> Vec<Vec<u8>> {
            entries.iter().map(|(name, _)| name.clone()).collect()
        };
        if names(&expected) != names(&found) {
            let (expected, found) =
                (format!("{} names", expected.len()), format!("other {} names", found.len()));
            return Err(self.differs(path, "names in the directory", expected, found));
        }
        for ((name, old), (_, new)) in expected.into_iter().zip(found) {
            self.ctl.check()?;
            let below = format!("{}/{}", path.trim_end_matches('/'), String::from_utf8_lossy(&name));
            let files = self.files([old, new])?;
            self.pair(&below, &files)?;
            if files[0].is_directory() {
                todo.push((below, [old, new]));
            }
        }
        Ok(())
    }

    /// Compares where either side has a piece; elsewhere both are zeros.
    fn contents(&mut self, path: &str, files: &[XfsFile; 2]) -> Result<(), Error> {
        let pieces = self.both(files, |xfs, file| xfs.pieces(file))?;
        let mut ranges: Vec<_> =
            pieces.iter().flatten().map(|piece| piece.pos..piece.pos + piece.len).collect();
        ranges.sort_by_key(|range| range.start);
        let mut next = 0;
        let mut bufs = [Vec::new(), Vec::new()];
        for range in ranges {
            let mut pos = range.start.max(next);
            while pos < range.end {
                self.ctl.check()?;
                let len = (range.end - pos).min(STEP_BYTES);
                for side in [0, 1] {
                    let buf = &mut bufs[side];
                    buf.clear();
                    buf.resize(usize::try_from(len).unwrap_or(0), 0);
                    let read = read(self.devices[side], &pieces[side], pos, buf);
                    read.map_err(Error::io("read", format!("{path} of {}", self.names[side])))?;
                }
                if bufs[0] != bufs[1] {
                    let place = format!("{path} at byte {pos}");
                    let expected = "what the image has".to_owned();
                    return Err(self.differs(&place, "content", expected, "other bytes".to_owned()));
                }
                pos += len;
                self.bytes += len;
                self.meter.add(len);
            }
            next = next.max(range.end);
        }
        Ok(())
    }
}

/// Content at `pos` into `buf`, which is zero.
fn read(device: &dyn ReadAt, pieces: &[XfsPiece], pos: u64, buf: &mut [u8]) -> std::io::Result<()> {
    let end = pos + buf.len() as u64;
    let first = pieces.partition_point(|piece| piece.pos + piece.len <= pos);
    for piece in pieces.iter().skip(first).take_while(|piece| piece.pos < end) {
        let (from, to) = (piece.pos.max(pos), (piece.pos + piece.len).min(end));
        let place = usize::try_from(from - pos).unwrap_or(0)..usize::try_from(to - pos).unwrap_or(0);
        device.read_exact_at(piece.offset + (from - piece.pos), &mut buf[place])?;
    }
    Ok(())
}
