//! `gravure serve`: runs the server until it is told to stop.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use gravure_imaging::ErrorKind;
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::Silent;
use gravure_server::{Config, InterfaceConfig, Server};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Failure, chain};

/// Serve a site: DHCP, TFTP, HTTP and the API, in the foreground
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure serve --config /srv/gravure/gravure.toml
  gravure serve --config /srv/gravure/gravure.toml --interface enp2s0      another interface than configured
  GRAVURE_LOG=debug gravure serve --config gravure.toml                    with every request

Needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW. Ctrl-C or SIGTERM stops it cleanly; payloads at work carry on and
find it again when it is back.")]
pub(crate) struct Options {
    /// The site's configuration
    #[arg(long, value_name = "FILE", default_value = "gravure.toml")]
    config: PathBuf,
    /// Serve on this address instead of the configured interfaces
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Ipv4Addr>,
    /// Serve on this interface instead of the configured ones
    #[arg(long, value_name = "INTERFACE")]
    interface: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut config = Config::load(&options.config)?;
    if !options.listen.is_empty() || !options.interface.is_empty() {
        let wanted = options.listen.iter().map(|address| InterfaceConfig::at(*address));
        let wanted = wanted.chain(options.interface.iter().map(InterfaceConfig::named));
        config.interfaces = wanted.map(|wanted| configured(&config, wanted)).collect();
    }
    runtime()?.block_on(serve(&config))
}

/// What is configured for an interface stays as it is when the interface is named on the command line.
fn configured(config: &Config, wanted: InterfaceConfig) -> InterfaceConfig {
    let same = |known: &&InterfaceConfig| {
        (wanted.name.is_some() && known.name == wanted.name)
            || (wanted.address.is_some() && known.address == wanted.address)
    };
    config.interfaces.iter().find(same).cloned().unwrap_or(wanted)
}

async fn serve(config: &Config) -> Result<ExitCode, Failure> {
    // Before the services start: a signal in between must not be lost.
    let handler =
        |kind| signal(kind).map_err(|error| Failure::new(ErrorKind::Failed, format!("signals: {error}")));
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let server = Server::start(config, Arc::new(describe)).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn describe(path: &Path) -> Result<ImageDescriptor, String> {
    gravure_imaging::describe(path, &Ctl::default(), &Silent).map_err(|error| chain(&error))
}

/// Threads that wait for disks. A room of PCs that asks at once for the same files is answered from memory; a thread for
/// each would only cost its stack.
const DISK_THREADS: usize = 32;

/// The event loop.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().max_blocking_threads(DISK_THREADS).build();
    runtime.map_err(|error| Failure::new(ErrorKind::Failed, format!("cannot start the event loop: {error}")))
}
