//! Bodies for fuzzing: any bytes must give a disk that can be read or an error, in bounded time and memory. Replayed as plain tests
//! in `tests/fuzz_bodies.rs`.

use std::sync::Arc;

use gravure_io::ReadAt;

use crate::{Kind, VirtualDisk};

/// Places of the disk looked at.
const STEPS: u64 = 64;

/// A whole file of some kind; what is no file of that kind is refused.
pub fn file(data: &[u8], kind: Kind) {
    let source: Arc<dyn ReadAt> = Arc::new(data.to_vec());
    let _ = Kind::of(&source);
    let Ok(disk) = VirtualDisk::open(source, kind) else { return };
    let mut buf = [0; 1000];
    let step = disk.size().checked_div(STEPS).unwrap_or(0).max(1);
    let mut at = 0u64;
    for _ in 0..=STEPS {
        let left = usize::try_from(disk.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let len = left.min(buf.len());
        let _ = disk.read_exact_at(at, buf.get_mut(..len).unwrap_or_default());
        at = at.saturating_add(step);
    }
    let mut at = 0;
    for _ in 0..STEPS {
        match disk.next_data(at) {
            Ok(Some(range)) => {
                assert!(range.start >= at && range.end > range.start && range.end <= disk.size());
                at = range.end;
            }
            Ok(None) | Err(_) => break,
        }
    }
}
