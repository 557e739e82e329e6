//! Limits against hostile files (wim-container 14.1): what may be held in memory or followed at most.

/// Largest XML document, bytes. Real ones are below 100 KiB.
pub(crate) const DEFAULT_MAX_XML_BYTES: u64 = 64 << 20;
/// Largest metadata resource, bytes. A full Windows image has about 40 MiB.
pub(crate) const DEFAULT_MAX_METADATA_BYTES: u64 = 2 << 30;
/// A metadata resource may be this many times as large as the whole file: LZX reaches 420, LZMS far more, but
/// metadata is never that uniform.
pub(crate) const MAX_METADATA_RATIO: u64 = 512;
/// Largest chunk, plain bytes: what Windows writes in solid resources. Readers hold some such chunks per thread.
pub(crate) const DEFAULT_MAX_CHUNK_BYTES: u32 = 64 << 20;
/// Largest chunk table, bytes: 1 TiB of content in 32 KiB chunks.
pub(crate) const DEFAULT_MAX_CHUNK_TABLE_BYTES: u64 = 256 << 20;
/// Deepest directory; the root is 0.
pub(crate) const DEFAULT_MAX_DEPTH: u32 = 16384;
/// Most images: what the boot index and part tables of other tools can count.
pub(crate) const MAX_IMAGES: u32 = 65535;
/// Deepest nesting of XML elements. Windows writes 5.
pub(crate) const MAX_XML_DEPTH: usize = 64;

/// Limits a caller can change. The defaults take every file that Windows makes; they have no bound for all contents of an
/// image, as only the caller knows how much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest XML document, bytes.
    pub max_xml_bytes: u64,
    /// Largest decoded metadata resource, bytes.
    pub max_metadata_bytes: u64,
    /// Largest chunk of a resource, plain bytes.
    pub max_chunk_bytes: u32,
    /// Largest chunk table of a resource, bytes.
    pub max_chunk_table_bytes: u64,
    /// Deepest directory; the root is 0.
    pub max_depth: u32,
    /// Most plain bytes of all files and streams of an image: what an apply writes. Names of one file count once, equal contents
    /// as often as files have them. In a pipe sizes come with the contents: there it is for the reader of the contents to hold
    /// to it.
    pub max_image_bytes: u64,
}

impl Limits {
    /// None but those of the format: for files that this program wrote itself a moment ago.
    pub const NONE: Self = Self {
        max_xml_bytes: u64::MAX,
        max_metadata_bytes: u64::MAX,
        max_chunk_bytes: u32::MAX,
        max_chunk_table_bytes: u64::MAX,
        max_depth: u32::MAX,
        max_image_bytes: u64::MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_xml_bytes: DEFAULT_MAX_XML_BYTES,
            max_metadata_bytes: DEFAULT_MAX_METADATA_BYTES,
            max_chunk_bytes: DEFAULT_MAX_CHUNK_BYTES,
            max_chunk_table_bytes: DEFAULT_MAX_CHUNK_TABLE_BYTES,
            max_depth: DEFAULT_MAX_DEPTH,
            max_image_bytes: u64::MAX,
        }
    }
}
