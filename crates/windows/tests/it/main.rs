//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod answers;
mod bios_start;
mod boot;
mod bundles;
mod driver_hives;
mod driver_index;
mod fuzz_bodies;
mod identity;
mod inject;
mod layers;
mod layers_more;
mod linux_layers;
mod partial;
mod real_packages;
mod repository;
mod support;
mod vendors;
