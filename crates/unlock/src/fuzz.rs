//! Bodies for fuzzing: any bytes, no panic, bounded work.

use std::sync::Arc;

use gravure_io::ReadAt;

use crate::{Key, Limits, unlock};

/// A volume of any content, opened with a key that may fit by what is known of it.
pub fn volume(bytes: &[u8]) {
    let limits = Limits { iterations: 20, memory_kib: 64, passes: 2 };
    let source: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
    if let Ok(opened) = unlock(source, &Key::new(b"key"), &limits) {
        let mut buf = vec![0; 5000];
        for offset in [0, 511, opened.size().saturating_sub(5000)] {
            let _ = opened.read_exact_at(offset, &mut buf);
        }
    }
}
