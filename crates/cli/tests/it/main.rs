//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod block_command;
mod differences;
mod disk;
mod disk_files;
mod doctor;
mod drivers;
mod from_anywhere;
mod habits;
mod hive;
mod imagex;
mod imagex_files;
mod imagex_ntfs;
mod imports;
mod mount_command;
mod nbd_command;
mod ntfs;
mod on_disk;
mod partial;
mod resume;
mod service;
mod signatures;
mod stored_files;
mod support;
mod targets;
mod wimlib_suites;
