//! Sources, sinks and the bounded parallel pipeline: capture, apply, verify.
