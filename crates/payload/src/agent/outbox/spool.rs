//! The spool: one JSON line an event, and beside it the number up to which the server has them. Lives in memory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use gravure_model::event::Event;
use serde::{Deserialize, Serialize};

/// An event and the plan it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Spooled {
    pub(super) plan: Option<String>,
    pub(super) event: Event,
}

/// The files.
#[derive(Debug)]
pub(super) struct Spool {
    events: File,
    mark: PathBuf,
    acknowledged: u64,
}

impl Spool {
    /// Opens or makes the spool in `dir` and reads what is in it. A line that was cut by an abort ends it.
    pub(super) fn open(dir: &Path) -> std::io::Result<(Self, Vec<Spooled>)> {
        let path = dir.join("events.jsonl");
        let mut kept: Vec<Spooled> = Vec::new();
        let mut good_bytes = 0u64;
        if let Ok(file) = File::open(&path) {
            let mut input = BufReader::new(file);
            let mut line = Vec::new();
            while {
                line.clear();
                input.read_until(b'\n', &mut line)?
            } > 0
            {
                let whole = line.ends_with(b"\n");
                let Ok(spooled) = serde_json::from_slice::<Spooled>(&line) else { break };
                if !whole {
                    break;
                }
                good_bytes += u64::try_from(line.len()).unwrap_or(0);
                kept.push(spooled);
            }
        }
        let events = File::options().create(true).append(true).open(&path)?;
        events.set_len(good_bytes)?;
        let mark = dir.join("events.acknowledged");
        let acknowledged =
            std::fs::read_to_string(&mark).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok((Self { events, mark, acknowledged }, kept))
    }

    /// The server has everything up to this number.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Adds an event.
    pub(super) fn append(&mut self, spooled: &Spooled) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(spooled).map_err(std::io::Error::other)?;
        line.push(b'\n');
        self.events.write_all(&line)
    }

    /// Remembers that the server has everything up to `sequence`.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> std::io::Result<()> {
        self.acknowledged = sequence;
        crate::files::write_private(&self.mark, sequence.to_string().as_bytes())
    }
}
