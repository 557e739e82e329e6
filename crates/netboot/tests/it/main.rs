//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

#[macro_use]
mod wire;

mod dhcp6;
mod dhcp6_recorded;
mod dhcp_client;
mod dhcp_full;
mod dhcp_leases;
mod dhcp_oracle;
mod dhcp_proxy;
mod dhcp_relay;
mod dhcp_watch;
mod fuzz_bodies;
mod tftp_link;
mod tftp_script;
