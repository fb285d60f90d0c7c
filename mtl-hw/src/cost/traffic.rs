//! Off-chip activation traffic of a MoE layer whose activations do not stay on chip.
use crate::Result;
use crate::graph::MoeShape;
use crate::math::{bytes, product};
use serde::{Deserialize, Serialize};

/// Bytes of one image through one MoE layer, expert by expert, with every intermediate result in off-chip memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertActivationTraffic {
    /// Gathered tokens, once per chosen expert.
    pub read_in: u64,
    /// Hidden activations written.
    pub write_hidden: u64,
    /// Hidden activations read back.
    pub read_hidden: u64,
    /// Outputs read to be accumulated.
    pub rmw_read_out: u64,
    /// Outputs written after accumulation.
    pub rmw_write_out: u64,
    /// Outputs set to zero beforehand.
    pub zero_init: u64,
    /// Bytes in, and again out, of the fused token-by-token schedule, for comparison.
    pub token_by_token_fused: u64,
}

/// Activation traffic of a MoE layer with activations of `activation_bits`.
///
/// # Errors
///
/// [`HwError::Overflow`](crate::HwError::Overflow) beyond 64 bits.
pub fn expert_activation_traffic(shape: &MoeShape, activation_bits: u32) -> Result<ExpertActivationTraffic> {
    let of = |tokens: u64, width: u64| {
        bytes("activation bytes", product("activations", &[tokens, width])?, activation_bits)
    };
    let (pairs_dim, pairs_hidden) = (of(shape.pairs()?, shape.dim)?, of(shape.pairs()?, shape.hidden)?);
    let once = of(shape.tokens, shape.dim)?;
    Ok(ExpertActivationTraffic {
        read_in: pairs_dim,
        write_hidden: pairs_hidden,
        read_hidden: pairs_hidden,
        rmw_read_out: pairs_dim,
        rmw_write_out: pairs_dim,
        zero_init: once,
        token_by_token_fused: once,
    })
}
