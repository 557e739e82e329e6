//! Both bitmaps, and clusters that belong to two streams.

use super::clusters::Differences;
use super::finding::Spot;
use super::{Checker, DAMAGED, IN_USE};
use crate::Error;
use crate::disk::{attribute_type as types, numbers};
use crate::read::bytes::{at, wide};
use crate::read::gather::Value;
use crate::read::index::bit;
use crate::rule::Rule;

/// Bytes of a bitmap read at a time.
const STEP_BYTES: usize = 1 << 20;

impl Checker<'_> {
    /// Names the files that share clusters.
    pub(super) fn tell_shared(&mut self) -> Result<(), Error> {
        let shared = std::mem::take(&mut self.shared);
        if shared.is_empty() {
            return Ok(());
        }
        for number in 0..self.mft.count() {
            let Some(file) = self.file(number)? else { continue };
            for found in &file.found {
                let Value::Clusters { stream, .. } = &found.value else { continue };
                let hit = stream.extents.iter().find_map(|extent| {
                    let start = extent.lcn?;
                    let end = start.saturating_add(extent.clusters);
                    shared.iter().find(|(first, count)| *first < end && first.saturating_add(*count) > start)
                });
                if let Some((first, count)) = hit {
                    let offset = self.mft.offset(u64::from(found.record)).saturating_add(wide(found.pos));
                    let spot = Spot::record(number).attribute(found.kind, &found.name).at(offset);
                    self.teller.tell(
                        Rule::ClusterTwice,
                        spot,
                        "clusters that no other stream has",
                        format!("{count} from {first} on"),
                    );
                }
            }
        }
        Ok(())
    }

    /// $MFT's own bitmap and $Bitmap.
    pub(super) fn check_bitmaps(&mut self) -> Result<(), Error> {
        self.check_record_bitmap()?;
        let Some(file) = self.file(numbers::BITMAP)? else { return Ok(()) };
        let spot = self.system_spot(numbers::BITMAP).attribute(types::DATA, &[]);
        let Some(stream) = Self::data(&file, &[]) else {
            self.teller.tell(Rule::BitmapSize, spot, "a bitmap in clusters", "none");
            return Ok(());
        };
        let stream = stream.clone();
        let least = self.boot.clusters.div_ceil(8);
        let longest = least.next_multiple_of(8);
        if stream.size < least || stream.size > longest {
            // One that reaches further hurts nobody: growing leaves it for the moment before the boot sector changes.
            let is_longer = stream.size > longest && stream.size.is_multiple_of(8);
            let rule = if is_longer { Rule::Growth } else { Rule::BitmapSize };
            self.teller.tell(rule, spot, format!("{longest} bytes"), stream.size);
        }
        let room = stream.size.min(stream.clusters().saturating_mul(self.boot.cluster_bytes)).min(longest);
        let (mut pos, mut bytes, mut differences) = (0u64, Vec::new(), Differences::default());
        while pos < room {
            bytes.resize(at(room.saturating_sub(pos)).min(STEP_BYTES), 0);
            let read = stream.read(self.source, pos, &mut bytes);
            if self.readable(spot, read)?.is_none() {
                return Ok(());
            }
            self.clusters.compare(
                pos.saturating_mul(8),
                &bytes,
                stream.offset_of(pos).unwrap_or(0),
                &mut differences,
            );
            pos = pos.saturating_add(wide(bytes.len()));
        }
        differences.tell(&mut self.teller);
        Ok(())
    }

    fn check_record_bitmap(&mut self) -> Result<(), Error> {
        let Some(file) = self.file(numbers::MFT)? else { return Ok(()) };
        let spot = self.system_spot(numbers::MFT).attribute(types::BITMAP, &[]);
        let Some(found) = file.get(types::BITMAP, &[]) else {
            self.teller.tell(Rule::MftBitmapSize, spot, "a bitmap", "none");
            return Ok(());
        };
        let least = u64::from(self.mft.count()).div_ceil(8);
        // One bit a record, so as large as an MFT can get.
        let read = found.read(self.source, 1 << 29);
        let bytes = self.readable(spot, read)?.flatten().unwrap_or_default();
        let offset = match &found.value {
            Value::Clusters { stream, .. } => stream.offset_of(0).unwrap_or(0),
            Value::Resident { pos, .. } => self.mft.offset(0).saturating_add(wide(*pos)),
        };
        if wide(bytes.len()) < least || !bytes.len().is_multiple_of(8) {
            self.teller.tell(
                Rule::MftBitmapSize,
                spot,
                format!("{least} bytes or more, a multiple of 8"),
                bytes.len(),
            );
        }
        for (number, info) in (0u32..).zip(&self.records) {
            let is_marked = bit(&bytes, u64::from(number));
            let is_used = info.state & IN_USE != 0;
            if is_marked != is_used && info.state & DAMAGED == 0 {
                let words = |used: bool| if used { "in use" } else { "free" };
                let spot = Spot::record(number).at(offset.saturating_add(u64::from(number >> 3)));
                self.teller.tell(
                    Rule::MftBitmap,
                    spot,
                    format!("{}, as the record says", words(is_used)),
                    words(is_marked),
                );
            }
        }
        let bits = wide(bytes.len()).saturating_mul(8);
        if let Some(number) = (u64::from(self.mft.count())..bits).find(|number| bit(&bytes, *number)) {
            let spot = spot.at(offset.saturating_add(number >> 3));
            self.teller.tell(
                Rule::MftBitmap,
                spot,
                "no records behind the last marked",
                format!("record {number}"),
            );
        }
        Ok(())
    }
}
