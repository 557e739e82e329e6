//! Serving boot files: our server against dnsmasq, atftpd, tftpd-hpa and nginx in the same network, one after the other.
//!
//! Rows and anchors are those of specs/netboot.md, section 6. Server and clients share this machine's processors, so figures are
//! for comparing within a run.

pub(crate) mod client;
mod rivals;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gravure_testkit::{HOST_ADDRESS, Lab, Neighbour, Running, Site, SiteDhcp, SiteSetup};
use serde::Serialize;

use super::Options;
use crate::console::{self, Step, size};
use crate::{process, workspace};
use client::Outcome;
use rivals::{NGINX_PORT, Rival};

/// Largest file, for rows without delay.
const LARGE_BYTES: u64 = 100 << 20;
/// For rows with delays and for many clients.
const SMALL_BYTES: u64 = 4 << 20;
const CLIENTS: usize = 500;
const HTTP_CLIENTS: usize = 200;
const DISCOVERS: usize = 1000;
/// Where clients come from: no machine has 200 connections, and our server grants none so many.
const CLIENT_ADDRESSES: [&str; 5] = ["10.77.0.9", "10.77.0.10", "10.77.0.11", "10.77.0.12", "10.77.0.13"];
/// Memory of the server while 500 clients fetch.
const MAX_PEAK_BYTES: u64 = 40 << 20;
/// After a lost packet, at window 16.
const MAX_RECOVERY_SECONDS: f64 = 0.2;
/// Some rivals wait for seconds after each lost packet: minutes a run.
const SLOW_RUN_SECONDS: f64 = 20.0;
const MAX_P99_MILLISECONDS: f64 = 2.0;
const TFTP_RATIO: f64 = 0.95;
const HTTP_RATIO: f64 = 0.8;

/// A row of TFTP with one client: name, file, block, window, delay in microseconds, losses in a million.
type Case = (&'static str, &'static str, u16, u16, u64, u64);

const TFTP_CASES: [Case; 6] = [
    ("TFTP 1468/w16", "large.bin", 1468, 16, 0, 0),
    ("TFTP 512/w1", "large.bin", 512, 1, 0, 0),
    ("TFTP 1468/w16, 300 us", "small.bin", 1468, 16, 300, 0),
    ("TFTP 512/w1, 300 us", "small.bin", 512, 1, 300, 0),
    ("TFTP 1468/w16, 0.5 % lost", "small.bin", 1468, 16, 0, 5000),
    // As lost packets cost the clients that cannot be changed; no client reports a gap here, so that a timer decides.
    ("TFTP 512/w1, 0.5 % lost", "small.bin", 512, 1, 0, 5000),
];

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    ours: f64,
    best_rival: f64,
    rival: String,
    unit: &'static str,
    ratio: f64,
    target: String,
    met: bool,
}

#[derive(Debug, Serialize)]
struct Measured {
    rows: Vec<Row>,
    processors: usize,
}

/// The network with both ends.
struct Bench<'a> {
    client: Neighbour,
    runs: usize,
    files: &'a Path,
    dir: &'a Path,
}

/// Measures; says whether every target was met.
pub(super) fn run(options: &Options) -> Result<bool> {
    let dir = workspace::target().join("bench/boot");
    let files = dir.join("files");
    std::fs::create_dir_all(&files).with_context(|| format!("cannot create {}", files.display()))?;
    make(&files.join("large.bin"), LARGE_BYTES)?;
    make(&files.join("small.bin"), SMALL_BYTES)?;
    let step = Step::start("gravure (release build)");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    step.done("built");
    let step = Step::start("rivals, unpacked from Debian's packages");
    let unpacked = dir.join("rivals");
    std::fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
    let program = |rival: Rival| rival.program(&unpacked);
    let programs = Rival::TFTP.map(|rival| program(rival).map(|path| (rival, path)));
    let programs = programs.into_iter().collect::<Result<Vec<_>>>()?;
    let nginx = program(Rival::Nginx)?;
    step.done("ready");

    let mut rows = Vec::new();
    // Each rival alone; then ours, which holds the same ports.
    let mut theirs: Vec<(Rival, Vec<f64>, usize)> = Vec::new();
    for (rival, path) in &programs {
        let step = Step::start(rival.name());
        let lab = Lab::new()?;
        let bench = Bench::new(&lab, options, &files, &dir)?;
        let running = rival.start(&lab, path, &files, &dir)?;
        let speeds = TFTP_CASES.iter().map(|case| bench.tftp(case)).collect::<Result<Vec<_>>>()?;
        let speeds = speeds.iter().map(speed).collect();
        let many = bench.many_tftp()?;
        drop(running);
        step.done(format!("{} of {CLIENTS} clients", many.finished));
        theirs.push((*rival, speeds, many.finished));
    }
    let step = Step::start("gravure");
    let lab = Lab::new()?;
    let bench = Bench::new(&lab, options, &files, &dir)?;
    let mut site = bench.site(lab, SiteDhcp::Full)?;
    for (number, case) in TFTP_CASES.iter().enumerate() {
        let outcome = bench.tftp(case)?;
        let best = theirs.iter().map(|(rival, speeds, _)| (speeds[number], rival.name()));
        let best = best.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((0.0, "none"));
        rows.push(faster(case.0, speed(&outcome), best, TFTP_RATIO));
        if case.5 > 0 {
            // Without a window no client reports a gap: a lost packet costs a timer, and one lost twice in a row that and twice it.
            let has_target = case.3 > 1;
            let met = !has_target || outcome.slowest_recovery < MAX_RECOVERY_SECONDS;
            rows.push(Row {
                what: format!("{}: slowest recovery of {} in all runs", case.0, outcome.dropped),
                ours: outcome.slowest_recovery,
                best_rival: f64::NAN,
                rival: String::new(),
                unit: "s",
                ratio: f64::NAN,
                target: if has_target { format!("< {MAX_RECOVERY_SECONDS} s") } else { String::new() },
                met,
            });
        }
    }
    let many = bench.many_tftp()?;
    let peak = peak_bytes(site.server());
    let best = theirs.iter().map(|(rival, _, finished)| (*finished as f64, rival.name()));
    let best = best.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((0.0, "none"));
    rows.push(Row {
        what: format!("TFTP, {CLIENTS} clients at once, in {:.1} s", many.seconds),
        ours: many.finished as f64,
        best_rival: best.0,
        rival: best.1.to_owned(),
        unit: "clients",
        ratio: many.finished as f64 / best.0,
        target: format!("= {CLIENTS}"),
        met: many.finished == CLIENTS,
    });
    rows.push(Row {
        what: "peak memory of the server then".to_owned(),
        ours: peak as f64 / f64::from(1 << 20),
        best_rival: f64::NAN,
        rival: String::new(),
        unit: "MiB",
        ratio: f64::NAN,
        target: format!("<= {}", size(MAX_PEAK_BYTES)),
        met: peak > 0 && peak <= MAX_PEAK_BYTES,
    });
    {
        let _idle = Rival::Nginx.start(site.lab(), &nginx, &files, &dir)?;
        for (clients, file, times) in [(1, "large.bin", 20), (HTTP_CLIENTS, "small.bin", 5)] {
            let (ours, theirs) = bench.http_in_turns(clients, file, times)?;
            let name =
                if clients == 1 { "HTTP, 1 client".to_owned() } else { format!("HTTP, {clients} clients") };
            rows.push(faster(&name, ours, (theirs, "nginx"), HTTP_RATIO));
        }
    }
    drop(site);
    for (what, dhcp) in [("proxy", SiteDhcp::Proxy), ("leases", SiteDhcp::Full)] {
        rows.push(dhcp_row(options, &files, &dir, what, dhcp)?);
    }
    step.done("measured");
    print(rows, &dir.join("result.json"))
}

/// Discovers at a fixed rate. With leases each machine takes what it is offered, so that the server's database is written too: 3000
/// addresses of a network behind a relay, which the client plays.
fn dhcp_row(options: &Options, files: &Path, dir: &Path, what: &str, dhcp: SiteDhcp) -> Result<Row> {
    const FAR_NETWORK: &str =
        "\n[[network]]\nnetwork = \"10.88.0.0/16\"\npool = \"10.88.0.1-10.88.31.254\"\n";
    let lab = Lab::new()?;
    let bench = Bench::new(&lab, options, files, dir)?;
    let mut site = bench.site(lab, dhcp)?;
    let rate = DISCOVERS.to_string();
    let mut args = vec!["dhcp", HOST_ADDRESS, "--clients", &rate];
    if dhcp == SiteDhcp::Full {
        let path = site.dir().join("gravure.toml");
        let text = std::fs::read_to_string(&path).context("cannot read the configuration")?;
        std::fs::write(&path, text + FAR_NETWORK).context("cannot write the configuration")?;
        site.restart_server()?;
        args.extend(["--relay-for", "10.88.0.0", "--from", CLIENT_ADDRESSES[0]]);
    }
    let outcome = bench.client(&args)?;
    Ok(Row {
        what: format!(
            "DHCP, {DISCOVERS} discovers/s, {what}, {} of {} served: p99",
            outcome.answers, outcome.finished
        ),
        ours: outcome.p99_milliseconds,
        best_rival: f64::NAN,
        rival: String::new(),
        unit: "ms",
        ratio: f64::NAN,
        target: format!("< {MAX_P99_MILLISECONDS} ms"),
        met: outcome.answers == outcome.finished && outcome.p99_milliseconds < MAX_P99_MILLISECONDS,
    })
}

impl<'a> Bench<'a> {
    fn new(lab: &Lab, options: &Options, files: &'a Path, dir: &'a Path) -> Result<Self> {
        let client = lab.neighbour()?;
        for address in CLIENT_ADDRESSES {
            client.set_address(&format!("{address}/24"))?;
        }
        Ok(Self { client, runs: options.runs, files, dir })
    }

    /// A site that serves the files as boot files.
    fn site(&self, lab: Lab, dhcp: SiteDhcp) -> Result<Site> {
        let dir = self.dir.join("site");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        let program = workspace::target().join("release/gravure");
        Site::start(lab, &SiteSetup { program: &program, payload: self.files, dir: &dir, image: None, dhcp })
    }

    /// Runs the client in its namespace.
    fn client(&self, args: &[&str]) -> Result<Outcome> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let output = process::output(self.client.command(own).arg("bench-client").args(args))?;
        serde_json::from_slice(&output).context("cannot read what the client measured")
    }

    /// One client, as often as asked: the speed of the run in the middle, losses and the slowest recovery of all runs. A slow run is not
    /// repeated: timers decide it, which do not vary.
    fn tftp(&self, case: &Case) -> Result<Outcome> {
        let (_, file, block, window, delay, loss) = *case;
        let (block, window) = (block.to_string(), window.to_string());
        let (delay, loss) = (delay.to_string(), loss.to_string());
        // Ours serves boot files below `boot` too, so the same name works everywhere.
        let args = ["tftp", HOST_ADDRESS, "--file", file, "--block", &block, "--window", &window];
        let args = [&args[..], &["--delay", &delay, "--loss", &loss]].concat();
        // Each run loses other packets: losses are drawn from its number.
        let run = |number: usize| {
            let seed = number.to_string();
            self.client(&[&args[..], &["--seed", &seed]].concat())
        };
        let mut outcomes = Vec::new();
        for number in 0..self.runs.max(1) {
            let outcome = run(number)?;
            let is_slow = outcome.seconds > SLOW_RUN_SECONDS;
            outcomes.push(outcome);
            if is_slow {
                break;
            }
        }
        outcomes.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let dropped = outcomes.iter().map(|outcome| outcome.dropped).sum();
        let slowest = outcomes.iter().map(|outcome| outcome.slowest_recovery).fold(0.0, f64::max);
        let middle = outcomes.len() / 2;
        let middle = outcomes.into_iter().nth(middle).context("no run")?;
        Ok(Outcome { dropped, slowest_recovery: slowest, ..middle })
    }

    fn many_tftp(&self) -> Result<Outcome> {
        let clients = CLIENTS.to_string();
        self.client(&[
            "tftp",
            HOST_ADDRESS,
            "--file",
            "small.bin",
            "--window",
            "4",
            "--delay",
            "2000",
            "--clients",
            &clients,
        ])
    }

    /// Speeds of ours and of nginx, which run beside each other and are asked in turns, so that what else the machine does meets both; of
    /// each the run in the middle.
    fn http_in_turns(&self, clients: usize, file: &str, times: usize) -> Result<(f64, f64)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.runs.max(1) {
            theirs.push(speed(&self.http(NGINX_PORT, clients, file, times)?));
            ours.push(speed(&self.http(80, clients, &format!("boot/{file}"), times)?));
        }
        let middle = |mut speeds: Vec<f64>| {
            speeds.sort_by(f64::total_cmp);
            speeds.get(speeds.len() / 2).copied().unwrap_or(0.0)
        };
        Ok((middle(ours), middle(theirs)))
    }

    fn http(&self, port: u16, clients: usize, file: &str, times: usize) -> Result<Outcome> {
        let (port, clients, times) = (port.to_string(), clients.to_string(), times.to_string());
        let args = ["http", HOST_ADDRESS, "--port", &port, "--file", file, "--clients", &clients];
        let from = CLIENT_ADDRESSES.join(",");
        let outcome = self.client(&[&args[..], &["--times", &times, "--from", &from]].concat())?;
        ensure!(
            outcome.finished.to_string() == clients,
            "only {} of {clients} HTTP clients got everything",
            outcome.finished
        );
        Ok(outcome)
    }
}

/// A file of bytes that differ.
fn make(path: &Path, len: u64) -> Result<()> {
    if path.metadata().is_ok_and(|found| found.len() == len) {
        return Ok(());
    }
    let mut bytes = vec![0; usize::try_from(len).context("file size")?];
    gravure_testkit::Random::new(len).fill(&mut bytes);
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Megabytes a second.
fn speed(outcome: &Outcome) -> f64 {
    outcome.bytes as f64 / 1e6 / outcome.seconds
}

fn faster(what: &str, ours: f64, best: (f64, &str), wanted: f64) -> Row {
    let ratio = ours / best.0;
    Row {
        what: what.to_owned(),
        ours,
        best_rival: best.0,
        rival: best.1.to_owned(),
        unit: "MB/s",
        ratio,
        target: format!(">= {wanted}"),
        met: ratio >= wanted,
    }
}

/// Largest resident memory of a running program so far.
fn peak_bytes(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn print(rows: Vec<Row>, path: &Path) -> Result<bool> {
    let met = rows.iter().all(|row| row.met);
    let mut table = vec![["", "ours", "best rival", "", "ratio", "target", ""].map(str::to_owned).to_vec()];
    let number = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.2}") };
    for row in &rows {
        table.push(vec![
            row.what.clone(),
            format!("{} {}", number(row.ours), row.unit),
            number(row.best_rival),
            row.rival.clone(),
            number(row.ratio),
            row.target.clone(),
            if row.met { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    println!();
    console::table(&table);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text =
        serde_json::to_string_pretty(&Measured { rows, processors }).context("cannot write the result")?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    console::note(format!("result: {}", path.display()));
    Ok(met)
}
