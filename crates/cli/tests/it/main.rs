//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod block_command;
mod disk;
mod drivers;
mod from_anywhere;
mod hive;
mod imagex;
mod imagex_files;
mod imports;
mod mount_command;
mod nbd_command;
mod ntfs;
mod partial;
mod service;
mod signatures;
mod stored_files;
mod support;
mod wimlib_suites;
