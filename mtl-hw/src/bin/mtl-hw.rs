//! The command `mtl-hw`.
fn main() -> std::process::ExitCode {
    mtl_hw::cli::main()
}
