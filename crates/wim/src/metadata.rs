//! Metadata resource: one image's tree of names, attributes and streams (wim-container section 6).
//!
//! [`disk`] has the layouts, [`read`] and [`write`] the two ways, and [`streams`], [`items`] and [`security`] the
//! parts that both share.

pub(crate) mod counts;
mod disk;
mod items;
mod read;
mod security;
mod streams;
mod write;

pub(crate) use read::parse;
pub use write::Metadata;

#[cfg(test)]
mod tests;
