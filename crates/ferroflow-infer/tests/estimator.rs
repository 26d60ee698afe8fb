//! The promises of the estimator, for every kind of network: any size, any batch, any fit.

use ferroflow_core::{
    FlowField, Frame, FrameView, Size,
    geometry::{Fill, Fit, Grid, Place, resize::resize_flow},
};
use ferroflow_infer::{EstimateError, Estimator, NetworkOptions, dis::Preset};
use ferroflow_net::{Model, Weights};
use proptest::prelude::*;

fn network(name: &str, options: NetworkOptions) -> Estimator {
    let model = Model::named(name).unwrap();
    let weights = Weights::random(&model.graph, 7);
    Estimator::network(model, weights, options)
}

fn frame(width: usize, height: usize, seed: usize) -> Frame {
    Frame::from_fn(Size { height, width }, |x, y| {
        let wave = ((x + 3 * seed) as f32 * 0.21).sin() + (y as f32 * 0.17 + seed as f32).cos();
        [(120.0 + 50.0 * wave) as u8, (130.0 - 40.0 * wave) as u8, (x * 7 + y * 3 + seed) as u8]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_size_gives_flow_of_exactly_that_size(width in 1usize..=130, height in 1usize..=130, which in 0usize..4) {
        // One network of every input rule: pad, resize, stride 32, TensorFlow's padding.
        let name = ["lightflow-0.5", "pwcnet-nodc", "uflow", "pwcnet-sm"][which];
        let fit = [None, Some(Fit::Resize(Grid::HalfPixel)), Some(Fit::Pad(Place::Centre, Fill::Replicate)), Some(Fit::Crop)];
        for fit in fit {
            if fit.is_some() && which != 0 {
                continue;
            }
            let estimator = network(name, NetworkOptions { fit, ..NetworkOptions::default() });
            let flow = estimator.estimate(&frame(width, height, 0), &frame(width, height, 1)).unwrap();
            prop_assert_eq!(flow.size(), Size { height, width });
            prop_assert!(flow.u().iter().chain(flow.v()).all(|v| v.is_finite()));
        }
    }
}

#[test]
fn a_network_sees_frames_in_the_size_that_is_asked_for() {
    let pair = (frame(100, 70, 0), frame(100, 70, 1));
    let at = |size| network("uflow", NetworkOptions::default()).with_network_size(size);
    let flow = |size| at(size).unwrap().estimate(&pair.0, &pair.1).unwrap();
    let usual = flow(None);
    // What the fit would choose itself.
    assert_eq!(flow(Some(Size::new(96, 128))), usual);
    let other = flow(Some(Size::new(64, 224)));
    assert_eq!(other.size(), usual.size());
    assert_ne!(other, usual);

    let error = at(Some(Size::new(100, 128))).err().unwrap().to_string();
    assert!(error.contains("multiples of 32") && error.contains("96x128 or 128x128"), "{error}");
    let error = at(Some(Size::new(64, 2))).err().unwrap().to_string();
    assert!(error.contains("at least 32") && error.ends_with("take 64x32"), "{error}");
    let error = Estimator::dis(Preset::Fast).with_network_size(Some(Size::new(64, 64))).err().unwrap();
    assert!(matches!(error, EstimateError::NoNetwork(_)), "{error}");
}

/// UFlow's flow is made at a quarter of what the network sees and then enlarged: shrunk, it is what it was.
#[test]
fn flows_both_ways_at_a_quarter_are_those_that_the_network_makes() {
    let frames = (frame(100, 70, 0), frame(100, 70, 1));
    let estimator = network("uflow", NetworkOptions::default());
    let quarter = estimator.estimate_both_at(&frames.0, &frames.1, 4).unwrap();
    let whole = estimator.estimate_both(&frames.0, &frames.1).unwrap();
    for (quarter, whole) in quarter.iter().zip([&whole.forward, &whole.backward]) {
        // The network sees 96x128.
        assert_eq!(quarter.size(), Size::new(24, 32));
        let enlarged = resize_flow(quarter, whole.size(), (100.0 / 32.0, 70.0 / 24.0), Grid::HalfPixel);
        let scale = whole.u().iter().chain(whole.v()).fold(1.0f32, |m, v| m.max(v.abs()));
        for (a, b) in enlarged.u().iter().chain(enlarged.v()).zip(whole.u().iter().chain(whole.v())) {
            assert!((a - b).abs() <= 1e-5 * scale, "{a} and {b} of {scale}");
        }
    }
    // Padded frames and other methods are shrunk.
    let padded = network("uflow", NetworkOptions { fit: Some(Fit::ZEROS), ..NetworkOptions::default() });
    for estimator in [padded, Estimator::dis(Preset::Fast)] {
        let quarter = estimator.estimate_both_at(&frames.0, &frames.1, 4).unwrap();
        assert_eq!(quarter.each_ref().map(FlowField::size), [Size::new(17, 25); 2]);
    }
}

/// A flow of zero is what a network starts from by itself; another one leads to another flow, of frames that are padded and of those
/// that are resized.
#[test]
fn a_recurrent_network_starts_from_a_flow() {
    let frames = (frame(61, 70, 0), frame(61, 70, 1));
    for fit in [None, Some(Fit::STRETCH)] {
        let estimator = network("raft-small", NetworkOptions { fit, ..NetworkOptions::default() });
        let usual = estimator.estimate(&frames.0, &frames.1).unwrap();
        let from = |u: f32| {
            let start = FlowField::from_fn(usual.size(), |_, _| (u, 0.0));
            estimator.estimate_from(&frames.0, &frames.1, &start).unwrap()
        };
        assert_eq!(from(0.0), usual);
        assert_ne!(from(16.0), usual);
        assert_eq!(estimator.estimate(&frames.0, &frames.1).unwrap(), usual, "a start serves once");
        let other = FlowField::zeros(Size::new(61, 70));
        assert!(matches!(estimator.estimate_from(&frames.0, &frames.1, &other), Err(EstimateError::Sizes { .. })));
    }
    let start = FlowField::zeros(frames.0.size());
    let tiled = network("raft-small", NetworkOptions::default()).with_tile(Some(Size::new(64, 64))).unwrap();
    for estimator in [network("lightflow-0.5", NetworkOptions::default()), Estimator::dis(Preset::Fast), tiled] {
        assert!(!estimator.takes_start());
        let error = estimator.estimate_from(&frames.0, &frames.1, &start).unwrap_err();
        assert!(matches!(error, EstimateError::NoStart(_)), "{error}");
    }
}

#[test]
fn a_batch_of_two_is_two_batches_of_one() {
    for name in ["lightflow-0.5", "flownet2-s-bn", "pwcnet", "pwcnet-lg-6-2", "uflow", "raft-small"] {
        let estimator = network(name, NetworkOptions::default());
        let frames: Vec<Frame> = (0..4).map(|seed| frame(100, 70, seed)).collect();
        let pairs = [(&frames[0], &frames[1]), (&frames[2], &frames[3])];
        let together = estimator.estimate_batch(&pairs).unwrap();
        for (both, (first, second)) in together.iter().zip(pairs) {
            let alone = estimator.estimate(first, second).unwrap();
            let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let scale = alone.u().iter().chain(alone.v()).fold(1.0f32, |m, v| m.max(v.abs()));
            // The algorithm of a layer may depend on how many tiles there are; then the last digits differ.
            let difference = far(both.u(), alone.u()).max(far(both.v(), alone.v()));
            assert!(difference <= 1e-4 * scale, "{name}: {difference} of {scale}");
        }
    }
}

#[test]
fn pairs_of_different_sizes_may_share_a_batch() {
    let estimator = network("lightflow-0.5", NetworkOptions::default());
    let sizes = [(40, 30), (40, 30), (90, 20), (40, 30)].map(|(width, height)| Size { height, width });
    let frames: Vec<_> = sizes.iter().map(|s| (frame(s.width, s.height, 0), frame(s.width, s.height, 1))).collect();
    let pairs: Vec<_> = frames.iter().map(|(a, b)| (a, b)).collect();
    let flows = estimator.estimate_batch(&pairs).unwrap();
    assert_eq!(flows.iter().map(FlowField::size).collect::<Vec<_>>(), sizes);
}

#[test]
fn a_window_into_larger_frames_has_the_flow_of_its_pixels() {
    // Fitting, tiles and Dense Inverse Search each read views in their own way; 64x128 fits the network as it is.
    let estimators = [
        network("lightflow-0.5", NetworkOptions::default()),
        network("uflow", NetworkOptions::default()),
        Estimator::dis(Preset::Medium),
        Estimator::dis(Preset::Fast).with_tile(Some(Size::new(64, 64))).unwrap(),
    ];
    let (first, second) = (frame(200, 150, 0), frame(200, 150, 1));
    for size in [Size::new(64, 128), Size::new(70, 101)] {
        let windows = [&first, &second].map(|frame| FrameView::from(frame).window(13, 7, size));
        let cut = windows.map(|window| window.to_frame());
        for estimator in &estimators {
            let flows = estimator.estimate_views(&[(windows[0], windows[1])]).unwrap();
            assert_eq!(flows, [estimator.estimate(&cut[0], &cut[1]).unwrap()], "{}", estimator.name());
        }
    }
}

#[test]
fn swapped_frames_give_the_backward_flow() {
    let estimator = Estimator::dis(Preset::Medium);
    let (first, second) = (frame(96, 64, 0), frame(96, 64, 1));
    let both = estimator.estimate_both(&first, &second).unwrap();
    assert_eq!(both.forward, estimator.estimate(&first, &second).unwrap());
    assert_eq!(both.backward, estimator.estimate(&second, &first).unwrap());
    assert_eq!(both.consistency.confidence.len(), 96 * 64);
}

#[test]
fn tiles_cover_frames_larger_than_they_are() {
    let estimator = Estimator::dis(Preset::Fast).with_tile(Some(Size::new(64, 80))).unwrap();
    let flow = estimator.estimate(&frame(200, 100, 0), &frame(200, 100, 1)).unwrap();
    assert_eq!(flow.size(), Size::new(100, 200));
    assert!(flow.validity().is_none());
    assert!(Estimator::zero().with_tile(Some(Size::new(10, 200))).is_err());
}

#[test]
fn frames_that_do_not_go_together_are_refused() {
    let estimator = network("lightflow-0.5", NetworkOptions::default());
    let error = estimator.estimate(&frame(10, 20, 0), &frame(20, 10, 0)).unwrap_err();
    assert!(matches!(
        error,
        EstimateError::Sizes { first: Size { height: 20, width: 10 }, second: Size { height: 10, width: 20 } }
    ));
    let empty = Frame::new(Size::new(0, 0), Vec::new()).unwrap();
    assert!(matches!(estimator.estimate(&empty, &empty), Err(EstimateError::Empty)));
}

#[test]
fn damaged_weights_are_noticed() {
    let model = Model::named("lightflow-0.5").unwrap();
    let mut weights = Weights::random(&model.graph, 1);
    let first = ferroflow_net::ParamId(0);
    weights.get_mut(first).fill(f32::INFINITY);
    let estimator = Estimator::network(model, weights, NetworkOptions::default());
    let result = estimator.estimate(&frame(64, 64, 0), &frame(64, 64, 1));
    assert!(matches!(result, Err(EstimateError::NotFinite { .. })), "{result:?}");
}

/// The flow of the finest level, enlarged by repeating, is the estimate before it is enlarged smoothly: their means over blocks agree.
#[test]
fn the_finest_level_is_nearly_the_estimate() {
    let pair = (frame(128, 64, 0), frame(128, 64, 1));
    for name in ["pwcnet-lg-6-2", "uflow", "flownet2-s"] {
        let model = Model::named(name).unwrap();
        let weights = Weights::formula(&model, "ferroflow-golden");
        let estimate = |model: Model| {
            let estimator = Estimator::network(model, weights.clone(), NetworkOptions::default());
            estimator.estimate(&pair.0, &pair.1).unwrap()
        };
        let levels = model.graph.pyramid.len();
        let [coarsest, finest] = [0, levels - 1].map(|level| estimate(model.of_level(level).unwrap()));
        let whole = estimate(model.clone());
        let mean =
            |flow: &FlowField| flow.u().iter().chain(flow.v()).map(|v| f64::from(v.abs())).sum::<f64>() / 16384.0;
        let distance = |flow: &FlowField| {
            let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
            (difference(flow.u(), whole.u()) + difference(flow.v(), whole.v())) / 16384.0
        };
        assert!(distance(&finest) < 0.5 * mean(&whole), "{name}: {} of {}", distance(&finest), mean(&whole));
        assert!(distance(&coarsest) > distance(&finest), "{name}");
    }
}

/// What is kept of a frame from pair to pair changes no flow: both directions, a video, and pairs of another size between them.
#[test]
fn frames_seen_before_have_the_flow_of_new_ones() {
    for name in ["pwcnet", "rill", "raft-small", "sea-raft-s"] {
        let [estimator, fresh] = [(); 2].map(|()| network(name, NetworkOptions::default()));
        let frames: Vec<Frame> = (0..4).map(|seed| frame(101, 70, seed)).collect();
        let other = [frame(64, 64, 0), frame(64, 64, 1)];
        let alone = |first: &Frame, second: &Frame| {
            fresh.forget_frames();
            fresh.estimate(first, second).unwrap()
        };
        let video: Vec<_> = frames.iter().zip(&frames[1..]).collect();
        let expected: Vec<FlowField> = video.iter().map(|(a, b)| alone(a, b)).collect();
        assert_eq!(estimator.estimate_batch(&video).unwrap(), expected, "{name}");
        for (&(a, b), forward) in video.iter().zip(&expected) {
            let both = estimator.estimate_both(a, b).unwrap();
            assert_eq!((both.forward, both.backward), (forward.clone(), alone(b, a)), "{name}");
            assert_eq!(estimator.estimate(&other[0], &other[1]).unwrap(), alone(&other[0], &other[1]), "{name}");
        }
    }
}
