//! Sums of gradients over the ranks of a run.

use std::{fmt, sync::Arc};

use burn::tensor::{Device, Tensor, TensorData};
use ferroflow_net::peers::Peers;

#[cfg(feature = "cuda")]
use crate::nccl::Group;

/// Adds what a device holds to what the devices of the other ranks hold.
pub(crate) struct AllReduce {
    peers: Arc<dyn Peers>,
    way: Way,
}

enum Way {
    /// Each rank brings its values to main memory.
    Host {
        /// Why not directly, where that might have been.
        reason: Option<String>,
    },
    #[cfg(feature = "cuda")]
    Nccl(Group),
}

impl AllReduce {
    /// Meets the other ranks, all of which do so: directly if all have NVIDIA GPUs and NCCL, else through main memory.
    pub fn join(peers: &Arc<dyn Peers>, device: &Device) -> Self {
        Self { peers: peers.clone(), way: Way::of(&**peers, device) }
    }

    /// The sums, in an order that no rank's speed changes, so that they are the same on all ranks and in every run.
    ///
    /// # Errors
    /// If a transfer fails.
    pub fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>, String> {
        match &self.way {
            Way::Host { .. } => {
                let device = values.device();
                let mut values = values.try_into_vec_as::<f32>().map_err(|error| error.to_string())?;
                self.peers.sum(&mut values);
                let len = values.len();
                Ok(Tensor::from_data(TensorData::new(values, [len]), &device))
            }
            #[cfg(feature = "cuda")]
            Way::Nccl(group) => Ok(group.sum(values)),
        }
    }
}

impl Way {
    #[cfg(not(feature = "cuda"))]
    fn of(_: &dyn Peers, _: &Device) -> Self {
        Self::Host { reason: None }
    }

    #[cfg(feature = "cuda")]
    fn of(peers: &dyn Peers, device: &Device) -> Self {
        match Group::join(peers, device) {
            Ok(group) => Self::Nccl(group),
            Err(reason) => Self::Host { reason: Some(reason) },
        }
    }
}

/// On which way, to stand behind "they are added".
impl fmt::Display for AllReduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Host { reason: None } => f.write_str("in main memory"),
            Way::Host { reason: Some(reason) } => write!(f, "in main memory, not by NCCL: {reason}"),
            #[cfg(feature = "cuda")]
            Way::Nccl(_) => f.write_str("by NCCL"),
        }
    }
}
