#![allow(clippy::print_stdout)]
use mtl_hw::cost::{Analytical, CostModel};
use mtl_hw::graph::VitSpec;
use mtl_hw::{Result, presets, routing::Routing};
fn main() -> Result<()> {
    let g = presets::m3vit_tiny_cityscapes()?;
    let a = presets::zcu102_edge_moe()?;
    let r = Analytical.model(&g, &a, Routing::Histogram(&presets::EDGE_MOE_QUEUES[0]))?;
    println!("{r}");
    for l in r.layers.iter().take(24) { println!("{} {} {} {}", l.name, l.compute_cycles, l.cycles, l.bound); }
    for (spec, a) in [(VitSpec::tiny(), presets::zcu102_ubimoe()?), (VitSpec::small(), presets::u280_ubimoe()?), (VitSpec::small(), presets::zcu102_heatvit()?)] {
        let g = VitSpec { heads_out: vec![], ..spec }.graph()?;
        let r = Analytical.model(&g, &a, Routing::Uniform)?;
        println!("{} {:?} {:?} {:?}\n{} ms {} W\n{}", a.name, a.engine, a.attention, a.off_chip, r.latency_ms(), r.power.watts(), r.fit);
        println!("{:?}", r.power);
        for l in r.layers.iter().take(16) { println!("{} {} {} {}", l.name, l.compute_cycles, l.cycles, l.bound); }
    }
    Ok(())
}
