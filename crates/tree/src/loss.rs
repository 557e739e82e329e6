//! What a target of a file image cannot hold by its nature.

/// Something of an image that lies beyond its target's nature, counted: told once, not file by file (DESIGN section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What kind of thing, e.g. `security descriptors`.
    pub what: &'static str,
    /// How many files it concerns.
    pub count: u64,
}
