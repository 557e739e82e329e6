//! An S3 server that shares no code with ours: moto.

use std::time::Duration;

use crate::{Running, oracle};

/// Until it listens; Python starts slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running S3 server on a free port of the loopback, without buckets. It takes any credentials.
#[derive(Debug)]
pub struct BucketServer {
    endpoint: String,
    _running: Running,
}

impl BucketServer {
    /// Starts it; `None`, with a loud word, where it is not installed.
    pub fn start() -> Option<anyhow::Result<Self>> {
        let mut command = oracle("moto_server")?;
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        Some(Running::start(&mut command, None).and_then(|running| {
            let line = running.console().wait_for("Running on http://", PATIENCE)?;
            let endpoint = line.split_whitespace().find(|word| word.starts_with("http://"));
            let endpoint =
                endpoint.ok_or_else(|| anyhow::anyhow!("moto told no address: {line}"))?.to_owned();
            Ok(Self { endpoint, _running: running })
        }))
    }

    /// `http://address:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
