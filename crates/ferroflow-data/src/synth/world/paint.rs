//! Paints the planes of a world into a frame, nearest first.

use ferroflow_core::Size;

use super::space::{Matrix, clip, determinant, inverse, times};
use super::{Part, Skin, Thing, World};
use crate::math::{exp2, log2};
use crate::synth::coverage::{Coverage, Point};
use crate::synth::render::Canvas;

/// Surfaces are seen from this depth on, metres.
const NEAR: f64 = 0.1;
/// Most moments of an exposure.
const TAPS: usize = 7;
/// Pixels that share one footprint in the texture.
const RUN: usize = 4;

/// One face of the world as both cameras see it.
struct Sight {
    /// `(s, t, 1)` to `depth * (x, y, 1)` in each frame.
    views: [Matrix; 2],
    /// Whether its front is towards the camera, in each frame.
    seen: [bool; 2],
    /// Pixels of frame 1 to pixels of frame 2; the denominator is the ratio of the depths.
    hop: [f32; 9],
    rank: u16,
}

/// A world with what both frames need of it.
pub struct Stage<'a> {
    world: &'a World,
    sights: Vec<Sight>,
    size: Size,
}

impl<'a> Stage<'a> {
    /// The world seen in frames of `size`.
    pub fn new(world: &'a World, size: Size) -> Self {
        let mut sights = Vec::new();
        for (order, thing) in world.things.iter().enumerate() {
            for face in &thing.faces {
                let still = super::Rigid::STILL;
                let views =
                    [world.cameras[0].view(&face.plane, &still), world.cameras[1].view(&face.plane, &thing.motion)];
                let back = inverse(&views[0]);
                let front = |m: &Matrix| {
                    let d = determinant(m);
                    d > 0.0 || (face.two_sided && d != 0.0)
                };
                let seen = [front(&views[0]) && back.is_some(), front(&views[1]) && inverse(&views[1]).is_some()];
                let hop = back.map_or([0.0; 9], |back| times(&views[1], &back).map(|v| v as f32));
                let rank = (world.things.len() - order) as u16;
                sights.push(Sight { views, seen, hop, rank });
            }
        }
        Self { world, sights, size }
    }

    /// Which owners hide which: an owner with a higher rank is nearer.
    pub fn ranks(&self) -> Vec<u16> {
        self.sights.iter().map(|s| s.rank).collect()
    }

    /// Whether an owner has turned its back on the camera in frame 2.
    pub fn gone(&self, owner: u16) -> bool {
        self.sights.get(owner as usize).is_none_or(|s| !s.seen[1])
    }

    /// Flow of the pixels of frame 1 that the world owns; false where it is unknown.
    pub fn flow(&self, owners: &[u16], u: &mut [f32], v: &mut [f32]) -> Vec<bool> {
        let farthest = (self.size.width + self.size.height) as f32;
        let world = self.sights.len() as u16;
        let mut known = vec![true; owners.len()];
        for (i, &owner) in owners.iter().enumerate() {
            // Other layers have set their own.
            if owner >= world && owner != u16::MAX {
                continue;
            }
            let (x, y) = ((i % self.size.width) as f32, (i / self.size.width) as f32);
            let m = self.sights.get(owner as usize).map_or(&[0.0; 9], |s| &s.hop);
            let w = m[6] * x + m[7] * y + m[8];
            if w > 1e-4 {
                (u[i], v[i]) = ((m[0] * x + m[1] * y + m[2]) / w - x, (m[3] * x + m[4] * y + m[5]) / w - y);
            }
            if !(w > 1e-4 && u[i].abs() + v[i].abs() < farthest) {
                known[i] = false;
                (u[i], v[i]) = (0.0, 0.0);
            }
        }
        known
    }

    /// Frame 0 or 1.
    pub fn paint(&self, frame: usize) -> Canvas {
        let mut canvas = Canvas::new(self.size);
        canvas.owner.fill(u16::MAX);
        let mut brush = Brush {
            stage: self,
            frame,
            free: vec![1.0; self.size.pixels()],
            coverage: Coverage::default(),
            alpha: vec![0.0; self.size.width],
        };
        let mut owner = 0u16;
        for thing in &self.world.things {
            brush.thing(&mut canvas, thing, owner);
            owner += thing.faces.len() as u16;
        }
        let ambient = self.world.ambient;
        for (color, &free) in canvas.color.iter_mut().zip(&brush.free) {
            for k in 0..3 {
                color[k] += free * ambient[k];
            }
        }
        canvas
    }
}

struct Brush<'a> {
    stage: &'a Stage<'a>,
    frame: usize,
    /// Share of each pixel that nothing covers yet.
    free: Vec<f32>,
    coverage: Coverage,
    alpha: Vec<f32>,
}

impl Brush<'_> {
    fn thing(&mut self, canvas: &mut Canvas, thing: &Thing, owner: u16) {
        let stage = self.stage;
        let mut outline: Vec<(usize, &[Vec<(f64, f64)>])> = Vec::new();
        for (i, face) in thing.faces.iter().enumerate() {
            let sight = &stage.sights[owner as usize + i];
            if !sight.seen[self.frame] {
                continue;
            }
            for part in face.parts.iter().rev() {
                self.fill(
                    canvas,
                    &[(owner as usize + i, part.contours.as_slice())],
                    &part.skin,
                    face.opacity,
                    owner + i as u16,
                );
            }
            if let (true, Some(Part { contours, .. })) = (thing.closed, face.parts.first()) {
                outline.push((owner as usize + i, contours.as_slice()));
            }
        }
        if let Some(&(first, _)) = outline.first() {
            let Some(part) = thing.faces[first - owner as usize].parts.first() else { return };
            let mean = part.skin.tile.mean();
            let bias = std::array::from_fn(|k| part.skin.bias[k] + part.skin.gain[k] * mean[k]);
            let plain = Skin { gain: [0.0; 3], bias, ..part.skin.clone() };
            self.fill(canvas, &outline, &plain, 1.0, first as u16);
        }
    }

    /// The view of a face at a moment, in units of the time between the frames from this frame on.
    fn view(&self, face: usize, time: f64) -> Matrix {
        let views = &self.stage.sights[face].views;
        let here = &views[self.frame];
        if time == 0.0 { *here } else { std::array::from_fn(|i| here[i] + time * (views[1][i] - views[0][i])) }
    }

    /// A contour as seen at a moment, in pixels; what lies behind the camera or far outside the frame is cut off.
    fn project(&self, contour: &[(f64, f64)], m: &Matrix) -> Vec<Point> {
        let (w, h) = (self.stage.size.width as f64, self.stage.size.height as f64);
        let mut points = clip(contour, [m[6], m[7], m[8] - NEAR]);
        let low = |row: usize, margin: f64| std::array::from_fn(|i| m[row * 3 + i] + margin * m[6 + i]);
        let high = |row: usize, edge: f64| std::array::from_fn(|i| edge * m[6 + i] - m[row * 3 + i]);
        for side in [low(0, w), low(1, h), high(0, 2.0 * w), high(1, 2.0 * h)] {
            if points.is_empty() {
                break;
            }
            points = clip(&points, side);
        }
        let project = |&(s, t): &(f64, f64)| {
            let z = m[6] * s + m[7] * t + m[8];
            (((m[0] * s + m[1] * t + m[2]) / z) as f32, ((m[3] * s + m[4] * t + m[5]) / z) as f32)
        };
        points.iter().map(project).collect()
    }

    /// Moments of the exposure, from how far the corners move meanwhile.
    fn times(&self, regions: &[(usize, &[Vec<(f64, f64)>])]) -> Vec<f64> {
        let shutter = f64::from(self.stage.world.shutter);
        if shutter == 0.0 {
            return vec![0.0];
        }
        let mut farthest = 0.0f64;
        for &(face, contours) in regions {
            let (a, b) = (self.view(face, -0.5 * shutter), self.view(face, 0.5 * shutter));
            for &(s, t) in contours.iter().flatten() {
                let at = |m: &Matrix| {
                    let z = (m[6] * s + m[7] * t + m[8]).max(NEAR);
                    let clamp = |v: f64, size: usize| v.clamp(-(size as f64), 2.0 * size as f64);
                    let (x, y) = ((m[0] * s + m[1] * t + m[2]) / z, (m[3] * s + m[4] * t + m[5]) / z);
                    (clamp(x, self.stage.size.width), clamp(y, self.stage.size.height))
                };
                let (p, q) = (at(&a), at(&b));
                farthest = farthest.max((p.0 - q.0).abs()).max((p.1 - q.1).abs());
            }
        }
        let taps = ((farthest * 0.6) as usize + 1).min(TAPS);
        (0..taps).map(|tap| shutter * ((tap as f64 + 0.5) / taps as f64 - 0.5)).collect()
    }

    /// Paints the union of regions, which do not overlap, with one skin (that of the first region's plane).
    fn fill(
        &mut self,
        canvas: &mut Canvas,
        regions: &[(usize, &[Vec<(f64, f64)>])],
        skin: &Skin,
        opacity: f32,
        owner: u16,
    ) {
        let times = self.times(regions);
        let mut outlines: Vec<Vec<Point>> = Vec::new();
        for &time in &times {
            for &(face, contours) in regions {
                let m = self.view(face, time);
                // Regions seen from behind wind the other way; all must count alike.
                let flip = determinant(&m) < 0.0;
                outlines.extend(contours.iter().map(|contour| {
                    let mut points = self.project(contour, &m);
                    if flip {
                        points.reverse();
                    }
                    points
                }));
            }
        }
        let (mut low, mut high) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN));
        for p in outlines.iter().flatten() {
            low = (low.0.min(p.0), low.1.min(p.1));
            high = (high.0.max(p.0), high.1.max(p.1));
        }
        if low.0 > high.0 || !self.coverage.begin(low, high, canvas.size) {
            return;
        }
        for outline in &outlines {
            self.coverage.add(outline, 1.0 / times.len() as f32);
        }
        // Pixels to texels at every moment, `1 / depth` as denominator.
        let face = regions[0].0;
        let maps: Vec<[f32; 9]> = times
            .iter()
            .filter_map(|&time| {
                let i = inverse(&self.view(face, time))?;
                let row = |a: f64, b: f64, c: f64, k: usize| (a * i[k] + b * i[3 + k] + c * i[6 + k]) as f32;
                let m = &skin.map;
                Some(std::array::from_fn(|k| match k / 3 {
                    0 => row(m[0], m[1], m[2], k),
                    1 => row(m[3], m[4], m[5], k - 3),
                    _ => i[k] as f32,
                }))
            })
            .collect();
        if maps.is_empty() {
            return;
        }
        let (x0, y0) = self.coverage.origin;
        for y in 0..self.coverage.size.height {
            if let Some((from, to)) = self.coverage.row(y, &mut self.alpha) {
                self.row(canvas, skin, &maps, opacity, owner, (x0 + from, x0 + to), y0 + y, x0);
            }
        }
    }

    /// Columns `from..to` of row `y`; `alpha` begins at column `x0`.
    fn row(
        &mut self,
        canvas: &mut Canvas,
        skin: &Skin,
        maps: &[[f32; 9]],
        opacity: f32,
        owner: u16,
        (from, to): (usize, usize),
        y: usize,
        x0: usize,
    ) {
        let textured = skin.gain != [0.0; 3];
        let haze = self.stage.world.haze;
        let start = y * canvas.size.width;
        let fy = y as f32;
        let weight = 1.0 / maps.len() as f32;
        for first in (from..to).step_by(RUN) {
            let last = (first + RUN).min(to);
            let free = &mut self.free[start + first..start + last];
            if free.iter().all(|&f| f < 0.002) {
                continue;
            }
            let alpha = &self.alpha[first - x0..last - x0];
            let footprint =
                if textured { Footprint::at(&maps[maps.len() / 2], first as f32 + 1.5, fy) } else { Footprint::POINT };
            for (i, free) in free.iter_mut().enumerate() {
                let alpha = alpha[i] * opacity;
                if alpha == 0.0 {
                    continue;
                }
                let at = start + first + i;
                let share = *free * alpha;
                if alpha >= 0.5 && canvas.owner[at] == u16::MAX {
                    canvas.owner[at] = owner;
                }
                let x = (first + i) as f32;
                let mut texel = [0.0; 4];
                let mut depth = 1.0;
                if textured || haze.is_some() {
                    for m in maps {
                        // Beyond the horizon, where an edge's pixel may lie, depth ends somewhere.
                        depth = 1.0 / (m[6] * x + m[7] * fy + m[8]).max(1e-5);
                        if textured {
                            let u = (m[0] * x + m[1] * fy + m[2]) * depth;
                            let v = (m[3] * x + m[4] * fy + m[5]) * depth;
                            let c = footprint.sample(&skin.tile, u, v, maps.len() > 1);
                            for k in 0..3 {
                                texel[k] += c[k] * weight;
                            }
                        }
                    }
                }
                let mut color: [f32; 3] = std::array::from_fn(|k| (texel[k] * skin.gain[k] + skin.bias[k]).max(0.0));
                if let Some(haze) = haze {
                    let clear = exp2(-depth * haze.density);
                    color = std::array::from_fn(|k| haze.color[k] + (color[k] - haze.color[k]) * clear);
                }
                let pixel = &mut canvas.color[at];
                for k in 0..3 {
                    pixel[k] += color[k] * share;
                }
                *free -= share;
            }
        }
    }
}

/// What a pixel covers of a texture: points along its longer side, each as large as its shorter side.
struct Footprint {
    along: (f32, f32),
    points: usize,
    level: f32,
}

impl Footprint {
    const POINT: Self = Self { along: (0.0, 0.0), points: 1, level: 0.0 };
    /// Most points: beyond, distant ground is blurred.
    const MOST: f32 = 4.0;

    fn at(m: &[f32; 9], x: f32, y: f32) -> Self {
        let z = 1.0 / (m[6] * x + m[7] * y + m[8]).max(1e-5);
        let (u, v) = ((m[0] * x + m[1] * y + m[2]) * z, (m[3] * x + m[4] * y + m[5]) * z);
        let right = ((m[0] - u * m[6]) * z, (m[3] - v * m[6]) * z);
        let down = ((m[1] - u * m[7]) * z, (m[4] - v * m[7]) * z);
        let length = |d: (f32, f32)| (d.0 * d.0 + d.1 * d.1).sqrt().clamp(1e-3, 1e6);
        let (a, b) = (length(right), length(down));
        let (long, short, along) = if a > b { (a, b, right) } else { (b, a, down) };
        let points = (long / short + 0.5).clamp(1.0, Self::MOST) as usize;
        Self { along, points, level: log2((long / points as f32).max(short)) }
    }

    #[inline(always)]
    fn sample(&self, tile: &crate::synth::texture::Tile, u: f32, v: f32, coarse: bool) -> [f32; 4] {
        if coarse {
            return tile.nearest(u, v, self.level);
        }
        if self.points == 1 {
            return tile.trilinear(u, v, self.level);
        }
        let mut sum = [0.0; 4];
        let weight = 1.0 / self.points as f32;
        for i in 0..self.points {
            let t = (i as f32 + 0.5) * weight - 0.5;
            let c = tile.trilinear(u + t * self.along.0, v + t * self.along.1, self.level);
            for k in 0..4 {
                sum[k] += c[k] * weight;
            }
        }
        sum
    }
}
