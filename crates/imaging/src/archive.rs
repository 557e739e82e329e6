//! Opened WIM files, by the number a tree calls them.

use std::io;
use std::sync::Arc;

use gravure_io::ReadAt;
use gravure_tree::SourceId;
use gravure_wim::{Blob, BlobId, Limits, Resource, ResourceLayout, Wim};

use crate::Error;

/// One opened file.
#[derive(Clone)]
pub(crate) struct Archive {
    name: String,
    source: Arc<dyn ReadAt>,
    /// Tables of a large file are megabytes; those who work with it share them.
    wim: Arc<Wim>,
    limits: Limits,
    is_described: bool,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Archive {
    /// Reads header, XML document and blob table within `limits`. Returns what was odd, too.
    pub(crate) fn open(
        source: Arc<dyn ReadAt>,
        name: &str,
        limits: &Limits,
    ) -> Result<(Self, Vec<String>), Error> {
        let limits = *limits;
        let opened = Wim::read(&source, &limits).map_err(Error::wim(name))?;
        let warnings = opened.warnings.iter().map(|warning| format!("{name}: {warning}")).collect();
        let wim = Arc::new(opened.value);
        let is_described = false;
        Ok((Self { name: name.to_owned(), source, wim, limits, is_described }, warnings))
    }

    /// Path or address, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says that the source gives only bytes that a descriptor vouches for, one made when all contents were decoded.
    pub(crate) fn set_described(&mut self) {
        self.is_described = true;
    }

    /// Whether bytes may be used without decoding them.
    pub(crate) fn is_described(&self) -> bool {
        self.is_described
    }

    pub(crate) fn source(&self) -> &dyn ReadAt {
        &*self.source
    }

    pub(crate) fn wim(&self) -> &Wim {
        &self.wim
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A blob and the region that holds it.
    pub(crate) fn blob(&self, id: BlobId) -> Result<(&Blob, &Resource), Error> {
        let found = self.wim.blob(id).and_then(|blob| Some((blob, self.wim.resource(blob.resource)?)));
        found.ok_or_else(|| Error::NotFound { what: "blob", which: id.key().to_string() })
    }

    /// How a blob's region is laid out, read through `reader`, which reads this file.
    pub(crate) fn layout(
        &self,
        reader: &dyn ReadAt,
        id: BlobId,
    ) -> Result<ResourceLayout, gravure_wim::Error> {
        let resource = self.wim.blob(id).map(|blob| blob.resource);
        let resource = resource
            .ok_or_else(|| gravure_wim::Error::NotFound { what: "blob", which: id.key().to_string() })?;
        self.wim.layout(reader, resource, &self.limits)
    }

    /// An error of reading at `offset`; an error of ours that came through the reader is handed on as it is.
    pub(crate) fn read_error(&self, offset: u64, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(source) => Error::Io { what: "read", path: format!("{} at {offset:#x}", self.name), source },
        }
    }
}

/// Files by [`SourceId`], which is their place in the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archives {
    list: Vec<Archive>,
}

impl Archives {
    pub(crate) fn push(&mut self, archive: Archive) {
        self.list.push(archive);
    }

    pub(crate) fn get(&self, index: usize) -> &Archive {
        &self.list[index]
    }

    pub(crate) fn first_mut(&mut self) -> Option<&mut Archive> {
        self.list.first_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Archive)> {
        self.list.iter().enumerate()
    }

    /// The number of file `index`.
    pub(crate) fn source_id(index: usize) -> SourceId {
        SourceId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// File and blob of a tree's reference.
    pub(crate) fn find(&self, source: SourceId, key: u64) -> Option<(usize, BlobId)> {
        let index = usize::try_from(source.0).ok().filter(|index| *index < self.list.len())?;
        Some((index, BlobId::from_key(key)?))
    }
}
