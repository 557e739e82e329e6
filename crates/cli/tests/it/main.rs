//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod block_command;
mod disk;
mod drivers;
mod hive;
mod imagex;
mod mount_command;
mod ntfs;
mod partial;
mod service;
