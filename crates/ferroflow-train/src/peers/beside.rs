//! Sums of gradients that are taken while the backward pass computes others.

use std::{mem, sync::mpsc, thread};

use ferroflow_net::{
    ParamId,
    device::DeviceError,
    training::{Gradients, Values},
};

use super::{Metered, Peers};
use crate::trainers::Ready;

/// Floats that are summed at a time, 4 MB, unless a single parameter has more.
const BUCKET: usize = 1 << 20;

/// Gradients of some parameters, one after the other.
#[derive(Default)]
struct Bucket {
    params: Vec<ParamId>,
    values: Vec<f32>,
}

impl Bucket {
    fn add(&mut self, sum: &Gradients, id: ParamId) {
        self.params.push(id);
        self.values.extend_from_slice(sum.get(id));
    }
}

/// Goes back through the network, and adds the gradients in `sum`, which this pass completes, over all ranks; those that are complete
/// first while the others are still computed.
///
/// # Errors
/// As [`Ready::backward`].
pub(crate) fn backward_and_sum(
    ready: &mut Ready,
    slopes: Vec<Values>,
    sum: &mut Gradients,
    peers: &Metered,
) -> Result<(), DeviceError> {
    thread::scope(|scope| {
        let (give, given) = mpsc::channel::<Bucket>();
        let summing = scope.spawn(move || {
            let summed = |mut bucket: Bucket| {
                peers.sum(&mut bucket.values);
                bucket
            };
            given.into_iter().map(summed).collect::<Vec<_>>()
        });
        let mut told = vec![false; sum.iter().count()];
        let mut bucket = Bucket::default();
        let full = |bucket: &mut Bucket| {
            if bucket.values.len() >= BUCKET {
                // (Only a panic over there ends it, which is seen below.)
                let _ = give.send(mem::take(bucket));
            }
        };
        ready.backward_telling(slopes, sum, &mut |sum: &Gradients, id: ParamId| {
            told[id.0 as usize] = true;
            bucket.add(sum, id);
            full(&mut bucket);
        })?;
        for id in (0..told.len()).filter(|id| !told[*id]).map(|id| ParamId(id as u32)) {
            bucket.add(sum, id);
            full(&mut bucket);
        }
        let _ = give.send(bucket);
        drop(give);
        let summed = peers.wait(|| summing.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for Bucket { params, values } in &summed {
            let mut rest = &values[..];
            for id in params {
                let to = sum.get_mut(*id);
                let (of_param, others) = rest.split_at(to.len());
                to.copy_from_slice(of_param);
                rest = others;
            }
        }
        Ok(())
    })
}
