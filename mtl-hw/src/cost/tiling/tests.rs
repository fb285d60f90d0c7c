use super::*;
use crate::cost::engine::{MacPool, Tile};
use proptest::prelude::*;

const BITS: OperandBits = OperandBits { a: 8, b: 8, c: 8, accumulator: 32 };
const LARGE: TileBuffers = TileBuffers { a_bits: 1 << 24, b_bits: 1 << 24, c_bits: 1 << 24, ping_pong: true };

fn order(i: u8) -> OuterOrder {
    [OuterOrder::OutputResident, OuterOrder::WeightResident, OuterOrder::InputResident][usize::from(i % 3)]
}

/// Layers, tiles no larger than they are, an order, and buffers that hold the tile but perhaps not the operand.
fn cases() -> impl Strategy<Value = (GemmShape, GemmShape, OuterOrder, TileBuffers)> {
    let dim = || (1u64..40).prop_flat_map(|whole| (Just(whole), 1..=whole));
    (dim(), dim(), dim(), 0u8..3, any::<[bool; 4]>()).prop_map(|((m, tm), (k, tk), (n, tn), o, large)| {
        let tile = GemmShape { m: tm, k: tk, n: tn };
        let room = |large: bool, tile_bits: u64| if large { 1 << 24 } else { 2 * tile_bits };
        let buffers = TileBuffers {
            a_bits: room(large[0], 8 * tm * tk),
            b_bits: room(large[1], 8 * tk * tn),
            c_bits: room(large[2], 32 * tm * tn),
            ping_pong: large[3],
        };
        (GemmShape { m, k, n }, tile, order(o), buffers)
    })
}

proptest! {
    #[test]
    fn the_steps_move_what_the_closed_form_says(
        (layer, tile, order, buffers) in cases(),
    ) {
        // One bit per cycle and direction makes cycles equal bits.
        let ports = TilePorts::Separate { load_bits: 1, store_bits: 1 };
        let design = TiledDesign { engine: &MacPool { units: 1 }, bits: BITS, buffers, ports };
        let cost = tiled_cost(&layer, &tile, order, &design).unwrap();
        let t = cost.traffic;
        prop_assert_eq!(cost.load, t.a + t.b + t.partial_reads);
        prop_assert_eq!(cost.store, t.c + t.partial_writes);
        prop_assert_eq!(cost.compute, layer.m * layer.k * layer.n);
    }

    #[test]
    fn time_lies_between_the_busiest_part_and_the_sum(
        (layer, tile, order, buffers) in cases(), bits in 1u32..64, units in 1u32..64, shared in any::<bool>(),
    ) {
        let ports = if shared {
            TilePorts::Shared { bits }
        } else {
            TilePorts::Separate { load_bits: bits, store_bits: bits }
        };
        let engine = MacPool { units };
        let design = TiledDesign { engine: &engine, bits: BITS, buffers, ports };
        let cost = tiled_cost(&layer, &tile, order, &design).unwrap();
        let port = if shared { cost.load + cost.store } else { cost.load.max(cost.store) };
        prop_assert!(cost.cycles >= cost.compute.max(port));
        prop_assert!(cost.cycles <= cost.compute + cost.load + cost.store);
        prop_assert!(cost.compute >= (layer.m * layer.k * layer.n).div_ceil(u64::from(units)));
        let compulsory = 8 * (layer.m * layer.k + layer.k * layer.n + layer.m * layer.n);
        prop_assert!(cost.traffic.total().unwrap() >= compulsory);
        // More units, a wider port and larger buffers never cost time.
        let faster = MacPool { units: 2 * units };
        let more = TiledDesign { engine: &faster, ..design };
        prop_assert!(tiled_cost(&layer, &tile, order, &more).unwrap().cycles <= cost.cycles);
        let wider = if shared {
            TilePorts::Shared { bits: 2 * bits }
        } else {
            TilePorts::Separate { load_bits: 2 * bits, store_bits: 2 * bits }
        };
        let wide = TiledDesign { ports: wider, ..design };
        prop_assert!(tiled_cost(&layer, &tile, order, &wide).unwrap().cycles <= cost.cycles);
        let roomy = TiledDesign { buffers: TileBuffers { ping_pong: buffers.ping_pong, ..LARGE }, ..design };
        prop_assert!(tiled_cost(&layer, &tile, order, &roomy).unwrap().cycles <= cost.cycles);
    }
}

#[test]
fn the_three_orders_move_what_the_textbook_says() {
    let (layer, tile) = (GemmShape { m: 8, k: 8, n: 8 }, GemmShape { m: 4, k: 2, n: 4 });
    let small = TileBuffers { a_bits: 2 * 64, b_bits: 2 * 64, c_bits: 2 * 512, ping_pong: true };
    let of = |order| traffic(&layer, &tile, order, &BITS, &small).unwrap();
    let (one, partial) = (512, 2048);
    let t = TileTraffic { a: 2 * one, b: 2 * one, partial_reads: 0, partial_writes: 0, c: one };
    assert_eq!(of(OuterOrder::OutputResident), t);
    let spilled = TileTraffic { b: one, partial_reads: 3 * partial, partial_writes: 3 * partial, ..t };
    assert_eq!(of(OuterOrder::WeightResident), spilled);
    assert_eq!(of(OuterOrder::InputResident), TileTraffic { a: one, b: 2 * one, ..spilled });
    // Everything fits: each operand once.
    let t = traffic(&layer, &tile, OuterOrder::WeightResident, &BITS, &LARGE).unwrap();
    assert_eq!(t.total().unwrap(), 3 * one);
}

#[test]
fn the_binding_part_is_named() {
    let layer = GemmShape { m: 64, k: 64, n: 64 };
    let engine = Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 };
    let bound = |ports| {
        let design = TiledDesign { engine: &engine, bits: BITS, buffers: LARGE, ports };
        tiled_cost(&layer, &GemmShape { m: 16, k: 64, n: 16 }, OuterOrder::OutputResident, &design)
            .unwrap()
            .bound
    };
    assert_eq!(bound(TilePorts::Shared { bits: 1024 }), TileBound::Compute);
    assert_eq!(bound(TilePorts::Shared { bits: 72 }), TileBound::Port);
    assert_eq!(bound(TilePorts::Separate { load_bits: 8, store_bits: 1024 }), TileBound::Load);
    assert_eq!(bound(TilePorts::Separate { load_bits: 1024, store_bits: 8 }), TileBound::Store);
}

#[test]
fn bad_tiles_are_typed_errors() {
    let layer = GemmShape { m: 64, k: 64, n: 64 };
    let engine = MacPool { units: 1 };
    let ports = TilePorts::Shared { bits: 8 };
    let design = TiledDesign { engine: &engine, bits: BITS, buffers: LARGE, ports };
    let error = |tile: GemmShape, design: &TiledDesign<'_>| {
        tiled_cost(&layer, &tile, OuterOrder::OutputResident, design).unwrap_err().to_string()
    };
    let tile = GemmShape { m: 65, k: 64, n: 64 };
    insta::assert_snapshot!(error(tile, &design), @"`tile.m` must be at most the layer's 64; clip it if that is meant, but is 65");
    assert!(tiled_cost(&layer, &layer.clip(tile), OuterOrder::OutputResident, &design).is_ok());
    insta::assert_snapshot!(error(GemmShape { m: 0, ..layer }, &design), @"`tile.m` must be positive, but is 0");
    let small = TileBuffers { b_bits: 100, ..LARGE };
    insta::assert_snapshot!(error(layer, &TiledDesign { buffers: small, ..design }), @"`tile bits of b` must be within the buffer's 100 bits, but is 32768");
    let closed = TilePorts::Shared { bits: 0 };
    insta::assert_snapshot!(error(layer, &TiledDesign { ports: closed, ..design }), @"`load_bits` must be positive, but is 0");
    let huge = GemmShape { m: 4096, k: 4096, n: 4096 };
    let buffers = TileBuffers { a_bits: 1 << 40, b_bits: 1 << 40, c_bits: 1 << 40, ping_pong: true };
    let all = TiledDesign { buffers, ..design };
    assert_eq!(tiled_cost(&huge, &huge, OuterOrder::OutputResident, &all).unwrap().compute, 1 << 36);
    let absurd = GemmShape { m: u64::MAX, k: 2, n: 2 };
    assert!(tiled_cost(&absurd, &absurd, OuterOrder::OutputResident, &all).is_err());
    assert!(tiled_cost(&huge, &GemmShape { m: 1, k: 1, n: 1 }, OuterOrder::OutputResident, &all).is_err());
}
