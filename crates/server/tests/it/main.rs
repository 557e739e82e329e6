//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod capture;
mod common;
mod deployment;
mod generations;
mod identities;
mod machines;
mod menus;
mod store;
mod windows;
