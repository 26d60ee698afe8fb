//! How to cut a layer, and how long it will take.

use super::{
    memory::Blocking,
    scheme::{Scheme, Tiles},
    used_channels,
};
use crate::{
    LANES,
    conv::{Layer, Options, select::Machine},
};

/// The blocking for a layer, and the seconds expected with it.
pub fn plan(layer: &Layer<'_>, scheme: &Scheme, options: Options) -> (Blocking, f64) {
    let machine = Machine::of(options.isa);
    let tiles = Tiles::new(scheme, layer.input.n).count();
    let channels = used_channels(layer.lanes);
    let blocks = channels.len();
    let lanes: usize = channels.iter().map(|c| c.1).sum();
    let vectors = layer.shape.out_channels.div_ceil(LANES) * scheme.outputs.len();
    let products = scheme.products() as f64;
    let blocking = tuned().unwrap_or(Blocking { tiles: 28.min(tiles), blocks: 8.min(blocks), staged: false });
    let blocking = Blocking { tiles: blocking.tiles.min(tiles), blocks: blocking.blocks.min(blocks), ..blocking };
    let flop = 2.0 * tiles as f64 * products * (lanes * vectors * LANES) as f64;
    (blocking, flop / (0.8 * machine.flops * options.threads as f64))
}

fn tuned() -> Option<Blocking> {
    let value = std::env::var("WINO").ok()?;
    let mut n = value.split(',').map(|v| v.parse::<usize>().unwrap());
    Some(Blocking { tiles: n.next()?, blocks: n.next()?, staged: n.next()? > 0 })
}
