//! `mtl-bench audit`: whether the statistics can fool their user.
use super::args::Audit;
use super::{UNMET, print, print_json};
use crate::stats;

pub(super) fn audit(args: &Audit) -> anyhow::Result<u8> {
    let shares = stats::audit(args.studies, mtl_core::Seed(args.seed))?;
    let mut code = 0;
    if args.json {
        print_json(&shares)?;
    }
    for share in &shares {
        let holds = share.holds()?;
        if !args.json {
            print(&format!("{} {share}\n", if holds { "ok    " } else { "MISSED" }))?;
        }
        code = if holds { code } else { UNMET };
    }
    Ok(code)
}
