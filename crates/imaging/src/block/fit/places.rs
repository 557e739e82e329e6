//! Places for the partitions of an image. First with their blocks; where there is no room for those, as few as possible are to be laid out
//! anew, which takes less: the one that gains most first. What room is left is shared among them by what they gave up.

use std::ops::Range;

use gravure_disk::transfer::{self, Growth, Placed, Resident};

use super::anew::{Anew, Files, which};
use crate::Error;
use crate::capture::chain;

/// Parts of what a partition gave up, in which it gets room back.
const SHARES: u64 = 1 << 20;

/// A partition that may be laid out anew.
pub(super) struct Candidate {
    /// Number in the table.
    pub(super) number: u32,
    /// Its files, where it has to be laid out anew whatever its size, and why.
    pub(super) forced: Option<(Files, String)>,
}

/// What is asked for partitions.
pub(super) struct Wish<'a> {
    /// All partitions, with the room that their blocks need.
    pub(super) residents: Vec<Resident>,
    pub(super) area: Range<u64>,
    pub(super) growth: Growth,
    pub(super) sector_bytes: u32,
    /// Reads the files of a partition.
    pub(super) open: &'a dyn Fn(u32) -> Result<Files, Error>,
}

/// A partition that needs less when it is laid out anew.
struct Floor {
    index: usize,
    bytes: u64,
    files: Files,
}

impl Wish<'_> {
    fn index(&self, number: u32) -> Option<usize> {
        self.residents.iter().position(|one| one.number == number)
    }

    fn place(&self, floors: &[Floor], share: u64) -> Result<Vec<Placed>, gravure_disk::Error> {
        let mut residents = self.residents.clone();
        for floor in floors {
            let one = &mut residents[floor.index];
            let given_up = u128::from(one.at_least.saturating_sub(floor.bytes));
            let back = given_up * u128::from(share) / u128::from(SHARES);
            one.at_least = floor.bytes + u64::try_from(back).unwrap_or(0);
        }
        transfer::place(&residents, &self.area, self.growth)
    }

    /// Places, and what is laid out anew. Says in words why there is no way.
    pub(super) fn find(self, candidates: Vec<Candidate>) -> Result<(Vec<Placed>, Vec<Anew>), String> {
        let mut anew = Vec::new();
        let mut optional = Vec::new();
        let mut reasons = Vec::new();
        let mut floors: Vec<Floor> = Vec::new();
        for candidate in candidates {
            let number = candidate.number;
            let Some(index) = self.index(number) else { continue };
            match candidate.forced {
                None => optional.push((number, index)),
                Some((files, why)) => {
                    // Also says whether it can be at all.
                    let bytes = files.least_bytes(self.sector_bytes).map_err(|error| {
                        format!("{}: {why}, and it cannot be laid out anew: {}", which(number), chain(&error))
                    })?;
                    anew.push((number, why));
                    floors.push(Floor { index, bytes, files });
                }
            }
        }
        let blocks = |placed: &[Placed], floor: &Floor| {
            let resident = &self.residents[floor.index];
            let place = placed.iter().find(|one| one.number == resident.number);
            place.is_some_and(|place| place.size_bytes() >= resident.at_least)
        };
        let mut found = self.place(&floors, SHARES);
        let mut share = SHARES;
        if found.is_err() {
            // Those that have to be anew anyway first, then one after the other.
            found = self.place(&floors, 0);
            share = 0;
            optional.sort_by_key(|(_, index)| std::cmp::Reverse(self.residents[*index].at_least));
            let mut optional = optional.into_iter();
            while found.is_err() {
                let Some((number, index)) = optional.next() else { break };
                let opened = (self.open)(number).and_then(|files| {
                    let bytes = files.least_bytes(self.sector_bytes)?;
                    Ok((files, bytes))
                });
                match opened {
                    Ok((files, bytes)) if bytes < self.residents[index].at_least => {
                        floors.push(Floor { index, bytes, files });
                        found = self.place(&floors, 0);
                        if found.is_err() {
                            reasons.push(format!("the files on {} need {bytes} bytes", which(number)));
                        }
                    }
                    Ok((_, bytes)) => {
                        reasons.push(format!("the files on {} need {bytes} bytes, too", which(number)));
                    }
                    Err(error) => reasons.push(format!("{}: {}", which(number), chain(&error))),
                }
            }
        }
        let mut placed = found.map_err(|error| {
            let mut text = format!("{error}; its partitions cannot be smaller than the file systems in them");
            reasons.iter().for_each(|reason| text.push_str(&format!("; {reason}")));
            text
        })?;
        if share == 0 {
            let (mut low, mut high) = (0, SHARES);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match self.place(&floors, middle) {
                    Ok(better) => (placed, low) = (better, middle),
                    Err(_) => high = middle,
                }
            }
        }
        let mut out = Vec::new();
        for floor in floors {
            let number = self.residents[floor.index].number;
            let why = match anew.iter().position(|(forced, _)| *forced == number) {
                Some(at) => anew.swap_remove(at).1,
                None if blocks(&placed, &floor) => continue,
                None => {
                    let room = placed.iter().find(|one| one.number == number).map_or(0, Placed::size_bytes);
                    let needed = self.residents[floor.index].at_least;
                    format!("its blocks reach over {needed} bytes and there is room for {room}")
                }
            };
            out.push(Anew { number, files: floor.files, why });
        }
        Ok((placed, out))
    }
}
