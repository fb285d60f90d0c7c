//! The command `mtl-merge`.
use std::process::ExitCode;

fn main() -> ExitCode {
    mtl_merge::cli::main(mtl_merge::Methods::default())
}
