//! One connection from accept to reset.
//!
//! The client's FIN is answered by a reset instead of a FIN of our own, so that no socket lingers in LAST_ACK or
//! TIME_WAIT for the ports its next boot will use again (specs/netboot.md, finding 3).

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::respond::respond;
use crate::{Connection, Library, Presence};

/// A client that says nothing for so long, between two requests or within one, has gone.
const SILENCE: Duration = Duration::from_secs(75);
/// A client that takes nothing of its answer for so long has gone, whether or not its system still says it is alive.
const STALL: Duration = Duration::from_secs(120);
/// How long a client that asked for the end of the connection may take to close it, knowing the length of its answer.
const CLOSE_BY_CLIENT: Duration = Duration::from_secs(1);
/// How long it may take after our own FIN.
const CLOSE_AFTER_FIN: Duration = Duration::from_secs(5);
/// Request line and headers of firmware stay below 1 KiB.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Serves requests of one connection.
pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    library: Arc<dyn Library>,
    presence: Arc<Presence>,
    mut connection: Connection,
    mut stop: watch::Receiver<bool>,
) {
    // A second handle, to set the way of closing whatever state the first is in.
    let control = match prepare(&stream) {
        Ok(control) => control,
        Err(error) => return tracing::debug!(%peer, %error, "HTTP connection"),
    };
    let served = tokio::select! {
        served = serve(stream, library, presence, &mut stop) => served,
        () = connection.ended() => Ok(()),
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "HTTP connection");
    }
    // Zero seconds: closing discards what is unsent and resets. Nothing is unsent unless the client is gone.
    if let Err(error) = control.set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%peer, %error, "HTTP connection: cannot close by reset");
    }
}

fn prepare(stream: &TcpStream) -> io::Result<socket2::Socket> {
    stream.set_nodelay(true)?;
    let control = socket2::Socket::from(stream.as_fd().try_clone_to_owned()?);
    control.set_tcp_user_timeout(Some(STALL))?;
    Ok(control)
}

async fn serve(
    stream: TcpStream,
    library: Arc<dyn Library>,
    presence: Arc<Presence>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let service = service_fn(move |request| {
        let (library, presence) = (Arc::clone(&library), Arc::clone(&presence));
        Box::pin(
            async move { Ok::<_, Infallible>(respond(&*library, &presence, request, local, peer).await) },
        )
    });
    let mut builder = http1::Builder::new();
    // GRUB looks for `Content-Length: ` in exactly this case; without a length it takes the file for endless.
    builder.title_case_headers(true);
    builder.timer(TokioTimer::new()).header_read_timeout(SILENCE).max_buf_size(MAX_HEADER_BYTES);
    let mut served = builder.serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|context| served.poll_without_shutdown(context)) => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    match ended {
        Some(ended) => ended?,
        None => {
            Pin::new(&mut served).graceful_shutdown();
            poll_fn(|context| served.poll_without_shutdown(context)).await?;
        }
    }
    wait_for_close(served.into_parts().io.into_inner()).await?;
    Ok(())
}

/// Gives the client time to take its answer and close first; a reset before that would cost it what is under way.
async fn wait_for_close(mut stream: TcpStream) -> io::Result<()> {
    if timeout(CLOSE_BY_CLIENT, drain(&mut stream)).await.is_ok() {
        return Ok(());
    }
    stream.shutdown().await?;
    let _ = timeout(CLOSE_AFTER_FIN, drain(&mut stream)).await;
    Ok(())
}

/// Reads and drops until the client's FIN.
async fn drain(stream: &mut TcpStream) {
    let mut buf = [0; 4096];
    while matches!(stream.read(&mut buf).await, Ok(1..)) {}
}
