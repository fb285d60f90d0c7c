//! Writes predictions beside published numbers to `VALIDATION.md`.
#![allow(clippy::print_stdout)]

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("VALIDATION.md");
    let draft = path.with_extension("md.tmp");
    std::fs::write(&draft, mtl_hw::validation::render()?)?;
    std::fs::rename(&draft, &path)?;
    println!("wrote {}", path.display());
    Ok(())
}
