//! The `ferroflow` command with `--device cuda`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ferroflow_cli::main(std::env::args_os()))
}
