//! Rules of streams: their sizes, their clusters, and that no two have the same.

use super::Checker;
use super::finding::Spot;
use crate::Error;
use crate::read::bytes::wide;
use crate::read::gather::{Found, Value};
use crate::read::record::{COMPRESSED, SPARSE};
use crate::rule::Rule;

/// Times the volume that the clusters of all files are looked at.
const MAX_CLAIMS: u64 = 16;

impl Checker<'_> {
    /// Sizes and clusters of an attribute.
    pub(super) fn check_sizes(&mut self, number: u32, found: &Found) {
        let Value::Clusters { stream, allocated, on_disk, unit } = &found.value else { return };
        let offset = self.mft.offset(u64::from(found.record)).saturating_add(wide(found.pos));
        let spot = Spot::record(number).attribute(found.kind, &found.name).at(offset);
        let clusters = stream.clusters();
        let bytes = clusters.saturating_mul(self.boot.cluster_bytes);
        if *allocated != bytes {
            self.teller.tell(
                Rule::Allocated,
                spot.at(offset.saturating_add(0x28)),
                format!("{bytes} bytes, as it has clusters"),
                allocated,
            );
        }
        if stream.size > bytes {
            self.teller.tell(
                Rule::Size,
                spot.at(offset.saturating_add(0x30)),
                format!("at most {bytes} bytes"),
                stream.size,
            );
        }
        if stream.initialized > stream.size {
            self.teller.tell(
                Rule::Initialized,
                spot.at(offset.saturating_add(0x38)),
                format!("at most {} bytes", stream.size),
                stream.initialized,
            );
        }
        let real = stream.extents.iter().filter(|extent| extent.lcn.is_some());
        let real = real.fold(0u64, |sum, extent| sum.saturating_add(extent.clusters));
        let real_bytes = real.saturating_mul(self.boot.cluster_bytes);
        if let Some(on_disk) = on_disk
            && *on_disk != real_bytes
        {
            self.teller.tell(
                Rule::OnDisk,
                spot.at(offset.saturating_add(0x40)),
                format!("{real_bytes} bytes"),
                on_disk,
            );
        }
        let unit_clusters = 1u64.checked_shl(u32::from(*unit)).unwrap_or(1);
        if found.flags & (SPARSE | COMPRESSED) != 0 && !clusters.is_multiple_of(unit_clusters) {
            // libntfs lets sparse streams end anywhere.
            let rule = if found.flags & COMPRESSED != 0 { Rule::Allocated } else { Rule::SparseUnit };
            let expected = format!("whole units of {unit_clusters} clusters");
            self.teller.tell(rule, spot.at(offset.saturating_add(0x28)), expected, clusters);
        }
        // On a volume that was just made, everything was written that is not a hole as a whole.
        let is_written = stream.initialized == stream.size || stream.first_lcn().is_none();
        if self.is_strict && !is_written {
            let expected = format!("{} bytes, all of them", stream.size);
            self.teller.tell(
                Rule::Initialized,
                spot.at(offset.saturating_add(0x38)),
                expected,
                stream.initialized,
            );
        }
        for extent in &stream.extents {
            let Some(lcn) = extent.lcn else { continue };
            self.claimed = self.claimed.saturating_add(extent.clusters);
            // Streams that together are many times as large as the volume share clusters, which was told by then.
            if self.claimed > self.boot.clusters.saturating_mul(MAX_CLAIMS) {
                continue;
            }
            if let Some((first, count)) = self.clusters.claim(lcn, extent.clusters) {
                // Whose they are besides is found in a second pass.
                if self.shared.len() < super::MAX_SHARED {
                    self.shared.push((first, count));
                } else {
                    self.teller.tell(
                        Rule::ClusterTwice,
                        spot,
                        "clusters that no other file has",
                        format!("{count} from {first} on"),
                    );
                }
            }
        }
        if found.flags & COMPRESSED != 0 {
            self.check_units(found, unit_clusters, spot);
        }
    }

    /// The bytes of a compressed attribute: every unit can be decoded.
    pub(super) fn check_compressed(&mut self, number: u32, found: &Found) -> Result<(), Error> {
        let Value::Clusters { stream, .. } = &found.value else { return Ok(()) };
        // Reading what many streams share again and again would have no end; that they share it was told.
        if stream.unit_clusters == 0 || self.claimed > self.boot.clusters.saturating_mul(MAX_CLAIMS) {
            return Ok(());
        }
        let count = self.mft.count();
        let mut goes_on = || self.teller.goes_on(number, count);
        match stream.check_units(self.source, &mut goes_on) {
            Err(error @ (Error::Corrupt { .. } | Error::Unsupported { .. })) => {
                let offset = self.mft.offset(u64::from(found.record)).saturating_add(wide(found.pos));
                let spot = Spot::record(number).attribute(found.kind, &found.name).at(offset);
                self.teller.tell(Rule::CompressedStream, spot, "units that can be decoded", error);
                Ok(())
            }
            other => other,
        }
    }

    /// In a compressed unit, clusters come before the hole.
    fn check_units(&mut self, found: &Found, unit: u64, spot: Spot<'_>) {
        let Value::Clusters { stream, .. } = &found.value else { return };
        let mut after_hole = None;
        for extent in &stream.extents {
            match extent.lcn {
                None => after_hole = Some(extent.vcn),
                Some(_) => {
                    let starts_inside = !extent.vcn.is_multiple_of(unit.max(1));
                    if let Some(hole) = after_hole
                        && starts_inside
                        && hole.saturating_add(unit) > extent.vcn
                    {
                        self.teller.tell(
                            Rule::CompressedUnit,
                            spot,
                            "clusters before the hole of a unit",
                            format!("cluster {} behind it", extent.vcn),
                        );
                        return;
                    }
                    after_hole = None;
                }
            }
        }
    }
}
