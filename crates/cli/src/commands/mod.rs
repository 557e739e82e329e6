//! One module a command: its options with help and examples, and what it prints.

pub(crate) mod apply;
pub(crate) mod bcd;
pub(crate) mod capture;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod driver;
pub(crate) mod edit;
pub(crate) mod export;
pub(crate) mod extract;
pub(crate) mod hive;
pub(crate) mod image;
pub(crate) mod inf;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod inventory;
pub(crate) mod join;
pub(crate) mod ls;
pub(crate) mod machine;
pub(crate) mod optimize;
pub(crate) mod plan;
pub(crate) mod rewrite;
pub(crate) mod serve;
pub(crate) mod site;
pub(crate) mod split;
pub(crate) mod verify;
