//! The gravure binary.
