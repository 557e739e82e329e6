//! WIM container: header, blob table, resources, metadata, XML, integrity.
