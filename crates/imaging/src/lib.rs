//! Sources, sinks and the bounded parallel pipeline: capture, apply, extract, verify, describe.
//!
//! The engine between image files and places where files live. Formats are the business of `gravure-wim`, system calls
//! that of `gravure-linux`; here are the threads, the order, the memory bound and the decisions. `README.md` lists the
//! public surface, [`stage`] is the heart.
#![forbid(unsafe_code)]

mod error;
mod glob;
mod meter;
mod text;
mod uses;

mod chain;
mod checked;
mod read_ahead;
mod stage;

mod archive;
mod blob_reader;
mod block;
mod bundles;
mod damage;
mod described;
mod image;
mod reading;

mod directory;
mod exclude;
mod integrity;
mod ntfs_change;
mod ntfs_check;
mod ntfs_source;
mod output_file;
mod range_hash;

mod apply;
mod capture;
mod describe;
mod diff;
mod extract;
mod mount;
mod pipe;
mod rewrite;
mod verify;
mod volume;

mod import;

mod remote;

pub use apply::{ApplyOptions, ApplyReport, DamagedContent, Durability, LackOfRoom, apply_to_directory};
pub use block::{
    Advice, Alike, BLOCK_FORMAT, BadSectors, BlockApplyOptions, BlockApplyReport, BlockCapture,
    BlockCaptureOptions, BlockCaptureReport, BlockImage, BlockImageAt, BlockLayout, BlockPlan,
    BlockPlanOptions, BlockSource, BlockStream, BlockVerify, BlockVerifyReport, CaptureTarget, Delta,
    FileSystemKind, FilesImport, FilesImportOptions, FinishReport, FitOptions, FitPlan, FitReport,
    FittedPartition, Growth, ImageKind, Judged, Keep, Misfit, Mountable, Mountables, NameHits, Outlook,
    UPLOAD_BATCH_BYTES, advise, apply_block_image, apply_block_stream, apply_volume_anew,
    describe_block_image, describe_stored_image, finish_file_systems, hardware_of, has_to_be_fitted,
    is_block_image, is_described_block_image, is_driven_alike, is_laid_out_anew, least_disk_bytes, misfits,
    mountables, no_hits, store_error_kind, system_disk, verify_block_image, whole_device,
};
pub use bundles::Bundles;
pub use capture::{
    AppendOptions, CaptureForm, CaptureOptions, CaptureReport, CaptureSource, Earlier, Integrity, append,
    append_directory, capture, capture_directory, capture_sources_to_pipe, capture_to_pipe,
};
pub use checked::CheckedAt;
pub use describe::{describe, describe_file, is_described_by, system_of};
pub use diff::{Aspect, Change, DiffOptions, DiffReport, Difference, Side, diff};
pub use directory::{
    Existing, LinkTargets, Mounts, Overlay, RootMetadata, ScanOptions, SecurityMetadata, Symlinks,
    UnixMetadata,
};
pub use error::{Error, ErrorKind};
pub use exclude::{CaptureConfig, Exclusions};
pub use extract::{
    NoMatch, Parents, SelectOptions, Selected, Wanted, Wildcards, extract, extract_selected,
    extract_selected_to, extract_to, parse_path_list, select,
};
pub use glob::NameCase;
pub use gravure_codec::Level;
pub use gravure_fsmap::{ListKind, Listed};
pub use gravure_ntfs::{
    CheckReport, Collisions, Finding, Severity, Strictness, Unclean, VolumeState, WofAlgorithm,
};
pub use gravure_wim::{Compression, Limits, Method};
pub use image::{Image, ImageFile, Which, is_wim};
pub use import::{Expanded, ImportKind, expand, open_disk, vdisk_error};
pub use integrity::IntegrityChange;
pub use meter::default_threads;
pub use mount::{MountLog, MountOptions, MountedImage, StreamNames, Unmount, is_mounted, unmount};
pub use ntfs_change::{GrownVolume, grow_to_end, grow_volume, set_volume_label, set_volume_serial};
pub use ntfs_check::{
    Told, VolumeCheck, VolumeInfo, check_volume, check_volume_telling, volume_info, volume_tree,
};
pub use ntfs_source::{UncleanVolumes, is_ntfs_volume};
pub use pipe::PipedFile;
pub use remote::{HttpAt, RemoteOptions, agent};
pub use rewrite::{
    Boot, CompressionChange, ContentReader, DeleteRule, Deletion, EditOptions, Elsewhere, ExportOptions,
    FormChange, ImageRules, InfoChange, PartialTree, ReadBack, Recompress, RewriteOptions, RewriteReport,
    Rewriting, Round, Selection, ServicedDirectory, ServicedImage, SplitReport, Target, TreeChange,
    Unfinished, WrittenDirectory, WrittenFile, delete, edit, export, export_to_pipe, join, optimize, split,
};
pub use text::{read_text, read_text_file};
pub use verify::{
    Damage, FileReport, IntegrityTables, VerifyFileOptions, VerifyOptions, VerifyReport, check_integrity,
    verify_applied, verify_directory, verify_file,
};
pub use volume::{
    Compact, CompactReport, ExistingData, NotCompact, PartOf, Unrepresentable, VolumeApplyOptions,
    VolumeDevice, VolumeFile, VolumeReport, VolumeVerify, WhyPlain, apply_to_volume,
};
