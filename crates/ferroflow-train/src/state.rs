//! The state of a run: everything that changes while it trains.

use ferroflow_net::{
    Graph, Model, Weights,
    graph::{ParamId, ParamRole},
    peers::Peers,
};

use crate::{
    checkpoint::{self, Checkpoint, CheckpointError, Progress, Snapshot, Window},
    error::TrainError,
    folder::Folder,
    init::first_weights,
    optimiser::{Average, LossScale, Optimiser},
    recipe::{Recipe, RecipeError},
};

/// Everything that changes during a run.
pub(crate) struct State {
    pub weights: Weights,
    pub optimiser: Optimiser,
    pub average: Option<Average>,
    pub progress: Progress,
}

impl State {
    /// The state before the first step, and the number of random parameters.
    pub fn first(recipe: &Recipe, model: &Model, trained: &[bool]) -> Result<(Self, usize), TrainError> {
        let (weights, random, origins) = first_weights(recipe, model)?;
        let progress = Progress {
            step: recipe.start,
            position: 0,
            skipped: 0,
            updates: 0,
            scale: LossScale::new(&recipe.loss_scale).map_err(RecipeError::Value)?,
            best: None,
            ranked: Vec::new(),
            window: Window::default(),
            epoch: Window::default(),
            origins,
        };
        let average = (recipe.ema > 0.0).then(|| Average::new(recipe.ema as f32, weights.clone()));
        Ok((Self { optimiser: optimiser(recipe, model, trained), weights, average, progress }, random))
    }

    /// The state of the newest checkpoint of a folder that can be read, and what was wrong with newer ones; `None` if the run was
    /// stopped before its first checkpoint.
    pub fn newest(
        recipe: &Recipe,
        model: &Model,
        trained: &[bool],
        folder: &Folder,
    ) -> Result<Option<(Self, Vec<CheckpointError>)>, TrainError> {
        let (checkpoint, damaged) = match checkpoint::newest(&folder.checkpoints(), &model.graph) {
            Err(CheckpointError::None(_)) => return Ok(None),
            found => found?,
        };
        let Checkpoint { progress, weights, memory, average } = checkpoint;
        let mut optimiser = optimiser(recipe, model, trained);
        optimiser.restore(progress.updates, memory).map_err(TrainError::Resume)?;
        // Averaging that begins now begins with the weights of now.
        let average =
            (recipe.ema > 0.0).then(|| Average::new(recipe.ema as f32, average.unwrap_or_else(|| weights.clone())));
        Ok(Some((Self { weights, optimiser, average, progress }, damaged)))
    }

    /// What a checkpoint holds.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            progress: &self.progress,
            weights: &self.weights,
            memory: self.optimiser.memory(),
            average: self.average.as_ref().map(Average::weights),
        }
    }

    /// The weights to use: their average, if one is kept.
    pub fn best_guess(&self) -> &Weights {
        self.average.as_ref().map_or(&self.weights, Average::weights)
    }

    /// The running statistics of batch norm, to be put back.
    pub fn statistics(&self, graph: &Graph) -> Vec<(ParamId, Vec<f32>)> {
        let ids = (0..graph.params.len() as u32).map(ParamId);
        ids.filter(|&id| matches!(graph.param(id).role, ParamRole::NormMean | ParamRole::NormVariance))
            .map(|id| (id, self.weights.get(id).to_vec()))
            .collect()
    }

    /// Takes the running statistics of batch norm of rank 0, where each rank has its own (as PyTorch does).
    pub fn follow_first(&mut self, graph: &Graph, peers: &dyn Peers) {
        let own = self.statistics(graph);
        let mut values: Vec<f32> = own.iter().flat_map(|(_, values)| values).copied().collect();
        peers.follow_first(&mut values);
        let mut rest = &values[..];
        for (id, values) in own {
            let (first, others) = rest.split_at(values.len());
            self.weights.get_mut(id).copy_from_slice(first);
            rest = others;
        }
    }

    /// Numbers that are other ones where the state is another.
    pub fn fingerprint(&self) -> [f64; 4] {
        let sum = |power: i32| self.weights.iter().flatten().map(|&w| f64::from(w).powi(power)).sum();
        [self.progress.step as f64, self.progress.position as f64, sum(1), sum(2)]
    }

    /// Puts back those running statistics that are not to move.
    pub fn restore(&mut self, statistics: &[(ParamId, Vec<f32>)], still: impl Fn(ParamId) -> bool) {
        for (id, values) in statistics.iter().filter(|(id, _)| still(*id)) {
            self.weights.get_mut(*id).copy_from_slice(values);
        }
    }
}

fn optimiser(recipe: &Recipe, model: &Model, trained: &[bool]) -> Optimiser {
    Optimiser::new(recipe.optimiser, &model.graph, trained, recipe.decay())
}
