//! Range map and forward-backward check against UFlow's own code (flows there are (dy, dx)).

use ferroflow_core::{
    FlowField, Size,
    consistency::{Sundaram, range_map, range_occlusion},
};
use safetensors::SafeTensors;

use crate::shared;

const SIZE: Size = Size::new(64, 96);

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[test]
fn uflow_masks() {
    let Some(path) = shared("golden/uflow/google_masks.safetensors") else { return };
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = SIZE.width * SIZE.height;
    for n in 0..2 {
        let flow = |name: &str| {
            let all = floats(&file, name);
            let plane = |c: usize| all[(2 * n + c) * pixels..][..pixels].to_vec();
            FlowField::new(SIZE, plane(1), plane(0)).unwrap()
        };
        let item = |name: &str| floats(&file, name)[n * pixels..][..pixels].to_vec();
        let (forward, backward) = (flow("flow0_01"), flow("flow0_10"));
        let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest(&range_map(&forward), &item("range_map_d1")) < 1e-4);
        // Their masks are 1 where not occluded.
        let visible: Vec<f32> = range_occlusion(&backward).iter().map(|o| 1.0 - o).collect();
        assert!(largest(&visible, &item("mask/wang_01")) < 1e-4);

        // `brox` is Sundaram's check without the rule for targets outside, which lie where valid0 is 0.
        let found = Sundaram::default().check(&forward, &backward).unwrap();
        let (brox, valid) = (item("mask/brox_01"), item("valid0_01"));
        let inside = (0..pixels).filter(|&i| valid[i] == 1.0);
        let differ = inside.clone().filter(|&i| found.occluded.data()[i] != (brox[i] == 0.0)).count();
        assert!(inside.clone().count() > pixels / 2 && differ * 1000 <= pixels, "{differ} of {pixels} differ");
        let both = |occluded: bool| inside.clone().any(|i| found.occluded.data()[i] == occluded);
        assert!(both(true) && both(false));
    }
}
