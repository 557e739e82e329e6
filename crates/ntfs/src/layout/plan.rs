//! The plan: numbers of records and clusters for everything.

use gravure_nttypes::{FileAttributes, ReparseTag};
use gravure_tree::{NodeId, Tree};

use super::attribute::{to_u32, to_u64};
use super::collect::{Collected, Key, NONE, Notes, at, entry_bytes};
use super::compose::{Composer, Composition, Item, List, MAX_RESIDENT_BITMAP_BYTES};
use super::index::{Entries, Shape, bitmap_bytes};
use super::options::{ContentGuide, Geometry, VolumeOptions};
use super::secure::Secure;
use super::sparse::Piece;
use super::system::log_file_bytes;
use super::views::{ObjectIdEntries, ReparseEntries, View};
use crate::disk::{
    BOOT_FILE_BYTES, INDEX_BLOCK_BYTES, REPARSE_HEAD_BYTES, UPCASE_BYTES, attribute_definitions,
    fresh_sequence, numbers, reference,
};
use crate::{Error, Reason, Refusals};

/// Most records: a reference has 48 bits for the number, everybody counts in 32.
const MAX_RECORDS: u32 = u32::MAX - 1024;
/// Room behind the MFT to grow into: an eighth of the volume, no more than this.
const MAX_ZONE_BYTES: u64 = 200 << 20;

/// Which content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Unnamed data.
    Data,
    /// Named stream, by index.
    Named(usize),
    /// What follows the head of the reparse data.
    Reparse,
}

/// Where a content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: there are no bytes.
    Empty,
    /// Into the file's record. The engine keeps the bytes and hands them in when metadata is written ([`super::ResidentBytes`]).
    Resident {
        /// Offset among all bytes that are kept so, [`VolumePlan::resident_bytes`] in all.
        slot: u64,
    },
    /// Onto the volume, in one piece.
    Clusters {
        /// Absolute offset on the volume, bytes.
        offset: u64,
        /// Bytes of its clusters; what is behind the content is to be zeros.
        allocated: u64,
    },
    /// Onto the volume without its holes: [`VolumePlan::pieces`].
    Pieces,
    /// Onto the volume, compressed, in one piece.
    Compressed {
        /// Absolute offset on the volume, bytes.
        offset: u64,
        /// Bytes of its clusters.
        allocated: u64,
        /// Bytes of the compressed stream.
        stored_bytes: u64,
    },
}

/// A stream's place in eight bytes: two bits of kind, the rest a slot or a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceCode(u64);

impl PlaceCode {
    const EMPTY: Self = Self(0);
    const SLOT: u64 = 1 << 62;
    const CLUSTERS: u64 = 2 << 62;
    const COMPRESSED: u64 = 3 << 62;

    fn kind(self) -> u64 {
        self.0 & Self::COMPRESSED
    }

    fn number(self) -> u64 {
        self.0 & !Self::COMPRESSED
    }

    /// The slot, when the content stands in the record.
    pub(super) fn slot(self) -> Option<u64> {
        (self.kind() == Self::SLOT).then_some(self.number())
    }

    /// The first cluster.
    pub(super) fn lcn(self) -> Option<u64> {
        (self.kind() >= Self::CLUSTERS).then_some(self.number())
    }

    pub(super) fn is_compressed(self) -> bool {
        self.kind() == Self::COMPRESSED
    }
}

/// Part of a file's metadata that stands in clusters of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExtraKind {
    List,
    IndexBitmap,
    Reparse,
    Ea,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Extra {
    pub(super) node: NodeId,
    pub(super) kind: ExtraKind,
    pub(super) bytes: u64,
    pub(super) lcn: u64,
}

/// First clusters of the system files.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SystemClusters {
    pub(super) mirror: u64,
    pub(super) mft_bitmap: u64,
    pub(super) mft: u64,
    /// Free clusters behind the MFT.
    pub(super) zone: u64,
    pub(super) after_zone: u64,
    pub(super) upcase: u64,
    pub(super) definitions: u64,
    pub(super) bitmap: u64,
    pub(super) log_file: u64,
    pub(super) sds: u64,
    /// One past the last cluster in use.
    pub(super) end: u64,
}

/// Where everything on a volume goes.
#[derive(Debug)]
pub struct VolumePlan<'t> {
    pub(super) options: VolumeOptions,
    pub(super) geometry: Geometry,
    pub(super) collected: Collected<'t>,
    pub(super) places: Vec<PlaceCode>,
    /// In the order of nodes and kinds.
    pub(super) extras: Vec<Extra>,
    pub(super) secure: Secure,
    pub(super) hash_view: View,
    pub(super) id_view: View,
    pub(super) object_ids: ObjectIdEntries<'t>,
    pub(super) object_id_view: View,
    pub(super) reparse_entries: ReparseEntries,
    pub(super) reparse_view: View,
    pub(super) clusters: SystemClusters,
    /// Extension records of the root.
    pub(super) root_extensions: u32,
    /// First record of files.
    pub(super) first_user: u32,
    /// One past the last record in use.
    pub(super) record_end: u32,
    /// Records of the MFT, free ones at its end included.
    pub(super) record_count: u64,
    /// Nodes from this record on keep no content in their records: the room for it is used up.
    pub(super) no_residents_from: u32,
    resident_bytes: u64,
    content_bytes: u64,
}

impl<'t> VolumePlan<'t> {
    /// Lays `tree` out, or says why it cannot be: with everything that NTFS cannot hold, or with the size that suffices.
    pub fn new(tree: &'t Tree, guide: &dyn ContentGuide, options: &VolumeOptions) -> Result<Self, Error> {
        match Self::lay_out(tree, guide, options) {
            Err(Error::TooSmall { needed, available }) => {
                Err(Self::too_small(tree, guide, options, needed, available))
            }
            other => other,
        }
    }

    /// How large the volume must be, from `needed` on. Runs take more bytes on a larger volume, so that less content stands in
    /// records, and from 16 TiB on clusters are larger: only the plan of that volume tells whether it suffices.
    fn too_small(
        tree: &'t Tree,
        guide: &dyn ContentGuide,
        options: &VolumeOptions,
        mut needed: u64,
        available: u64,
    ) -> Error {
        loop {
            let larger = VolumeOptions { volume_bytes: needed, ..options.clone() };
            match Self::lay_out(tree, guide, &larger) {
                Err(Error::TooSmall { needed: more, .. }) if more > needed => needed = more,
                // More clusters of this size than a volume can have.
                Err(error @ Error::Invalid { .. }) => return error,
                _ => return Error::TooSmall { needed, available },
            }
        }
    }

    fn lay_out(tree: &'t Tree, guide: &dyn ContentGuide, options: &VolumeOptions) -> Result<Self, Error> {
        let geometry = Geometry::new(options)?;
        let (collected, refusals) =
            Collected::new(tree, guide, options.collisions, &geometry).map_err(Error::Refused)?;
        let wants_default = collected.notes.default_descriptors > 0;
        let secure = Secure::new(tree.security_descriptors(), &collected.descriptors_used, wants_default);
        // The two indexes of $Secure share a record with names, $SDS and their own bitmaps.
        let hash_view = View::new(&secure.hash_index(), 0x110, 0x58);
        let id_view = View::new(&secure.id_index(), 0x110, 0x58);
        let first_user = numbers::FIRST_USER
            .max(u32::try_from(geometry.cluster_bytes / to_u64(geometry.record_bytes)).unwrap_or(0));
        let no_points = ReparseEntries::new(Vec::new());
        let no_ids = ObjectIdEntries::new(tree, Vec::new());
        let mut plan = Self {
            options: options.clone(),
            geometry,
            places: vec![PlaceCode::EMPTY; at(collected.stream_count)],
            extras: Vec::new(),
            secure,
            hash_view,
            id_view,
            object_id_view: View::new(&no_ids, 0, 0),
            object_ids: no_ids,
            reparse_view: View::new(&no_points, 0, 0),
            reparse_entries: no_points,
            clusters: SystemClusters::default(),
            root_extensions: 0,
            first_user,
            record_end: first_user,
            record_count: 0,
            no_residents_from: NONE,
            resident_bytes: 0,
            content_bytes: 0,
            collected,
        };
        plan.number_records(refusals)?;
        plan.index_views();
        plan.place(guide)?;
        Ok(plan)
    }

    /// Gives every node its records, and finds out what stands in them and what needs clusters. When something was refused
    /// before, this only looks for more.
    fn number_records(&mut self, mut refusals: Refusals) -> Result<(), Error> {
        let root = self.collected.tree.root();
        self.number(root, &mut refusals);
        for link in 0..self.collected.links.len() {
            let node = self.collected.links[link].node;
            if self.collected.nodes[node.index()].record == NONE {
                self.number(node, &mut refusals);
            }
            if self.record_end > MAX_RECORDS {
                refusals.push(|| self.collected.node_path(node), Reason::FileCount(MAX_RECORDS));
                break;
            }
        }
        if !refusals.is_empty() {
            return Err(Error::Refused(refusals));
        }
        Ok(())
    }

    fn number(&mut self, node: NodeId, refusals: &mut Refusals) {
        if self.resident_bytes >= self.options.max_resident_bytes && self.no_residents_from == NONE {
            self.no_residents_from = self.record_end;
        }
        let is_root = node == self.collected.tree.root();
        self.collected.nodes[node.index()].record = if is_root { numbers::ROOT } else { self.record_end };
        let composition = match self.compose(node) {
            Ok(composition) => composition,
            Err(reason) => return refusals.push(|| self.collected.node_path(node), reason),
        };
        let records = u32::from(composition.records);
        if is_root {
            self.root_extensions = records - 1;
        }
        self.record_end += if is_root { records - 1 } else { records };
        if !refusals.is_empty() {
            return;
        }
        if let List::Clusters(bytes) = composition.list {
            self.extra(node, ExtraKind::List, to_u64(bytes));
        }
        for placed in &composition.placed {
            self.note_item(node, placed.item, placed.is_resident, composition.root_bytes);
        }
    }

    /// Notes what an attribute needs beyond its record.
    fn note_item(&mut self, id: NodeId, item: Item, is_resident: bool, root_bytes: Option<usize>) {
        let node = self.collected.tree.node(id);
        let plan = self.collected.nodes[id.index()];
        match item {
            Item::Stream { index } => {
                let size = self.stream_size(id, index);
                if size > 0 {
                    let code = if is_resident { self.slot(size) } else { PlaceCode(PlaceCode::CLUSTERS) };
                    self.places[at(plan.streams) + index] = code;
                }
            }
            Item::Holes { part: 0 } => self.places[at(plan.streams)] = PlaceCode(PlaceCode::CLUSTERS),
            Item::WofHole => self.places[at(plan.streams)] = PlaceCode(PlaceCode::COMPRESSED),
            Item::Reparse => {
                let size = node.reparse.as_ref().map_or(0, |reparse| reparse.content.size);
                let code = if size > 0 { self.slot(size) } else { PlaceCode::EMPTY };
                let index = self.reparse_index(id);
                self.places[at(plan.streams) + index] = code;
                if !is_resident {
                    self.extra(id, ExtraKind::Reparse, to_u64(REPARSE_HEAD_BYTES) + size);
                }
            }
            Item::Ea if !is_resident => {
                let bytes = node.extended_attributes.iter().map(super::collect::ea_bytes).sum();
                self.extra(id, ExtraKind::Ea, to_u64(bytes));
            }
            Item::IndexBlocks => {
                let root_bytes = root_bytes.unwrap_or(0);
                let blocks = Shape::new(&self.dir_entries(plan.detail), root_bytes).block_count();
                let dir = &mut self.collected.dirs[at(plan.detail)];
                (dir.blocks, dir.root_bytes) = (blocks, to_u32(root_bytes));
                let bitmap = bitmap_bytes(blocks);
                if bitmap > MAX_RESIDENT_BITMAP_BYTES {
                    self.extra(id, ExtraKind::IndexBitmap, bitmap);
                }
            }
            _ => {}
        }
    }

    fn slot(&mut self, size: u64) -> PlaceCode {
        let code = PlaceCode(PlaceCode::SLOT | self.resident_bytes);
        self.resident_bytes += size;
        code
    }

    fn extra(&mut self, node: NodeId, kind: ExtraKind, bytes: u64) {
        self.extras.push(Extra { node, kind, bytes, lcn: 0 });
    }

    /// The composition of a node; the same each time.
    pub(super) fn compose(&self, node: NodeId) -> Result<Composition, Reason> {
        let is_late = self.collected.nodes[node.index()].record >= self.no_residents_from;
        let resident_limit = if is_late { 0 } else { u64::MAX };
        Composer { collected: &self.collected, geometry: &self.geometry, resident_limit }.compose(node)
    }

    fn index_views(&mut self) {
        let points = self.collected.reparse_points.iter();
        let points = points.map(|id| (self.reparse_tag(*id).0, self.node_reference(*id))).collect();
        self.reparse_entries = ReparseEntries::new(points);
        self.reparse_view = View::new(&self.reparse_entries, 560, 400);
        let ids = self.collected.object_ids.iter().map(|id| (*id, self.node_reference(*id))).collect();
        self.object_ids = ObjectIdEntries::new(self.collected.tree, ids);
        self.object_id_view = View::new(&self.object_ids, 560, 400);
    }

    /// Gives everything its clusters, in the order of the volume.
    fn place(&mut self, guide: &dyn ContentGuide) -> Result<(), Error> {
        let geometry = self.geometry;
        let mut next = Next { at: 0, geometry };
        let mut clusters = SystemClusters::default();
        next.take(BOOT_FILE_BYTES);
        let record = to_u64(geometry.record_bytes);
        clusters.mirror = next.take(4 * record);
        let per_cluster = (geometry.cluster_bytes / record).max(1);
        self.record_count = u64::from(self.record_end).next_multiple_of(per_cluster.max(8));
        clusters.mft_bitmap = next.take(self.mft_bitmap_bytes());
        clusters.mft = next.take(self.record_count * record);
        clusters.zone = next.at;
        // Everything behind the zone is first placed as if there were none.
        clusters.upcase = next.take(UPCASE_BYTES);
        clusters.definitions = next.take(to_u64(attribute_definitions().len()));
        clusters.bitmap = next.take(self.bitmap_bytes());
        clusters.log_file = next.take(log_file_bytes(self.options.volume_bytes));
        clusters.sds = next.take(to_u64(self.secure.sds().len()));
        for view in [&mut self.hash_view, &mut self.id_view, &mut self.object_id_view, &mut self.reparse_view]
        {
            view.lcn = next.take(view.blocks() * to_u64(INDEX_BLOCK_BYTES));
            if view.bitmap_bytes() > MAX_RESIDENT_BITMAP_BYTES {
                view.bitmap_lcn = Some(next.take(view.bitmap_bytes()));
            }
        }
        for dir in self.collected.dirs.iter_mut().filter(|dir| dir.blocks > 0) {
            dir.lcn = next.take(dir.blocks * to_u64(INDEX_BLOCK_BYTES));
        }
        for extra in &mut self.extras {
            extra.lcn = next.take(extra.bytes);
        }
        self.place_contents(guide, &mut next);
        clusters.end = next.at;
        self.check_size(clusters.end)?;
        let zone = (MAX_ZONE_BYTES / geometry.cluster_bytes).min(geometry.clusters / 8);
        let zone = zone.min(geometry.clusters - clusters.end);
        clusters.after_zone = clusters.zone + zone;
        self.clusters = clusters;
        self.shift(zone);
        Ok(())
    }

    /// Contents in the order of the archive.
    fn place_contents(&mut self, guide: &dyn ContentGuide, next: &mut Next) {
        let mut order = Vec::new();
        let tree = self.collected.tree;
        let nodes = self.nodes_by_record().collect::<Vec<_>>();
        for id in nodes {
            let node = tree.node(id);
            let plan = self.collected.nodes[id.index()];
            let unnamed = usize::from(!node.is_directory());
            for index in 0..unnamed + node.named_streams.len() {
                let place = at(plan.streams) + index;
                let content = match index.checked_sub(unnamed) {
                    None => node.data.as_ref(),
                    Some(named) => node.named_streams.get(named).map(|stream| &stream.content),
                };
                let (Some(content), Some(_)) = (content, self.places[place].lcn()) else { continue };
                let clusters = if self.places[place].is_compressed() {
                    next.geometry.clusters_of(self.wof(id).map_or(0, |wof| wof.stored_bytes))
                } else {
                    self.stored_clusters(id, index)
                };
                order.push((guide.position(content), place, clusters));
            }
        }
        order.sort_by_key(|(position, _, _)| *position);
        for (_, place, clusters) in order {
            self.places[place].0 |= next.at;
            next.at = next.at.saturating_add(clusters);
            self.content_bytes = self.content_bytes.saturating_add(next.geometry.offset(clusters));
        }
    }

    /// Moves everything behind the zone by its length.
    fn shift(&mut self, zone: u64) {
        let clusters = &mut self.clusters;
        for lcn in [
            &mut clusters.upcase,
            &mut clusters.definitions,
            &mut clusters.bitmap,
            &mut clusters.log_file,
            &mut clusters.sds,
            &mut clusters.end,
        ] {
            *lcn += zone;
        }
        let views =
            [&mut self.hash_view, &mut self.id_view, &mut self.object_id_view, &mut self.reparse_view];
        for view in views {
            view.lcn += zone;
            view.bitmap_lcn = view.bitmap_lcn.map(|lcn| lcn + zone);
        }
        self.collected.dirs.iter_mut().for_each(|dir| dir.lcn += zone);
        self.extras.iter_mut().for_each(|extra| extra.lcn += zone);
        self.places.iter_mut().filter(|place| place.lcn().is_some()).for_each(|place| place.0 += zone);
    }

    fn check_size(&self, needed_clusters: u64) -> Result<(), Error> {
        if needed_clusters <= self.geometry.clusters {
            return Ok(());
        }
        let geometry = &self.geometry;
        let bytes_of = |clusters: u64| {
            clusters.saturating_mul(geometry.cluster_bytes).saturating_add(u64::from(geometry.sector_bytes))
        };
        // The bitmap and the log grow with the volume, and the volume with them.
        let own = |clusters: u64, bytes: u64| {
            let log = geometry.clusters_of(log_file_bytes(bytes));
            geometry.clusters_of(bitmap_bytes(clusters)).saturating_add(log)
        };
        let others = needed_clusters.saturating_sub(own(geometry.clusters, self.options.volume_bytes));
        let mut clusters = needed_clusters;
        loop {
            let next = others.saturating_add(own(clusters, bytes_of(clusters)));
            if next <= clusters {
                break;
            }
            clusters = next;
        }
        Err(Error::TooSmall { needed: bytes_of(clusters), available: self.options.volume_bytes })
    }

    /// All nodes, the root first, in the order of their records.
    pub(super) fn nodes_by_record(&self) -> impl Iterator<Item = NodeId> + '_ {
        let mut expected = self.first_user + self.root_extensions;
        let mut links = self.collected.links.iter();
        let others = std::iter::from_fn(move || {
            // A further link of a file that was given its records already has a smaller number.
            let link = links.find(|link| self.collected.nodes[link.node.index()].record >= expected)?;
            expected = self.collected.nodes[link.node.index()].record + 1;
            Some(link.node)
        });
        std::iter::once(self.collected.tree.root()).chain(others)
    }

    /// Number of record `index` of a node: 0 is its base.
    pub(super) fn record_number(&self, node: NodeId, index: u16) -> u32 {
        match (node == self.collected.tree.root(), index) {
            (true, 1..) => self.first_user + u32::from(index) - 1,
            _ => self.collected.nodes[node.index()].record + u32::from(index),
        }
    }

    /// Reference to a node's base record.
    pub(super) fn node_reference(&self, node: NodeId) -> u64 {
        let record = self.collected.nodes[node.index()].record;
        reference(record, fresh_sequence(record))
    }

    pub(super) fn dir_entries(&self, dir: u32) -> DirEntries<'_, 't> {
        DirEntries { plan: self, dir }
    }

    /// Bytes of stream `index` of a node: unnamed data first, then the named ones.
    pub(super) fn stream_size(&self, id: NodeId, index: usize) -> u64 {
        let node = self.collected.tree.node(id);
        match index.checked_sub(usize::from(!node.is_directory())) {
            None => node.data.as_ref().map_or(0, |data| data.size),
            Some(named) => node.named_streams.get(named).map_or(0, |stream| stream.content.size),
        }
    }

    /// Whether stream `index` is written as a sparse one.
    pub(super) fn is_sparse(&self, id: NodeId, index: usize) -> bool {
        let node = self.collected.tree.node(id);
        index == 0 && !node.is_directory() && node.attributes.contains(FileAttributes::SPARSE)
    }

    pub(super) fn stream_clusters(&self, id: NodeId, index: usize) -> u64 {
        let size = self.stream_size(id, index);
        if self.is_sparse(id, index) {
            self.geometry.sparse_clusters(size)
        } else {
            self.geometry.clusters_of(size)
        }
    }

    /// The same without the holes.
    pub(super) fn stored_clusters(&self, id: NodeId, index: usize) -> u64 {
        match self.collected.holes_of(id).filter(|_| index == 0) {
            Some(sparse) => sparse.clusters,
            None => self.stream_clusters(id, index),
        }
    }

    pub(super) fn reparse_index(&self, id: NodeId) -> usize {
        let node = self.collected.tree.node(id);
        usize::from(!node.is_directory()) + node.named_streams.len()
    }

    /// The tag of a reparse point; 0 for other files.
    pub(super) fn reparse_tag(&self, id: NodeId) -> ReparseTag {
        let is_compact = || !self.collected.tree.node(id).is_directory() && self.wof(id).is_some();
        match &self.collected.tree.node(id).reparse {
            Some(reparse) => reparse.tag,
            None if is_compact() => ReparseTag::WOF,
            None => ReparseTag::default(),
        }
    }

    /// The compressed stream of a file.
    pub(super) fn wof(&self, id: NodeId) -> Option<super::collect::WofPlan> {
        self.collected.wof_of(id)
    }

    pub(super) fn extra_of(&self, id: NodeId, kind: ExtraKind) -> Option<&Extra> {
        // In the order of records, as they were noted.
        let record = |id: NodeId| match id == self.collected.tree.root() {
            true => 0,
            false => self.collected.nodes[id.index()].record,
        };
        let key = record(id);
        let start = self.extras.partition_point(|extra| record(extra.node) < key);
        self.extras[start..].iter().take_while(|extra| extra.node == id).find(|extra| extra.kind == kind)
    }

    /// Bytes of $MFT's bitmap.
    pub(super) fn mft_bitmap_bytes(&self) -> u64 {
        self.record_count.div_ceil(64) * 8
    }

    /// Bytes of $Bitmap.
    pub(super) fn bitmap_bytes(&self) -> u64 {
        bitmap_bytes(self.geometry.clusters)
    }

    /// Where a content goes. `None` for what the tree does not have.
    pub fn place_of(&self, node: NodeId, part: Part) -> Option<Place> {
        let files = self.collected.tree.node(node);
        let plan = self.collected.nodes.get(node.index()).filter(|plan| plan.record != NONE)?;
        let unnamed = usize::from(!files.is_directory());
        let index = match part {
            Part::Data => (unnamed == 1).then_some(0)?,
            Part::Named(index) => (index < files.named_streams.len()).then_some(unnamed + index)?,
            Part::Reparse => files.reparse.as_ref().map(|_| self.reparse_index(node))?,
        };
        let code = self.places[at(plan.streams) + index];
        if let Some(slot) = code.slot() {
            return Some(Place::Resident { slot });
        }
        let Some(lcn) = code.lcn() else { return Some(Place::Empty) };
        let offset = self.geometry.offset(lcn);
        Some(match self.wof(node).filter(|_| code.is_compressed()) {
            Some(wof) => Place::Compressed {
                offset,
                allocated: self.geometry.rounded(wof.stored_bytes),
                stored_bytes: wof.stored_bytes,
            },
            None if index == 0 && self.collected.holes_of(node).is_some() => Place::Pieces,
            None => {
                Place::Clusters { offset, allocated: self.geometry.offset(self.stream_clusters(node, index)) }
            }
        })
    }

    /// What is on the volume of a file's unnamed data, ascending in both places; what is between is zeros. For
    /// [`Place::Pieces`]; nothing for others.
    pub fn pieces(&self, node: NodeId) -> Vec<Piece> {
        let first = self.collected.nodes.get(node.index()).and_then(|plan| self.places.get(at(plan.streams)));
        let lcn = first.and_then(|code| code.lcn());
        match (self.collected.holes_of(node), lcn) {
            (Some(sparse), Some(lcn)) => sparse.pieces(lcn, &self.geometry),
            _ => Vec::new(),
        }
    }

    /// Bytes of content that go into file records.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Bytes of clusters that hold content.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Bytes of clusters in use.
    pub fn used_bytes(&self) -> u64 {
        self.geometry.offset(self.clusters.end - (self.clusters.after_zone - self.clusters.zone))
    }

    /// Size of the volume with what is left of its last cluster, bytes.
    pub fn volume_bytes(&self) -> u64 {
        self.options.volume_bytes
    }

    /// Files and directories, system files not counted.
    pub fn file_count(&self) -> u64 {
        self.nodes_by_record().count().try_into().unwrap_or(u64::MAX)
    }

    /// What was changed or dropped.
    pub fn notes(&self) -> Notes {
        self.collected.notes
    }
}

/// Hands clusters out in order.
#[derive(Debug, Clone, Copy)]
struct Next {
    at: u64,
    geometry: Geometry,
}

impl Next {
    fn take(&mut self, bytes: u64) -> u64 {
        let lcn = self.at;
        self.at = self.at.saturating_add(self.geometry.clusters_of(bytes));
        lcn
    }
}

/// Names of a directory as index entries.
pub(super) struct DirEntries<'p, 't> {
    plan: &'p VolumePlan<'t>,
    dir: u32,
}

impl DirEntries<'_, '_> {
    fn key(&self, index: usize) -> u32 {
        let keys = &self.plan.collected.dirs[at(self.dir)].keys;
        self.plan.collected.keys[at(keys.start) + index]
    }
}

impl Entries for DirEntries<'_, '_> {
    fn count(&self) -> usize {
        self.plan.collected.dirs[at(self.dir)].keys.len()
    }

    fn len(&self, index: usize) -> usize {
        entry_bytes(self.plan.collected.key_name(self.key(index)).len())
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let len = self.len(index);
        match Key::from_number(self.key(index)) {
            Key::Link { link, is_short } => self.plan.link_entry(link, is_short, len, out),
            Key::System(name) => self.plan.system_entry(name, len, out),
        }
    }
}
