//! What the parts of a step add up to, over batches, passes and ranks.

use ferroflow_core::Size;
use ferroflow_net::{
    Model, Weights,
    device::DeviceError,
    graph::{Shape, Sizes},
    training::Values,
};

use crate::{
    criterion::{Criterion, Whose},
    data::Batch,
    error::TrainError,
    loss::{Graded, Tally, add_term},
    peers::Peers,
    trainers::Trainers,
};

/// Over the batches and passes of a step.
#[derive(Default)]
pub struct Sums {
    pub value: f64,
    pub terms: Vec<(&'static str, f64)>,
    /// Pixels, where the truth is known.
    pub epe: Option<f64>,
}

impl Sums {
    pub fn add(&mut self, graded: &Graded) {
        self.value += graded.value;
        if let Some(epe) = graded.epe {
            *self.epe.get_or_insert_default() += epe;
        }
        for &(name, value) in &graded.terms {
            add_term(&mut self.terms, name, value);
        }
    }

    /// Those of all ranks together, which have the same terms.
    pub fn of_all(self, peers: &dyn Peers) -> Self {
        let epe = [f64::from(u8::from(self.epe.is_some())), self.epe.unwrap_or(0.0)];
        let terms = self.terms.iter().map(|(_, value)| *value);
        let own: Vec<f64> = [self.value].into_iter().chain(epe).chain(terms).collect();
        let all = peers.total(&own);
        Self {
            value: all[0],
            epe: (all[1] > 0.0).then_some(all[2]),
            terms: self.terms.iter().zip(&all[3..]).map(|((name, _), value)| (*name, *value)).collect(),
        }
    }
}

/// The tallies of all ranks together.
pub fn of_all(peers: &dyn Peers, own: Vec<Tally>) -> Vec<Tally> {
    let values: Vec<f64> = own.iter().flat_map(|t| [t.pairs as f64, t.known as f64, t.penalty]).collect();
    let tally = |t: &[f64]| Tally { pairs: t[0] as usize, known: t[1] as usize, penalty: t[2] };
    peers.total(&values).chunks_exact(3).map(tally).collect()
}

/// What a batch adds to the tallies, by the outputs of a pass over it.
pub fn tally_pass(criterion: &dyn Criterion, outputs: &[Values], batch: &Batch) -> Result<Vec<Tally>, TrainError> {
    let pairs = batch.ids.len();
    // (Where both directions were seen, the first half is forward.)
    let shapes: Vec<Shape> =
        outputs.iter().map(|output| [pairs, output.shape[1], output.shape[2], output.shape[3]]).collect();
    Ok(criterion.tally(&shapes, criterion.tallies_values().then_some(outputs), batch)?)
}

/// What all batches of a step hold together, for each output of the network.
pub fn tally(
    criterion: &dyn Criterion,
    model: &Model,
    crop: Size,
    trainers: &mut Trainers<'_>,
    weights: &Weights,
    parts: &[Batch],
) -> Result<Vec<Tally>, TrainError> {
    let mut whole = vec![Tally::default(); criterion.outputs().len()];
    for batch in parts {
        let sizes = Sizes::new(batch.ids.len(), crop.height, crop.width);
        let shapes = model.graph.shapes(&sizes).map_err(DeviceError::from)?;
        let shapes: Vec<Shape> = criterion.outputs().iter().map(|node| shapes[node.0 as usize]).collect();
        let values = if criterion.tallies_values() {
            let trainer = trainers.with(crop, Whose::Student, weights)?;
            Some(trainer.forward([&batch.frames[0], &batch.frames[1]])?)
        } else {
            None
        };
        let part = criterion.tally(&shapes, values.as_deref(), batch)?;
        whole.iter_mut().zip(part).for_each(|(whole, part)| *whole += part);
    }
    Ok(whole)
}
