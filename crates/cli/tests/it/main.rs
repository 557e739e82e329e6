//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod block_command;
mod disk;
mod doctor;
mod drivers;
mod hive;
mod imagex;
mod imports;
mod mount_command;
mod nbd_command;
mod ntfs;
mod partial;
mod service;
mod signatures;
mod stored_files;
mod support;
