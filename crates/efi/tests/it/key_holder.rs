//! A key and certificate of openssl's, for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use gravure_efi::{SignError, Signer};

/// Signs with `openssl dgst`.
pub(crate) struct OpenSsl {
    dir: PathBuf,
    certificate: Vec<u8>,
}

impl OpenSsl {
    /// A key made in `dir`; `None` after a loud skip where there is no openssl.
    pub(crate) fn new(dir: &Path) -> Option<Self> {
        let mut request = gravure_testkit::oracle("openssl")?;
        request.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=Site"]);
        request.args(["-keyout", "key.pem", "-out", "cert.pem"]).current_dir(dir);
        run(&mut request);
        run(Command::new("openssl")
            .args(["x509", "-in", "cert.pem", "-outform", "DER", "-out", "cert.der"])
            .current_dir(dir));
        let certificate = std::fs::read(dir.join("cert.der")).unwrap();
        Some(Self { dir: dir.to_owned(), certificate })
    }
}

impl Signer for OpenSsl {
    fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        std::fs::write(self.dir.join("signed"), bytes)?;
        let args = ["dgst", "-sha256", "-sign", "key.pem", "signed"];
        Ok(Command::new("openssl").args(args).current_dir(&self.dir).output()?.stdout)
    }
}

/// Runs to a good end and gives what was said.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}
