//! Indexes other than those of names: object ids, reparse points, quotas.

use std::cmp::Ordering;

use super::finding::{Spot, Teller};
use super::indexes::walk_index;
use super::{Checker, DIRECTORY};
use crate::Error;
use crate::disk::{attribute_type as types, collation, numbers, reference};
use crate::read::bytes::{at, show_reference, u32_at, u64_at, wide};
use crate::read::fault::Fault;
use crate::read::gather::{FileAttributes, Value};
use crate::read::index::{Entry, IndexKind, Visitor};
use crate::read::names::FileName;
use crate::read::volume::NAME_INDEX;
use crate::rule::Rule;

pub(super) const DOLLAR_O: [u16; 2] = [0x24, 0x4f];
const DOLLAR_Q: [u16; 2] = [0x24, 0x51];
const DOLLAR_R: [u16; 2] = [0x24, 0x52];

/// One entry of a view index.
pub(super) struct ViewEntry {
    pub(super) offset: u64,
    pub(super) key: Vec<u8>,
    pub(super) data: Vec<u8>,
}

/// Collects entries and checks their order.
pub(super) struct ViewVisitor<'c, 'a, 'n> {
    pub(super) teller: &'c mut Teller<'a>,
    pub(super) record: u32,
    pub(super) name: &'n [u16],
    pub(super) order: u32,
    pub(super) before: Option<Vec<u8>>,
    /// Called with each entry.
    pub(super) each: &'c mut dyn FnMut(ViewEntry),
}

impl Visitor for ViewVisitor<'_, '_, '_> {
    fn entry(&mut self, entry: &Entry<'_>) {
        if let Some(before) = &self.before
            && compare(self.order, before, entry.key).is_ge()
        {
            let spot = Spot::record(self.record).attribute(types::INDEX_ROOT, self.name).at(entry.offset);
            self.teller.tell(
                Rule::IndexOrder,
                spot,
                format!("a key behind {before:02x?}"),
                format!("{:02x?}", entry.key),
            );
        }
        self.before = Some(entry.key.to_vec());
        (self.each)(ViewEntry { offset: entry.offset, key: entry.key.to_vec(), data: entry.data.to_vec() });
    }

    fn fault(&mut self, start: u64, fault: Fault) {
        self.teller.fault(Spot::record(self.record).attribute(types::INDEX_ROOT, self.name), start, &fault);
    }
}

/// Order of keys by the rule of an index.
fn compare(order: u32, a: &[u8], b: &[u8]) -> Ordering {
    let words = |key: &[u8]| -> Vec<u32> {
        (0..key.len() / 4).map(|word| u32_at(key, word.saturating_mul(4)).unwrap_or(0)).collect()
    };
    match order {
        collation::SID => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        // A row of u32, be it one number, hash and id, or four.
        _ => words(a).cmp(&words(b)),
    }
}

impl Checker<'_> {
    /// Checks a view index and calls `each` with every entry.
    pub(super) fn view(
        &mut self,
        record: u32,
        file: &FileAttributes,
        name: &[u16],
        order: u32,
        each: &mut dyn FnMut(ViewEntry),
    ) -> Result<(), Error> {
        let spot = Spot::record(record).at(self.mft.offset(u64::from(record)));
        let Some(root) = file.get(types::INDEX_ROOT, name) else {
            self.teller.tell(Rule::IndexRoot, spot.attribute(types::INDEX_ROOT, name), "an index", "none");
            return Ok(());
        };
        if let Value::Resident { bytes, pos } = &root.value {
            let offset = self.mft.offset(u64::from(root.record)).saturating_add(wide(*pos));
            let spot = Spot::record(record).attribute(types::INDEX_ROOT, name).at(offset);
            let (kind, found) = (u32_at(bytes, 0).unwrap_or(0), u32_at(bytes, 4).unwrap_or(0));
            if kind != 0 {
                self.teller.tell(Rule::IndexType, spot, 0, format!("{kind:#x}"));
            }
            if found != order {
                self.teller.tell(
                    Rule::IndexCollation,
                    spot.at(offset.saturating_add(4)),
                    format!("{order:#x}"),
                    format!("{found:#x}"),
                );
            }
        }
        let mut visitor = ViewVisitor { teller: &mut self.teller, record, name, order, before: None, each };
        walk_index(self.source, &self.boot, &self.mft, file, name, IndexKind::View, &mut visitor)
    }

    /// The files of $Extend, by name.
    pub(super) fn check_extend(&mut self) -> Result<(), Error> {
        let mut children: Vec<(String, u32)> = Vec::new();
        if let Some(extend) = self.file(numbers::EXTEND)? {
            struct Children<'c>(&'c mut Vec<(String, u32)>);
            impl Visitor for Children<'_> {
                fn entry(&mut self, entry: &Entry<'_>) {
                    if let Some(name) = FileName::parse(entry.key) {
                        let number = entry.reference & 0xffff_ffff_ffff;
                        self.0.push((name.show(), u32::try_from(number).unwrap_or(u32::MAX)));
                    }
                }
                // The index was checked with those of all directories.
                fn fault(&mut self, _: u64, _: Fault) {}
            }
            walk_index(
                self.source,
                &self.boot,
                &self.mft,
                &extend,
                &NAME_INDEX,
                IndexKind::Names,
                &mut Children(&mut children),
            )?;
        }
        let find = |name: &str| children.iter().find(|(found, _)| found == name).map(|(_, number)| *number);
        let (quota, object_ids, reparse) = (find("$Quota"), find("$ObjId"), find("$Reparse"));
        if let Some(number) = quota
            && let Some(file) = self.file(number)?
        {
            self.check_quota(number, &file)?;
        }
        self.check_object_ids(object_ids)?;
        self.check_reparse_points(reparse)
    }

    fn check_quota(&mut self, number: u32, file: &FileAttributes) -> Result<(), Error> {
        let (mut owners, mut quotas) = (Vec::new(), Vec::new());
        self.view(number, file, &DOLLAR_O, collation::SID, &mut |entry| owners.push(entry))?;
        self.view(number, file, &DOLLAR_Q, collation::NUMBER, &mut |entry| quotas.push(entry))?;
        let spot =
            |name: &'static [u16], offset| Spot::record(number).attribute(types::INDEX_ROOT, name).at(offset);
        for owner in &owners {
            let id = u32_at(&owner.data, 0);
            let quota = quotas.iter().find(|quota| u32_at(&quota.key, 0) == id && quota.key.len() == 4);
            let names_owner = quota
                .is_some_and(|quota| quota.data.get(0x30..).is_some_and(|sid| sid.starts_with(&owner.key)));
            if owner.data.len() != 4 || !names_owner {
                self.teller.tell(
                    Rule::QuotaOwner,
                    spot(&DOLLAR_O, owner.offset),
                    "an owner id that $Q has with the same SID",
                    format!("{id:?}"),
                );
            }
        }
        for quota in &quotas {
            let version = u32_at(&quota.data, 0);
            // Defaults stand under 1 without a SID, owners from 0x100 on.
            let id = u32_at(&quota.key, 0).unwrap_or(0);
            let fits = if quota.data.len() == 0x30 { id == 1 } else { id >= 0x100 };
            if quota.key.len() != 4 || quota.data.len() < 0x30 || version != Some(2) || !fits {
                self.teller.tell(
                    Rule::QuotaEntry,
                    spot(&DOLLAR_Q, quota.offset),
                    "48 bytes under 1, or more above 255, of version 2",
                    format!("{} of {version:?}", quota.data.len()),
                );
            }
            let sid = quota.data.get(0x30..).unwrap_or_default();
            let has_owner = owners.iter().any(|owner| *sid == *owner.key);
            if !sid.is_empty() && !has_owner {
                self.teller.tell(
                    Rule::QuotaOwner,
                    spot(&DOLLAR_Q, quota.offset),
                    "a SID that $O has",
                    format!("{sid:02x?}"),
                );
            }
        }
        Ok(())
    }

    /// $ObjId lists the object ids of files, no more and no fewer.
    fn check_object_ids(&mut self, number: Option<u32>) -> Result<(), Error> {
        let mut listed: Vec<([u8; 16], u64, u64)> = Vec::new();
        let mut bad = Vec::new();
        if let Some(number) = number
            && let Some(file) = self.file(number)?
        {
            self.view(number, &file, &DOLLAR_O, collation::NUMBERS, &mut |entry| match (
                <[u8; 16]>::try_from(entry.key.as_slice()),
                u64_at(&entry.data, 0),
                entry.data.len(),
            ) {
                (Ok(id), Some(reference), 0x38) => listed.push((id, reference, entry.offset)),
                _ => bad.push((entry.offset, entry.key.len(), entry.data.len())),
            })?;
        }
        let record = number.unwrap_or(numbers::EXTEND);
        let spot = |offset| Spot::record(record).attribute(types::INDEX_ROOT, &DOLLAR_O).at(offset);
        for (offset, key, data) in bad {
            self.teller.tell(
                Rule::ObjectIdEntry,
                spot(offset),
                "a key of 16 bytes and data of 56",
                format!("{key} and {data}"),
            );
        }
        listed.sort_unstable();
        let mut ids = std::mem::take(&mut self.object_ids);
        ids.sort_unstable();
        for pair in ids.windows(2) {
            if let [(id, first), (other, second)] = pair
                && id == other
            {
                self.teller.tell(
                    Rule::ObjectIdTwice,
                    Spot::record(number_of(*second)),
                    format!("an id that {} has not", show_reference(*first)),
                    format!("{id:02x?}"),
                );
            }
        }
        for (id, reference) in &ids {
            if listed.binary_search_by(|(other, to, _)| (other, to).cmp(&(id, reference))).is_err() {
                let file = Spot::record(number_of(*reference))
                    .attribute(types::OBJECT_ID, &[])
                    .at(self.mft.offset(u64::from(number_of(*reference))));
                self.teller.tell(
                    Rule::ObjectIdUnlisted,
                    file,
                    format!("an entry for {} in $ObjId", show_reference(*reference)),
                    "none",
                );
            }
        }
        for (id, reference, offset) in &listed {
            if ids.binary_search(&(*id, *reference)).is_err() {
                self.teller.tell(
                    Rule::ObjectIdEntry,
                    spot(*offset),
                    format!("the id of {}", show_reference(*reference)),
                    format!("{id:02x?}, which it does not have"),
                );
            }
        }
        Ok(())
    }

    /// $Reparse lists the reparse points, no more and no fewer.
    fn check_reparse_points(&mut self, number: Option<u32>) -> Result<(), Error> {
        let mut listed: Vec<(u32, u64, u64)> = Vec::new();
        let mut bad = Vec::new();
        if let Some(number) = number
            && let Some(file) = self.file(number)?
        {
            self.view(number, &file, &DOLLAR_R, collation::NUMBERS, &mut |entry| match (
                u32_at(&entry.key, 0),
                u64_at(&entry.key, 4),
                (entry.key.len(), entry.data.len()),
            ) {
                (Some(tag), Some(reference), (12, 0)) => listed.push((tag, reference, entry.offset)),
                _ => bad.push((entry.offset, entry.key.len())),
            })?;
        }
        let record = number.unwrap_or(numbers::EXTEND);
        let spot = |offset| Spot::record(record).attribute(types::INDEX_ROOT, &DOLLAR_R).at(offset);
        for (offset, key) in bad {
            self.teller.tell(Rule::ReparseEntry, spot(offset), "a key of 12 bytes and no data", key);
        }
        listed.sort_unstable();
        let mut points = std::mem::take(&mut self.reparse_points);
        points.sort_unstable();
        for (tag, reference) in &points {
            if listed.binary_search_by(|(other, to, _)| (other, to).cmp(&(tag, reference))).is_err() {
                let number = number_of(*reference);
                let file = Spot::record(number)
                    .attribute(types::REPARSE_POINT, &[])
                    .at(self.mft.offset(u64::from(number)));
                self.teller.tell(
                    Rule::ReparseUnlisted,
                    file,
                    format!("an entry for {} with tag {tag:#x} in $Reparse", show_reference(*reference)),
                    "none",
                );
            }
        }
        for (tag, reference, offset) in &listed {
            if points.binary_search(&(*tag, *reference)).is_err() {
                self.teller.tell(
                    Rule::ReparseEntry,
                    spot(*offset),
                    format!("a tag that {} has", show_reference(*reference)),
                    format!("{tag:#x}"),
                );
            }
        }
        Ok(())
    }

    /// Whether record `number` is a directory with that sequence number.
    pub(super) fn is_directory(&self, number: u32, sequence: u16) -> bool {
        self.leads_to(reference(number, sequence)).is_ok_and(|info| info.state & DIRECTORY != 0)
    }
}

fn number_of(reference: u64) -> u32 {
    u32::try_from(at(reference & 0xffff_ffff_ffff)).unwrap_or(u32::MAX)
}
