//! One connection from accept to reset.
//!
//! The client's FIN is answered by a reset instead of a FIN of our own, so that no socket lingers in LAST_ACK or
//! TIME_WAIT for the ports its next boot will use again (specs/netboot.md, finding 3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Cover;
use super::channel::Channel;
use super::request::{Heads, Next};
use super::respond::{Answer, respond};
use crate::refusals::Refused;
use crate::{Connection, Library, NoteKind, Presence, Via};

/// A handshake that takes longer is an idle scanner's; firmware under emulation needs two seconds.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// A client that has not asked its next question whole after so long has gone.
const SILENCE: Duration = Duration::from_secs(75);
/// A client that takes nothing of its answer for so long has gone, whether or not its system still says it is alive.
const STALL: Duration = Duration::from_secs(120);
/// How long a client that asked for the end of the connection may take to close it, knowing the length of its answer.
const CLOSE_BY_CLIENT: Duration = Duration::from_secs(1);
/// How long it may take after our own FIN.
const CLOSE_AFTER_FIN: Duration = Duration::from_secs(5);

/// Serves requests of one connection.
pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    library: Arc<dyn Library>,
    presence: Arc<Presence>,
    cover: Option<Arc<dyn Cover>>,
    mut connection: Connection,
    mut stop: watch::Receiver<bool>,
) {
    // A second handle, to set the way of closing whatever state the first is in.
    let control = match prepare(&stream) {
        Ok(control) => control,
        Err(error) => return tracing::debug!(%peer, %error, "HTTP connection"),
    };
    let served = tokio::select! {
        served = serve(stream, &*library, &presence, cover.as_deref(), &mut stop) => served,
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
    library: &dyn Library,
    presence: &Presence,
    cover: Option<&dyn Cover>,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let mut channel = match cover {
        None => Channel::Plain(stream),
        Some(cover) => {
            let covered =
                timeout(HANDSHAKE, cover.cover(stream)).await.map_err(|_| io::ErrorKind::TimedOut)?;
            Channel::Covered(covered.inspect_err(|error| {
                // What firmware that does not know the site's authority does is worth a word.
                presence.note(peer.ip(), NoteKind::Trouble, || format!("HTTPS did not come about: {error}"));
            })?)
        }
    };
    let by = if cover.is_some() { "HTTPS" } else { "HTTP" };
    let mut heads = Heads::default();
    loop {
        let next = tokio::select! {
            next = timeout(SILENCE, heads.next(&mut channel)) => next.map_err(|_| io::ErrorKind::TimedOut)??,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match next {
            Next::Request(request) => {
                let answer = respond(library, presence, &request, local, peer).await;
                let sent = channel.send(&answer.head(Some(&request), SystemTime::now()), &answer.body).await;
                tell(presence, peer, by, &answer, sent.as_ref().err());
                sent?;
                if !request.keep {
                    break;
                }
            }
            Next::Refused(status) => {
                presence.refused(peer.ip(), Via::Http, Refused::Malformed, || {
                    format!("what is no request (status {status})")
                });
                let answer = Answer::refusal(status);
                channel.send(&answer.head(None, SystemTime::now()), &answer.body).await?;
                break;
            }
            Next::End => break,
        }
    }
    wait_for_close(channel).await
}

/// For the machine's journal: what it got, or that a transfer broke off. Parts are of images, in their thousands; what boots
/// is fetched whole.
fn tell(presence: &Presence, peer: SocketAddr, by: &str, answer: &Answer, broken: Option<&io::Error>) {
    let (Some(name), 200, 1..) = (&answer.name, answer.status, answer.body.len()) else { return };
    match broken {
        None => presence.fetched(peer.ip(), &name.to_string(), || format!("fetched {name} by {by}")),
        Some(error) => {
            let len = answer.body.len();
            presence.note(peer.ip(), NoteKind::Trouble, || {
                format!("did not get all {len} bytes of {name} by {by}: {error}")
            });
        }
    }
}

/// Gives the client time to take its answer and close first; a reset before that would cost it what is under way.
async fn wait_for_close(mut channel: Channel) -> io::Result<()> {
    if timeout(CLOSE_BY_CLIENT, drain(&mut channel)).await.is_ok() {
        return Ok(());
    }
    channel.finish().await?;
    let _ = timeout(CLOSE_AFTER_FIN, drain(&mut channel)).await;
    Ok(())
}

/// Reads and drops until the client's FIN.
async fn drain(channel: &mut Channel) {
    let mut buf = [0; 4096];
    while matches!(channel.read(&mut buf).await, Ok(1..)) {}
}
