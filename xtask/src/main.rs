//! Set-up and chores of the workspace.
fn main() {}
