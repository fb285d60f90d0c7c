//! Speed of design-space exploration.
fn main() {
    divan::main();
}
