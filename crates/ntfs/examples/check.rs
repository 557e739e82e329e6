//! Checks and scans the volume in a file and says how long that took and what memory it needed:
//! `cargo run --release -p gravure-ntfs --example check -- FILE [fresh]`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measuring tool"
)]
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a measuring tool"
)]

use std::time::Instant;

use gravure_ntfs::{CheckObserver, Finding, ScanGuide, Strictness, Volume, check};
use gravure_tree::SourceId;

struct Printer;

impl CheckObserver for Printer {
    fn finding(&mut self, finding: &Finding) {
        println!("{} {finding}", finding.rule.name());
    }
}

impl ScanGuide for Printer {
    fn warn(&mut self, message: String) {
        println!("warning: {message}");
    }
}

/// Peak resident memory, KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap();
    let strictness = if arguments.next().is_some() { Strictness::Fresh } else { Strictness::Usual };
    let file = gravure_io::FileAt::open(path.as_ref()).unwrap();
    let before = peak();
    let start = Instant::now();
    let report = check(&file, strictness, &mut Printer).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let bytes = (peak() - before) * 1024;
    println!("{report:?}");
    println!(
        "check: {seconds:.3} s, {:.0} records/s, {bytes} bytes more memory, {:.0} a record",
        report.records as f64 / seconds,
        bytes as f64 / report.records as f64
    );
    let start = Instant::now();
    let volume = Volume::open(&file).unwrap();
    let scan = volume.scan(&file, SourceId(0), &mut Printer).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("scan: {seconds:.3} s, {} nodes, peak {} KiB", scan.tree.node_count(), peak());
}
