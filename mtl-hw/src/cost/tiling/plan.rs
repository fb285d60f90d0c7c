//! Tile counts of a product, and which operands fit their buffers.
use super::{GemmShape, OperandBits, OuterOrder, TileBuffers};
use crate::math::{positive, product};
use crate::{HwError, Result};

/// Tile counts and what fits as a whole.
pub(super) struct Plan {
    pub(super) order: OuterOrder,
    pub(super) tile: GemmShape,
    pub(super) layer: GemmShape,
    pub(super) m: u64,
    pub(super) n: u64,
    pub(super) k: u64,
    /// Bits of A, B, C and partial C.
    pub(super) whole_bits: [u64; 4],
    pub(super) a_resident: bool,
    pub(super) b_resident: bool,
    c_resident: bool,
}

impl Plan {
    pub(super) fn new(
        layer: &GemmShape,
        tile: &GemmShape,
        order: OuterOrder,
        bits: &OperandBits,
        buffers: &TileBuffers,
    ) -> Result<Self> {
        for ((field, whole), (_, part)) in layer.fields().into_iter().zip(tile.fields()) {
            positive(&format!("layer.{field}"), whole)?;
            positive(&format!("tile.{field}"), part)?;
            if part > whole {
                let must = format!("at most the layer's {whole}; clip it if that is meant");
                return Err(HwError::config(format!("tile.{field}"), must, part));
            }
        }
        for (field, width) in [
            ("bits.a", bits.a),
            ("bits.b", bits.b),
            ("bits.c", bits.c),
            ("bits.accumulator", bits.accumulator),
        ] {
            positive(field, width.into())?;
        }
        let area = |x: u64, y: u64, width: u32| product("bits", &[x, y, width.into()]);
        let whole_bits = [
            area(layer.m, layer.k, bits.a)?,
            area(layer.k, layer.n, bits.b)?,
            area(layer.m, layer.n, bits.c)?,
            area(layer.m, layer.n, bits.accumulator)?,
        ];
        let (m, n, k) = (layer.m.div_ceil(tile.m), layer.n.div_ceil(tile.n), layer.k.div_ceil(tile.k));
        let mut plan = Self {
            order,
            tile: *tile,
            layer: *layer,
            m,
            n,
            k,
            whole_bits,
            a_resident: false,
            b_resident: false,
            c_resident: false,
        };
        plan.fit(bits, buffers)?;
        Ok(plan)
    }

    /// Decides what is resident, and refuses tiles that their buffers cannot hold.
    pub(super) fn fit(&mut self, bits: &OperandBits, buffers: &TileBuffers) -> Result<()> {
        let copies = if buffers.ping_pong { 2 } else { 1 };
        let tile = self.tile;
        // Partial sums are wider than finished results; with one step over k none are stored.
        let c_width = if self.k > 1 { bits.accumulator } else { bits.c };
        let a_tile = product("bits", &[tile.m, tile.k, bits.a.into(), copies])?;
        let b_tile = product("bits", &[tile.k, tile.n, bits.b.into(), copies])?;
        let c_tile = product("bits", &[tile.m, tile.n, c_width.into(), copies])?;
        let c_whole = if self.k > 1 { self.whole_bits[3] } else { self.whole_bits[2] };
        let (c_room, a_room) = if buffers.c_bits == 0 {
            // C takes its tiles from the shared buffer first.
            (buffers.a_bits, buffers.a_bits.saturating_sub(c_tile.min(c_whole)))
        } else {
            (buffers.c_bits, buffers.a_bits)
        };
        for (name, needed, whole, room) in [
            ("a", a_tile, self.whole_bits[0], a_room),
            ("b", b_tile, self.whole_bits[1], buffers.b_bits),
            ("c", c_tile, c_whole, c_room),
        ] {
            if needed.min(whole) > room {
                let must = format!("within the buffer's {room} bits");
                return Err(HwError::config(format!("tile bits of {name}"), must, needed.min(whole)));
            }
        }
        self.a_resident = self.whole_bits[0] <= a_room;
        self.b_resident = self.whole_bits[1] <= buffers.b_bits;
        self.c_resident = c_whole
            <= if buffers.c_bits == 0 {
                buffers.a_bits.saturating_sub(if self.a_resident { self.whole_bits[0] } else { a_tile })
            } else {
                buffers.c_bits
            };
        Ok(())
    }

    pub(super) fn spills(&self) -> bool {
        let inner = match self.order {
            OuterOrder::OutputResident => 1,
            OuterOrder::WeightResident => self.m,
            OuterOrder::InputResident => self.n,
        };
        inner > 1 && self.k > 1 && !self.c_resident
    }

    pub(super) fn steps(&self) -> Result<u64> {
        product("steps", &[self.m, self.n, self.k])
    }

    /// Tile indices (i, j, l) along m, n, k of a step.
    pub(super) fn indices(&self, step: u64) -> (u64, u64, u64) {
        match self.order {
            OuterOrder::OutputResident => (step / self.k / self.n, step / self.k % self.n, step % self.k),
            OuterOrder::WeightResident => (step % self.m, step / self.m / self.k, step / self.m % self.k),
            OuterOrder::InputResident => (step / self.n / self.k, step % self.n, step / self.n % self.k),
        }
    }

    /// Sizes of a tile at these indices; the last ones may be smaller.
    pub(super) fn size(&self, (i, j, l): (u64, u64, u64)) -> (bool, bool, bool) {
        (i + 1 == self.m, j + 1 == self.n, l + 1 == self.k)
    }
}
