//! XPRESS Huffman, LZX and LZMS between byte slices.
