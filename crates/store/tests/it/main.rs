//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod crashes;
mod s3;
mod stores;
mod support;
