//! HTTP as firmware and loaders need it: exact lengths, never chunked, and connections that end by reset.

mod channel;
mod connection;
mod request;
mod respond;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::refusals::Refused;
use crate::{Error, Library, Presence, Via};

/// A connection that encrypts.
pub trait Covered: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Covered for T {}

/// A handshake on its way.
pub type Covering = Pin<Box<dyn Future<Output = io::Result<Box<dyn Covered>>> + Send>>;

/// Puts TLS around connections. Whoever has the certificates brings it: firmware wants other suites than browsers.
pub trait Cover: Send + Sync + 'static {
    /// Shakes hands.
    fn cover(&self, stream: TcpStream) -> Covering;
}

const SERVICE: &str = "HTTP";
/// Connections one address may hold: a payload fetches on a handful.
const MAX_CONNECTIONS_PER_PEER: usize = 64;

/// Listens on `local` (port 0 for any free one).
pub async fn bind(local: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(local).await.map_err(|source| Error::listen(SERVICE, local, source))
}

/// The HTTP service, listening but not yet answering.
pub struct Service {
    listener: TcpListener,
    library: Arc<dyn Library>,
    presence: Arc<Presence>,
    cover: Option<Arc<dyn Cover>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http::Service({:?})", self.listener.local_addr())
    }
}

impl Service {
    /// Serves `library` to those who connect to `listener`.
    pub fn new(listener: TcpListener, library: Arc<dyn Library>, presence: Arc<Presence>) -> Self {
        Self { listener, library, presence, cover: None }
    }

    /// The same by HTTPS.
    pub fn covered(mut self, cover: Arc<dyn Cover>) -> Self {
        self.cover = Some(cover);
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` turns true; then no new connection is taken and running ones end after their request.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, stop.clone()),
                Err(error) => {
                    // Out of descriptors, or the client has gone already: neither is cured by asking at once.
                    tracing::debug!(%error, "HTTP accept");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, stop: watch::Receiver<bool>) {
        if self.presence.connections(peer.ip(), Via::Http) >= MAX_CONNECTIONS_PER_PEER {
            let text = || format!("another connection: {MAX_CONNECTIONS_PER_PEER} of this address are open");
            self.presence.refused(peer.ip(), Via::Http, Refused::TooMany, text);
            return;
        }
        let connection = self.presence.connection(peer.ip(), Via::Http);
        tokio::spawn(connection::run(
            stream,
            peer,
            Arc::clone(&self.library),
            Arc::clone(&self.presence),
            self.cover.clone(),
            connection,
            stop,
        ));
    }
}

#[cfg(test)]
mod tests;
