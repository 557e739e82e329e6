//! The file-image seam: Tree, TreeSink, ContentRef.
