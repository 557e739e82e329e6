//! One module a command: its options with help and examples, and what it prints.

pub(crate) mod apply;
pub(crate) mod bcd;
pub(crate) mod capture;
pub(crate) mod completions;
pub(crate) mod extract;
pub(crate) mod hive;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod ls;
pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod serve;
pub(crate) mod site;
pub(crate) mod verify;
