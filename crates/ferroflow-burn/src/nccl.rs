//! Sums over the GPUs of several ranks by NCCL, NVIDIA's library for that, which is loaded when it is first needed.
//!
//! CubeCL's own way to NCCL is for several GPUs of one process; here each rank is a process with a GPU. NCCL takes the address of a
//! buffer, and that is what the blocks of `unsafe` are for.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{Cube, CubeDevice, Dispatch, DispatchDevice, backend_extension, tensor::FloatTensor};
use burn::tensor::{Device, Tensor};
use cubecl::{cuda::CudaRuntime, future::block_on};
use cubecl_runtime::runtime::Runtime;
use cudarc::{
    driver::{CudaContext, CudaStream},
    nccl::{Comm, Id, ReduceOp, sys::is_culib_present},
};
use ferroflow_net::peers::Peers;

/// Numbers in the name of a group.
const ID: usize = 128;

/// The GPUs of all ranks.
#[derive(Clone)]
pub(crate) struct Group(Arc<Mutex<Communicator>>);

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Group")
    }
}

struct Communicator(Comm);

// SAFETY: a communicator belongs to no thread; it must not be used by two at once, and it lies behind a `Mutex`.
unsafe impl Send for Communicator {}

impl Group {
    /// Meets the other ranks, all of which do so.
    ///
    /// # Errors
    /// On all ranks, if one has no NVIDIA GPU of its own or no NCCL: what this one lacks, or that another one does.
    pub fn join(peers: &dyn Peers, device: &Device) -> Result<Self, String> {
        let agree = |failed: bool| match peers.gather(&[f64::from(u8::from(failed))]).iter().position(|&f| f > 0.0) {
            Some(rank) => Err(format!("rank {rank} cannot")),
            None => Ok(()),
        };
        let stream = open(device);
        let agreed = agree(stream.is_err());
        let stream = stream?;
        agreed?;
        // The first rank names the group.
        let id =
            if peers.rank() == 0 { Id::new().map_err(|error| format!("{error:?}")) } else { Ok(Id::uninit([0; ID])) };
        let own = id.as_ref().map_or([0.0; ID], |id| id.internal().map(f64::from));
        let agreed = agree(id.is_err());
        let all = peers.gather(&own);
        id?;
        agreed?;
        let mut name = [0; ID];
        name.iter_mut().zip(&all).for_each(|(to, value)| *to = *value as std::ffi::c_char);
        let joined = Comm::from_rank(stream, peers.rank(), peers.size(), Id::uninit(name));
        let agreed = agree(joined.is_err());
        let joined = joined.map_err(|error| format!("{error:?} (each rank needs a GPU of its own)"))?;
        agreed?;
        Ok(Self(Arc::new(Mutex::new(Communicator(joined)))))
    }

    /// The sums of the values of all ranks.
    pub fn sum(&self, values: Tensor<1>) -> Tensor<1> {
        Tensor::from_dispatch(Dispatch::sum_over(values.into_dispatch(), self.clone()))
    }

    /// Adds to the `len` values at `address` those of the other ranks, and waits for it.
    ///
    /// # Safety
    /// There are as many values of the primary context of the group's device, which nothing else reads or writes meanwhile.
    unsafe fn sum_at(&self, address: u64, len: usize) -> Result<(), String> {
        let communicator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = communicator.0.stream();
        stream.context().bind_to_thread().map_err(|error| error.to_string())?;
        // SAFETY: the caller's promise. It stays CubeCL's: it is given up again, not freed.
        let mut values = unsafe { stream.upgrade_device_ptr::<f32>(address, len) };
        let started = communicator.0.all_reduce_in_place(&mut values, &ReduceOp::Sum);
        let ended = stream.synchronize();
        values.leak();
        started.map_err(|error| format!("NCCL: {error:?}"))?;
        ended.map_err(|error| error.to_string())
    }
}

/// A stream of an NVIDIA GPU for NCCL.
fn open(device: &Device) -> Result<Arc<CudaStream>, String> {
    let DispatchDevice::Cube(CubeDevice::Cuda(gpu)) = device.clone().inner().as_dispatch().clone() else {
        return Err("the device is no NVIDIA GPU".into());
    };
    // SAFETY: loading NCCL runs no code of it but what libraries do when they are loaded.
    if !unsafe { is_culib_present() } {
        return Err("libnccl.so is not found (Debian: libnccl-dev)".into());
    }
    let context = CudaContext::new(gpu.index).map_err(|error| error.to_string())?;
    context.new_stream().map_err(|error| error.to_string())
}

#[backend_extension(Cube)]
pub trait SumOver: burn::backend::Backend {
    fn sum_over(values: FloatTensor<Self>, group: Group) -> FloatTensor<Self>;
}

impl SumOver for Cube {
    fn sum_over(values: FloatTensor<Self>, group: Group) -> FloatTensor<Self> {
        let values = burn_cubecl::kernel::into_contiguous(values);
        let values = if values.can_mut() { values } else { values.copy() };
        let client = &values.client;
        let resource = client.get_resource::<<CudaRuntime as Runtime>::Server>(values.handle.clone());
        let summed = resource.map_err(|error| format!("{error:?}")).and_then(|resource| {
            // What computes them may still run.
            block_on(client.sync()).map_err(|error| format!("{error:?}"))?;
            // SAFETY: the resource keeps them where they are, in the primary context, which CubeCL uses; nobody else holds the
            // tensor, and no kernel runs.
            unsafe { group.sum_at(resource.resource().ptr, values.meta.num_elements()) }
        });
        if let Err(error) = summed {
            // As Burn's own operations tell of what a device refuses; `caught` makes an error of it.
            panic!("{error}");
        }
        values
    }
}
