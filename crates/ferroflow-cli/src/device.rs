//! The devices that a user can name.

use std::sync::Arc;

use ferroflow::{Cpu, CpuOptions, Device, net::device::DeviceError};

type Open = fn(CpuOptions) -> Result<Arc<dyn Device>, DeviceError>;

/// The devices of this build: the name of each, and the function that opens it. A device is a crate of its own and a row here.
const DEVICES: &[(&str, Open)] = &[("cpu", |options| Ok(Arc::new(Cpu::new(options)?)))];

/// The names that `--device` takes.
pub fn names() -> Vec<&'static str> {
    DEVICES.iter().map(|(name, _)| *name).collect()
}

/// The device of this name; options that only the CPU has are for the CPU.
///
/// # Errors
/// If the device cannot be had.
pub fn open(name: &str, options: CpuOptions) -> Result<Arc<dyn Device>, DeviceError> {
    match DEVICES.iter().find(|(known, _)| *known == name) {
        Some((_, open)) => open(options),
        None => Err(DeviceError::Failed { device: name.into(), reason: "this build has no such device".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_its_name() {
        for name in names() {
            let device = open(name, CpuOptions { threads: Some(1), ..CpuOptions::default() }).unwrap();
            assert_eq!((device.name().as_str(), device.threads()), (name, 1));
        }
        assert!(open("abacus", CpuOptions::default()).unwrap_err().to_string().contains("no such device"));
    }
}
