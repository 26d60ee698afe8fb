//! The product on AMX tiles: two tiles of points by two of outputs, four tiles of sums.
//!
//! Rust knows nothing of tile registers and may not keep them from one `asm!` to the next, so a whole product is one
//! block: zero the sums, walk the steps, store the sums.

use std::{
    arch::{
        asm,
        x86_64::{__cpuid, __cpuid_count},
    },
    sync::OnceLock,
};

use super::Product;

/// Bytes of a row of any tile.
const ROW: usize = 64;

/// Whether the processor has AMX tiles for bf16, the system saves them and lets this process use them.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| processor_has_tiles() && system_saves_tiles() && system_grants_tiles())
}

fn processor_has_tiles() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const BOTH: u32 = AMX_BF16 | AMX_TILE;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BOTH == BOTH
}

/// Whether the tiles' configuration and data are in the state that the system keeps for every thread (XCR0).
fn system_saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = 1 << 17 | 1 << 18;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: OSXSAVE says that the instruction is enabled.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low & TILES == TILES
}

/// Asks Linux for the tiles: their 8 KB are saved only for processes that did. Holds for all threads of the process.
fn system_grants_tiles() -> bool {
    const ARCH_PRCTL: usize = 158;
    const REQUEST_STATE: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: this request reads and writes no memory of the process; an older kernel answers with an error.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_STATE,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Configures the tiles of this thread.
///
/// # Safety
/// Only where [`is_available`].
pub unsafe fn configure() {
    // SAFETY: the instruction is there; it reads these 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(readonly, nostack)) };
}

/// Gives the tiles of this thread up: the system need not save them, and the processor may rest deeper.
///
/// # Safety
/// Only where [`is_available`].
pub unsafe fn release() {
    // SAFETY: the instruction is there.
    unsafe { asm!("tilerelease", options(nomem, nostack)) };
}

/// Sums in tiles 0 to 3, inputs in 4 and 5, weights in 6 and 7.
///
/// # Safety
/// As for [`super::Multiplier::run`], of a panel of 2, after [`configure`] in this thread.
#[inline(always)]
pub unsafe fn multiply(p: &Product<'_>) {
    // SAFETY: the loop reads `offsets.len()` offsets, at each 16 rows of 64 bytes per tile of inputs, `step` apart, and
    // 2 KB of weights; it writes four tiles of sums of 1 KB. The caller gives that many numbers.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {at:e}, dword ptr [{offsets}]",
            "add {offsets}, 4",
            "lea {first}, [{input} + {at}]",
            "add {at}, {second}",
            "tileloadd tmm4, [{first} + {step} * 1]",
            "tileloadd tmm6, [{weights} + {row} * 1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{weights} + {row} * 1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{at} + {step} * 1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {weights}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {row} * 1], tmm0",
            "tilestored [{sums} + {row} * 1 + 1024], tmm1",
            "tilestored [{sums} + {row} * 1 + 2048], tmm2",
            "tilestored [{sums} + {row} * 1 + 3072], tmm3",
            at = out(reg) _,
            first = out(reg) _,
            offsets = inout(reg) p.offsets.as_ptr() => _,
            steps = inout(reg) p.offsets.len() => _,
            weights = inout(reg) p.weights => _,
            input = in(reg) p.inputs[0],
            second = in(reg) p.inputs[1],
            step = in(reg) size_of::<u16>() * p.step,
            row = in(reg) ROW,
            sums = in(reg) p.sums,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The same for a panel of 1: sums in tiles 0 and 1.
///
/// # Safety
/// As for [`super::Multiplier::run`], of a panel of 1, after [`configure`] in this thread.
#[inline(always)]
pub unsafe fn multiply_narrow(p: &Product<'_>) {
    // SAFETY: as in `multiply`, with 1 KB of weights per step and two tiles of sums.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "mov {at:e}, dword ptr [{offsets}]",
            "add {offsets}, 4",
            "lea {first}, [{input} + {at}]",
            "add {at}, {second}",
            "tileloadd tmm4, [{first} + {step} * 1]",
            "tileloadd tmm6, [{weights} + {row} * 1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{at} + {step} * 1]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "add {weights}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {row} * 1], tmm0",
            "tilestored [{sums} + {row} * 1 + 1024], tmm1",
            at = out(reg) _,
            first = out(reg) _,
            offsets = inout(reg) p.offsets.as_ptr() => _,
            steps = inout(reg) p.offsets.len() => _,
            weights = inout(reg) p.weights => _,
            input = in(reg) p.inputs[0],
            second = in(reg) p.inputs[1],
            step = in(reg) size_of::<u16>() * p.step,
            row = in(reg) ROW,
            sums = in(reg) p.sums,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}
