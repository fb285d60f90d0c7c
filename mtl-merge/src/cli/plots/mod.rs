//! Figures of task vectors: heat maps and norms by layer, as SVG and PNG.
mod canvas;
mod heat_map;
mod profile;

use crate::TaskVectorStats;
use anyhow::Context;
use canvas::Canvas;
use mtl_core::files::{ensure_dir, write_atomic};
use std::path::Path;

/// Writes all figures to `dir` and returns the names of the files.
pub(crate) fn write(dir: &Path, stats: &TaskVectorStats, names: &[String]) -> anyhow::Result<Vec<String>> {
    ensure_dir(dir)?;
    let cosine = heat_map::draw(&heat_map::HeatMap {
        title: "Angles between task vectors",
        measure: "cosine",
        names,
        values: &stats.cosine,
        range: (-1.0, 1.0),
    });
    let conflict = heat_map::draw(&heat_map::HeatMap {
        title: "Opposite signs of task vectors",
        measure: "share of elements",
        names,
        values: &stats.sign_conflict,
        range: (0.0, 1.0),
    });
    let mut files = Vec::new();
    for (name, canvas) in
        [("cosine", cosine?), ("sign-conflict", conflict?), ("norms", profile::draw(&stats.profile, names)?)]
    {
        files.extend(save(dir, name, &canvas)?);
    }
    Ok(files)
}

fn save(dir: &Path, name: &str, canvas: &Canvas) -> anyhow::Result<[String; 2]> {
    let (svg, png) = (canvas.svg()?, canvas.png()?);
    let files = [(format!("{name}.svg"), svg.as_bytes()), (format!("{name}.png"), &png[..])];
    for (file, bytes) in &files {
        write_atomic(&dir.join(file), |out| out.write_all(bytes))
            .with_context(|| format!("cannot plot {name}"))?;
    }
    Ok(files.map(|(file, _)| dir.join(file).display().to_string()))
}
