//! The instruction sets.

use std::sync::OnceLock;

/// An instruction set the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust over `[f32; 16]`, which the compiler vectorises for the target's baseline.
    Portable,
    /// NEON, on every 64-bit Arm processor.
    Neon,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Isa {
    /// The best this machine has, or the one `FERROFLOW_ISA` (`portable`, `neon`, `avx2`, `avx512`) names if it has that.
    pub fn detect() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let available = Self::available();
            let best = *available.last().unwrap_or(&Isa::Portable);
            match std::env::var("FERROFLOW_ISA").as_deref() {
                Ok(name) => available.into_iter().find(|isa| isa.name() == name).unwrap_or(best),
                Err(_) => best,
            }
        })
    }

    /// Every instruction set of this machine, the portable one first, the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "aarch64")]
        all.push(Isa::Neon);
        #[cfg(target_arch = "x86_64")]
        {
            // Miri knows few of their instructions.
            if !cfg!(miri) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Isa::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    all.push(Isa::Avx512);
                }
            }
        }
        all
    }

    /// Its name in `FERROFLOW_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa {
    /// The best of [`Isa::available`], whatever the environment says.
    pub(super) fn detected() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Isa::Portable))
    }
}
