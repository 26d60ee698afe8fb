//! The GPUs of this machine.

use std::{fmt, sync::Mutex};

use burn::backend::CubeDevice;
use burn::tensor::Device as BurnDevice;
use cubecl::device::WgpuDeviceKind;

use crate::device::{Burn, caught};

/// A way to reach GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interface {
    /// On Linux and Windows, of any maker.
    Vulkan,
    /// On Apple's machines.
    Metal,
    /// NVIDIA's.
    Cuda,
}

/// A GPU, or a driver that computes on the processor in the place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// How it is reached.
    pub interface: Interface,
    /// Its number among those of the interface, dedicated cards first.
    pub index: usize,
    /// As it calls itself.
    pub name: String,
    /// Bytes that it can hold; `None` where the driver does not say.
    pub memory_bytes: Option<u64>,
    /// Whether it computes on the processor.
    pub software: bool,
}

/// Why a GPU cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HardwareError {
    /// This build of the crate does not know the interface.
    #[error("this build does not know {0}: build with the feature `{feature}`", feature = .0.feature())]
    NotBuilt(Interface),
    /// There is no GPU, or no driver for it.
    #[error("{interface} finds {} on this machine. {}", found(.available), .interface.remedy())]
    NotFound {
        /// The interface that was asked.
        interface: Interface,
        /// How many it finds.
        available: usize,
    },
    /// A driver refuses.
    #[error("{interface}:{index} cannot be opened: {reason}. {}", .interface.remedy())]
    Refused {
        /// The interface that was asked.
        interface: Interface,
        /// The number asked for.
        index: usize,
        /// The driver's words.
        reason: String,
    },
}

fn found(available: &usize) -> String {
    match available {
        0 => "no device".into(),
        1 => "one device, number 0,".into(),
        n => format!("{n} devices, numbers 0 to {},", n - 1),
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
        })
    }
}

impl Interface {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vulkan, Self::Metal, Self::Cuda];

    /// Whether this build knows it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Vulkan | Self::Metal => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    fn feature(self) -> &'static str {
        match self {
            Self::Vulkan | Self::Metal => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// What to do where it finds nothing.
    fn remedy(self) -> &'static str {
        match self {
            Self::Vulkan => {
                "Install the GPU's driver with its Vulkan part (Debian: mesa-vulkan-drivers, or NVIDIA's driver); `ferroflow doctor` \
                 lists what is found"
            }
            Self::Metal => "Metal is part of macOS on machines with a GPU that it supports",
            Self::Cuda => {
                "Install NVIDIA's driver (libcuda.so) and the CUDA toolkit's NVRTC with its headers, and set CUDA_PATH to the \
                 toolkit's folder; `ferroflow doctor` lists what is found"
            }
        }
    }

    /// Dedicated cards, those of the processor's package, others, and last drivers that compute on the processor.
    fn devices(self) -> Vec<(CubeDevice, bool)> {
        let open = |kind: WgpuDeviceKind| match self {
            Self::Metal => CubeDevice::metal_msl(kind).ok(),
            _ => CubeDevice::vulkan(kind).ok(),
        };
        if self == Self::Cuda {
            return (0..).map_while(|n| Some((CubeDevice::cuda(n).ok()?, false))).collect();
        }
        let counted: [fn(usize) -> WgpuDeviceKind; 4] = [
            WgpuDeviceKind::DiscreteGpu,
            WgpuDeviceKind::IntegratedGpu,
            WgpuDeviceKind::VirtualGpu,
            WgpuDeviceKind::Other,
        ];
        let cards = counted.into_iter().flat_map(|kind| (0..).map_while(move |n| open(kind(n))));
        let software = open(WgpuDeviceKind::Cpu);
        cards.map(|card| (card, false)).chain(software.map(|driver| (driver, true))).collect()
    }

    /// The GPUs that it finds; none where this build does not know it. It opens each.
    pub fn gpus(self) -> Vec<Gpu> {
        let devices = if self.is_built() { self.devices() } else { Vec::new() };
        let described = devices.into_iter().enumerate().map(|(index, (device, software))| {
            let properties = self.opened(index, &device).map(|()| device.client().properties().clone());
            let (name, memory_bytes) = match properties {
                Ok(properties) => (properties.identity.name.clone(), properties.memory.max_memory()),
                Err(error) => (error.to_string(), None),
            };
            Gpu { interface: self, index, name, memory_bytes, software }
        });
        described.collect()
    }

    /// One of its GPUs, ready for work.
    ///
    /// # Errors
    /// If there is no such GPU, or its driver refuses.
    pub fn open(self, index: usize) -> Result<Burn, HardwareError> {
        if !self.is_built() {
            return Err(HardwareError::NotBuilt(self));
        }
        let devices = self.devices();
        let Some((device, _)) = devices.get(index) else {
            return Err(HardwareError::NotFound { interface: self, available: devices.len() });
        };
        self.opened(index, device)?;
        let name = if index == 0 { self.to_string() } else { format!("{self}:{index}") };
        Ok(Burn::new(name, BurnDevice::new(device.clone())))
    }

    /// Opens a device if that has not been done; CubeCL panics where a driver refuses.
    fn opened(self, index: usize, device: &CubeDevice) -> Result<(), HardwareError> {
        let refused = |reason: String| HardwareError::Refused { interface: self, index, reason };
        static OPENED: Mutex<Vec<CubeDevice>> = Mutex::new(Vec::new());
        let mut opened = OPENED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if opened.contains(device) {
            return Ok(());
        }
        #[cfg(feature = "wgpu")]
        if let CubeDevice::Wgpu(device) = device {
            use burn::backend::{AutoGraphicsApi, wgpu};
            let options = wgpu::RuntimeOptions::try_default().map_err(|error| refused(error.to_string()))?;
            wgpu::try_init_setup::<AutoGraphicsApi>(device, options).map_err(|error| refused(error.to_string()))?;
        }
        caught(|| device.client().properties().identity.name.len()).map_err(refused)?;
        opened.push(device.clone());
        Ok(())
    }
}
