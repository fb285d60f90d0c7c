//! The command `mtl-bench`.
fn main() -> std::process::ExitCode {
    mtl_bench::cli::main()
}
