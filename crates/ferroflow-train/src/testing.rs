//! What the tests share.

use safetensors::{Dtype, SafeTensors};

pub use ferroflow_testing::shared;

/// Arrays of a reference file.
pub struct Golden(Vec<u8>);

impl Golden {
    /// Opens one, if the reference data is there.
    pub fn open(name: &str) -> Option<Self> {
        Some(Self(std::fs::read(shared(name)?).unwrap()))
    }

    /// An array, as f64.
    pub fn get(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        match tensor.dtype() {
            Dtype::F32 => {
                let values = tensor.data().chunks_exact(4);
                values.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Dtype::F64 => tensor.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// An array, as f32.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.get(name).into_iter().map(|v| v as f32).collect()
    }
}
