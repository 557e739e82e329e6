//! Files with the clusters of their streams, one after another and without a tree: for maps of volumes and for what stands on a
//! broken sector. Those of the file system itself are among them.

use gravure_io::ReadAt;
use gravure_nttypes::NtName;

use crate::Error;
use crate::disk::{
    RECORD_DIRECTORY, RECORD_IN_USE, RECORD_MAGIC, attribute_type as types, namespace, numbers,
};
use crate::read::Volume;
use crate::read::bytes::{at, split_reference};
use crate::read::gather::{FileAttributes, Found, Value};
use crate::read::names::FileName;
use crate::read::record::{COMPRESSED, ENCRYPTED, Record, unprotect};

/// Bytes of the MFT read at a time.
const BATCH_BYTES: usize = 1 << 20;

/// Clusters side by side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRun {
    /// First cluster, counted in the stream.
    pub vcn: u64,
    /// First cluster on the volume.
    pub lcn: u64,
    /// How many.
    pub clusters: u64,
}

/// A stream that is not small enough for its file's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamClusters {
    /// It is content: the unnamed one, or one with a name. Else the file system's own: indexes, lists of attributes.
    pub is_content: bool,
    /// Its name; empty for the content that every file has.
    pub name: NtName,
    /// Bytes of it that were ever written; what follows reads as zeros.
    pub written: u64,
    /// What stands in the clusters is the content: neither compressed nor encrypted.
    pub is_plain: bool,
    /// Where it stands, ascending in the stream; holes are left out.
    pub runs: Vec<StreamRun>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileClusters {
    /// Number of its record.
    pub record: u32,
    /// It is the file system's own: `$MFT`, `$Bitmap` and the like.
    pub is_system: bool,
    /// It is a directory.
    pub is_directory: bool,
    /// Record of the directory and name in it, for each of its names but short ones for old programs.
    pub names: Vec<(u32, NtName)>,
    /// Its streams in clusters.
    pub streams: Vec<StreamClusters>,
}

/// Takes the files of a volume.
pub trait FileVisitor {
    /// A file. Ascending by record.
    fn file(&mut self, file: &FileClusters);

    /// The file of this record is damaged and cannot be told.
    fn damaged(&mut self, record: u32);

    /// Asked after every batch of records; false ends the visit with [`Error::Stopped`].
    fn goes_on(&mut self) -> bool {
        true
    }
}

impl Volume {
    /// Reads `$MFT` front to back and shows every file.
    pub fn visit_files(&self, source: &dyn ReadAt, visitor: &mut dyn FileVisitor) -> Result<(), Error> {
        let count = self.record_count();
        let per_batch = BATCH_BYTES.checked_div(self.mft.record_bytes).unwrap_or(1).max(1);
        let (mut first, mut batch) = (0u32, Vec::new());
        while first < count {
            if !visitor.goes_on() {
                return Err(Error::Stopped);
            }
            let now = at(count.saturating_sub(first)).min(per_batch);
            self.mft.read_many(source, first, now, &mut batch)?;
            for (number, bytes) in (first..).zip(batch.chunks_exact_mut(self.mft.record_bytes)) {
                self.visit(source, number, bytes, visitor)?;
            }
            first = first.saturating_add(u32::try_from(now).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn visit(
        &self,
        source: &dyn ReadAt,
        number: u32,
        bytes: &mut [u8],
        visitor: &mut dyn FileVisitor,
    ) -> Result<(), Error> {
        if !bytes.starts_with(&RECORD_MAGIC) {
            if bytes.starts_with(b"BAAD") {
                visitor.damaged(number);
            }
            return Ok(());
        }
        let Ok(record) = unprotect(bytes).and_then(|()| Record::parse(bytes)) else {
            visitor.damaged(number);
            return Ok(());
        };
        if record.head.flags.get() & RECORD_IN_USE == 0 || record.head.base_record.get() != 0 {
            return Ok(());
        }
        match self.gather(source, number, &record) {
            Ok(attributes) => visitor.file(&file(number, record.head.flags.get(), &attributes)),
            Err(error @ (Error::Io { .. } | Error::Stopped)) => return Err(error),
            Err(_) => visitor.damaged(number),
        }
        Ok(())
    }

    /// The file of one record.
    pub fn file_clusters(&self, source: &dyn ReadAt, record: u32) -> Result<FileClusters, Error> {
        let (head, attributes) = self.file(source, record)?;
        Ok(file(record, head.flags.get(), &attributes))
    }

    /// The file with this name in the root directory, in any case.
    pub fn root_file(&self, source: &dyn ReadAt, name: &str) -> Result<Option<FileClusters>, Error> {
        let units: Vec<u16> = name.encode_utf16().collect();
        let record = self.find_in_root(source, &units)?;
        record.map(|record| self.file_clusters(source, record)).transpose()
    }
}

fn file(number: u32, flags: u16, attributes: &FileAttributes) -> FileClusters {
    let names = attributes.all(types::FILE_NAME).filter_map(Found::resident).filter_map(FileName::parse);
    let names = names.filter(|name| name.head.namespace != namespace::DOS).filter_map(|name| {
        let parent = u32::try_from(split_reference(name.head.parent.get()).0).ok()?;
        Some((parent, NtName::from_units(&name.units())))
    });
    let streams = attributes.found.iter().filter_map(|found| {
        let Value::Clusters { stream, .. } = &found.value else { return None };
        let placed = stream.extents.iter().filter_map(|extent| {
            Some(StreamRun { vcn: extent.vcn, lcn: extent.lcn?, clusters: extent.clusters })
        });
        Some(StreamClusters {
            is_content: found.kind == types::DATA,
            name: NtName::from_units(&found.name),
            written: stream.initialized.min(stream.size),
            is_plain: found.flags & (COMPRESSED | ENCRYPTED) == 0,
            runs: placed.collect(),
        })
    });
    FileClusters {
        record: number,
        is_system: number < numbers::FIRST_FREE && number != numbers::ROOT,
        is_directory: flags & RECORD_DIRECTORY != 0,
        names: names.collect(),
        streams: streams.collect(),
    }
}
