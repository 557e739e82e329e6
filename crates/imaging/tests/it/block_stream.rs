//! Block images from a pipe: what is written is read back, however much it is, and a larger disk gets a table that knows its end.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::block_fit::{Sectors, options, run, stream_of, table};
use crate::block_images::{capture_options, device, with_capture};
use crate::disk::Disk;

use gravure_blockimg::FileSpan;
use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage};
use gravure_imaging::{
    BlockApplyOptions, BlockApplyReport, BlockLayout, BlockSource, BlockStream, BlockVerify, Delta, Error,
    ErrorKind, VolumeDevice, apply_block_stream, whole_device,
};
use gravure_io::{MemoryDisk, ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, Operation, oracle};

const MIB: u64 = 1 << 20;

fn captured(source: &dyn ReadAt, layout: &BlockLayout) -> Vec<u8> {
    let mut out = Vec::new();
    with_capture(source, layout, |capture| {
        capture.to_stream(&mut out, "memory", &capture_options(2), &Ctl::default(), &Silent)
    })
    .unwrap();
    out
}

fn apply(
    input: impl Read + Send,
    device: &dyn VolumeDevice,
    options: &BlockApplyOptions,
) -> Result<BlockApplyReport, Error> {
    let stream = BlockStream::open(input, "stream")?;
    apply_block_stream(stream, device, options, &Ctl::default(), &Silent)
}

#[test]
fn what_a_disk_lost_or_changed_is_found_after_a_pipe() {
    let size = 3 * MIB as usize + 4096;
    let source = device(11, size);
    let stream = captured(&source, &whole_device(size as u64));
    let counting = Disk::used(size);
    let report = apply(stream.as_slice(), &counting, &options()).unwrap();
    assert_eq!((report.is_verified, report.verified_bytes), (true, size as u64));
    let decode = BlockApplyOptions { verify: BlockVerify::Decode, ..options() };
    let report = apply(stream.as_slice(), &Disk::used(size), &decode).unwrap();
    assert_eq!((report.is_verified, report.verified_bytes), (false, 0));
    let mut found = 0;
    for (operation, faults) in [
        (Operation::Write, &[Fault::Lie, Fault::Flip { bit: 4321 }][..]),
        (Operation::Read, &[Fault::Fail, Fault::Flip { bit: 4321 }]),
    ] {
        for at in 0..counting.0.count(operation) {
            for fault in faults {
                let disk = Disk::with(vec![0xaa; size], operation, at, *fault);
                let result = apply(stream.as_slice(), &disk, &options());
                let (bytes, context) = (disk.bytes(), format!("{fault:?} at {operation:?} {at}"));
                match result {
                    Ok(_) => assert!(bytes == source, "{context}: called verified"),
                    Err(error) => {
                        found += 1;
                        let ends = bytes[..MIB as usize].iter().chain(&bytes[size - MIB as usize..]);
                        assert!({ ends }.all(|byte| *byte == 0), "{context}: {error}");
                    }
                }
            }
        }
    }
    assert!(found > 10, "{found}");
}

/// Counts what was taken of a stream.
struct Counted<'a>(&'a [u8], &'a AtomicU64);

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buf)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[test]
fn a_long_stream_is_read_back_before_its_end() {
    // Every sector a file of its own: more extents than are remembered, and none that is read for a copy.
    let sectors: u64 = (1 << 18) + (1 << 17);
    let mut source = vec![0; (sectors * 512) as usize];
    for (number, sector) in source.chunks_exact_mut(512).enumerate() {
        sector[..8].copy_from_slice(&(1 + number as u64).to_le_bytes());
    }
    let files =
        (0..sectors).map(|number| FileSpan { offset: number * 512, len: 512, file_offset: 0, content: 512 });
    let layout = BlockLayout { files: files.collect(), ..whole_device(sectors * 512) };
    let stream = captured(&source, &layout);
    let taken = AtomicU64::new(0);
    // The first write of the body, after the two ends were erased, comes out wrong.
    let disk = Disk::with(vec![0xaa; source.len()], Operation::Write, 3, Fault::Flip { bit: 77 });
    let error = apply(Counted(&stream, &taken), &disk, &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert!(taken.into_inner() < stream.len() as u64, "found before the end");
    let disk = Disk::used(source.len());
    let report = apply(stream.as_slice(), &disk, &options()).unwrap();
    assert!(report.is_verified && report.verified_bytes == source.len() as u64 && disk.bytes() == source);
}

#[test]
fn comparing_first_is_refused_for_a_pipe() {
    let source = device(12, MIB as usize);
    let stream = captured(&source, &whole_device(MIB));
    let disk = Disk::used(MIB as usize);
    let always = BlockApplyOptions { delta: Delta::Always, ..options() };
    let error = apply(stream.as_slice(), &disk, &always).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("comes once"), "{error}");
    assert!(disk.bytes().iter().all(|byte| *byte == 0xaa), "nothing was written");
}

/// A disk with a table, boot code and noise in its partition.
fn disk_with_table(size: u64, sector_bytes: u32) -> MemoryDisk {
    let disk = MemoryDisk::new(size as usize, 512);
    let shape = DiskShape { size_bytes: size, sector_bytes };
    let request =
        PartitionRequest { role: Role::LinuxData, size: PartitionSize::Bytes(4 * MIB), name: "d".into() };
    let layout = Layout::compute(shape, &Identity::new([3; 32]), &[request]).unwrap();
    disk.write_all_at(layout.partitions[0].range.start, &device(13, 4 * MIB as usize)).unwrap();
    TableImage::new(&layout, Some(&[0x90; 440])).write(&disk).unwrap();
    disk
}

#[test]
fn a_larger_disk_gets_a_table_that_knows_its_end() {
    let size = 8 * MIB;
    for sector in [512, 4096] {
        let disk = disk_with_table(size, sector);
        let (old, old_end) = (disk.to_vec(), size - u64::from(sector));
        let stream = stream_of(BlockSource::new(Box::new(disk), "disk", sector));
        let target = Sectors::new(size, sector, u64::MAX, Fault::Fail);
        let report = apply(stream.as_slice(), &target, &options()).unwrap();
        assert_eq!(report.notes, Vec::<String>::new(), "of the same size it is as it was");
        assert_eq!(table(&target, sector).alternate_lba * u64::from(sector), old_end);

        let larger = 11 * MIB;
        let target = Sectors::new(larger, sector, u64::MAX, Fault::Fail);
        let report = apply(stream.as_slice(), &target, &options()).unwrap();
        assert!(report.is_verified);
        let note = "table written for 11534336 bytes, not 8388608: its copy stands at the end of this disk";
        assert_eq!(report.notes, [note]);
        // No fault: both copies agree, and the second one is in the last sector.
        let gpt = table(&target, sector);
        assert_eq!((gpt.alternate_lba + 1) * u64::from(sector), larger);
        let bytes = target.0.inner().to_vec();
        assert_eq!(bytes[..440], [0x90; 440]);
        let protected = u32::from_le_bytes(bytes[0x1ca..0x1ce].try_into().unwrap());
        assert_eq!((u64::from(protected) + 1) * u64::from(sector), larger);
        assert!(bytes[old_end as usize..][..8] != *b"EFI PART", "the old copy is gone");
        assert!(bytes[MIB as usize..5 * MIB as usize] == old[MIB as usize..5 * MIB as usize]);
        if sector == 512
            && let Some(mut sgdisk) = oracle("sgdisk")
        {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("disk");
            std::fs::write(&path, &bytes).unwrap();
            assert!(run(sgdisk.arg("-v").arg(&path)).contains("No problems found"));
        }
        // What is written wrong there is found, too.
        let writes = target.0.count(Operation::Write);
        for at in writes.saturating_sub(8)..writes {
            let target = Sectors::new(larger, sector, at, Fault::Lie);
            let result = apply(stream.as_slice(), &target, &options());
            let found = target.0.inner().to_vec();
            assert!(result.is_err() || found == bytes, "lie at {at} of {writes}");
            assert!(result.is_ok() || found[..512].iter().all(|byte| *byte == 0), "lie at {at} of {writes}");
        }
    }
}

#[test]
fn a_copy_of_a_disk_with_other_sectors_is_not_piped_onto_another() {
    let disk = disk_with_table(8 * MIB, 4096);
    let stream = stream_of(BlockSource::new(Box::new(disk), "disk", 512));
    let target = Sectors::new(8 * MIB, 512, u64::MAX, Fault::Fail);
    let error = apply(stream.as_slice(), &target, &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("made for sectors of 4096 bytes"), "{error}");
    let target = Sectors::new(8 * MIB, 4096, u64::MAX, Fault::Fail);
    apply(stream.as_slice(), &target, &options()).unwrap();
    assert_eq!(table(&target, 4096).entries.len(), 1);
}
