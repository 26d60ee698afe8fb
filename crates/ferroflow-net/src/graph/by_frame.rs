//! A network frame by frame: values of both frames, one after the other in a batch, become a value of each, so that what one frame
//! has can be taken where the frame is seen again.

use super::{Frame, Graph, Iteration, Node, NodeId, Op, ShapeError, Sizes};

/// A graph in which no value that one frame alone decides is stacked with that of the other. Nodes of frame 1 stand first, then those
/// of frame 2, then all others.
#[derive(Clone, Debug, PartialEq)]
pub struct ByFrame {
    /// It computes what the original network computes, under other ids.
    pub graph: Graph,
    /// Values of frame 1 and of frame 2 that are the same function of their frame.
    pub twins: Vec<[NodeId; 2]>,
    /// Per node: the frames that decide its value.
    frames: Vec<Frames>,
}

/// A set of frames: 1 for the first, 2 for the second.
type Frames = u8;

const FIRST: Frames = 1;
const SECOND: Frames = 2;

/// Where a value of the original network is.
#[derive(Clone, Copy)]
enum Place {
    One(NodeId),
    /// A stack that was taken apart.
    Each([NodeId; 2]),
}

impl ByFrame {
    /// Takes the stacks of a network's frames apart.
    pub fn of(network: &Graph) -> Self {
        let mut writer = Writer::default();
        let mut places: Vec<Place> = Vec::with_capacity(network.nodes.len());
        for node in &network.nodes {
            let inputs: Vec<Place> = node.inputs.iter().map(|id| places[id.0 as usize]).collect();
            places.push(writer.place(node, &inputs));
        }
        let mut at = |id: NodeId| writer.joined(places[id.0 as usize]);
        let graph = Graph {
            flow: network.flow.map(&mut at),
            initial: network.initial.map(&mut at),
            iterations: network.iterations.iter().map(|iteration| iteration.mapped(&mut at)).collect(),
            pyramid: network.pyramid.iter().map(|&id| at(id)).collect(),
            nodes: Vec::new(),
            ..network.clone()
        };
        writer.finish(graph)
    }

    /// The share of the operations that one frame alone decides, from 0 to 1.
    ///
    /// # Errors
    /// If the network does not take these sizes.
    pub fn share(&self, sizes: &Sizes) -> Result<f64, ShapeError> {
        let cost = self.graph.cost(sizes)?;
        let alone = self.frames.iter().zip(&cost.node_flop).filter(|&(&frames, _)| frames == FIRST || frames == SECOND);
        Ok(alone.map(|(_, flop)| flop).sum::<f64>() / cost.flop)
    }
}

impl Iteration {
    /// The same with other ids.
    fn mapped(&self, mut at: impl FnMut(NodeId) -> NodeId) -> Self {
        let state = self.state.iter().map(|&id| at(id)).collect();
        Self { before: at(self.before), after: at(self.after), state }
    }
}

/// The new graph as it grows.
#[derive(Default)]
struct Writer {
    nodes: Vec<Node>,
    frames: Vec<Frames>,
    /// The frames that decide size or value, by which nodes are ordered.
    after: Vec<Frames>,
    /// Per node: that of the other frame.
    twins: Vec<Option<NodeId>>,
    /// Stacks that were put together again: their parts.
    joined: Vec<([NodeId; 2], NodeId)>,
}

impl Writer {
    fn place(&mut self, node: &Node, inputs: &[Place]) -> Place {
        match (&node.op, inputs) {
            (Op::Stack, &[Place::One(first), Place::One(second)]) if self.are_halves([first, second]) => {
                Place::Each([first, second])
            }
            (Op::Part { index, of: 2 }, &[Place::Each(halves)]) => Place::One(halves[*index]),
            (Op::Part { .. } | Op::Stack, _) => self.one(node, inputs),
            (_, [Place::Each(_), ..]) if inputs.iter().all(|place| matches!(place, Place::Each(_))) => {
                let halves = [0, 1].map(|half| {
                    let input = |place: &Place| match *place {
                        Place::One(id) => id,
                        Place::Each(halves) => halves[half],
                    };
                    inputs.iter().map(input).collect::<Vec<_>>()
                });
                // What the frames do not decide is the same for both.
                if matches!(node.op, Op::Zeros { .. } | Op::Coordinates { .. }) || halves[0] == halves[1] {
                    let [inputs, _] = halves;
                    let both = self.add(Node { inputs, ..node.clone() });
                    return Place::Each([both; 2]);
                }
                let [first, second] = halves;
                Place::Each([(1, first), (2, second)].map(|(frame, inputs)| {
                    self.add(Node { op: node.op.clone(), inputs, name: format!("{}.frame{frame}", node.name) })
                }))
            }
            _ => self.one(node, inputs),
        }
    }

    fn one(&mut self, node: &Node, inputs: &[Place]) -> Place {
        let inputs = inputs.iter().map(|&place| self.joined(place)).collect();
        Place::One(self.add(Node { inputs, ..node.clone() }))
    }

    fn add(&mut self, node: Node) -> NodeId {
        let union = |of: &[Frames]| node.inputs.iter().fold(0, |all, input| all | of[input.0 as usize]);
        let (frames, after) = match node.op {
            Op::Frame(Frame::First) => (FIRST, FIRST),
            Op::Frame(Frame::Second) => (SECOND, SECOND),
            Op::Zeros { .. } | Op::Coordinates { .. } => (0, union(&self.after)),
            _ => (union(&self.frames), union(&self.after)),
        };
        let id = NodeId(self.nodes.len() as u32);
        let twin = self.twin(&node, frames);
        if let Some(twin) = twin {
            self.twins[twin.0 as usize] = Some(id);
        }
        self.nodes.push(node);
        self.frames.push(frames);
        self.after.push(after);
        self.twins.push(twin);
        id
    }

    /// The node that computes the same of the other frame.
    fn twin(&self, node: &Node, frames: Frames) -> Option<NodeId> {
        let op = match node.op {
            Op::Frame(Frame::First) => Op::Frame(Frame::Second),
            Op::Frame(Frame::Second) => Op::Frame(Frame::First),
            _ => node.op.clone(),
        };
        if frames != FIRST && frames != SECOND {
            return None;
        }
        let other = |id: NodeId| if self.frames[id.0 as usize] == 0 { Some(id) } else { self.twins[id.0 as usize] };
        let inputs: Vec<NodeId> = node.inputs.iter().map(|&id| other(id)).collect::<Option<_>>()?;
        let is_twin = |i: &usize| {
            let (known, known_frames) = (&self.nodes[*i], self.frames[*i]);
            (known_frames == FIRST || known_frames == SECOND)
                && known_frames != frames
                && known.op == op
                && known.inputs == inputs
        };
        let found = (0..self.nodes.len()).find(is_twin)?;
        self.twins[found].is_none().then_some(NodeId(found as u32))
    }

    /// Whether these are the same function of frame 1 and of frame 2.
    fn are_halves(&self, [first, second]: [NodeId; 2]) -> bool {
        self.frames[first.0 as usize] == FIRST && self.twins[first.0 as usize] == Some(second)
    }

    /// A value as one node.
    fn joined(&mut self, place: Place) -> NodeId {
        let halves = match place {
            Place::One(id) => return id,
            Place::Each(halves) => halves,
        };
        if let Some((_, joined)) = self.joined.iter().find(|(of, _)| *of == halves) {
            return *joined;
        }
        let name = format!("{}.both", self.nodes[halves[0].0 as usize].name);
        let joined = self.add(Node { op: Op::Stack, inputs: halves.to_vec(), name });
        self.joined.push((halves, joined));
        joined
    }

    /// The nodes in order, in `graph`, whose own ids are those of the writer.
    fn finish(self, graph: Graph) -> ByFrame {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&i| match self.after[i] {
            0 | FIRST => 0,
            SECOND => 1,
            _ => 2,
        });
        let mut place = vec![NodeId(0); order.len()];
        for (now, &before) in order.iter().enumerate() {
            place[before] = NodeId(now as u32);
        }
        let at = |id: NodeId| place[id.0 as usize];
        let nodes = order.iter().map(|&i| {
            let Node { op, inputs, name } = &self.nodes[i];
            Node { op: op.clone(), inputs: inputs.iter().map(|&id| at(id)).collect(), name: name.clone() }
        });
        let firsts = order.iter().filter(|&&i| self.frames[i] == FIRST);
        ByFrame {
            twins: firsts.filter_map(|&i| Some([place[i], at(self.twins[i]?)])).collect(),
            frames: order.iter().map(|&i| self.frames[i]).collect(),
            graph: Graph {
                nodes: nodes.collect(),
                flow: graph.flow.map(at),
                initial: graph.initial.map(at),
                iterations: graph.iterations.iter().map(|iteration| iteration.mapped(at)).collect(),
                pyramid: graph.pyramid.iter().map(|&id| at(id)).collect(),
                ..graph
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Model;

    use super::*;

    #[test]
    fn every_network_stays_what_it_is() {
        for name in Model::names() {
            let network = Model::named(name).unwrap().graph;
            let by_frame = ByFrame::of(&network);
            let sizes = Sizes::new(2, 128, 128);
            let (known, shapes) = (network.shapes(&sizes).unwrap(), by_frame.graph.shapes(&sizes).unwrap());
            let of = |graph: &Graph| [graph.flow, graph.initial];
            for (before, after) in of(&network).into_iter().zip(of(&by_frame.graph)) {
                let shape = |id: Option<NodeId>, shapes: &[[usize; 4]]| id.map(|id| shapes[id.0 as usize]);
                assert_eq!(shape(before, &known), shape(after, &shapes), "{name}");
            }
            let flop = |graph: &Graph| graph.cost(&sizes).unwrap().flop;
            let (before, after) = (flop(&network), flop(&by_frame.graph));
            assert!((before - after).abs() <= 1e-9 * before, "{name}: {before} and {after}");
            for [first, second] in by_frame.twins {
                assert_eq!(shapes[first.0 as usize], shapes[second.0 as usize], "{name}");
            }
        }
    }

    #[test]
    fn what_a_frame_decides_alone_is_found() {
        let share = |name: &str| {
            let by_frame = ByFrame::of(&Model::named(name).unwrap().graph);
            (by_frame.share(&Sizes::new(1, 512, 1024)).unwrap(), by_frame.twins.len())
        };
        // Their first layer sees both frames: what is left is their means.
        for name in ["flownet2-s", "lightflow"] {
            assert!(share(name).0 < 0.005, "{name}: {}", share(name).0);
        }
        // All of their pyramid, and what goes into RAFT's iterations.
        for name in ["pwcnet", "uflow", "rill", "raft", "raft-small", "sea-raft-s", "neuflow-v2"] {
            let (share, twins) = share(name);
            println!("{name}: {share}, {twins} twins");
            assert!(share > 0.05 && share < 0.9 && twins > 10, "{name}: {share}, {twins}");
        }
    }
}
