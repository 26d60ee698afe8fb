//! Tensors of a checkpoint that are not weights: optimiser state, counters, constants of a loss.

use std::fmt;

/// Why a tensor was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// State of an optimiser: moments, powers of beta, the rate.
    Optimiser,
    /// A step or batch counter.
    Counter,
    /// Something beside the model: another entry of a training checkpoint, a constant of a loss, an object graph.
    Other,
}

/// Tensors left out, counted by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of tensors of an optimiser's state.
    pub optimiser: usize,
    /// Number of step and batch counters.
    pub counters: usize,
    /// Number of other tensors that are not weights.
    pub other: usize,
}

impl Skipped {
    pub(super) fn count(&mut self, slot: Slot) {
        match slot {
            Slot::Optimiser => self.optimiser += 1,
            Slot::Counter => self.counters += 1,
            Slot::Other => self.other += 1,
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the optimiser, {} counters, {} others", self.optimiser, self.counters, self.other)
    }
}

/// What a tensor's name says it is; `None`: a weight, as far as the name goes.
pub(super) fn slot(name: &str) -> Option<Slot> {
    // MindSpore: `moment1.NAME`; TensorFlow: `NAME/Adam_1`, `NAME/.OPTIMIZER_SLOT/...`; PyTorch: `optimizer.state.0.exp_avg`.
    const OPTIMISER_HEADS: [&str; 10] = [
        "moment1.",
        "moment2.",
        "moments.",
        "accum.",
        "optimizer.",
        "optimizers.",
        "optimizer/",
        "optimizer_states.",
        "optimizer_state_dict.",
        "save_optimizer.",
    ];
    const OPTIMISER_TAILS: [&str; 5] = ["/Adam", "/Adam_1", "/Momentum", "/RMSProp", "/RMSProp_1"];
    const OPTIMISER_WHOLE: [&str; 4] = ["beta1_power", "beta2_power", "learning_rate", "momentum"];
    const COUNTERS: [&str; 6] =
        ["global_step", "optimizer_step", "save_counter", "epoch_num", "step_num", "num_batches_tracked"];
    let bare = name.trim_end_matches("/.ATTRIBUTES/VARIABLE_VALUE");
    let last = bare.rsplit(['.', '/']).next().unwrap_or(bare);
    if COUNTERS.contains(&last) {
        return Some(Slot::Counter);
    }
    let optimiser = OPTIMISER_WHOLE.contains(&bare)
        || bare.contains("/.OPTIMIZER_SLOT/")
        || OPTIMISER_HEADS.iter().any(|h| bare.starts_with(h))
        || OPTIMISER_TAILS.iter().any(|t| bare.ends_with(t));
    if optimiser {
        return Some(Slot::Optimiser);
    }
    let other =
        bare == "_CHECKPOINTABLE_OBJECT_GRAPH" || bare.starts_with("loss.") || bare.starts_with("lr_schedulers.");
    other.then_some(Slot::Other)
}
