//! The `experiments` command.
fn main() {}
