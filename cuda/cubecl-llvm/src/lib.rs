//! The names that `cubecl-cuda` takes from `cubecl-llvm`, without LLVM.
//!
//! With its feature `cpp` (`cubecl/cuda-cpp`) it compiles every kernel as CUDA C++ and calls nothing of this crate; the types need
//! only exist. Whoever selects the other way gets the error of [`PlironCompiler::compile`].

use std::fmt;

use cubecl_core::{
    ir::nvidia::SmArch,
    prelude::KernelDefinition,
};
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::{
    compiler::{CompilationError, Compiler},
    kernel::BufferIOAttr,
};

/// What code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA's GPUs.
    Nvptx,
}

/// A compiler that refuses every kernel.
#[derive(Clone, Debug)]
pub struct PlironCompiler {
    /// What code is made for.
    pub target: LlvmTarget,
}

/// The options that the CUDA runtime sets.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// Of AMD's GPUs.
    pub arch: Option<()>,
    /// Of NVIDIA's.
    pub sm_arch: Option<SmArch>,
    /// The newest version that the driver loads.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether scalars travel in the kernel's parameters.
    pub grid_constants: bool,
    /// So that the rest may be left to the default.
    pub rest: (),
}

/// A compiled module.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// Assembly, which ends in a 0.
    pub ptx: Vec<std::ffi::c_char>,
    /// The kernel's symbol.
    pub entrypoint: String,
    /// For logs.
    pub ir: String,
    /// Bytes for each launch.
    pub shared_memory_size: usize,
    /// What happens to each buffer.
    pub io: Vec<BufferIOAttr>,
}

/// What the compiler makes.
#[derive(Clone, Debug)]
pub enum PlironArtifact {
    /// For NVIDIA's GPUs.
    NvptxCode(NvptxModule),
    /// For anything else.
    Other,
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NvptxCode(module) => f.write_str(&module.ir),
            Self::Other => Ok(()),
        }
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(&mut self, _: KernelDefinition, _: &PlironOptions) -> Result<PlironArtifact, CompilationError> {
        let reason = "this build has no LLVM: enable the feature `cuda-cpp` of cubecl".into();
        Err(CompilationError::Generic { reason, backtrace: BackTrace::capture() })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}

/// NVIDIA's assembly.
pub mod nvptx {
    /// Its versions.
    pub mod ptx_version {
        use std::fmt;

        /// A version, which only LLVM would need.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(());

        impl PtxVersion {
            /// That of a driver.
            pub fn for_driver(_: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ptx")
            }
        }
    }
}

/// What devices can do.
pub mod shared {
    /// What LLVM's way cannot.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// A kind of device.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA's GPUs.
            Nvptx,
        }

        /// Takes nothing away: it is not called on the way through NVRTC.
        pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {}
    }
}
