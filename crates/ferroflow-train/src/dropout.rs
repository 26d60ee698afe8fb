//! Level dropout (UFlow): in a training pass some levels of the network add nothing to the flow.
//!
//! UFlow multiplies what a level adds by 0 or 1. Here the last layers of such a level run with weights of 0 and get no gradient,
//! which gives the same values and gradients without an operation in the graph.

use ferroflow_data::random::Random;
use ferroflow_net::{ParamId, Weights, training::Gradients};

/// The parameters of the levels that are left out in a pass: of each level with this probability.
pub(crate) fn draw(levels: &[Vec<ParamId>], probability: f64, seed: u64, place: [u64; 2]) -> Vec<ParamId> {
    if probability <= 0.0 {
        return Vec::new();
    }
    let mut random = Random::new(seed, &[0x6c65_7665_6c73, place[0], place[1]]);
    levels.iter().filter(|_| random.chance(probability as f32)).flatten().copied().collect()
}

/// The weights without those of the parameters left out.
pub(crate) fn without(weights: &Weights, dropped: &[ParamId]) -> Weights {
    let mut weights = weights.clone();
    dropped.iter().for_each(|&id| weights.get_mut(id).fill(0.0));
    weights
}

/// Gradients so far of the parameters left out, which a pass without them does not change.
pub(crate) struct Kept(Vec<(ParamId, Vec<f32>)>);

impl Kept {
    pub fn of(gradients: &Gradients, dropped: &[ParamId]) -> Self {
        Self(dropped.iter().map(|&id| (id, gradients.get(id).to_vec())).collect())
    }

    pub fn put_back(self, gradients: &mut Gradients) {
        self.0.iter().for_each(|(id, values)| gradients.get_mut(*id).copy_from_slice(values));
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_cpu::{Cpu, CpuOptions};
    use ferroflow_net::{
        Model,
        device::Device,
        graph::Sizes,
        training::{TrainingOptions, Values},
    };

    use super::*;

    #[test]
    fn draws_are_of_the_step_and_as_frequent_as_asked_for() {
        let levels: Vec<Vec<ParamId>> = (0..5).map(|i| vec![ParamId(2 * i), ParamId(2 * i + 1)]).collect();
        assert!(draw(&levels, 0.0, 1, [0, 0]).is_empty());
        assert_eq!(draw(&levels, 0.3, 1, [7, 1]), draw(&levels, 0.3, 1, [7, 1]));
        let count: usize = (0..2000).map(|step| draw(&levels, 0.1, 1, [step, 0]).len()).sum();
        assert!((1800..2200).contains(&count), "{count} of 20000");
    }

    /// Every level of UFlow at once: then the flow is 0, and what only they read gets no gradient.
    #[test]
    fn a_level_left_out_says_nothing_and_learns_nothing() {
        let model = Model::named("uflow").unwrap();
        assert_eq!(model.level_params.len(), 5);
        assert!(model.level_params[..4].iter().all(|level| level.len() == 4) && model.level_params[4].len() == 2);
        let options = TrainingOptions::all(&model.graph, Sizes::new(1, 64, 64), model.graph.pyramid.clone());
        let mut trainer = Cpu::new(CpuOptions::default()).unwrap().trainer(&model.graph, options.clone()).unwrap();
        let weights = Weights::random(&model.graph, 3);
        let frames = [1u64, 2].map(|seed| {
            let mut random = Random::new(seed, &[]);
            (0..3 * 64 * 64).map(|_| random.range(0.0, 255.0)).collect::<Vec<f32>>()
        });
        let mut pass = |dropped: &[ParamId]| {
            trainer.load(&without(&weights, dropped)).unwrap();
            let flows = trainer.forward([&frames[0], &frames[1]]).unwrap();
            let ones: Vec<Values> =
                flows.iter().map(|f| Values { shape: f.shape, data: vec![1.0; f.data.len()] }).collect();
            let mut gradients = Gradients::zeros(&model.graph, &options.trained);
            gradients.values_mut().fill(2.0);
            let kept = Kept::of(&gradients, dropped);
            trainer.backward(&ones, &mut gradients).unwrap();
            kept.put_back(&mut gradients);
            (flows, gradients)
        };
        let everything: Vec<ParamId> = model.level_params.concat();
        let (flows, gradients) = pass(&everything);
        assert!(flows.iter().flat_map(|f| &f.data).all(|&v| v == 0.0));
        assert!(gradients.values().iter().all(|&g| g == 2.0));
        // Without its finest level the flow is that of the level above, enlarged.
        let (whole, _) = pass(&[]);
        let finest = [&model.level_params[0][..], &model.level_params[4]].concat();
        let (flows, gradients) = pass(&finest);
        assert_eq!(flows[..3], whole[..3]);
        assert_ne!(flows[3], whole[3]);
        assert!(finest.iter().all(|&id| gradients.get(id).iter().all(|&g| g == 2.0)));
        let above = model.level_params[1][0];
        assert!(gradients.get(above).iter().any(|&g| g != 2.0));
    }
}
