//! $AttrDef: the attributes of version 3.1 and their limits.

/// Bytes of one definition.
const DEFINITION_BYTES: usize = 160;
const LABEL_BYTES: usize = 128;

/// May be in an index.
const INDEXABLE: u32 = 0x02;
/// Always in the record.
const RESIDENT: u32 = 0x40;
/// May be in clusters.
const NON_RESIDENT: u32 = 0x80;
const ANY: u64 = u64::MAX;

/// Name, type, flags, smallest and largest value in bytes.
const DEFINITIONS: [(&str, u32, u32, u64, u64); 15] = [
    ("$STANDARD_INFORMATION", 0x10, RESIDENT, 0x30, 0x48),
    ("$ATTRIBUTE_LIST", 0x20, NON_RESIDENT, 0, ANY),
    ("$FILE_NAME", 0x30, RESIDENT | INDEXABLE, 0x44, 0x242),
    ("$OBJECT_ID", 0x40, RESIDENT, 0, 0x100),
    ("$SECURITY_DESCRIPTOR", 0x50, NON_RESIDENT, 0, ANY),
    ("$VOLUME_NAME", 0x60, RESIDENT, 0x02, 0x100),
    ("$VOLUME_INFORMATION", 0x70, RESIDENT, 0x0c, 0x0c),
    ("$DATA", 0x80, 0, 0, ANY),
    ("$INDEX_ROOT", 0x90, RESIDENT, 0, ANY),
    ("$INDEX_ALLOCATION", 0xa0, NON_RESIDENT, 0, ANY),
    ("$BITMAP", 0xb0, NON_RESIDENT, 0, ANY),
    ("$REPARSE_POINT", 0xc0, NON_RESIDENT, 0, 0x4000),
    ("$EA_INFORMATION", 0xd0, RESIDENT, 0x08, 0x08),
    ("$EA", 0xe0, 0, 0, 0x1_0000),
    ("$LOGGED_UTILITY_STREAM", 0x100, NON_RESIDENT, 0, 0x1_0000),
];

/// The whole file: one definition after the other and an empty one.
pub(crate) fn attribute_definitions() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, attribute_type, flags, least, most) in DEFINITIONS {
        let mut label: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        label.resize(LABEL_BYTES, 0);
        out.extend_from_slice(&label);
        // Display rule and collation are 0 everywhere.
        for word in [attribute_type, 0, 0, flags] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&least.to_le_bytes());
        out.extend_from_slice(&most.to_le_bytes());
    }
    out.resize(out.len().saturating_add(DEFINITION_BYTES), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_definition_for_each_type_and_an_end() {
        let bytes = attribute_definitions();
        assert_eq!(bytes.len(), 2560);
        assert_eq!(bytes[LABEL_BYTES..][..4], [0x10, 0, 0, 0]);
        assert_eq!(bytes[2400..], [0; 160]);
    }
}
