//! A step of Adam.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ferroflow_net::training::AdamStep;

use super::{plain, units};

/// Moves the weights and the moments of one parameter, in place where nobody else holds them.
pub(crate) fn adam(
    weights: CubeTensor,
    gradient: CubeTensor,
    moments: [CubeTensor; 2],
    step: AdamStep,
    decay: f32,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let own = |tensor: CubeTensor| {
        let tensor = plain(tensor);
        if tensor.can_mut() { tensor } else { tensor.copy() }
    };
    let (weights, [first, second]) = (own(weights), moments.map(own));
    let gradient = plain(gradient);
    let client = weights.client.clone();
    let (count, dim) = units(&client, weights.meta.num_elements());
    let AdamStep { rate, root, beta1, beta2, epsilon, factor, .. } = step;
    let (coupled, keep) = step.decays(decay);
    update::launch(
        &client,
        count,
        dim,
        weights.clone().into_tensor_arg(),
        gradient.into_tensor_arg(),
        first.clone().into_tensor_arg(),
        second.clone().into_tensor_arg(),
        factor,
        coupled,
        keep,
        rate,
        root,
        beta1,
        beta2,
        epsilon,
    );
    (weights, first, second)
}

#[cube(launch)]
fn update(
    weights: &mut Tensor<f32>,
    gradient: &Tensor<f32>,
    first: &mut Tensor<f32>,
    second: &mut Tensor<f32>,
    factor: f32,
    coupled: f32,
    keep: f32,
    rate: f32,
    root: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
) {
    let i = ABSOLUTE_POS;
    if i >= weights.len() {
        terminate!();
    }
    let w = weights[i];
    let g = gradient[i] * factor + coupled * w;
    let m = first[i] + (1.0 - beta1) * (g - first[i]);
    let v = beta2 * second[i] + (1.0 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    weights[i] = keep * w - rate * m / (v.sqrt() * root + epsilon);
}
