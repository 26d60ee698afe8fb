//! The golden files beside the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferroflow_net::weights::formula::image_pair;
use safetensors::{Dtype, SafeTensors};

use super::compare::{Tolerance, compare};

/// The seed of the set.
pub const SEED: &str = "ferroflow-golden";

/// The folder of golden files, or `None` (said once per test) where it is not.
pub fn golden() -> Option<PathBuf> {
    ferroflow_testing::shared("golden")
}

/// An array of a golden file.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// All float arrays of a safetensors file.
pub fn read(path: &Path) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let array = |name: &str| {
        let view = file.tensor(name).unwrap();
        let data = match view.dtype() {
            // Counters.
            Dtype::I64 => return None,
            Dtype::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F64 => {
                view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        Some(Array { shape: view.shape().to_vec(), data })
    };
    file.names().into_iter().filter_map(|name| Some((name.to_string(), array(name)?))).collect()
}

/// A file of golden operations, and what was found to differ from it.
pub struct File {
    name: &'static str,
    pub arrays: BTreeMap<String, Array>,
    wrong: Vec<String>,
}

impl File {
    pub fn open(name: &'static str) -> Option<Self> {
        let arrays = read(&golden()?.join(format!("ops/{name}.safetensors")));
        Some(Self { name, arrays, wrong: Vec::new() })
    }

    pub fn compare(&mut self, ours: &[f32], name: &str, tolerance: Tolerance) {
        let theirs = &self.arrays[name].data;
        self.wrong.extend(compare(&format!("{} {name}", self.name), ours, theirs, tolerance).err());
    }

    pub fn finish(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}

/// Frames for a network.
#[derive(Clone, Debug)]
pub struct Input {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Size of the flow.
    pub output: (usize, usize),
    /// `[N, 3, H, W]`, RGB 0..=255
    pub frames: [Vec<f32>; 2],
}

impl Input {
    /// A set of formula pairs as one batch.
    pub fn set(pairs: &[&str], height: usize, width: usize) -> Self {
        let mut frames = [Vec::new(), Vec::new()];
        for name in pairs {
            let pair = image_pair(SEED, name, height, width);
            frames[0].extend(pair.first.iter().map(|&v| f32::from(v)));
            frames[1].extend(pair.second.iter().map(|&v| f32::from(v)));
        }
        Self { batch: pairs.len(), height, width, output: (height, width), frames }
    }

    /// Frames changed one by one, `[3, H, W]` to `[3, height, width]`.
    pub fn each(&self, height: usize, width: usize, change: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let len = 3 * self.height * self.width;
        let frames = self.frames.clone().map(|f| f.chunks_exact(len).flat_map(&change).collect());
        Self { batch: self.batch, height, width, output: (height, width), frames }
    }

    /// The upper left part.
    pub fn cropped(&self, height: usize, width: usize) -> Self {
        let (h, w) = (self.height, self.width);
        self.each(height, width, |frame| {
            let planes = frame.chunks_exact(h * w);
            planes.flat_map(|p| (0..height).flat_map(|y| p[y * w..][..width].to_vec())).collect()
        })
    }

    /// Zeros below and to the right.
    pub fn padded(&self, height: usize, width: usize) -> Self {
        let (h, w) = (self.height, self.width);
        self.each(height, width, |frame| {
            let mut out = vec![0.0; 3 * height * width];
            for (c, plane) in frame.chunks_exact(h * w).enumerate() {
                for y in 0..h {
                    out[(c * height + y) * width..][..w].copy_from_slice(&plane[y * w..][..w]);
                }
            }
            out
        })
    }

    /// The same frames in the other order.
    pub fn reversed(&self) -> Self {
        let [first, second] = self.frames.clone();
        Self { frames: [second, first], ..self.clone() }
    }
}

#[test]
fn our_formula_images_are_the_stored_ones() {
    let Some(golden) = golden() else { return };
    let flows = read(&golden.join("images/true_flow.safetensors"));
    for (name, height, width) in [("a0", 128, 192), ("a1", 128, 192), ("b0", 64, 64), ("u0", 160, 192), ("t0", 40, 56)]
    {
        let pair = image_pair(SEED, name, height, width);
        for (number, ours) in [(1, &pair.first), (2, &pair.second)] {
            let stored = ferroflow_core::io::read_frame(golden.join(format!("images/{name}_{number}.png"))).unwrap();
            let pixels = height * width;
            let planar: Vec<u8> = (0..3 * pixels).map(|i| stored.rgb()[i % pixels * 3 + i / pixels]).collect();
            assert!(*ours == planar, "{name}_{number}");
        }
        let largest = flows[name].data.iter().zip(&pair.flow).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "{name}: {largest}");
    }
}
