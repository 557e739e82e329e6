//! Block images: round trips, what is moved, and what every fault leaves.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::Disk;

use gravure_blockimg::facts::{Facts, Scope, Source, Volume};
use gravure_imaging::{
    BlockApplyOptions, BlockApplyReport, BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockImage,
    BlockLayout, BlockStream, BlockVerify, Delta, Error, ErrorKind, ExistingData, VolumeDevice,
    apply_block_image, apply_block_stream, no_hits, verify_block_image, whole_device,
};
use gravure_io::{ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_store::{LocalObjects, OnExisting, Store};
use gravure_testkit::{Fault, Operation, Random};

const MIB: usize = 1 << 20;

/// A device of a few MiB: text, noise, zeros, repetitions.
pub(crate) fn device(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(size);
    while out.len() < size {
        let len = usize::try_from(4096 * (1 + random.below(64))).unwrap();
        match random.below(4) {
            0 => out.resize(out.len() + len, 0),
            1 => {
                let at = out.len();
                out.resize(at + len, 0);
                random.fill(&mut out[at..]);
            }
            2 if out.len() > 2 * len => out.extend_from_within(out.len() - 2 * len..out.len() - len),
            _ => out.extend((0..len).map(|at| b"some text that repeats "[at % 23] ^ (at >> 12) as u8)),
        }
    }
    out.truncate(size);
    // A boot sector.
    out[510..512].copy_from_slice(&[0x55, 0xaa]);
    out
}

fn facts(size: usize) -> Facts {
    let source =
        Source { name: "test".into(), size_bytes: size as u64, sector_bytes: 512, ..Source::default() };
    Facts {
        version: 1,
        name: "test".into(),
        scope: Scope::Volume,
        source,
        volumes: vec![Volume { size_bytes: size as u64, ..Volume::default() }],
        ..Facts::default()
    }
}

pub(crate) fn capture_options(threads: usize) -> BlockCaptureOptions {
    BlockCaptureOptions { threads: Some(threads), ..BlockCaptureOptions::default() }
}

pub(crate) fn with_capture<T>(
    source: &dyn ReadAt,
    layout: &BlockLayout,
    work: impl FnOnce(&BlockCapture<'_>) -> T,
) -> T {
    let facts = facts(source.size() as usize);
    work(&BlockCapture { source, name: "test", layout, facts: &facts, hits: &no_hits })
}

fn capture(source: &dyn ReadAt, layout: &BlockLayout, threads: usize) -> (Vec<u8>, BlockCaptureReport) {
    let mut out = Vec::new();
    let report = with_capture(source, layout, |capture| {
        capture.to_stream(&mut out, "memory", &capture_options(threads), &Ctl::default(), &Silent)
    });
    (out, report.unwrap())
}

fn open(bytes: &[u8]) -> Result<BlockImage, Error> {
    BlockImage::open(Arc::new(bytes.to_vec()), "image")
}

fn apply_options() -> BlockApplyOptions {
    BlockApplyOptions { threads: Some(2), existing: ExistingData::Destroy, ..BlockApplyOptions::default() }
}

fn apply(image: &BlockImage, disk: &Disk, options: &BlockApplyOptions) -> Result<BlockApplyReport, Error> {
    apply_block_image(image, disk, options, &Ctl::default(), &Silent)
}

#[test]
fn a_device_comes_back_from_a_file_a_stream_and_a_store() {
    for size in [512, 100 * 1024, 3 * MIB + 512, 40 * MIB] {
        let source = device(size as u64, size);
        let layout = whole_device(size as u64);
        let (file, report) = capture(&source, &layout, 1);
        assert_eq!(report.data_bytes + report.zero_bytes, size as u64);
        assert_eq!(capture(&source, &layout, 4).0, file, "the bytes do not depend on the threads");
        let image = open(&file).unwrap();
        assert_eq!(report.id, Some(image.id()));
        let disk = Disk::used(size + 5 * 512);
        let applied = apply(&image, &disk, &apply_options()).unwrap();
        assert_eq!(disk.bytes()[..size], source, "{size} bytes from a file");
        assert!(applied.is_verified);
        assert_eq!((applied.tree, applied.verified_bytes), (report.tree, size as u64));

        let disk = Disk::used(size);
        let stream = BlockStream::open(file.as_slice(), "stream").unwrap();
        apply_block_stream(stream, &disk, &apply_options(), &Ctl::default(), &Silent).unwrap();
        assert!(disk.bytes() == source, "{size} bytes from a stream");

        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(Arc::new(LocalObjects::new(dir.path()))).unwrap());
        let into_store = |name: &str| {
            with_capture(&source, &layout, |capture| {
                let options = capture_options(2);
                capture.to_store(&store, name, OnExisting::Refuse, &options, &Ctl::default(), &Silent)
            })
        };
        let stored = into_store("one").unwrap();
        assert_eq!((stored.tree, stored.id), (report.tree, report.id));
        assert_eq!(into_store("two").unwrap().new_bytes, 0, "nothing of a second capture is new");
        assert_eq!(into_store("two").unwrap().id, report.id, "the same once more is nothing");
        let mut other = source.clone();
        other[0] ^= 0x80;
        let refused = with_capture(&other, &layout, |capture| {
            let options = capture_options(2);
            capture.to_store(&store, "two", OnExisting::Refuse, &options, &Ctl::default(), &Silent)
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
        let store = Arc::new(Store::open(Arc::new(LocalObjects::new(dir.path()))).unwrap());
        let image = BlockImage::open_stored(store, "two").unwrap();
        let disk = Disk::used(size);
        apply(&image, &disk, &apply_options()).unwrap();
        assert!(disk.bytes() == source, "{size} bytes from a store");
        let verified = verify_block_image(&image, None, &Ctl::default(), &Silent).unwrap();
        assert_eq!((verified.damage.len(), verified.tree), (0, report.tree));
    }
}

#[test]
fn a_redeploy_moves_only_what_differs() {
    let size = 40 * MIB;
    let old = device(1, size);
    let mut new = old.clone();
    let mut random = Random::new(9);
    // A tenth of the device, in pieces of 512 KiB, with content of the same kind.
    let other = device(2, size);
    for _ in 0..size / 10 / (MIB / 2) {
        let at = usize::try_from(random.below((2 * size / MIB) as u64)).unwrap() * (MIB / 2);
        new[at..at + MIB / 2].copy_from_slice(&other[at..at + MIB / 2]);
    }
    let (file, _) = capture(&new, &whole_device(size as u64), 2);
    let image = open(&file).unwrap();
    let disk = Disk::with(old, Operation::Write, u64::MAX, Fault::Fail);
    let report = apply(&image, &disk, &apply_options()).unwrap();
    assert!(disk.bytes() == new);
    let share = |bytes: u64, of: u64| bytes as f64 / of as f64;
    let (fetched, written) =
        (share(report.fetched_bytes, file.len() as u64), share(report.written_bytes, report.data_bytes));
    assert!(fetched <= 0.30 && written <= 0.20, "fetched {fetched:.3}, written {written:.3}");
    // On a device that holds nothing of it the sample says so, and everything comes.
    let report = apply(&image, &Disk::used(size), &apply_options()).unwrap();
    assert_eq!((report.written_bytes, report.kept_bytes), (report.data_bytes, 0));
    // And where it stands already, only what comes last is written.
    let report = apply(&image, &disk, &apply_options()).unwrap();
    assert!(report.written_bytes < 4 * MIB as u64, "{}", report.written_bytes);
}

const REPEATED_PIECE: usize = 64 << 10;

/// The first region has noise; each of three others has all its pieces again, every time in another order.
fn repeated() -> Vec<u8> {
    let mut random = Random::new(12);
    let mut noise = vec![0; 16 * MIB];
    random.fill(&mut noise);
    let mut source = vec![0; 132 * MIB];
    let mut pieces: Vec<&[u8]> = noise.chunks(REPEATED_PIECE).collect();
    for region in 0..4 {
        let start = region * 32 * MIB + 2 * MIB;
        for (at, piece) in pieces.iter().enumerate() {
            source[start + at * REPEATED_PIECE..][..REPEATED_PIECE].copy_from_slice(piece);
        }
        for at in (1..pieces.len()).rev() {
            pieces.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
        }
    }
    source
}

#[test]
fn a_frame_that_several_regions_want_is_fetched_once() {
    let source = repeated();
    let (file, captured) = capture(&source, &whole_device(source.len() as u64), 2);
    assert!(file.len() < 17 * MIB, "{} bytes for 16 MiB of noise", file.len());
    let image = open(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(Arc::new(LocalObjects::new(dir.path()))).unwrap());
    let layout = whole_device(source.len() as u64);
    with_capture(&source, &layout, |capture| {
        let options = capture_options(2);
        capture.to_store(&store, "one", OnExisting::Refuse, &options, &Ctl::default(), &Silent).unwrap();
    });
    for image in [image, BlockImage::open_stored(store, "one").unwrap()] {
        let disk = Disk::used(source.len());
        let report = apply(&image, &disk, &apply_options()).unwrap();
        assert!(disk.bytes() == source);
        assert_eq!((report.tree, report.is_verified), (captured.tree, true));
        assert!(report.fetched_bytes < 17 * MIB as u64, "fetched {}", report.fetched_bytes);
        // What is missing in the later regions only is fetched once, too.
        let mut cut = source.clone();
        cut[64 * MIB..].fill(0xaa);
        let disk = Disk::with(cut, Operation::Write, u64::MAX, Fault::Fail);
        let report = apply(&image, &disk, &apply_options()).unwrap();
        assert!(disk.bytes() == source);
        assert!(report.fetched_bytes < 17 * MIB as u64, "fetched {}", report.fetched_bytes);
        assert_eq!((report.kept_bytes, report.written_bytes), (32 * MIB as u64, 32 * MIB as u64));
    }
}

/// An image file that counts the bytes that are read of it.
struct Counted(Vec<u8>, AtomicU64);

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.read_exact_at(offset, buf)
    }
}

#[test]
fn verification_decodes_a_frame_once_and_names_every_partition_that_lacks_it() {
    let source = repeated();
    let layout = whole_device(source.len() as u64);
    let volume = |number, offset_bytes, size_bytes| Volume {
        number: Some(number),
        offset_bytes,
        size_bytes,
        ..Volume::default()
    };
    let volumes = vec![volume(1, 0, 64 * MIB as u64), volume(2, 64 * MIB as u64, 68 * MIB as u64)];
    let facts = Facts { volumes, ..facts(source.len()) };
    let capture =
        BlockCapture { source: &source, name: "test", layout: &layout, facts: &facts, hits: &no_hits };
    let dir = tempfile::tempdir().unwrap();
    let gim = dir.path().join("x.gim");
    capture.to_file(&gim, &capture_options(2), &Ctl::default(), &Silent).unwrap();
    let file = std::fs::read(&gim).unwrap();
    let counted = Arc::new(Counted(file.clone(), AtomicU64::new(0)));
    let source: Arc<dyn ReadAt> = counted.clone();
    let image = BlockImage::open(source, "image").unwrap();
    let report = verify_block_image(&image, Some(2), &Ctl::default(), &Silent).unwrap();
    // Every piece at each of its places, but read once; tables are read twice.
    assert_eq!((report.bytes, report.damage), (64 * MIB as u64, Vec::new()));
    assert_eq!(report.chunks, 4 * 16 * MIB as u64 / REPEATED_PIECE as u64);
    assert!(report.tree.is_some());
    let read = counted.1.load(Ordering::Relaxed);
    assert!(read > 16 * MIB as u64 && read < 17 * MIB as u64, "{read} bytes read");

    // A frame of content amid the file.
    let mut bad = file;
    bad[8 * MIB] ^= 1;
    let image = open(&bad).unwrap();
    let report = verify_block_image(&image, Some(2), &Ctl::default(), &Silent).unwrap();
    let [first, second] = report.damage.as_slice() else { panic!("{:?}", report.damage) };
    assert!(first.starts_with("partition 1, device at 0x"), "{first}");
    assert!(second.starts_with("partition 2, device at 0x"), "{second}");
    assert_eq!(report.tree, None);
    assert!(report.bytes < 64 * MIB as u64 && report.bytes > 56 * MIB as u64, "{}", report.bytes);
}

/// The first and last MiB of a device whose restore did not end must be nothing; where they are not, the restore ended amid them: all the
/// rest is there, and the first sector is not.
fn assert_not_bootable(disk: &[u8], source: &[u8], context: &str) {
    let (size, is_zero) = (source.len(), |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0));
    let (head, tail) = (&disk[..MIB], &disk[size - MIB..]);
    if is_zero(head) && is_zero(tail) {
        return;
    }
    assert!(is_zero(&head[..512]), "{context}: first sector");
    assert!(disk[MIB..size - MIB] == source[MIB..size - MIB], "{context}: an end before the rest");
    for (half, at) in [(head, 0), (tail, size - MIB)] {
        let is_partly = half.iter().zip(&source[at..]).all(|(found, right)| *found == 0 || found == right);
        assert!(is_partly, "{context}: neither nothing nor right at {at}");
    }
}

#[test]
fn a_restore_that_fails_anywhere_is_not_bootable_and_completes_on_its_next_run() {
    let size = 4 * MIB;
    let source = device(3, size);
    let (file, _) = capture(&source, &whole_device(size as u64), 1);
    let image = open(&file).unwrap();
    let options = BlockApplyOptions { threads: Some(1), ..apply_options() };
    let counting = Disk::used(size);
    apply(&image, &counting, &options).unwrap();
    let writes = counting.0.count(Operation::Write);
    assert!(writes > 20);
    // The first and the last operations, and a sample of those between; all in full runs.
    let step = if gravure_testkit::full_run() { 1 } else { 9 };
    let sampled = (0..writes).filter(|at| at % step == 0 || *at < 8 || *at + 8 > writes);
    for at in sampled {
        for fault in [Fault::Fail, Fault::PowerCut { bytes: 700 }, Fault::Lie, Fault::Flip { bit: 12345 }] {
            let disk = Disk::with(vec![0xaa; size], Operation::Write, at, fault);
            let result = apply(&image, &disk, &options);
            let context = format!("{fault:?} at {at} of {writes}");
            let bytes = disk.bytes();
            match result {
                // A sync that lies, and a flip or lie that changes nothing.
                Ok(_) => assert!(bytes == source, "{context}"),
                // The first two are those that make the ends nothing: what is struck there is the old content.
                Err(_) if at < 2 => {}
                // Struck when all of it was there: amid the first sector, or at the sync behind it.
                Err(_) if bytes == source => assert!(at + 3 > writes, "{context}"),
                // What is found wrong is made nothing again; what has lost its power stays as it is.
                Err(error) if matches!(fault, Fault::Flip { .. } | Fault::Lie) => {
                    let ends = bytes[..MIB].iter().chain(&bytes[size - MIB..]);
                    assert!({ ends }.all(|byte| *byte == 0), "{context}: {error}");
                }
                Err(error) => assert_not_bootable(&bytes, &source, &format!("{context}: {error}")),
            }
            let again = Disk::with(bytes, Operation::Write, u64::MAX, Fault::Fail);
            apply(&image, &again, &options).unwrap();
            assert!(again.bytes() == source, "{context}: next run");
        }
    }
}

#[test]
fn a_device_that_cannot_be_read_back_is_not_called_done() {
    let size = 3 * MIB;
    let source = device(4, size);
    let (file, _) = capture(&source, &whole_device(size as u64), 1);
    let image = open(&file).unwrap();
    let options = BlockApplyOptions { threads: Some(1), delta: Delta::Never, ..apply_options() };
    let counting = Disk::used(size);
    apply(&image, &counting, &options).unwrap();
    for at in 0..counting.0.count(Operation::Read) {
        for fault in [Fault::Fail, Fault::Flip { bit: 999 }] {
            let disk = Disk::with(vec![0xaa; size], Operation::Read, at, fault);
            let result = apply(&image, &disk, &options);
            assert!(result.is_err(), "{fault:?} at {at}");
            // Nothing is read before the body is written, and the ends come after it was read back.
            if disk.bytes() != source {
                assert_not_bootable(&disk.bytes(), &source, &format!("{fault:?} at {at}"));
            }
        }
    }
}

#[test]
fn damaged_images_never_look_restored() {
    let size = 2 * MIB + 4096;
    let source = device(5, size);
    let (file, _) = capture(&source, &whole_device(size as u64), 1);
    let mut random = Random::new(5);
    let options = apply_options();
    for round in 0..150 {
        let mut bad = file.clone();
        let is_cut = round % 3 == 0;
        if is_cut {
            bad.truncate(usize::try_from(random.below(file.len() as u64)).unwrap());
        } else {
            let at = usize::try_from(random.below(file.len() as u64)).unwrap();
            bad[at] ^= 1 << random.below(8);
        }
        let disk = Disk::used(size);
        let applied = open(&bad).and_then(|image| apply(&image, &disk, &options));
        check_outcome(&applied, &disk, &source, is_cut, round);
        if let Ok(image) = open(&bad) {
            let damage = verify_block_image(&image, Some(2), &Ctl::default(), &Silent);
            let is_sound = damage.is_ok_and(|report| report.damage.is_empty());
            assert_eq!(is_sound, applied.is_ok(), "round {round}: verify and apply agree");
        }
        let disk = Disk::used(size);
        let applied = BlockStream::open(bad.as_slice(), "stream")
            .and_then(|stream| apply_block_stream(stream, &disk, &options, &Ctl::default(), &Silent));
        check_outcome(&applied, &disk, &source, is_cut, round);
    }
}

fn check_outcome(
    applied: &Result<BlockApplyReport, Error>,
    disk: &Disk,
    source: &[u8],
    is_cut: bool,
    round: u64,
) {
    let bytes = disk.bytes();
    match applied {
        Ok(_) => assert!(bytes == source && !is_cut, "round {round}"),
        Err(error) => {
            let untouched = bytes.iter().all(|byte| *byte == 0xaa);
            assert!(untouched || bytes[..512].iter().all(|byte| *byte == 0), "round {round}: {error}");
            assert!(
                matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported),
                "round {round}: {error:?}"
            );
        }
    }
}

/// A source with sectors that fail, some only at first.
pub(crate) struct Failing {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bad: Range<u64>,
    pub(crate) once: std::sync::Mutex<Vec<u64>>,
}

impl ReadAt for Failing {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = offset..offset + buf.len() as u64;
        let mut once = self.once.lock().unwrap();
        let before = once.len();
        once.retain(|at| !range.contains(at));
        if once.len() < before || (range.start < self.bad.end && range.end > self.bad.start) {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.read_exact_at(offset, buf)
    }
}

#[test]
fn bad_sectors_are_tried_again_and_recorded() {
    let size = 4 * MIB;
    let bytes = device(6, size);
    let bad = 1_000_448..1_003_520;
    let source = Failing { bytes: bytes.clone(), bad: bad.clone(), once: vec![5000, 3_000_000].into() };
    let layout = whole_device(size as u64);
    let mut file = Vec::new();
    let capture_facts = facts(size);
    let hits = |range: &Range<u64>| vec![format!("file at {}", range.start)];
    let capture =
        BlockCapture { source: &source, name: "test", layout: &layout, facts: &capture_facts, hits: &hits };
    let report =
        capture.to_stream(&mut file, "memory", &capture_options(2), &Ctl::default(), &Silent).unwrap();
    assert_eq!((report.unreadable_bytes, report.skipped), (bad.end - bad.start, 1));
    let image = open(&file).unwrap();
    let outcome = &image.root().outcome;
    let found: u64 = outcome.unreadable.iter().map(|place| place.size_bytes).sum();
    assert_eq!((outcome.unreadable[0].offset_bytes, found), (bad.start, bad.end - bad.start));
    assert_eq!(outcome.unreadable[0].hits, [format!("file at {}", bad.start)]);
    let disk = Disk::used(size);
    let applied = apply(&image, &disk, &apply_options()).unwrap();
    assert_eq!(applied.unreadable_bytes, bad.end - bad.start);
    let mut expected = bytes;
    expected[bad.start as usize..bad.end as usize].fill(0);
    assert!(disk.bytes() == expected);
    let options =
        BlockCaptureOptions { bad_sectors: gravure_imaging::BadSectors::Refuse, ..capture_options(1) };
    let refused = capture.to_stream(&mut Vec::new(), "memory", &options, &Ctl::default(), &Silent);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Io);
}

/// A target with sectors that cannot be read; a drive puts them elsewhere when they are written, if it has room left.
struct Worn {
    disk: Disk,
    bad: std::sync::Mutex<Vec<u64>>,
    has_spare_sectors: bool,
}

impl Worn {
    fn replaced(&self, range: &Range<u64>) {
        if self.has_spare_sectors {
            // A sector of which only a part is written has to be read first.
            self.bad.lock().unwrap().retain(|at| !(range.start <= *at && at + 512 <= range.end));
        }
    }
}

impl ReadAt for Worn {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = offset..offset + buf.len() as u64;
        match self.bad.lock().unwrap().iter().any(|at| range.start < at + 512 && *at < range.end) {
            true => Err(io::Error::other("bad sector")),
            false => self.disk.read_exact_at(offset, buf),
        }
    }
}

impl WriteAt for Worn {
    fn block_size(&self) -> u32 {
        512
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.replaced(&(offset..offset + buf.len() as u64));
        self.disk.write_all_at(offset, buf)
    }
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.replaced(&range);
        self.disk.zero_range(range)
    }
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.disk.discard(range)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

impl VolumeDevice for Worn {
    fn sector_bytes(&self) -> u32 {
        512
    }
    fn name(&self) -> &str {
        "worn disk"
    }
    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn sectors_of_the_target_that_cannot_be_read_are_written_and_told() {
    let size = 8 * MIB;
    let mut source = device(31, size);
    // One in content, one in what must read as zeros.
    Random::new(31).fill(&mut source[2 * MIB..3 * MIB]);
    source[4 * MIB..6 * MIB].fill(0);
    let bad = [2 * MIB as u64 + 5 * 512, 5 * MIB as u64 + 512];
    let (file, _) = capture(&source, &whole_device(size as u64), 1);
    let image = open(&file).unwrap();
    for delta in [Delta::Auto, Delta::Always] {
        let worn = |has_spare_sectors| Worn {
            disk: Disk::with(source.clone(), Operation::Write, u64::MAX, Fault::Fail),
            bad: bad.to_vec().into(),
            has_spare_sectors,
        };
        let options = BlockApplyOptions { delta, ..apply_options() };
        let target = worn(true);
        let report = apply_block_image(&image, &target, &options, &Ctl::default(), &Silent).unwrap();
        assert!(target.disk.bytes() == source && target.bad.lock().unwrap().is_empty(), "{delta:?}");
        assert!(report.is_verified && report.kept_bytes > 0, "{delta:?}: {report:?}");
        // Both places, and no more than the chunk or run of zeros that each is in.
        assert!((8192..4 * MIB as u64).contains(&report.faulty_bytes), "{delta:?}: {report:?}");
        let told =
            format!("{} bytes of worn disk could not be read before they were written", report.faulty_bytes);
        assert!(report.warnings.iter().any(|warning| warning.starts_with(&told)), "{:?}", report.warnings);
        // A drive without spare sectors: reading back says so.
        let target = worn(false);
        let error = apply_block_image(&image, &target, &options, &Ctl::default(), &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{delta:?}: {error}");
        assert_not_bootable(&target.disk.bytes(), &source, "a worn disk");
    }
}

/// Takes so many bytes and no more, as a full disk does.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(buf.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_a_capture_wherever_it_is() {
    let size = 2 * MIB;
    let source = device(7, size);
    let layout = whole_device(size as u64);
    let (file, _) = capture(&source, &layout, 1);
    for room in (0..file.len()).step_by(file.len() / 37) {
        let result = with_capture(&source, &layout, |capture| {
            capture.to_stream(&mut Full(room), "memory", &capture_options(2), &Ctl::default(), &Silent)
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Io, "{room}");
    }
}

#[test]
fn targets_that_do_not_fit_or_hold_data_are_refused() {
    let size = MIB;
    let (file, _) = capture(&device(8, size), &whole_device(size as u64), 1);
    let image = open(&file).unwrap();
    let small = apply(&image, &Disk::used(size - 512), &apply_options()).unwrap_err();
    let message = "refused: applying image to disk: the image needs 1048576 bytes, the target has 1048064";
    assert_eq!(small.to_string(), message);
    let disk = Disk::used(size);
    let options = BlockApplyOptions { existing: ExistingData::Refuse, ..apply_options() };
    let refused = apply(&image, &disk, &options).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(disk.bytes().iter().all(|byte| *byte == 0xaa), "nothing was written");
    let options = BlockApplyOptions { verify: BlockVerify::Decode, ..apply_options() };
    let report = apply(&image, &disk, &options).unwrap();
    assert!(!report.is_verified);
}
