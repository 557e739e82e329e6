//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod block_aged;
mod block_anew;
mod block_at;
mod block_btrfs;
mod block_crash;
mod block_filesystems;
mod block_fit;
mod block_images;
mod block_logical;
mod block_names;
mod block_stream;
mod block_upload;
mod block_xfs;
mod common;
mod compact;
mod damage;
#[path = "common/disk.rs"]
mod disk;
mod forms;
mod interop;
mod keep;
mod kernel_volumes;
mod large;
mod mounts;
mod ntfs_source;
mod oracles;
mod pipes;
mod remote;
mod rewrite;
mod round_trip;
#[path = "common/server.rs"]
mod server;
mod solid;
#[path = "common/sparse.rs"]
mod sparse;
mod vectors;
mod volume;
mod volume_cuts;
mod volume_damage;
mod volume_trees;
#[path = "../../../ntfs/tests/it/support/mod.rs"]
mod windows;
mod windows_facts;
mod windows_interop;
#[path = "../../../wim/tests/it/support/windows_tree.rs"]
mod windows_tree;
