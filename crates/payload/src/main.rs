//! `/init` of the payload; everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    gravure_payload::role::run(std::process::id(), &args)
}
