//! A body for fuzzing: whatever a client sends, the conversation ends, in bounded memory. Replayed as plain tests in `tests/it`.

use crate::{Export, serve};

/// A disk of 16 KiB, and a client that sends `data`.
pub fn client(data: &[u8]) {
    let source = vec![7u8; 16 << 10];
    let export =
        |name| Export { name, description: "words", source: &source, sector_bytes: 512, on_error: &|_| () };
    let mut output = Count(0);
    let _ = serve(&mut &*data, &mut output, &[export("first"), export("second")]);
}

/// Counts what is sent.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(buf.len());
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
