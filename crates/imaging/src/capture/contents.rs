//! The contents of a tree in the order in which they go into an archive, and where each is read.

use std::collections::HashMap;
use std::sync::Arc;

use gravure_tree::{Origin, SourceId, Tree};

use crate::directory::{DirectorySource, Handles, OpenFile};
use crate::uses::{self, Use};
use crate::{Error, ErrorKind};

/// One content, with all that use it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) origin: Origin,
    pub(crate) size: u64,
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
            list.push(Content { origin: content.origin.clone(), size: content.size, uses });
        }
    }
    list
}

/// What the contents of a tree are read from: a directory, beside what the tree itself holds.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) id: SourceId,
    pub(crate) directory: &'a DirectorySource,
    /// Whether contents are to come from the medium, not from the kernel's memory.
    pub(crate) is_fresh: bool,
}

/// An opened content.
#[derive(Debug)]
pub(crate) enum Open {
    Inline(Arc<[u8]>),
    File(OpenFile),
}

/// Whether a content is what it was when its tree was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Same,
    Changed,
}

impl Reader<'_> {
    pub(crate) fn handles(&self) -> Handles {
        self.directory.handles()
    }

    /// Name of a content for messages.
    pub(crate) fn name(&self, content: &Content) -> String {
        match &content.origin {
            Origin::Source { key, .. } => self.directory.display_path(*key),
            _ => "content of the tree itself".to_owned(),
        }
    }

    pub(crate) fn open(&self, content: &Content, handles: &mut Handles) -> Result<Open, Error> {
        match &content.origin {
            Origin::Inline(bytes) => Ok(Open::Inline(Arc::clone(bytes))),
            Origin::Source { source, key } if *source == self.id => {
                let file = self.directory.open(*key, handles)?;
                if self.is_fresh {
                    file.drop_cache().map_err(|error| Error::linux(self.name(content))(error))?;
                }
                Ok(Open::File(file))
            }
            other => Err(Error::Other {
                what: "content".to_owned(),
                source: format!("{other:?} belongs to no opened source").into(),
                kind: ErrorKind::NotFound,
            }),
        }
    }

    /// Fills `buf` from `offset`.
    pub(crate) fn read(
        &self,
        content: &Content,
        open: &Open,
        offset: u64,
        buf: &mut [u8],
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
        }
    }

    /// Asked after the last read.
    pub(crate) fn check(&self, content: &Content, open: &Open) -> Result<State, Error> {
        match open {
            Open::Inline(_) => Ok(State::Same),
            Open::File(file) => match file.check() {
                Ok(Ok(())) => Ok(State::Same),
                Ok(Err(_)) => Ok(State::Changed),
                Err(error) => Err(Error::linux(self.name(content))(error)),
            },
        }
    }
}
