//! `/init` of the payload; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    gravure_payload::role::run(std::process::id(), std::env::args().collect())
}
