//! `mtl-hw platforms`: boards and designs that come with the program.
use crate::cli::args::Platforms;
use crate::cli::table::Table;
use crate::cli::{print, print_json};
use crate::cost::Accelerator;
use crate::platform::Platform;
use crate::presets;

pub(crate) fn platforms(args: &Platforms) -> anyhow::Result<u8> {
    if let Some(name) = &args.name {
        one(name, args.output.json)?;
        return Ok(0);
    }
    if args.designs {
        let designs = presets::names().map(presets::by_name).collect::<crate::Result<Vec<_>>>()?;
        show(args, &designs, &design_table(&designs))?;
        return Ok(0);
    }
    let boards = Platform::names().map(Platform::builtin).collect::<crate::Result<Vec<_>>>()?;
    show(args, &boards, &board_table(&boards))?;
    Ok(0)
}

fn one(name: &str, json: bool) -> anyhow::Result<()> {
    if presets::names().any(|n| n.eq_ignore_ascii_case(name)) {
        let design = presets::by_name(name)?;
        return if json { print_json(&design) } else { print(&design.to_toml()?) };
    }
    let board = Platform::builtin(name)?;
    if json { print_json(&board) } else { print(&board.to_toml()?) }
}

fn show(args: &Platforms, all: &impl serde::Serialize, table: &Table) -> anyhow::Result<()> {
    if args.output.json {
        return print_json(all);
    }
    print(&if args.output.csv { table.csv() } else { table.to_string() })
}

fn board_table(boards: &[Platform]) -> Table {
    let mut table = Table::new([
        "board", "device", "LUT", "FF", "RAMB18", "URAM", "DSP", "GB/s", "ports", "bits", "max MHz", "W",
        "source",
    ]);
    for b in boards {
        let usable = b.usable();
        table.row([
            b.name.as_str().into(),
            b.device.as_str().into(),
            usable.lut.into(),
            usable.ff.into(),
            usable.ramb18.into(),
            usable.uram.into(),
            usable.dsp.into(),
            b.memory.peak_gb_per_s.into(),
            u64::from(b.memory.ports).into(),
            u64::from(b.memory.port_bits).into(),
            b.max_clock_mhz.min(b.memory.port_max_clock_mhz).into(),
            b.typical_watts.into(),
            b.source.as_str().into(),
        ]);
    }
    table
}

fn design_table(designs: &[Accelerator]) -> Table {
    let mut table = Table::new(["design", "board", "MHz", "MACs/cycle", "bits", "schedule", "numbers"]);
    for d in designs {
        let bits = format!("a{} w{}", d.precision.activation_bits, d.precision.weight_bits);
        table.row([
            d.name.as_str().into(),
            d.platform.name.as_str().into(),
            d.clock_mhz.into(),
            d.engine.get().peak_macs().ok().into(),
            bits.into(),
            crate::cli::input::schedule_name(d.schedule).into(),
            d.provenance.to_string().into(),
        ]);
    }
    table
}
