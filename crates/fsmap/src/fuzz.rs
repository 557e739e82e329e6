//! Bodies for fuzzing: any bytes must give a map that keeps the rules, or an error, in bounded time and memory. Replayed as plain
//! tests in `tests/it/fuzz_bodies.rs`.

use gravure_io::ReadAt;

use crate::{Class, Error, Fallback, ListKind, Options, UsedMap, XfsVolume, list, map, owners, probe};

/// Runs and extents kept; few, so that the code that drops some is passed through.
const MAX_RUNS: usize = 100;
const MAX_EXTENTS: usize = 50;
/// Directories listed; a hostile one may have any number of them.
const MAX_DIRECTORIES: usize = 20;
/// Files looked at, likewise.
const MAX_FILES: usize = 400;

/// A whole device of a few megabytes: one body for all file systems, since a signature decides which code reads it.
pub fn volume(data: &[u8]) {
    device(&data.to_vec());
}

/// The same of a device that is not held in memory as a whole. True when there was a map.
pub fn device(dev: &dyn ReadAt) -> bool {
    if let Ok(probe) = probe(dev) {
        assert!(probe.size <= dev.size(), "{probe:?}");
    }
    let options = Options { max_runs: MAX_RUNS, max_extents: MAX_EXTENTS, ..Options::default() };
    let made = map(dev, &options);
    match &made {
        Ok(map) => check(map, dev),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Where everything is asked for instead, only the device itself can fail.
    let everything = Options { fallback: Fallback::Everything, ..options };
    match map(dev, &everything) {
        Ok(map) => check(&map, dev),
        Err(error) => assert!(
            matches!(error, Error::Io { .. } | Error::Ntfs(gravure_ntfs::Error::Io { .. })),
            "{error}"
        ),
    }
    let whole = 0..dev.size();
    if let Ok(owned) = owners(dev, std::slice::from_ref(&whole), &|| true) {
        let mut next = 0;
        for one in &owned {
            assert!(one.range.start == next && one.range.end > next, "{one:?}");
            next = one.range.end;
        }
        assert_eq!(next, dev.size());
    }
    listings(dev);
    // An error says enough.
    let _ = xfs_files(dev);
    made.is_ok()
}

/// Lists what can be listed, from the root down.
fn listings(dev: &dyn ReadAt) {
    let mut todo = vec![String::new()];
    let mut count = 0usize;
    while let Some(path) = todo.pop().filter(|_| count < MAX_DIRECTORIES) {
        count = count.saturating_add(1);
        match list(dev, &path, &|| true) {
            Ok(None) => {}
            Ok(Some(entries)) => {
                assert!(entries.is_sorted_by(|a, b| a.name <= b.name), "{path}");
                let directories = entries.iter().filter(|entry| entry.kind == ListKind::Directory);
                todo.extend(directories.map(|entry| format!("{path}/{}", entry.name)).take(MAX_DIRECTORIES));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Reads all that is known of files of XFS.
fn xfs_files(dev: &dyn ReadAt) -> Result<(), Error> {
    let xfs = XfsVolume::open(dev, &|| true)?;
    let mut todo = vec![xfs.root()?.number];
    let mut count = 0usize;
    while let Some(number) = todo.pop().filter(|_| count < MAX_FILES) {
        count = count.saturating_add(1);
        let Ok(file) = xfs.file(number) else { continue };
        if file.is_directory() {
            let entries = xfs.entries(&file).unwrap_or_default();
            todo.extend(entries.into_iter().map(|(_, number)| number).take(MAX_FILES));
        }
        let mut next = 0;
        for piece in xfs.pieces(&file).unwrap_or_default() {
            assert!(piece.pos >= next && piece.len > 0, "{piece:?}");
            next = piece.pos.saturating_add(piece.len);
            assert!(piece.offset.saturating_add(piece.len) <= dev.size() && next <= file.size, "{piece:?}");
        }
        for attribute in xfs.attributes(&file).unwrap_or_default() {
            assert!(attribute.name.len() > 5 && attribute.value.len() <= 1 << 16);
        }
        if let Ok(target) = xfs.target(&file) {
            assert!(!target.is_empty() && target.len() <= 1024);
        }
        let _ = xfs.allocated_bytes(&file);
    }
    Ok(())
}

/// The rules of a map.
fn check(map: &UsedMap, dev: &dyn ReadAt) {
    assert!(map.runs.len() <= MAX_RUNS && map.extents.len() <= MAX_EXTENTS);
    let mut next = 0u64;
    let mut last: Option<Class> = None;
    for run in &map.runs {
        assert!(run.len > 0 && run.offset >= next && run.end() <= map.size, "{run:?}");
        assert!(run.offset > next || last != Some(run.class) || next == 0, "{run:?}");
        next = run.end();
        last = Some(run.class);
    }
    assert!(map.allocated <= map.kept().saturating_add(map.excluded()));
    let mut next = 0u64;
    for extent in &map.extents {
        assert!(extent.offset >= next && extent.content > 0 && extent.content <= extent.len, "{extent:?}");
        next = extent.offset.saturating_add(extent.len);
    }
    if let Some(overlay) = &map.overlay {
        let over = map.overlaid(dev);
        for range in overlay.ranges().take(MAX_RUNS) {
            let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let _ = over.read_vec_at(range.start, len);
        }
    }
}

/// LVM's text.
pub fn lvm_text(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::lvm::parse_text(text);
    }
}
