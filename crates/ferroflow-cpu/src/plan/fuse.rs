//! Which nodes one kernel computes together.

use std::collections::HashMap;

use ferroflow_kernels::{LANES, conv::Activation};
use ferroflow_net::{
    Graph, NodeId, Op, ParamId,
    graph::{BatchNorm, Conv, Filter, Padding, Smooth},
};

use super::{compile::smooth, shapes::is_depthwise};

/// A kernel and the nodes after it that it absorbs.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Where it starts: a convolution, a correlation, a resize, an affine map, a convex upsampling.
    pub head: NodeId,
    /// Per-channel maps applied to the result, first one first.
    pub maps: Vec<NodeId>,
    /// The output channels that are read, if not all.
    pub picked: Option<Vec<u32>>,
    /// Added before the activation.
    pub residual: Option<NodeId>,
    /// Applied before that: linear, or a leaky ReLU.
    inner: Activation,
    activation: Activation,
    /// The node whose value comes out.
    pub tail: NodeId,
    /// The 1x1 convolution, with its own chain up to the same tail, that reads a depthwise one, or another 1x1 one before any
    /// activation.
    pub pointwise: Option<Box<Chain>>,
    /// Another convolution of the same input that is computed with it.
    pub beside: Option<Box<Chain>>,
}

impl Chain {
    /// What is applied to the sum with the residual, and before it.
    pub fn activation(&self) -> Activation {
        match self.inner {
            Activation::LeakyRelu(before) => Activation::AroundSum { before, after: self.activation.slope() },
            _ => self.activation,
        }
    }
}

/// Why a graph is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Inference,
    /// Only activations are absorbed, and batch norm by depthwise separable blocks.
    Training,
}

/// What may follow a head.
#[derive(Clone, Copy)]
struct Absorbs {
    batch_norm: bool,
    affine: bool,
    /// A choice of channels.
    choice: bool,
    residual: bool,
    activation: bool,
    /// A residual behind a leaky ReLU, and another one behind that.
    sum: bool,
    /// An activation that is not a line, whose slope its value tells.
    smooth: bool,
    gelu: bool,
}

/// How often each node is read, and which of them have to exist.
pub(super) struct Uses {
    /// Nodes that read it.
    readers: Vec<Vec<NodeId>>,
    needed: Vec<bool>,
    kept: Vec<bool>,
}

impl Uses {
    pub fn new(graph: &Graph, roots: &[NodeId], keep: &[NodeId]) -> Self {
        let count = graph.nodes.len();
        let (mut needed, mut kept, mut readers) = (vec![false; count], vec![false; count], vec![Vec::new(); count]);
        for &NodeId(id) in keep {
            kept[id as usize] = true;
            needed[id as usize] = true;
        }
        roots.iter().for_each(|root| needed[root.0 as usize] = true);
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            if needed[i] {
                for input in &node.inputs {
                    needed[input.0 as usize] = true;
                    readers[input.0 as usize].push(NodeId(i as u32));
                }
            }
        }
        Self { readers, needed, kept }
    }

    pub fn is_needed(&self, id: NodeId) -> bool {
        self.needed[id.0 as usize]
    }

    pub fn is_kept(&self, id: NodeId) -> bool {
        self.kept[id.0 as usize]
    }

    pub fn readers(&self, id: NodeId) -> &[NodeId] {
        &self.readers[id.0 as usize]
    }

    /// The node that alone reads `id`, if nothing else wants its value.
    pub fn only_reader(&self, id: NodeId) -> Option<NodeId> {
        match self.readers(id) {
            [reader] if !self.is_kept(id) => Some(*reader),
            _ => None,
        }
    }
}

/// The chain that starts at `head`, of nodes that no other chain has claimed; for a depthwise convolution with the 1x1
/// convolution that alone reads it, so that what lies between never leaves the cache; for a 1x1 convolution with the one whose
/// weights its own are better multiplied with.
pub(super) fn fused(graph: &Graph, uses: &Uses, claimed: &[bool], head: NodeId, purpose: Purpose) -> Chain {
    separable(graph, uses, claimed, head, purpose)
        .or_else(|| composed(graph, uses, claimed, head, purpose))
        .unwrap_or_else(|| chain(graph, uses, claimed, head, absorbs(graph, head, purpose)))
}

/// A 1x1 convolution with what follows it, up to what follows the 1x1 convolution that reads it, if there is no activation between
/// them and both as one need fewer products.
fn composed(graph: &Graph, uses: &Uses, claimed: &[bool], head: NodeId, purpose: Purpose) -> Option<Chain> {
    let conv = |id: NodeId| match &graph.node(id).op {
        Op::Conv(conv) if is_pointwise(conv) => Some(conv),
        _ => None,
    };
    let before = conv(head).filter(|_| purpose == Purpose::Inference)?;
    let absorbs = absorbs(graph, head, purpose);
    let absorbs = Absorbs { choice: false, ..absorbs };
    let mut first = chain(graph, uses, claimed, head, Absorbs { activation: false, smooth: false, ..absorbs });
    let next = uses.only_reader(first.tail).filter(|n| !claimed[n.0 as usize])?;
    let after = conv(next)?;
    let second = chain(graph, uses, claimed, next, absorbs);
    let (inputs, between, outputs) = (before.in_channels, before.out_channels, after.out_channels);
    // What is added between them goes through the second as before.
    let added = if first.residual.is_some() { between } else { 0 };
    if second.residual.is_some() || (inputs + added) * outputs >= between * (inputs + outputs) {
        return None;
    }
    first.tail = second.tail;
    first.pointwise = Some(Box::new(second));
    Some(first)
}

/// Lets convolutions of one input that are alike, as the gates of a recurrent unit are, be computed as one: what they read is then
/// read once. Only where every use of both layers is such a pair, since otherwise their weights would be prepared twice.
pub(super) fn pair_up(graph: &Graph, chains: &mut HashMap<NodeId, Chain>) {
    let mut tails: Vec<NodeId> = chains.keys().copied().collect();
    tails.sort_unstable();
    let mut pairs: Vec<[NodeId; 2]> = Vec::new();
    for (i, &first) in tails.iter().enumerate() {
        let is_free = |tail: &NodeId| !pairs.as_flattened().contains(tail);
        let partner = |tail: &&NodeId| is_free(tail) && are_alike(graph, &chains[&first], &chains[tail]);
        if is_free(&first)
            && let Some(&second) = tails[i + 1..].iter().find(partner)
        {
            pairs.push([first, second]);
        }
    }
    let layer = |tail: &NodeId| &graph.node(chains[tail].head).op;
    let uses = |tail: &NodeId| chains.values().filter(|chain| graph.node(chain.head).op == *layer(tail)).count();
    let together = |pair: &[NodeId; 2]| {
        let same = |other: &&[NodeId; 2]| pair.iter().zip(*other).all(|(a, b)| layer(a) == layer(b));
        pairs.iter().filter(same).count()
    };
    let chosen: Vec<[NodeId; 2]> =
        pairs.iter().filter(|pair| pair.iter().all(|tail| uses(tail) == together(pair))).copied().collect();
    for [first, second] in chosen {
        let second = chains.remove(&second).map(Box::new);
        if let Some(chain) = chains.get_mut(&first) {
            chain.beside = second;
        }
    }
}

fn are_alike(graph: &Graph, a: &Chain, b: &Chain) -> bool {
    let [(x, first), (y, second)] = [a, b].map(|chain| {
        let node = graph.node(chain.head);
        (&node.inputs, &node.op)
    });
    let (Op::Conv(first), Op::Conv(second)) = (first, second) else { return false };
    let plain = |chain: &Chain| {
        chain.maps.is_empty() && chain.picked.is_none() && chain.residual.is_none() && chain.pointwise.is_none()
    };
    x == y
        && Conv { weight: first.weight, bias: first.bias, ..second.clone() } == *first
        && first.bias.is_some() == second.bias.is_some()
        && (first.groups, first.out_channels % LANES) == (1, 0)
        && a.activation() == b.activation()
        && plain(a)
        && plain(b)
}

/// Whether each output pixel is a matrix times an input pixel.
fn is_pointwise(c: &Conv) -> bool {
    (c.kernel, c.stride, c.groups, c.padding) == ([1; 2], 1, 1, Padding::all(0))
}

/// A depthwise convolution with what follows it, up to what follows the 1x1 convolution that reads it.
fn separable(graph: &Graph, uses: &Uses, claimed: &[bool], head: NodeId, purpose: Purpose) -> Option<Chain> {
    let conv = |id: NodeId| match &graph.node(id).op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    };
    conv(head).filter(|c| is_depthwise(c))?;
    let absorbs = separable_absorbs(purpose);
    let mut first = chain(graph, uses, claimed, head, Absorbs { residual: false, ..absorbs });
    let next = uses.only_reader(first.tail).filter(|n| !claimed[n.0 as usize])?;
    conv(next).filter(|c| is_pointwise(c))?;
    let second = chain(graph, uses, claimed, next, absorbs);
    let trains = purpose == Purpose::Inference || separable_block(graph, &first, &second).is_some();
    if second.residual.is_some() || !trains {
        return None;
    }
    first.tail = second.tail;
    first.pointwise = Some(Box::new(second));
    Some(first)
}

fn absorbs(graph: &Graph, head: NodeId, purpose: Purpose) -> Absorbs {
    let none = Absorbs {
        batch_norm: false,
        affine: false,
        choice: false,
        residual: false,
        activation: false,
        sum: false,
        smooth: false,
        gelu: false,
    };
    let inference = purpose == Purpose::Inference;
    match graph.node(head).op {
        Op::Conv(ref c) if c.groups > 1 => {
            Absorbs { batch_norm: inference, affine: inference, activation: true, ..none }
        }
        Op::Conv(_) | Op::Deconv(_) => Absorbs {
            batch_norm: inference,
            affine: inference,
            choice: inference && matches!(graph.node(head).op, Op::Conv(_)),
            residual: inference,
            activation: true,
            sum: inference,
            smooth: true,
            gelu: inference,
        },
        Op::InstanceNorm { .. } => Absorbs { activation: true, sum: inference, ..none },
        Op::Add | Op::Sub | Op::Correlation(_) => Absorbs { activation: true, ..none },
        Op::Affine { .. } => Absorbs { batch_norm: inference, affine: true, activation: true, ..none },
        Op::BatchNorm(_) | Op::ChannelScale { .. } => {
            Absorbs { batch_norm: inference, affine: inference, activation: true, ..none }
        }
        Op::Resize { .. } | Op::ConvexUpsample { .. } => Absorbs { affine: true, ..none },
        Op::Frame(_)
        | Op::LeakyRelu { .. }
        | Op::Concat
        | Op::Stack
        | Op::Part { .. }
        | Op::Channels(_)
        | Op::ChannelMean
        | Op::ChannelNorm { .. }
        | Op::Lookup(_)
        | Op::Warp(_)
        | Op::ToOutput { .. }
        | Op::Moments(_)
        | Op::Standardise { .. }
        | Op::Smooth(_)
        | Op::Product
        | Op::Lerp
        | Op::LayerNorm(_)
        | Op::AveragePool { .. }
        | Op::Attention
        | Op::Coordinates { .. }
        | Op::Detach
        | Op::Zeros { .. } => none,
    }
}

/// What may follow either convolution of a separable block.
fn separable_absorbs(purpose: Purpose) -> Absorbs {
    let inference = purpose == Purpose::Inference;
    Absorbs {
        batch_norm: true,
        affine: inference,
        choice: false,
        residual: inference,
        activation: true,
        sum: false,
        smooth: false,
        gelu: false,
    }
}

fn chain(graph: &Graph, uses: &Uses, claimed: &[bool], head: NodeId, absorbs: Absorbs) -> Chain {
    let mut chain = Chain {
        head,
        maps: Vec::new(),
        picked: None,
        residual: None,
        inner: Activation::Linear,
        activation: Activation::Linear,
        tail: head,
        pointwise: None,
        beside: None,
    };
    while let Some(next) = uses.only_reader(chain.tail).filter(|n| !claimed[n.0 as usize]) {
        let node = graph.node(next);
        let linear = chain.activation == Activation::Linear;
        let maps = linear && chain.residual.is_none() && chain.picked.is_none();
        let around = chain.inner != Activation::Linear;
        match &node.op {
            Op::BatchNorm(_) | Op::ChannelScale { .. } if absorbs.batch_norm && maps => chain.maps.push(next),
            Op::Channels(picked) if absorbs.choice && maps => chain.picked = Some(picked.clone()),
            Op::Affine { offset, .. } if absorbs.affine && maps => {
                let only_scales = matches!(graph.node(head).op, Op::Resize { .. } | Op::ConvexUpsample { .. });
                if only_scales && offset.iter().any(|&o| o != 0.0) {
                    break;
                }
                chain.maps.push(next);
            }
            Op::Add if absorbs.residual && linear && chain.residual.is_none() => {
                chain.residual = Some(node.inputs[usize::from(node.inputs[0] == chain.tail)]);
            }
            Op::Add
                if absorbs.sum && chain.residual.is_none() && !matches!(chain.activation, Activation::Smooth(_)) =>
            {
                chain.residual = Some(node.inputs[usize::from(node.inputs[0] == chain.tail)]);
                chain.inner = std::mem::replace(&mut chain.activation, Activation::Linear);
            }
            Op::LeakyRelu { slope } if absorbs.activation && linear && (0.0..=1.0).contains(slope) => {
                chain.activation = Activation::LeakyRelu(*slope);
            }
            Op::Smooth(curve) if absorbs.smooth && linear && !around && (absorbs.gelu || *curve != Smooth::Gelu) => {
                chain.activation = Activation::Smooth(smooth(*curve));
            }
            Op::Frame(_)
            | Op::Conv(_)
            | Op::Deconv(_)
            | Op::BatchNorm(_)
            | Op::LeakyRelu { .. }
            | Op::Concat
            | Op::Stack
            | Op::Part { .. }
            | Op::Channels(_)
            | Op::Affine { .. }
            | Op::Add
            | Op::Sub
            | Op::ChannelMean
            | Op::ChannelNorm { .. }
            | Op::Correlation(_)
            | Op::Lookup(_)
            | Op::Warp(_)
            | Op::Resize { .. }
            | Op::ConvexUpsample { .. }
            | Op::ToOutput { .. }
            | Op::Moments(_)
            | Op::Standardise { .. }
            | Op::Smooth(_)
            | Op::Product
            | Op::Lerp
            | Op::InstanceNorm { .. }
            | Op::LayerNorm(_)
            | Op::ChannelScale { .. }
            | Op::AveragePool { .. }
            | Op::Attention
            | Op::Coordinates { .. }
            | Op::Detach
            | Op::Zeros { .. } => break,
        }
        chain.tail = next;
    }
    chain
}

/// Whether an enlargement by 2 is left to the depthwise kernels that read it.
pub(super) fn reads_doubled(graph: &Graph, uses: &Uses, id: NodeId) -> bool {
    let nearest = matches!(graph.node(id).op, Op::Resize { factor: 2, filter: Filter::Nearest, .. });
    nearest && only_depthwise_reads(graph, uses, id)
}

fn only_depthwise_reads(graph: &Graph, uses: &Uses, id: NodeId) -> bool {
    let depthwise = |&reader: &NodeId| match &graph.node(reader).op {
        Op::Conv(c) => is_depthwise(c),
        Op::Concat => only_depthwise_reads(graph, uses, reader),
        Op::Frame(_)
        | Op::Deconv(_)
        | Op::BatchNorm(_)
        | Op::LeakyRelu { .. }
        | Op::Stack
        | Op::Part { .. }
        | Op::Channels(_)
        | Op::Affine { .. }
        | Op::Add
        | Op::Sub
        | Op::ChannelMean
        | Op::ChannelNorm { .. }
        | Op::Correlation(_)
        | Op::Lookup(_)
        | Op::Warp(_)
        | Op::Resize { .. }
        | Op::ConvexUpsample { .. }
        | Op::ToOutput { .. }
        | Op::Moments(_)
        | Op::Standardise { .. }
        | Op::Smooth(_)
        | Op::Product
        | Op::Lerp
        | Op::InstanceNorm { .. }
        | Op::LayerNorm(_)
        | Op::ChannelScale { .. }
        | Op::AveragePool { .. }
        | Op::Attention
        | Op::Coordinates { .. }
        | Op::Detach
        | Op::Zeros { .. } => false,
    };
    !uses.is_kept(id) && uses.readers(id).iter().all(depthwise)
}

/// The per-channel map `scale * x + offset` that a list of affine and batch-norm nodes comes to.
pub(super) fn compose<'w>(
    graph: &Graph,
    maps: &[NodeId],
    channels: usize,
    weight: impl Fn(ParamId) -> &'w [f32],
) -> (Vec<f64>, Vec<f64>) {
    let (mut scale, mut offset) = (vec![1.0f64; channels], vec![0.0f64; channels]);
    for &map in maps {
        for c in 0..channels {
            let (s, o) = match &graph.node(map).op {
                Op::Affine { scale, offset } => {
                    let at = |v: &[f32]| f64::from(if v.len() == 1 { v[0] } else { v[c] });
                    (at(scale), at(offset))
                }
                Op::BatchNorm(b) => {
                    let at = |id: ParamId| f64::from(weight(id)[c]);
                    let s = at(b.scale) / (at(b.variance) + f64::from(b.epsilon)).sqrt();
                    (s, at(b.shift) - at(b.mean) * s)
                }
                Op::ChannelScale { factor } => (f64::from(weight(*factor)[c]), 0.0),
                Op::Frame(_)
                | Op::Conv(_)
                | Op::Deconv(_)
                | Op::LeakyRelu { .. }
                | Op::Concat
                | Op::Stack
                | Op::Part { .. }
                | Op::Channels(_)
                | Op::Add
                | Op::Sub
                | Op::ChannelMean
                | Op::ChannelNorm { .. }
                | Op::Correlation(_)
                | Op::Lookup(_)
                | Op::Warp(_)
                | Op::Resize { .. }
                | Op::ConvexUpsample { .. }
                | Op::ToOutput { .. }
                | Op::Moments(_)
                | Op::Standardise { .. }
                | Op::Smooth(_)
                | Op::Product
                | Op::Lerp
                | Op::InstanceNorm { .. }
                | Op::LayerNorm(_)
                | Op::AveragePool { .. }
                | Op::Attention
                | Op::Coordinates { .. }
                | Op::Detach
                | Op::Zeros { .. } => (1.0, 0.0),
            };
            scale[c] *= s;
            offset[c] = offset[c] * s + o;
        }
    }
    (scale, offset)
}

/// The 1x1 convolution and the norms of a depthwise convolution and what follows it, if they are the block that is trained
/// as one operator: without biases, one norm behind each.
pub(super) fn separable_block<'g>(
    graph: &'g Graph,
    first: &Chain,
    second: &Chain,
) -> Option<(&'g Conv, [BatchNorm; 2])> {
    let conv = |chain: &Chain| match &graph.node(chain.head).op {
        Op::Conv(conv) if conv.bias.is_none() => Some(conv),
        _ => None,
    };
    let norm = |chain: &Chain| match chain.maps[..] {
        [map] => match &graph.node(map).op {
            Op::BatchNorm(norm) => Some(norm.clone()),
            _ => None,
        },
        _ => None,
    };
    let (depthwise, pointwise) = (conv(first)?, conv(second)?);
    let norms = [norm(first)?, norm(second)?];
    (depthwise.padding == Padding::all(1)).then_some((pointwise, norms))
}
