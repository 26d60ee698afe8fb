//! The devices that a user can name.

use std::{fmt, str::FromStr, sync::Arc};

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};
use ferroflow::{Cpu, CpuOptions, Device, net::device::DeviceError};

use crate::usage::usage;

/// What `--device` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// A graphics card, by the interface that reaches it and its number there; without one, the first.
    Gpu(Interface, Option<usize>),
}

impl DeviceName {
    /// The card of this number, where the name has none.
    pub fn or_numbered(self, number: usize) -> Self {
        match self {
            Self::Gpu(interface, None) => Self::Gpu(interface, Some(number)),
            numbered => numbered,
        }
    }
}

/// A way to reach graphics cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Cards of any maker.
    Vulkan,
    /// NVIDIA's.
    Cuda,
    /// Apple's.
    Metal,
}

/// Precision of the numbers that convolutions multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// 24 significant bits (11 on CUDA's tensor cores, which use TF32)
    #[default]
    F32,
    /// 8 significant bits
    Bf16,
    /// 11 significant bits, numbers up to 65504; for GPUs
    F16,
}

impl Precision {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl Interface {
    const ALL: [Self; 3] = [Self::Vulkan, Self::Cuda, Self::Metal];

    fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// How to build a program that has it.
    fn how_to_build(self) -> &'static str {
        match self {
            Self::Vulkan | Self::Metal => "`cargo build --release --features gpu,autotune`",
            Self::Cuda => "`cargo build --release` in the folder `cuda` of the sources",
        }
    }

    /// Whether this program was built with it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Vulkan | Self::Metal => cfg!(feature = "gpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(interface, None) => f.write_str(interface.name()),
            Self::Gpu(interface, Some(index)) => write!(f, "{}:{index}", interface.name()),
        }
    }
}

impl FromStr for DeviceName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        let (name, index) = text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let interface = Interface::ALL.into_iter().find(|interface| interface.name() == name).ok_or(())?;
        Ok(Self::Gpu(interface, index.map(str::parse).transpose().map_err(|_| ())?))
    }
}

/// Reads a [`DeviceName`], and lets shells complete those without a number.
#[derive(Clone)]
pub struct DeviceParser;

impl TypedValueParser for DeviceParser {
    type Value = DeviceName;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<DeviceName, Error> {
        let text = value.to_string_lossy();
        text.parse().map_err(|()| {
            let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
            let arg = arg.map_or_else(|| "--device".into(), ToString::to_string);
            error.insert(ContextKind::InvalidArg, ContextValue::String(arg));
            error.insert(ContextKind::InvalidValue, ContextValue::String(text.into_owned()));
            let known = ["cpu", "vulkan", "vulkan:N", "cuda", "cuda:N", "metal", "metal:N"].map(String::from);
            error.insert(ContextKind::ValidValue, ContextValue::Strings(known.to_vec()));
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let gpus = Interface::ALL.into_iter().map(|interface| PossibleValue::new(interface.name()));
        Some(Box::new(std::iter::once(PossibleValue::new("cpu")).chain(gpus)))
    }
}

/// The devices of this build, without their numbers.
pub fn names() -> Vec<&'static str> {
    let gpus = Interface::ALL.into_iter().filter(|interface| interface.is_built());
    std::iter::once("cpu").chain(gpus.map(Interface::name)).collect()
}

/// The device of a name that did not pass through the command line's parser.
///
/// # Errors
/// As [`open`], and if there is no such name.
pub fn open_named(name: &str, options: CpuOptions) -> Result<Arc<dyn Device>, DeviceError> {
    let failed = |reason: String| DeviceError::Failed { device: name.into(), reason };
    let known = name.parse().map_err(|()| failed("this build has no such device".into()))?;
    open(known, Precision::F32, options).map_err(|error| match error.downcast() {
        Ok(error) => error,
        Err(error) => failed(error.to_string()),
    })
}

/// The device of this name, for convolutions in a precision; options that only the CPU has are for the CPU.
///
/// # Errors
/// If this program has no such device, or the device cannot be had.
pub fn open(name: DeviceName, precision: Precision, options: CpuOptions) -> anyhow::Result<Arc<dyn Device>> {
    match name {
        DeviceName::Cpu => Ok(Arc::new(Cpu::new(options)?)),
        DeviceName::Gpu(interface, _) if !interface.is_built() => usage!(
            "this build of the program has no {name}: {} makes one that has (GUIDE.md, \"GPUs\")",
            interface.how_to_build()
        ),
        DeviceName::Gpu(..) if options.exact || options.threads.is_some() => {
            usage!("--exact and --threads belong to --device cpu: leave them out")
        }
        DeviceName::Gpu(interface, index) => gpu::open(interface, index.unwrap_or(0), precision),
    }
}

#[cfg(any(feature = "gpu", feature = "cuda"))]
mod gpu {
    use std::sync::Arc;

    use ferroflow::Device;

    use super::{Interface, Precision};

    impl From<Interface> for ferroflow_burn::Interface {
        fn from(interface: Interface) -> Self {
            match interface {
                Interface::Vulkan => Self::Vulkan,
                Interface::Cuda => Self::Cuda,
                Interface::Metal => Self::Metal,
            }
        }
    }

    pub(super) fn open(interface: Interface, index: usize, precision: Precision) -> anyhow::Result<Arc<dyn Device>> {
        let burn = ferroflow_burn::Interface::from(interface).open(index)?;
        Ok(Arc::new(burn.with_precision(match precision {
            Precision::F32 => ferroflow_burn::Precision::F32,
            Precision::Bf16 => ferroflow_burn::Precision::Bf16,
            Precision::F16 => ferroflow_burn::Precision::F16,
        })?))
    }

    /// The GPUs of every interface that this program was built with.
    pub fn list() -> Vec<super::Gpu> {
        let gpus = Interface::ALL.into_iter().flat_map(|interface| {
            let found = ferroflow_burn::Interface::from(interface).gpus();
            found.into_iter().map(move |gpu| super::Gpu {
                device: super::DeviceName::Gpu(interface, Some(gpu.index)).to_string(),
                name: gpu.name,
                memory_bytes: gpu.memory_bytes,
                software: gpu.software,
            })
        });
        gpus.collect()
    }
}

#[cfg(not(any(feature = "gpu", feature = "cuda")))]
mod gpu {
    use std::sync::Arc;

    use ferroflow::Device;

    use super::{DeviceError, DeviceName, Interface, Precision};

    pub(super) fn open(interface: Interface, index: usize, _: Precision) -> anyhow::Result<Arc<dyn Device>> {
        let device = DeviceName::Gpu(interface, Some(index)).to_string();
        Err(DeviceError::Failed { device, reason: "this build has no GPUs".into() }.into())
    }

    /// This program was built without any.
    pub fn list() -> Vec<super::Gpu> {
        Vec::new()
    }
}

pub use gpu::list;

/// A GPU of this machine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Gpu {
    /// What `--device` calls it.
    pub device: String,
    /// What it calls itself.
    pub name: String,
    /// Bytes that it can hold; absent where the driver does not say.
    pub memory_bytes: Option<u64>,
    /// Whether it is a driver that computes on the processor.
    pub software: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_name_and_perhaps_a_number() {
        for (text, name) in [
            ("cpu", DeviceName::Cpu),
            ("vulkan", DeviceName::Gpu(Interface::Vulkan, None)),
            ("cuda:3", DeviceName::Gpu(Interface::Cuda, Some(3))),
        ] {
            assert_eq!((text.parse(), name.to_string().as_str()), (Ok(name), text));
        }
        assert_eq!(
            [
                DeviceName::Cpu.or_numbered(2).to_string(),
                DeviceName::Gpu(Interface::Cuda, None).or_numbered(2).to_string()
            ],
            ["cpu", "cuda:2"]
        );
        for wrong in ["abacus", "cpu:1", "cuda:", "cuda:x", "vulkan:-1", ""] {
            assert_eq!(wrong.parse::<DeviceName>(), Err(()), "{wrong}");
        }
        let error = open_named("abacus", CpuOptions::default()).unwrap_err().to_string();
        assert!(error.contains("no such device"), "{error}");
    }

    #[test]
    fn the_processor_is_always_there() {
        let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
        let device = open(DeviceName::Cpu, Precision::F32, options).unwrap();
        assert_eq!((device.name().as_str(), device.threads()), ("cpu", 1));
    }
}
