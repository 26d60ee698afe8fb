//! Which pixels of a frame the other one does not show, from the flows there and back.

use ferroflow_core::{
    FlowField, Size,
    geometry::Grid,
    sampling::{
        Outside, Window, resize, resize_adjoint, sample, sample_adjoint, sample_gradient, splat, splat_gradient,
        splat_size,
    },
};

use super::options::{Occlusion, OcclusionEstimation, UnsupervisedOptions};

/// The flow of a pixel and the flow back from where it ends, `|there + back|^2` and `|there|^2 + |back|^2`.
pub(super) struct RoundTrip {
    /// There and back, `[2, H, W]`.
    pub end: Vec<f32>,
    /// `|end|^2`
    pub squared: Vec<f32>,
    /// Of both flows.
    pub lengths: Vec<f32>,
}

impl RoundTrip {
    /// Of flows `[2, H, W]`.
    pub fn new(flow: &[f32], back: &[f32], size: Size) -> Self {
        let pixels = size.height * size.width;
        let mut end = vec![0.0; 2 * pixels];
        sample(back, flow, size, Outside::Zero, &mut end);
        let (mut squared, mut lengths) = (vec![0.0; pixels], vec![0.0; pixels]);
        for (end, flow) in end.chunks_exact_mut(pixels).zip(flow.chunks_exact(pixels)) {
            for (i, (end, there)) in end.iter_mut().zip(flow).enumerate() {
                let back = *end;
                *end += there;
                squared[i] += *end * *end;
                lengths[i] += there * there + back * back;
            }
        }
        Self { end, squared, lengths }
    }

    /// The check of Sundaram, Brox and Keutzer at a pixel: whether it comes home.
    pub fn consistent(&self, i: usize) -> bool {
        self.squared[i] < 0.01 * self.lengths[i] + 0.5
    }
}

/// Arrivals of a flow, counted in blocks of `factor`, at the size of the flow.
struct Arrivals<'a> {
    flow: &'a [f32],
    size: Size,
    factor: usize,
    grid: Grid,
}

impl Arrivals<'_> {
    fn count(&self) -> Vec<f32> {
        let mut range = vec![0.0; self.size.height * self.size.width];
        let small = splat_size(self.size, self.factor);
        if self.factor == 1 {
            splat(self.flow, self.size, 1, &mut range);
        } else if small.height * small.width > 0 {
            let mut blocks = vec![0.0; small.height * small.width];
            splat(self.flow, self.size, self.factor, &mut blocks);
            resize(&blocks, small, Window::whole(small), self.size, self.grid, 1.0, &mut range);
        }
        range
    }

    /// Adds to `d_flow`.
    fn gradient(&self, d_range: &[f32], d_flow: &mut [f32]) {
        let small = splat_size(self.size, self.factor);
        if self.factor == 1 {
            splat_gradient(self.flow, self.size, 1, d_range, d_flow);
        } else if small.height * small.width > 0 {
            let mut d_blocks = vec![0.0; small.height * small.width];
            resize_adjoint(d_range, small, Window::whole(small), self.size, self.grid, 1.0, &mut d_blocks);
            splat_gradient(self.flow, self.size, self.factor, &d_blocks, d_flow);
        }
    }
}

impl UnsupervisedOptions {
    /// How occluded each pixel is, 0 to 1, `[height, width]`, from the flows there and back, of one size and in its pixels: what
    /// training estimates in the end, once every method is used.
    pub fn occlusion_map(&self, forward: &FlowField, backward: &FlowField) -> Vec<f32> {
        let planes = |flow: &FlowField| [flow.u(), flow.v()].concat();
        self.occlusion(u64::MAX).estimate(&planes(forward), &planes(backward), forward.size())
    }
}

/// The score of a step that is held between two values: what is left of its slope.
fn held(value: f32, low: f32, high: f32, slope: f32) -> f32 {
    if (low..=high).contains(&value) { slope } else { 0.0 }
}

impl Occlusion<'_> {
    fn arrivals<'a>(&self, flow: &'a [f32], size: Size, factor: usize) -> Arrivals<'a> {
        Arrivals { flow, size, factor, grid: self.options.resize_grid.into() }
    }

    /// How occluded each pixel is, 0 to 1, `[H, W]`, from its flow and the flow of the other frame, `[2, H, W]`, (u, v).
    pub fn estimate(&self, flow: &[f32], back: &[f32], size: Size) -> Vec<f32> {
        use OcclusionEstimation::{Brox, FbAbs, None, Uflow, Wang, Wang4, Wang4thres, Wangthres};
        let pixels = size.height * size.width;
        let step = |occluded: bool| f32::from(u8::from(occluded));
        let arrivals = |factor: usize, occluded: fn(f32) -> f32| {
            let mut range = self.arrivals(back, size, factor).count();
            range.iter_mut().for_each(|r| *r = occluded(*r));
            range
        };
        let soft = |range: f32| 1.0 - range.clamp(0.0, 1.0);
        let few = |range: f32| f32::from(u8::from(range < 0.75));
        match self.estimation {
            None => vec![0.0; pixels],
            Brox => {
                let trip = RoundTrip::new(flow, back, size);
                (0..pixels).map(|i| step(trip.squared[i] > 0.01 * trip.lengths[i] + 0.5)).collect()
            }
            FbAbs => RoundTrip::new(flow, back, size).squared.iter().map(|s| step(s.sqrt() > 1.5)).collect(),
            Wang => arrivals(1, soft),
            Wang4 => arrivals(4, soft),
            Wangthres => arrivals(1, few),
            Wang4thres => arrivals(4, few),
            Uflow => Logits::new(self, flow, back, size).sum.iter().map(|l| sigmoid(*l)).collect(),
        }
    }

    /// Adds the gradient of [`estimate`](Self::estimate) to those of its flows. Thresholds have none.
    pub fn gradient(
        &self,
        flow: &[f32],
        back: &[f32],
        size: Size,
        d_occluded: &[f32],
        [d_flow, d_back]: [&mut [f32]; 2],
    ) {
        match self.estimation {
            OcclusionEstimation::Wang | OcclusionEstimation::Wang4 => {
                let factor = if self.estimation == OcclusionEstimation::Wang { 1 } else { 4 };
                let arrivals = self.arrivals(back, size, factor);
                let d_range: Vec<f32> =
                    arrivals.count().iter().zip(d_occluded).map(|(range, d)| held(*range, 0.0, 1.0, -d)).collect();
                arrivals.gradient(&d_range, d_back);
            }
            OcclusionEstimation::Uflow => {
                Logits::new(self, flow, back, size).gradient(self, flow, back, size, d_occluded, [d_flow, d_back]);
            }
            _ => {}
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The weighted sum of the scores of `uflow`, and what of them its gradient needs.
struct Logits {
    sum: Vec<f32>,
    /// Arrivals of the own flow where it ends; empty where the score is not computed.
    collisions: Vec<f32>,
    /// Arrivals of the flow back.
    arrivals: Vec<f32>,
    trip: Option<RoundTrip>,
}

impl Logits {
    fn new(occlusion: &Occlusion, flow: &[f32], back: &[f32], size: Size) -> Self {
        let options = occlusion.options;
        let (weights, thresholds, most) = (options.occ_weights, options.occ_thresholds, options.occ_clip_max);
        let pixels = size.height * size.width;
        let mut logits = Self { sum: vec![0.0; pixels], collisions: Vec::new(), arrivals: Vec::new(), trip: None };
        if occlusion.forward_collision.1 {
            let range = occlusion.arrivals(flow, size, 1).count();
            logits.collisions = vec![0.0; pixels];
            sample(&range, flow, size, Outside::Zero, &mut logits.collisions);
        }
        if occlusion.backward_zero.1 {
            logits.arrivals = occlusion.arrivals(back, size, 4).count();
        }
        if occlusion.fb_abs.1 {
            logits.trip = Some(RoundTrip::new(flow, back, size));
        }
        let collision = |i: usize| logits.collisions[i].clamp(1.0, most.forward_collision as f32) - 1.0;
        let absence = |i: usize| 1.0 - logits.arrivals[i].clamp(0.0, 1.0);
        let distance = |i: usize| match &logits.trip {
            Some(trip) => trip.squared[i].sqrt().clamp(0.0, most.fb_abs as f32),
            None => 0.0,
        };
        let mut sum = vec![0.0; pixels];
        let mut add = |(on, computed): (bool, bool), weight: f64, threshold: f64, score: &dyn Fn(usize) -> f32| {
            if on {
                for (i, sum) in sum.iter_mut().enumerate() {
                    let score = if computed { score(i) } else { 0.0 };
                    *sum += weight as f32 * (score - threshold as f32);
                }
            }
        };
        add(occlusion.forward_collision, weights.forward_collision, thresholds.forward_collision, &collision);
        add(occlusion.backward_zero, weights.backward_zero, thresholds.backward_zero, &absence);
        add(occlusion.fb_abs, weights.fb_abs, thresholds.fb_abs, &distance);
        Self { sum, ..logits }
    }

    fn gradient(
        &self,
        occlusion: &Occlusion,
        flow: &[f32],
        back: &[f32],
        size: Size,
        d_occluded: &[f32],
        [d_flow, d_back]: [&mut [f32]; 2],
    ) {
        let options = occlusion.options;
        let (weights, most) = (options.occ_weights, options.occ_clip_max);
        let pixels = size.height * size.width;
        let d_sum: Vec<f32> = self.sum.iter().zip(d_occluded).map(|(l, d)| d * sigmoid(*l) * sigmoid(-l)).collect();
        let scores = |values: &[f32], low: f32, high: f64, weight: f64| -> Vec<f32> {
            let slopes = values.iter().zip(&d_sum);
            slopes.map(|(value, d)| held(*value, low, high as f32, d * weight as f32)).collect()
        };
        if !self.collisions.is_empty() {
            let d = scores(&self.collisions, 1.0, most.forward_collision, weights.forward_collision);
            let arrivals = occlusion.arrivals(flow, size, 1);
            sample_gradient(&arrivals.count(), flow, size, Outside::Zero, &d, d_flow);
            let mut d_range = vec![0.0; pixels];
            sample_adjoint(&d, flow, size, Outside::Zero, &mut d_range);
            arrivals.gradient(&d_range, d_flow);
        }
        if !self.arrivals.is_empty() {
            let d = scores(&self.arrivals, 0.0, 1.0, -weights.backward_zero);
            occlusion.arrivals(back, size, 4).gradient(&d, d_back);
        }
        if let Some(trip) = &self.trip {
            let distances: Vec<f32> = trip.squared.iter().map(|s| s.sqrt()).collect();
            let d = scores(&distances, 0.0, most.fb_abs, weights.fb_abs);
            let mut d_end = trip.end.clone();
            for d_end in d_end.chunks_exact_mut(pixels) {
                for ((d_end, d), distance) in d_end.iter_mut().zip(&d).zip(&distances) {
                    *d_end = if *distance > 0.0 { d * *d_end / distance } else { 0.0 };
                }
            }
            d_flow.iter_mut().zip(&d_end).for_each(|(d_flow, d)| *d_flow += d);
            sample_gradient(back, flow, size, Outside::Zero, &d_end, d_flow);
            sample_adjoint(&d_end, flow, size, Outside::Zero, d_back);
        }
    }
}
