//! Bodies of fuzz tests, also run as plain tests over damaged samples. Each panics when a rule of this crate is broken.

use crate::{Part, Program, SignError, Signer, assemble, keys, sign};

struct Echo;

impl Signer for Echo {
    fn certificate(&self) -> &[u8] {
        // SEQUENCE { SEQUENCE { INTEGER 1, SEQUENCE {}, SEQUENCE {} } }
        &[0x30, 9, 0x30, 7, 2, 1, 1, 0x30, 0, 0x30, 0]
    }

    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(vec![1; bytes.len().min(256)])
    }
}

/// What is taken for a stub can be added to, and what was made can be read and signed, and is what was put in.
pub fn program(bytes: &[u8]) {
    let Ok(program) = Program::parse(bytes) else { return };
    for section in program.sections() {
        let _ = program.section(&section.name);
    }
    let parts = [Part { name: ".fuzz", content: b"content" }, Part { name: ".fuzz2", content: b"" }];
    let Ok(made) = assemble(bytes, &parts) else { return };
    let whole = Program::parse(&made).expect("what was made can be read");
    assert_eq!(whole.section(".fuzz"), Some(&b"content"[..]));
    let signed = sign(&made, &Echo).expect("what was made can be signed");
    let again = Program::parse(&signed).expect("what was signed can be read");
    assert!(again.is_signed());
}

/// No variable makes the reader of lists panic.
pub fn lists(bytes: &[u8]) {
    if let Ok(found) = keys::certificates(bytes) {
        assert!(found.iter().map(|certificate| certificate.len()).sum::<usize>() <= bytes.len());
    }
}
