//! Content that is spread over files: split sets (wim-container section 9) and delta files (section 10).

use gravure_tree::{Sha1Hash, SourceId};

use crate::blobs::BlobId;
use crate::error::{Error, Scope};
use crate::wim::Wim;

/// A blob in one of several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundBlob {
    /// The file, by the engine's number.
    pub source: SourceId,
    /// The blob in that file.
    pub blob: BlobId,
    /// Plain bytes.
    pub size: u64,
}

/// Where to look for content: the file itself first, then the others in the order given.
#[derive(Debug, Clone, Default)]
pub struct BlobSet<'a> {
    files: Vec<(SourceId, &'a Wim)>,
    comes_later: bool,
}

impl<'a> BlobSet<'a> {
    /// Just one file.
    pub fn of(source: SourceId, wim: &'a Wim) -> Self {
        Self { files: vec![(source, wim)], comes_later: false }
    }

    /// No file: the content follows the image in a pipe, so nothing can be said to be missing yet.
    pub fn in_pipe() -> Self {
        Self { files: Vec::new(), comes_later: true }
    }

    /// Whether content that is not found may still come.
    pub(crate) fn comes_later(&self) -> bool {
        self.comes_later
    }

    /// Adds a further part or base, to be searched after those that are there.
    pub fn push(&mut self, source: SourceId, wim: &'a Wim) {
        self.files.push((source, wim));
    }

    /// The first blob with this hash.
    pub fn find(&self, sha1: &Sha1Hash) -> Option<FoundBlob> {
        self.files.iter().find_map(|(source, wim)| {
            let blob = wim.find_blob(sha1)?;
            Some(FoundBlob { source: *source, blob, size: wim.blob(blob)?.size })
        })
    }
}

/// Checks that `parts` are one whole split set: every part once, all of the same set.
pub fn check_split_set(parts: &[&Wim]) -> Result<(), Error> {
    let refuse = |what: &'static str, expected: String, found: String| {
        Err(Error::corrupt(Scope::File, what, 0, expected, found))
    };
    let Some(first) = parts.first().map(|part| part.header()) else {
        return refuse("split set", "at least one part".into(), "none".into());
    };
    let mut numbers: Vec<u16> = Vec::with_capacity(parts.len());
    for header in parts.iter().map(|part| part.header()) {
        if header.guid != first.guid {
            let what = "GUID of a split part";
            return refuse(what, first.guid.to_string(), format!("{} in part {}", header.guid, header.part));
        }
        if header.parts != first.parts {
            let found = format!("{} in part {}", header.parts, header.part);
            return refuse("number of parts of a split set", first.parts.to_string(), found);
        }
        numbers.push(header.part);
    }
    numbers.sort_unstable();
    if !numbers.iter().copied().eq(1..=first.parts) {
        let found = format!("{numbers:?}");
        return refuse("parts of a split set", format!("1 to {}, each once", first.parts), found);
    }
    Ok(())
}
