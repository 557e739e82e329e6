//! `gravure nbd`: a block image as a disk for whoever speaks NBD, without restoring it.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{BlockImageAt, ErrorKind};
use gravure_io::{ReadAt, Window};
use gravure_model::Ctl;
use gravure_nbd::Export;
use serde::Serialize;

use crate::Common;
use crate::exit::Failure;
use crate::output::Format;
use crate::stored;
use crate::target::ImageName;

/// Serve a block image as a read-only disk (NBD)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The whole image is the export without a name and `disk`; each partition is one under its number. Chunks are checked before they are
given out. There is no encryption: listen on a socket, or where nobody else reads. Ends with Ctrl-C, or with --once when the first client has left.

Examples:
  gravure nbd golden.gim --socket /run/golden.sock
  nbd-client -unix /run/golden.sock /dev/nbd0 && mount -o ro /dev/nbd0p2 /mnt
  gravure nbd /srv/store.gim/#golden --listen 127.0.0.1:0
  qemu-img convert -O qcow2 nbd://127.0.0.1:10809/2 part2.qcow2"
)]
pub(crate) struct Options {
    /// Block image: FILE.gim, STORE#NAME, or an address
    image: ImageName,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10809", conflicts_with = "socket")]
    listen: String,
    /// Socket to listen on
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// End when the first client has left
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Serialize)]
struct Listening<'a> {
    address: &'a str,
    exports: Vec<&'a str>,
}

/// A partition, or the whole.
struct Part<'a> {
    name: String,
    description: String,
    window: Window<&'a BlockImageAt>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A client of either kind.
enum Client {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    fn open(options: &Options) -> Result<(Self, String), Failure> {
        if let Some(path) = &options.socket {
            let listener =
                UnixListener::bind(path).map_err(|error| Failure::io("listen on", path, &error))?;
            return Ok((
                Self::Unix(listener, path.clone()),
                format!("nbd+unix:///?socket={}", path.display()),
            ));
        }
        let failed = |error: &std::io::Error| {
            Failure::new(ErrorKind::Network, format!("listen on {}: {error}", options.listen))
        };
        let listener = TcpListener::bind(&options.listen).map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        Ok((Self::Tcp(listener), format!("nbd://{address}")))
    }

    fn accept(&self) -> std::io::Result<Client> {
        match self {
            Self::Tcp(listener) => {
                let (client, _) = listener.accept()?;
                // Answers are small and somebody waits for each.
                client.set_nodelay(true)?;
                Ok(Client::Tcp(client))
            }
            Self::Unix(listener, _) => Ok(Client::Unix(listener.accept()?.0)),
        }
    }
}

impl Client {
    fn serve(&self, exports: &[Export<'_>]) -> Result<(), gravure_nbd::Error> {
        match self {
            Self::Tcp(stream) => gravure_nbd::serve(&mut BufReader::new(stream), &mut &*stream, exports),
            Self::Unix(stream) => gravure_nbd::serve(&mut BufReader::new(stream), &mut &*stream, exports),
        }
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let image = BlockImageAt::new(stored::open(&options.image, &Ctl::default())?);
    let (facts, root) = (image.image().facts(), image.image().root());
    let sector_bytes = root.sector_bytes;
    let mut parts = vec![Part {
        name: "disk".to_owned(),
        description: facts.name.clone(),
        window: Window::new(&image, 0, image.size()),
    }];
    parts.extend(facts.volumes.iter().filter_map(|volume| {
        let label = volume.label.as_ref().map_or_else(String::new, |label| format!(" {label}"));
        Some(Part {
            name: volume.number?.to_string(),
            description: format!("{}{label}", volume.content),
            window: Window::new(&image, volume.offset_bytes, volume.size_bytes),
        })
    }));
    let say = |error: &std::io::Error| eprintln!("error: {error}");
    let exports: Vec<Export<'_>> = parts
        .iter()
        .map(|part| Export {
            name: &part.name,
            description: &part.description,
            source: &part.window,
            sector_bytes,
            on_error: &say,
        })
        .collect();
    let (listener, address) = Listener::open(options)?;
    let listening =
        Listening { address: &address, exports: exports.iter().map(|export| export.name).collect() };
    let line = match common.format {
        Format::Text => format!("{address}: {}", listening.exports.join(", ")),
        _ => serde_json::to_string(&listening).unwrap_or_default(),
    };
    // Whoever started this waits for the line.
    let mut out = std::io::stdout();
    let said = writeln!(out, "{line}").and_then(|()| out.flush());
    said.map_err(|error| Failure::new(ErrorKind::Io, format!("write: {error}")))?;
    std::thread::scope(|scope| {
        loop {
            let client = match listener.accept() {
                Ok(client) => client,
                // That client went away before it was one.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(Failure::new(ErrorKind::Network, format!("{address}: {error}"))),
            };
            let talk = {
                let exports = &exports;
                move || match client.serve(exports) {
                    Err(error) if !error.is_hang_up() => eprintln!("client: {}", crate::exit::chain(&error)),
                    _ => {}
                }
            };
            if options.once {
                talk();
                return Ok(ExitCode::SUCCESS);
            }
            scope.spawn(talk);
        }
    })
}
