//! A trait for single and double precision.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// `f32` or `f64`.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + 'static
{
    /// Rounded from double precision.
    fn of(value: f64) -> Self;
    /// Exact in double precision.
    fn f64(self) -> f64;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// e to its power.
    fn exp(self) -> Self;
    /// Between the bounds.
    fn clamp(self, low: Self, high: Self) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            fn of(value: f64) -> Self {
                value as $t
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn floor(self) -> Self {
                self.floor()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn clamp(self, low: Self, high: Self) -> Self {
                self.max(low).min(high)
            }
        }
    };
}

real!(f32);
real!(f64);
