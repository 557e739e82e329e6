//! Accepts TLS connections and hands their requests to the API, with the client's key beside each.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{AnyClient, PeerKey, ServerCertificate, peer_key};
use crate::Error;

/// A handshake that takes longer is an idle scanner's.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between two requests of one connection.
const SILENCE: Duration = Duration::from_secs(120);
/// Connections at once.
const MAX_CONNECTIONS: usize = 4096;
/// How long running requests may take when the server stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// TLS 1.3 with our certificate and optional client certificates.
pub(crate) fn acceptor(certificate: Arc<ServerCertificate>) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = AnyClient::new(&provider);
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| Error::Tls(error.to_string()))?;
    let mut config = builder.with_client_cert_verifier(clients).with_cert_resolver(certificate);
    // A resumed session would carry an identity over that nobody proved in this handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves `router` until `stop` turns true and running requests have ended.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "API accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::warn!(%peer, limit = MAX_CONNECTIONS, "too many API connections");
            continue;
        };
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(stream, peer, &acceptor, router, stop).await {
                tracing::debug!(%peer, %error, "API connection");
            }
            drop(permit);
        });
    }
    // All permits back means all connections closed.
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = timeout(GOODBYE, permits.acquire_many(all)).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let key = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(peer_key);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(LocalAddress(local));
        request.extensions_mut().insert(key.clone());
        let service = TowerToHyperService::new(router.clone());
        Box::pin(async move { hyper::service::Service::call(&service, request).await })
            as std::pin::Pin<Box<dyn Future<Output = Result<axum::response::Response, Infallible>> + Send>>
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    ended.map_err(io::Error::other)
}

/// The key of the client's certificate, if it has one.
pub(crate) type ClientKey = Option<PeerKey>;

/// Our address that the client reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalAddress(pub(crate) SocketAddr);
