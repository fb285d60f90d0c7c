//! Facts about the machine, for the manifest: what a stranger needs to know to repeat the bits.
use serde::{Deserialize, Serialize};
use std::fs;

/// The machine a run started on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Instruction set, such as `x86_64`.
    pub arch: String,
    /// Model name of the processor; empty where the system does not tell.
    pub cpu: String,
    /// Vector extensions, which decide the order of sums inside libtorch.
    pub cpu_flags: Vec<String>,
    /// Cores that may be used.
    pub cores: usize,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |names: &[&str]| {
            let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
            pairs.find(|(key, _)| names.contains(&key.trim())).map_or("", |(_, value)| value.trim())
        };
        let vector =
            |flag: &&str| ["sse4", "avx", "fma", "amx", "asimd", "sve"].iter().any(|v| flag.starts_with(v));
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: field(&["model name", "Model"]).to_owned(),
            cpu_flags: field(&["flags", "Features"]).split(' ').filter(vector).map(str::to_owned).collect(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}
