//! Paints a scene's layers, back to front, into both frames; records flow and owners on the way.

use ferroflow_core::{FlowField, Frame, Mask, Size};

use super::coverage::{Coverage, Point};
use super::develop::develop;
use super::motion::Motion;
use super::scene::{Layer, Paint, Scene};
use super::world::Stage;

/// What a scene looks like and how it moves.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Both frames.
    pub frames: [Frame; 2],
    /// Exact flow of every pixel of frame 1, also where it leaves the frame or is covered; unknown where it has none.
    pub flow: FlowField,
    /// Pixels of frame 1 that are covered or outside in frame 2.
    pub occlusion: Mask,
}

/// One frame being painted.
pub struct Canvas {
    /// Rows and columns.
    pub size: Size,
    /// Red, green, blue, 0..=255 as long as no light is too bright, and an idle lane.
    pub color: Vec<[f32; 4]>,
    /// Which surface a pixel shows (the one covering at least half of it): a face of the world, or a layer after those.
    pub owner: Vec<u16>,
}

impl Canvas {
    /// Black.
    pub fn new(size: Size) -> Self {
        Self { size, color: vec![[0.0; 4]; size.pixels()], owner: vec![0; size.pixels()] }
    }
}

/// Buffers for one row.
struct Row {
    alpha: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dy: Vec<f32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Moment {
    First,
    Second,
}

/// Renders both frames with flow and occlusion.
pub fn render(scene: &Scene, size: Size) -> Rendered {
    let width = size.width;
    let (mut u, mut v) = (vec![0.0; size.pixels()], vec![0.0; size.pixels()]);
    let mut painter = Painter {
        shutter: scene.shutter,
        coverage: Coverage::default(),
        row: Row {
            alpha: vec![0.0; width],
            x: vec![0.0; width],
            y: vec![0.0; width],
            dx: vec![0.0; width],
            dy: vec![0.0; width],
        },
    };
    let stage = scene.world.as_ref().map(|world| Stage::new(world, size));
    let mut ranks = stage.as_ref().map(Stage::ranks).unwrap_or_default();
    let faces = ranks.len();
    // Layers lie before all of the world, each over those before it.
    let farthest = ranks.iter().max().map_or(0, |&rank| rank + 1);
    ranks.extend((0..scene.layers.len()).map(|layer| farthest + layer as u16));
    let mut paint = |moment: Moment| {
        let mut canvas = stage.as_ref().map_or_else(|| Canvas::new(size), |stage| stage.paint(moment as usize));
        for (index, layer) in scene.layers.iter().enumerate() {
            painter.layer(&mut canvas, layer, (faces + index) as u16, moment, &mut u, &mut v);
        }
        canvas
    };
    let first = paint(Moment::First);
    let second = paint(Moment::Second);
    let known = stage.as_ref().map(|stage| stage.flow(&first.owner, &mut u, &mut v));
    let mut occlusion = occlusion(&first, &second, &u, &v, &ranks);
    let mut flow = FlowField::new(size, u, v).expect("both planes were made width * height long");
    if let (Some(stage), Some(known)) = (stage, known) {
        for ((hidden, &owner), &known) in occlusion.data_mut().iter_mut().zip(&first.owner).zip(&known) {
            *hidden |= !known || ((owner as usize) < faces && stage.gone(owner));
        }
        if known.contains(&false) {
            let known = Mask::new(size, known).expect("the flow names a value for each pixel");
            flow = flow.with_validity(known).expect("the mask has the flow's size");
        }
    }
    let frames = [develop(&first, &scene.films[0]), develop(&second, &scene.films[1])];
    Rendered { frames, flow, occlusion }
}

struct Painter {
    shutter: f32,
    coverage: Coverage,
    row: Row,
}

impl Painter {
    fn layer(&mut self, canvas: &mut Canvas, layer: &Layer, index: u16, moment: Moment, u: &mut [f32], v: &mut [f32]) {
        for (order, part) in layer.parts.iter().enumerate() {
            let owns = order == 0;
            let (motion, opacity) = (&layer.motion, layer.opacity);
            let taps = self.taps(&part.contours, motion, canvas);
            if part.contours.is_empty() {
                for y in 0..canvas.size.height {
                    self.row.alpha.fill(opacity);
                    self.fill(
                        canvas,
                        &part.paint,
                        motion,
                        index,
                        owns,
                        moment,
                        taps,
                        (0, canvas.size.width),
                        0,
                        y,
                        u,
                        v,
                    );
                }
                continue;
            }
            if !self.cover(&part.contours, motion, moment, taps, canvas) {
                continue;
            }
            let (x0, y0) = self.coverage.origin;
            for y in 0..self.coverage.size.height {
                if let Some((from, to)) = self.coverage.row(y, &mut self.row.alpha) {
                    if opacity < 1.0 {
                        self.row.alpha[from..to].iter_mut().for_each(|a| *a *= opacity);
                    }
                    self.fill(canvas, &part.paint, motion, index, owns, moment, taps, (from, to), x0, y0 + y, u, v);
                }
            }
        }
    }

    /// Moments of the exposure to average, from how far the part moves while the shutter is open.
    fn taps(&self, contours: &[Vec<Point>], motion: &Motion, canvas: &Canvas) -> usize {
        if self.shutter == 0.0 {
            return 1;
        }
        let corners = [(0.0, 0.0), (canvas.size.width as f32, 0.0), (0.0, canvas.size.height as f32)];
        let points = contours.first().map_or(&corners[..], |c| c);
        let travel = |p: &Point| {
            let q = motion.forward(p.0, p.1);
            (q.0 - p.0).abs().max((q.1 - p.1).abs())
        };
        let farthest = points.iter().map(travel).fold(0.0, f32::max) * self.shutter;
        ((farthest * 0.6) as usize + 1).min(9)
    }

    /// Accumulates the outline at every moment of the exposure.
    fn cover(
        &mut self,
        contours: &[Vec<Point>],
        motion: &Motion,
        moment: Moment,
        taps: usize,
        canvas: &Canvas,
    ) -> bool {
        let still = moment == Moment::First && taps == 1;
        let moved: Vec<Vec<(Point, Point)>> = contours
            .iter()
            .map(|contour| {
                let step = |&p: &Point| {
                    if still {
                        return (p, (0.0, 0.0));
                    }
                    let q = motion.forward(p.0, p.1);
                    (if moment == Moment::First { p } else { q }, (q.0 - p.0, q.1 - p.1))
                };
                contour.iter().map(step).collect()
            })
            .collect();
        let reach = 0.5 * self.shutter;
        let (mut low, mut high) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN));
        for (p, d) in moved.iter().flatten() {
            let (rx, ry) = ((d.0 * reach).abs(), (d.1 * reach).abs());
            low = (low.0.min(p.0 - rx), low.1.min(p.1 - ry));
            high = (high.0.max(p.0 + rx), high.1.max(p.1 + ry));
        }
        if !self.coverage.begin(low, high, canvas.size) {
            return false;
        }
        let mut points = Vec::new();
        for contour in &moved {
            for tap in 0..taps {
                let t = self.time(tap, taps);
                points.clear();
                points.extend(contour.iter().map(|(p, d)| (p.0 + t * d.0, p.1 + t * d.1)));
                self.coverage.add(&points, 1.0 / taps as f32);
            }
        }
        true
    }

    /// When in the exposure a tap lies, in units of the time between frames, centred on the frame.
    fn time(&self, tap: usize, taps: usize) -> f32 {
        self.shutter * ((tap as f32 + 0.5) / taps as f32 - 0.5)
    }

    /// Colours the columns `from..to` (relative to `x0`) of row `y`.
    fn fill(
        &mut self,
        canvas: &mut Canvas,
        paint: &Paint,
        motion: &Motion,
        index: u16,
        owns: bool,
        moment: Moment,
        taps: usize,
        (from, to): (usize, usize),
        x0: usize,
        y: usize,
        u: &mut [f32],
        v: &mut [f32],
    ) {
        let n = to - from;
        let Row { alpha, x: xs, y: ys, dx, dy } = &mut self.row;
        let (alpha, xs, ys) = (&mut alpha[from..to], &mut xs[..n], &mut ys[..n]);
        let (dx, dy) = (&mut dx[..n], &mut dy[..n]);
        let start = y * canvas.size.width + x0 + from;
        for (i, (px, py)) in xs.iter_mut().zip(ys.iter_mut()).enumerate() {
            (*px, *py) = ((x0 + from + i) as f32, y as f32);
        }
        // Afterwards (xs, ys) is the point of frame 1 seen here and (dx, dy) its flow.
        if moment == Moment::Second || owns || taps > 1 {
            dx.copy_from_slice(xs);
            dy.copy_from_slice(ys);
            match moment {
                Moment::First => motion.forward_row(dx, dy),
                Moment::Second => motion.inverse_row(xs, ys),
            }
            for i in 0..n {
                dx[i] -= xs[i];
                dy[i] -= ys[i];
            }
        }
        let sampler = paint.tile.sampler(paint.density);
        let map = paint.map.map(|m| m * sampler.factor);
        if paint.cutout {
            for (i, a) in alpha.iter_mut().enumerate() {
                let (x, y) = (xs[i], ys[i]);
                let texel = sampler.at(map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5]);
                *a *= texel[3] * (1.0 / 255.0);
            }
        }
        if owns {
            let owners = &mut canvas.owner[start..start + n];
            for (owner, &a) in owners.iter_mut().zip(alpha.iter()) {
                *owner = if a >= 0.5 { index } else { *owner };
            }
            if moment == Moment::First {
                let (u, v) = (&mut u[start..start + n], &mut v[start..start + n]);
                for i in 0..n {
                    let own = alpha[i] >= 0.5;
                    u[i] = if own { dx[i] } else { u[i] };
                    v[i] = if own { dy[i] } else { v[i] };
                }
            }
        }
        let pixels = &mut canvas.color[start..start + n];
        let times: [f32; 9] = std::array::from_fn(|tap| self.shutter * ((tap as f32 + 0.5) / taps as f32 - 0.5));
        let weight = 1.0 / taps as f32;
        let textured = paint.gain != [0.0; 3];
        let (gain, bias) = (widen(paint.gain), widen(paint.bias));
        let (xs, ys, dx, dy, alpha) = (&xs[..n], &ys[..n], &dx[..n], &dy[..n], &alpha[..n]);
        for (i, pixel) in pixels.iter_mut().enumerate() {
            if alpha[i] == 0.0 {
                continue;
            }
            let (x, y) = (xs[i], ys[i]);
            let texel = if textured {
                let (tu, tv) = (map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5]);
                if taps == 1 {
                    sampler.at(tu, tv)
                } else {
                    let (du, dv) = (map[0] * dx[i] + map[1] * dy[i], map[3] * dx[i] + map[4] * dy[i]);
                    let mut sum = [0.0; 4];
                    for &t in &times[..taps] {
                        let c = sampler.at(tu - t * du, tv - t * dv);
                        for k in 0..4 {
                            sum[k] += c[k];
                        }
                    }
                    sum.map(|s| s * weight)
                }
            } else {
                [255.0; 4]
            };
            let shade = (paint.shade.0 + paint.shade.1 * x + paint.shade.2 * y).clamp(0.4, 1.6);
            for k in 0..4 {
                let color = (texel[k] * gain[k] + bias[k]) * shade;
                pixel[k] += (color - pixel[k]) * alpha[i];
            }
        }
    }
}

/// Four lanes, the last one idle: what the compiler turns into one vector.
fn widen(c: [f32; 3]) -> [f32; 4] {
    [c[0], c[1], c[2], 0.0]
}

/// A pixel is occluded where its surface lies outside frame 2 or under a nearer layer there.
fn occlusion(first: &Canvas, second: &Canvas, u: &[f32], v: &[f32], ranks: &[u16]) -> Mask {
    let rank = |owner: u16| ranks.get(owner as usize).copied().unwrap_or(0);
    let Size { height: h, width: w } = first.size;
    let mut mask = Mask::filled(first.size, false);
    let (right, bottom) = ((w - 1) as f32, (h - 1) as f32);
    for (i, hidden) in mask.data_mut().iter_mut().enumerate() {
        let (x, y) = ((i % w) as f32 + u[i], (i / w) as f32 + v[i]);
        if !(x >= 0.0 && y >= 0.0 && x <= right && y <= bottom) {
            *hidden = true;
            continue;
        }
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(w - 1), (y0 + 1).min(h - 1));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let own = rank(first.owner[i]);
        // Only layers in front can hide; by bilinear weight, so that a surface's own edge does not count.
        let above = |x: usize, y: usize, weight: f32| {
            if rank(second.owner[y * w + x]) > own { weight } else { 0.0 }
        };
        let hiding = above(x0, y0, (1.0 - fx) * (1.0 - fy))
            + above(x1, y0, fx * (1.0 - fy))
            + above(x0, y1, (1.0 - fx) * fy)
            + above(x1, y1, fx * fy);
        *hidden = hiding >= 0.5;
    }
    mask
}
