//! Outlines of the objects that fly: polygons, ellipses, blobs, rings, thin structures and chair-like solids.
//!
//! An object is a list of parts in unit coordinates (its box is about 1 wide, centred on 0). The first part is the
//! silhouette; the others are painted over it and stay inside it.

use super::coverage::Point;
use crate::math::{cos_turns, sin_turns};
use crate::random::Random;

/// A piece of an object with one paint.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Closed contours, counted by winding number: holes run against the rest.
    pub contours: Vec<Vec<Point>>,
    /// Which of the object's paints covers it.
    pub paint: usize,
    /// Brightness of the paint here, 1 = as it is.
    pub shade: f32,
    /// Painted in one colour, without its texture.
    pub plain: bool,
}

fn silhouette(contours: Vec<Vec<Point>>) -> Vec<Piece> {
    vec![Piece { contours, paint: 0, shade: 1.0, plain: false }]
}

/// A random object that is no chair.
pub fn thing(random: &mut Random) -> Vec<Piece> {
    match random.below(10) {
        0 | 1 => silhouette(vec![polygon(random)]),
        2 => silhouette(vec![ellipse(0.0, 0.0, 0.5, random.range(0.2, 0.5), 1.0)]),
        3..=5 => silhouette(vec![blob(random)]),
        6 => ring(random),
        7 => branches(random),
        8 => solid(random),
        _ => layered(random),
    }
}

/// Points on a circle at jittered angles and radii: convex or star-like by chance.
fn polygon(random: &mut Random) -> Vec<Point> {
    let n = random.between(3, 9);
    let depth = if random.chance(0.4) { random.range(0.1, 0.6) } else { 0.1 };
    let start = random.unit();
    (0..n)
        .map(|i| {
            let turn = start + (i as f32 + random.spread(0.3)) / n as f32;
            let radius = 0.5 * (1.0 - depth * random.unit());
            (radius * cos_turns(turn), radius * sin_turns(turn))
        })
        .collect()
}

fn ellipse(x: f32, y: f32, rx: f32, ry: f32, direction: f32) -> Vec<Point> {
    let n = 40;
    (0..n)
        .map(|i| {
            let turn = direction * i as f32 / n as f32;
            (x + rx * cos_turns(turn), y + ry * sin_turns(turn))
        })
        .collect()
}

/// A circle whose radius is a short random Fourier series of the angle.
fn blob(random: &mut Random) -> Vec<Point> {
    let waves: Vec<(f32, f32, f32)> =
        (1..=6).map(|k| (k as f32, random.normal() * 0.22 / k as f32, random.unit())).collect();
    let n = 72;
    (0..n)
        .map(|i| {
            let turn = i as f32 / n as f32;
            let bump: f32 = waves.iter().map(|w| w.1 * cos_turns(w.0 * turn + w.2)).sum();
            let radius = 0.38 * (1.0 + bump).clamp(0.25, 1.8);
            (radius * cos_turns(turn), radius * sin_turns(turn))
        })
        .collect()
}

fn ring(random: &mut Random) -> Vec<Piece> {
    let (ry, hole) = (random.range(0.3, 0.5), random.range(0.4, 0.85));
    silhouette(vec![ellipse(0.0, 0.0, 0.5, ry, 1.0), ellipse(0.0, 0.0, 0.5 * hole, ry * hole, -1.0)])
}

/// A bar of the given thickness from `a` to `b`.
fn bar(a: Point, b: Point, thickness: f32) -> Vec<Point> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = (dx * dx + dy * dy).sqrt().max(1e-6);
    let (nx, ny) = (-dy / length * thickness * 0.5, dx / length * thickness * 0.5);
    vec![(a.0 + nx, a.1 + ny), (a.0 - nx, a.1 - ny), (b.0 - nx, b.1 - ny), (b.0 + nx, b.1 + ny)]
}

/// Twigs: thin bars that fork from a stem.
fn branches(random: &mut Random) -> Vec<Piece> {
    let mut tips = vec![((random.spread(0.1), 0.5), random.range(0.7, 0.8), 0.42f32, 0.05f32)];
    let mut contours = Vec::new();
    for _ in 0..random.between(2, 4) {
        let mut next = Vec::new();
        for (from, turn, length, thickness) in tips {
            let to = (from.0 + length * cos_turns(turn), from.1 + length * sin_turns(turn));
            contours.push(bar(from, to, thickness));
            for _ in 0..random.between(1, 3) {
                next.push((to, turn + random.spread(0.15), length * random.range(0.5, 0.8), thickness * 0.7));
            }
        }
        tips = next;
    }
    silhouette(contours)
}

/// A blob with smaller pieces of other paints on it.
fn layered(random: &mut Random) -> Vec<Piece> {
    let mut pieces = silhouette(vec![blob(random)]);
    for i in 0..random.between(1, 4) {
        let scale = random.range(0.12, 0.45);
        let (x, y) = (random.spread(0.15), random.spread(0.15));
        let inner = if random.chance(0.5) { blob(random) } else { polygon(random) };
        let contour = inner.into_iter().map(|p| (x + scale * p.0, y + scale * p.1)).collect();
        pieces.push(Piece { contours: vec![contour], paint: 1 + i % 2, shade: random.range(0.6, 1.3), plain: false });
    }
    pieces
}

/// A single box seen from a random side.
fn solid(random: &mut Random) -> Vec<Piece> {
    let view = View::draw(random);
    let (x, y, z) = (random.range(0.2, 0.5), random.range(0.2, 0.5), random.range(0.2, 0.5));
    view.paint(&[Hexahedron::upright((-x, x), (-y, y), (-z, z), 0)])
}

/// A chair: seat, legs, a back of one of several kinds, by chance armrests and stretchers, as projected boxes.
pub fn chair(random: &mut Random) -> Vec<Piece> {
    let view = View::draw(random);
    let (half_width, half_depth) = (random.range(0.2, 0.3), random.range(0.18, 0.28));
    let thickness = random.range(0.015, 0.08);
    let leg = random.range(0.012, 0.035);
    let splay = random.range(0.0, 0.06);
    let (floor, back_top) = (random.range(0.25, 0.48), random.range(0.3, 0.6));
    let mut boxes =
        vec![Hexahedron::upright((-half_width, half_width), (0.0, thickness), (-half_depth, half_depth), 0)];
    let corners = [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)];
    if random.chance(0.85) {
        for (sx, sz) in corners {
            let (x, z) = (sx * (half_width - leg), sz * (half_depth - leg));
            boxes.push(Hexahedron::strut((x, thickness, z), (x + sx * splay, floor, z + sz * splay), leg, 1));
        }
        if random.chance(0.4) {
            let y = thickness + (floor - thickness) * random.range(0.4, 0.8);
            let (x, z) = (half_width - leg, half_depth - leg);
            for sx in [-1.0, 1.0] {
                boxes.push(Hexahedron::strut((sx * x, y, -z), (sx * x, y, z), leg * 0.7, 1));
            }
            boxes.push(Hexahedron::strut((-x, y, 0.0), (x, y, 0.0), leg * 0.7, 1));
        }
    } else {
        boxes.push(Hexahedron::strut((0.0, thickness, 0.0), (0.0, floor, 0.0), leg * 1.5, 1));
        for (sx, sz) in corners {
            boxes.push(Hexahedron::strut((0.0, floor, 0.0), (sx * half_width, floor, sz * half_depth), leg, 1));
        }
    }
    let lean = random.range(0.0, 0.12);
    let back = |x: f32, rise: f32| (x, -rise * back_top, half_depth + lean * rise);
    let upright = half_width - leg;
    match random.below(4) {
        // A panel.
        0 | 1 => {
            let from = random.range(0.0, 0.4);
            boxes.push(Hexahedron::panel(back(-half_width, from), back(half_width, 1.0), leg, 2));
            if from > 0.1 {
                for sx in [-1.0, 1.0] {
                    boxes.push(Hexahedron::strut(back(sx * upright, 0.0), back(sx * upright, from), leg, 1));
                }
            }
        }
        // Vertical spindles under a rail, or horizontal slats between the uprights.
        kind => {
            for sx in [-1.0, 1.0] {
                boxes.push(Hexahedron::strut(back(sx * upright, 0.0), back(sx * upright, 1.0), leg, 1));
            }
            let n = random.between(2, 6);
            for i in 0..n {
                let t = (i as f32 + 0.5) / n as f32;
                if kind == 2 {
                    let x = upright * (2.0 * t - 1.0);
                    boxes.push(Hexahedron::strut(back(x, 0.0), back(x, 0.95), leg * 0.7, 1));
                } else {
                    boxes.push(Hexahedron::panel(
                        back(-upright, t + 0.02),
                        back(upright, t + 0.35 / n as f32),
                        leg * 0.6,
                        2,
                    ));
                }
            }
            boxes.push(Hexahedron::panel(back(-half_width, 0.88), back(half_width, 1.0), leg, 2));
        }
    }
    if random.chance(0.35) {
        let height = -random.range(0.15, 0.25);
        for sx in [-1.0, 1.0] {
            let x = sx * half_width;
            boxes.push(Hexahedron::strut((x, height, -half_depth * 0.8), (x, height, half_depth), leg, 2));
            boxes.push(Hexahedron::strut((x, 0.0, -half_depth * 0.7), (x, height, -half_depth * 0.7), leg, 1));
        }
    }
    view.paint(&boxes)
}

type Space = (f32, f32, f32);

/// A box with any eight corners, y pointing down. Corner i has its x, y, z bits in i & 1, i & 2, i & 4.
struct Hexahedron {
    corners: [Space; 8],
    paint: usize,
}

impl Hexahedron {
    fn upright(x: (f32, f32), y: (f32, f32), z: (f32, f32), paint: usize) -> Self {
        let pick = |bit: usize, range: (f32, f32)| if bit == 0 { range.0 } else { range.1 };
        Self { corners: std::array::from_fn(|i| (pick(i & 1, x), pick(i & 2, y), pick(i & 4, z))), paint }
    }

    /// A bar of square cross-section `2 r` wide between two points, mostly along one axis.
    fn strut(a: Space, b: Space, r: f32, paint: usize) -> Self {
        let d = [(b.0 - a.0).abs(), (b.1 - a.1).abs(), (b.2 - a.2).abs()];
        let axis = if d[1] >= d[0] && d[1] >= d[2] {
            1
        } else if d[0] >= d[2] {
            0
        } else {
            2
        };
        let (a, b) = match axis {
            0 if a.0 > b.0 => (b, a),
            1 if a.1 > b.1 => (b, a),
            2 if a.2 > b.2 => (b, a),
            _ => (a, b),
        };
        let corners = std::array::from_fn(|i| {
            let end = if i >> axis & 1 == 0 { a } else { b };
            let off = |k: usize| if k == axis { 0.0 } else { r * (2.0 * (i >> k & 1) as f32 - 1.0) };
            (end.0 + off(0), end.1 + off(1), end.2 + off(2))
        });
        Self { corners, paint }
    }

    /// A plate facing z between its lower left and upper right corner.
    fn panel(a: Space, b: Space, r: f32, paint: usize) -> Self {
        let corners = std::array::from_fn(|i| {
            let (low, high) = if a.1 > b.1 { (b, a) } else { (a, b) };
            let row = if i & 2 == 0 { low } else { high };
            let x = if i & 1 == 0 { a.0.min(b.0) } else { a.0.max(b.0) };
            (x, row.1, row.2 + if i & 4 == 0 { -r } else { r })
        });
        Self { corners, paint }
    }
}

/// Where an object is looked at from, and where its light comes from.
struct View {
    yaw: (f32, f32),
    pitch: (f32, f32),
    distance: f32,
    light: Space,
}

impl View {
    fn draw(random: &mut Random) -> Self {
        let (yaw, pitch) = (random.unit(), random.range(-0.02, 0.14));
        Self {
            yaw: (cos_turns(yaw), sin_turns(yaw)),
            pitch: (cos_turns(pitch), sin_turns(pitch)),
            distance: random.range(1.8, 5.0),
            light: (random.spread(0.6), random.range(-0.9, -0.3), random.range(-0.8, 0.0)),
        }
    }

    fn turn(&self, p: Space) -> Space {
        let (x, z) = (self.yaw.0 * p.0 - self.yaw.1 * p.2, self.yaw.1 * p.0 + self.yaw.0 * p.2);
        (x, self.pitch.0 * p.1 + self.pitch.1 * z, self.pitch.0 * z - self.pitch.1 * p.1)
    }

    /// The visible faces of the boxes, far ones first, after their common silhouette.
    fn paint(&self, boxes: &[Hexahedron]) -> Vec<Piece> {
        // Corners of each face in one turning sense seen from outside.
        const FACES: [[usize; 4]; 6] =
            [[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]];
        let mut faces: Vec<(f32, Piece)> = Vec::new();
        for shape in boxes {
            let turned = shape.corners.map(|c| self.turn(c));
            let depth = turned.iter().map(|c| c.2).sum::<f32>() / 8.0;
            for face in FACES {
                let c = face.map(|i| turned[i]);
                let project = |p: Space| {
                    (p.0 * self.distance / (self.distance + p.2), p.1 * self.distance / (self.distance + p.2))
                };
                let contour: Vec<Point> = c.iter().map(|&p| project(p)).collect();
                let area = signed_area(&contour);
                if area <= 0.0 {
                    continue;
                }
                let u = (c[1].0 - c[0].0, c[1].1 - c[0].1, c[1].2 - c[0].2);
                let v = (c[3].0 - c[0].0, c[3].1 - c[0].1, c[3].2 - c[0].2);
                let n = (u.1 * v.2 - u.2 * v.1, u.2 * v.0 - u.0 * v.2, u.0 * v.1 - u.1 * v.0);
                let length = (n.0 * n.0 + n.1 * n.1 + n.2 * n.2).sqrt().max(1e-9);
                let facing = (n.0 * self.light.0 + n.1 * self.light.1 + n.2 * self.light.2).abs() / length;
                let shade = 0.35 + 0.85 * facing;
                faces.push((depth, Piece { contours: vec![contour], paint: shape.paint, shade, plain: false }));
            }
        }
        faces.sort_by(|a, b| b.0.total_cmp(&a.0));
        let outline = faces.iter().map(|f| f.1.contours[0].clone()).collect();
        let mut pieces = vec![Piece { contours: outline, paint: 1, shade: 0.4, plain: true }];
        pieces.extend(faces.into_iter().map(|f| f.1));
        pieces
    }
}

fn signed_area(contour: &[Point]) -> f32 {
    let n = contour.len();
    (0..n).map(|i| contour[i].0 * contour[(i + 1) % n].1 - contour[(i + 1) % n].0 * contour[i].1).sum()
}

/// Cuts edges longer than `step` so that a bending motion bends them.
pub fn subdivide(contour: &[Point], step: f32) -> Vec<Point> {
    let mut out = Vec::new();
    for (i, &a) in contour.iter().enumerate() {
        let b = contour[(i + 1) % contour.len()];
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let n = (((dx * dx + dy * dy).sqrt() / step) as usize).min(400) + 1;
        out.extend((0..n).map(|k| (a.0 + dx * k as f32 / n as f32, a.1 + dy * k as f32 / n as f32)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_stays_near_its_unit_box() {
        for seed in 0..200 {
            let mut random = Random::new(seed, &[]);
            let pieces = if seed % 2 == 0 { chair(&mut random) } else { thing(&mut random) };
            assert!(!pieces.is_empty());
            for p in pieces.iter().flat_map(|p| &p.contours).flatten() {
                assert!(p.0.abs() < 1.3 && p.1.abs() < 1.3, "seed {seed}: {p:?}");
            }
        }
    }
}
