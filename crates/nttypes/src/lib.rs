//! Windows primitives shared by formats: UTF-16LE names, FILETIME, GUID, attributes, reparse tags.
