//! The contents of a tree in the order in which they go into an archive, and where each is read: from directories, from
//! other archives, or from the tree itself.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use gravure_tree::{Origin, Sha1Hash, SourceId, Tree};
use gravure_wim::Compression;

use crate::blob_reader::{BlobHandles, BlobReader, OpenBlob};
use crate::directory::{DirectorySource, Handles, OpenFile};
use crate::ntfs_source::NtfsSource;
use crate::uses::{self, Use};
use crate::{Error, ErrorKind};

/// One content, with all that use it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) origin: Origin,
    pub(crate) size: u64,
    /// When it is known before the content is read; what is read must then have it.
    pub(crate) sha1: Option<Sha1Hash>,
    pub(crate) uses: Vec<Use>,
}

/// All contents of `tree` that are not empty, in the order of a walk.
pub(crate) fn contents(tree: &Tree) -> Vec<Content> {
    let mut list: Vec<Content> = Vec::new();
    let mut index: HashMap<(SourceId, u64), usize> = HashMap::new();
    for node in uses::nodes(tree) {
        for (part, content) in uses::parts(tree.node(node)) {
            if content.is_empty() {
                continue;
            }
            if let Origin::Source { source, key } = content.origin {
                if let Some(known) = index.get(&(source, key)) {
                    list[*known].uses.push(Use { node, part });
                    continue;
                }
                index.insert((source, key), list.len());
            }
            let uses = vec![Use { node, part }];
            list.push(Content {
                origin: content.origin.clone(),
                size: content.size,
                sha1: content.sha1,
                uses,
            });
        }
    }
    list
}

/// What the contents of a tree are read from, beside what the tree itself holds.
#[derive(Debug, Default)]
pub(crate) struct Reader<'a> {
    pub(crate) directories: Vec<(SourceId, &'a DirectorySource)>,
    /// Sources from 0 on are its archives.
    pub(crate) archives: Option<&'a BlobReader>,
    /// A volume among the sources.
    pub(crate) volume: Option<(SourceId, &'a NtfsSource)>,
    /// Whether contents are to come from the medium, not from the kernel's memory.
    pub(crate) is_fresh: bool,
    /// Whether chunks that archives hold are taken as they are stored, where method and chunk size agree, instead of being
    /// compressed again. They are decoded and hashed all the same.
    pub(crate) takes_stored: bool,
}

/// An opened content.
#[derive(Debug)]
pub(crate) enum Open {
    Inline(Arc<[u8]>),
    File(OpenFile),
    Blob(OpenBlob),
    /// A content of the volume.
    Volume(u64),
}

/// What each thread keeps for itself: open directories and decoders.
#[derive(Debug)]
pub(crate) struct ReaderHandles {
    directories: Vec<Handles>,
    blobs: BlobHandles,
    decoders: gravure_ntfs::Decoders,
}

/// Whether a content is what it was when its tree was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Same,
    Changed,
}

impl<'a> Reader<'a> {
    pub(crate) fn handles(&self) -> ReaderHandles {
        let directories = self.directories.iter().map(|(_, directory)| directory.handles()).collect();
        ReaderHandles {
            directories,
            blobs: BlobHandles::default(),
            decoders: gravure_ntfs::Decoders::default(),
        }
    }

    /// The directory that is source `source`, and its place in the list.
    fn directory(&self, source: SourceId) -> Option<(usize, &'a DirectorySource)> {
        let found = self.directories.iter().enumerate().find(|(_, (id, _))| *id == source);
        found.map(|(at, (_, directory))| (at, *directory))
    }

    /// The volume, when `source` is it.
    fn volume(&self, source: SourceId) -> Option<&'a NtfsSource> {
        self.volume.filter(|(id, _)| *id == source).map(|(_, volume)| volume)
    }

    /// Name of a content for messages.
    pub(crate) fn name(&self, content: &Content) -> String {
        let Origin::Source { source, key } = &content.origin else {
            return match (&content.origin, content.sha1) {
                (Origin::Missing, Some(sha1)) => format!("blob {sha1}"),
                _ => "content of the tree itself".to_owned(),
            };
        };
        if let Some((_, directory)) = self.directory(*source) {
            return directory.display_path(*key);
        }
        if let Some(volume) = self.volume(*source) {
            return volume.display(*key);
        }
        let file = self.archives.and_then(|archives| archives.name(*source, *key)).unwrap_or("an image file");
        let hash = content.sha1.map_or_else(|| key.to_string(), |sha1| sha1.to_string());
        format!("blob {hash} of {file}")
    }

    pub(crate) fn open(&self, content: &Content, handles: &mut ReaderHandles) -> Result<Open, Error> {
        match (&content.origin, self.archives) {
            (Origin::Inline(bytes), _) => Ok(Open::Inline(Arc::clone(bytes))),
            (Origin::Source { source, key }, _) if self.volume(*source).is_some() => Ok(Open::Volume(*key)),
            (Origin::Source { source, key }, archives) => match (self.directory(*source), archives) {
                (Some((at, directory)), _) => {
                    let file = directory.open(*key, &mut handles.directories[at])?;
                    if self.is_fresh {
                        file.drop_cache().map_err(|error| Error::linux(self.name(content))(error))?;
                    }
                    Ok(Open::File(file))
                }
                (None, Some(archives)) => archives.open(*source, *key).map(Open::Blob),
                (None, None) => Err(self.homeless(content)),
            },
            _ => Err(self.homeless(content)),
        }
    }

    fn homeless(&self, content: &Content) -> Error {
        Error::Other {
            what: self.name(content),
            source: "it is in none of the opened files".into(),
            kind: ErrorKind::NotFound,
        }
    }

    /// Fills `buf` from `offset`.
    pub(crate) fn read(
        &self,
        content: &Content,
        open: &Open,
        offset: u64,
        buf: &mut [u8],
        handles: &mut ReaderHandles,
    ) -> Result<State, Error> {
        match open {
            Open::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let found = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
                buf.copy_from_slice(found.unwrap_or_default());
                Ok(State::Same)
            }
            Open::File(file) => match file.read(offset, buf) {
                Ok(Ok(())) => Ok(State::Same),
                Ok(Err(_)) => Ok(State::Changed),
                Err(error) => Err(Error::io("read", self.name(content))(error)),
            },
            Open::Volume(key) => match self.volume {
                Some((_, volume)) => {
                    volume.read(*key, offset, buf, &mut handles.decoders).map(|()| State::Same)
                }
                None => Err(self.homeless(content)),
            },
            Open::Blob(blob) => match self.archives {
                Some(archives) => archives.read(blob, offset, buf, &mut handles.blobs).map(|()| State::Same),
                None => Err(self.homeless(content)),
            },
        }
    }

    /// Appends `range` of a content as its source has it compressed, when it may be taken so: the stored bytes, and stored and
    /// plain length of each chunk. `range` starts with a chunk.
    pub(crate) fn stored(
        &self,
        open: &Open,
        range: Range<u64>,
        compression: Compression,
        stored: &mut Vec<u8>,
        chunks: &mut Vec<(usize, usize)>,
    ) -> Result<bool, Error> {
        match (open, self.archives, self.volume) {
            (Open::Blob(blob), Some(archives), _) if self.takes_stored => {
                archives.stored(blob, range, compression, stored, chunks)
            }
            (Open::Volume(key), _, Some((_, volume))) if volume.is_stored_as(*key, compression) => {
                let size = compression.chunk_size();
                let mut at = range.start;
                while at < range.end {
                    let len = volume.stored_chunk(*key, at, stored)?;
                    // At most a chunk, whose length is 32 bits.
                    let plain = (range.end - at).min(u64::from(size)) as usize;
                    chunks.push((len, plain));
                    at += plain as u64;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Asked after the last read.
    pub(crate) fn check(&self, content: &Content, open: &Open) -> Result<State, Error> {
        match open {
            Open::Inline(_) | Open::Blob(_) | Open::Volume(_) => Ok(State::Same),
            Open::File(file) => match file.check() {
                Ok(Ok(())) => Ok(State::Same),
                Ok(Err(_)) => Ok(State::Changed),
                Err(error) => Err(Error::linux(self.name(content))(error)),
            },
        }
    }
}
