//! Random first weights, as the reference of each network draws them.

use std::f64::consts::PI;

use super::Weights;
use super::formula::{Stream, he_bound};
use crate::graph::{Graph, Initialisation, Param, ParamRole};

/// The standard deviation of a standard normal distribution without what lies beyond two deviations.
const TRUNCATED: f64 = 0.879_625_661_034_239_8;

impl Weights {
    /// Random weights for benchmarks and the start of training: drawn as the graph says, times the parameter's gain. A
    /// parameter's numbers depend on the seed and on its name alone.
    pub fn random(graph: &Graph, seed: u64) -> Self {
        let seed = seed.to_string();
        let values = graph.params.iter().map(|param| {
            let stream = Stream::new(&seed, &param.name);
            match param.role {
                ParamRole::ConvWeight | ParamRole::DeconvWeight => weight(graph.initialisation, param, stream),
                ParamRole::Bias => bias(graph.initialisation, param, stream),
                ParamRole::NormScale | ParamRole::NormVariance => vec![param.gain; param.len()],
                ParamRole::NormShift | ParamRole::NormMean => vec![0.0; param.len()],
            }
        });
        Self { values: values.collect() }
    }
}

fn weight(initialisation: Initialisation, param: &Param, stream: Stream) -> Vec<f32> {
    let (len, gain) = (param.len(), f64::from(param.gain));
    let taps = (param.shape[2] * param.shape[3]) as f64;
    // As PyTorch counts them: axis 1 is what a transposed convolution writes.
    let (fan_out, fan_in) = (param.shape[0] as f64 * taps, param.shape[1] as f64 * taps);
    let xavier = |stream: Stream| stream.tensor(len, gain * (6.0 / (fan_in + fan_out)).sqrt(), 0.0);
    match initialisation {
        Initialisation::HeUniform {} => stream.tensor(len, gain * he_bound(param.role, &param.shape), 0.0),
        Initialisation::KaimingNormal { slope } => {
            let deviation = gain * (2.0 / ((1.0 + slope * slope) * fan_in)).sqrt();
            normal(stream).take(len).map(|v| (deviation * v) as f32).collect()
        }
        Initialisation::XavierUniform { .. } => xavier(stream),
        Initialisation::KerasHeNormal {} if param.role == ParamRole::DeconvWeight => xavier(stream),
        Initialisation::KerasHeNormal {} => {
            let deviation = gain * (2.0 / fan_in).sqrt() / TRUNCATED;
            let inside = normal(stream).filter(|v| v.abs() <= 2.0);
            inside.take(len).map(|v| (deviation * v) as f32).collect()
        }
    }
}

fn bias(initialisation: Initialisation, param: &Param, stream: Stream) -> Vec<f32> {
    match initialisation {
        Initialisation::XavierUniform { bias } => stream.tensor(param.len(), bias / 2.0, bias / 2.0),
        Initialisation::HeUniform {} | Initialisation::KaimingNormal { .. } | Initialisation::KerasHeNormal {} => {
            vec![0.0; param.len()]
        }
    }
}

/// Standard normal numbers without end, by Box and Muller: one from each two of the stream.
fn normal(stream: Stream) -> impl Iterator<Item = f64> {
    (0..).map(move |i| {
        let (radius, angle) = (1.0 - stream.number(2 * i), stream.number(2 * i + 1));
        (-2.0 * radius.ln()).sqrt() * (2.0 * PI * angle).cos()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    /// Mean and standard deviation.
    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    /// The deviation of a large layer is that of its reference's formula. A hundred thousand numbers have it to 0.3%
    /// (one deviation of its estimate); 2% leaves six of them.
    #[test]
    fn networks_begin_as_their_references_do() {
        for (network, layer, expected) in [
            // 128 -> 128, 3x3, Kaiming normal.
            ("pwcnet", "conv6_1.0.weight", (2.0f64 / (209.0 * 9.0)).sqrt()),
            // A transposed convolution: fan in by its 2 outputs and 16 taps.
            ("pwcnet", "upfeat6.weight", (2.0f64 / 32.0).sqrt()),
            ("pwcnet-lg-6-2", "pwcnet/featpyr/conv6aa/kernel", (2.0f64 / (196.0 * 9.0)).sqrt()),
            ("lightflow", "conv6b.3.weight", (2.0f64 / (1.01 * 1024.0)).sqrt()),
            // Xavier: uniform, whose deviation is the bound over the root of 3.
            ("flownet2-s", "conv4.0.weight", (2.0f64 / ((256.0 + 512.0) * 9.0)).sqrt()),
            ("uflow", "feature_model/_convs/2/1/kernel", (2.0f64 / (64.0 * 9.0)).sqrt()),
        ] {
            let graph = Model::named(network).unwrap().graph;
            let weights = Weights::random(&graph, 1);
            let at = graph.params.iter().position(|p| p.name == layer).unwrap();
            let values: Vec<f32> = weights.iter().nth(at).unwrap().to_vec();
            let (mean, deviation) = moments(&values);
            let tolerance = 6.0 / (values.len() as f64).sqrt();
            assert!(mean.abs() < tolerance * expected, "{network} {layer}: mean {mean}");
            assert!((deviation / expected - 1.0).abs() < tolerance, "{network} {layer}: {deviation}, not {expected}");
            let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            if network == "pwcnet-lg-6-2" {
                assert!(f64::from(largest) <= 2.0 * expected / TRUNCATED, "cut off at two deviations");
            }
        }
    }

    #[test]
    fn biases_of_flownet2_are_not_zero() {
        let graph = Model::named("flownet2-s").unwrap().graph;
        let weights = Weights::random(&graph, 1);
        let at = graph.params.iter().position(|p| p.name == "conv6.0.bias").unwrap();
        let values: Vec<f32> = weights.iter().nth(at).unwrap().to_vec();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        assert!((moments(&values).0 - 0.5).abs() < 0.05);
    }
}
