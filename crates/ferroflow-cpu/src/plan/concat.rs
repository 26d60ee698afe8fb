//! Concatenation without copies: its value is a longer list of blocks. Only blocks that are mostly padding are gathered into one.

use ferroflow_kernels::{LANES, LaneMap};
use ferroflow_net::{NodeId, Op};

use super::{
    compile::{Compiler, Layers},
    step::Kernel,
    value::{Plane, Value},
};

impl<L: Layers> Compiler<'_, L> {
    /// The value of a concatenation of which at least one part has been computed.
    pub(super) fn concat(&mut self, id: NodeId) -> Value {
        let parts: Vec<(Value, usize)> =
            self.graph.node(id).inputs.clone().iter().map(|&i| (self.blocks(i), self.channels(i))).collect();
        let parts: Vec<(&Value, usize)> = parts.iter().map(|(v, c)| (v, *c)).collect();
        let whole = Value::concat(&parts);
        let matters = |&r: &NodeId| matches!(self.graph.node(r).op, Op::Conv(_) | Op::Deconv(_) | Op::Concat);
        if self.uses.readers(id).iter().any(matters) { self.gather(id, whole) } else { whole }
    }

    /// Moves the channels of part-filled blocks together where that makes fewer blocks: every convolution that reads
    /// the value saves 16 channels of work per block, for one pass over a few blocks.
    fn gather(&mut self, id: NodeId, whole: Value) -> Value {
        let mut bins: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut bin_of = vec![None; whole.planes.len()];
        for (i, (_, lanes)) in whole.blocks().enumerate() {
            let filled = lanes.iter().flatten().count();
            if filled == LANES || whole.is_doubled(i) {
                continue;
            }
            let bin = match bins.iter().position(|(used, _)| used + filled <= LANES) {
                Some(bin) => bin,
                None => {
                    bins.push((0, Vec::new()));
                    bins.len() - 1
                }
            };
            bins[bin].0 += filled;
            bins[bin].1.push(i);
            bin_of[i] = Some(bin);
        }
        if bins.iter().all(|(_, blocks)| blocks.len() < 2) {
            return whole;
        }
        let mut gathered: Vec<Option<Plane>> = vec![None; bins.len()];
        let mut packed = Value { extent: whole.extent, planes: Vec::new(), lanes: Vec::new() };
        for (i, (plane, lanes)) in whole.blocks().enumerate() {
            match bin_of[i] {
                Some(bin) if bins[bin].1.len() > 1 => {
                    if gathered[bin].is_some() {
                        continue;
                    }
                    let block = self.gather_blocks(id, &whole, &bins[bin].1);
                    gathered[bin] = Some(block.planes[0]);
                    packed.planes.extend(block.planes);
                    packed.lanes.extend(block.lanes);
                }
                _ => {
                    packed.planes.push(plane);
                    packed.lanes.extend(lanes);
                }
            }
        }
        packed
    }

    /// One block with all channels of the given blocks.
    fn gather_blocks(&mut self, id: NodeId, whole: &Value, blocks: &[usize]) -> Value {
        let mut from = Value { extent: whole.extent, planes: Vec::new(), lanes: Vec::new() };
        for &i in blocks {
            from.planes.push(whole.planes[i]);
            from.lanes.extend(&whole.lanes[i * LANES..][..LANES]);
        }
        let (mut sources, mut lanes): (Vec<Option<u32>>, LaneMap) = (Vec::new(), Vec::new());
        for (lane, channel) in from.lanes.iter().enumerate().filter(|(_, c)| c.is_some()) {
            sources.push(Some(lane as u32));
            lanes.push(*channel);
        }
        sources.resize(LANES, None);
        lanes.resize(LANES, None);
        let mut to = self.fresh(whole.extent, LANES);
        to.lanes = lanes;
        self.push(id, Kernel::Channels(sources), 0.0, vec![from], &to);
        to
    }
}
