//! Three kinds of place: streets driven through as in KITTI, rooms, and open ground with anything on it.

use ferroflow_core::Size;

use super::build::{Builder, Look, ground, rectangle, tier, upright};
use super::prop;
use super::space::{Camera, Plane, Rigid, Vector, apply, plus, rotation, times};
use super::{Face, Part};
use crate::math::{cos_turns, exp2, sin_cos, sin_turns};
use crate::synth::texture::Material;

/// A camera and what it does until frame 2.
struct Shot {
    position: Vector,
    /// Yaw, pitch, roll, radians.
    turn: (f32, f32, f32),
    /// In its own axes, metres.
    shift: Vector,
    /// Yaw, pitch, roll in its own axes, radians.
    spin: (f32, f32, f32),
    /// Field of view across the frame, degrees.
    view: f32,
    /// Logarithm (base 2) of the ratio of the focal lengths.
    zoom: f32,
}

impl Shot {
    fn cameras(&self, size: Size) -> [Camera; 2] {
        let (s, c) = sin_cos(self.view * (0.5 * std::f32::consts::PI / 180.0));
        let focal = f64::from(size.width as f32 * 0.5 * c / s);
        let center = (0.5 * size.width as f64 - 0.5, 0.5 * size.height as f64 - 0.5);
        let turn = rotation(self.turn.0, self.turn.1, self.turn.2);
        let first = Camera { position: self.position, turn, focal, center };
        let second = Camera {
            position: plus(self.position, apply(&turn, self.shift), 1.0),
            turn: times(&turn, &rotation(self.spin.0, self.spin.1, self.spin.2)),
            focal: focal * f64::from(exp2(self.zoom)),
            center,
        };
        [first, second]
    }
}

/// Clouds or haze behind everything, as a plane ten kilometres away.
fn sky(b: &mut Builder, yaw: f32) {
    let (s, c) = sin_cos(yaw);
    let far = 10_000.0;
    let plane = upright([far * f64::from(s), 0.0, far * f64::from(c)], (f64::from(s), f64::from(c)));
    let look = if b.random.chance(0.25) { Look::Plain(b.ambient) } else { Look::Of(Material::Sky) };
    let metres = b.log_range(6_000.0, 30_000.0);
    let skin = b.skin(look, metres);
    if let Look::Of(_) = look {
        let mean = skin.tile.mean();
        b.ambient = std::array::from_fn(|k| 0.5 * b.ambient[k] + 0.5 * (mean[k] * skin.gain[k] + skin.bias[k]));
    }
    let contour = rectangle((-9.0 * far, -9.0 * far), (9.0 * far, 9.0 * far));
    let parts = vec![Part { contours: vec![contour], skin }];
    b.add(vec![Face { plane, parts, two_sided: true, opacity: 1.0 }], Rigid::STILL, false, tier::SKY);
}

/// Ridges behind each other, far ones first on the horizon.
fn hills(b: &mut Builder, nearest: f64) {
    for ridge in 0..b.random.below(4) {
        let z = nearest * b.range(1.0, 1.6) * (1.0 + ridge as f64);
        let plane = upright([0.0, 0.0, z], (0.0, 1.0));
        let high = z * b.range(0.02, 0.16);
        let waves: Vec<(f32, f32, f32)> =
            (0..7).map(|k| (exp2(k as f32 * 0.8), b.random.unit(), exp2(k as f32 * -0.7))).collect();
        let n = 90;
        let top = (0..=n).map(|i| {
            let f = i as f32 / n as f32;
            let wave: f32 = waves.iter().map(|w| w.2 * sin_turns(w.0 * f * 2.0 + w.1)).sum();
            (z * 8.0 * (f64::from(f) - 0.5), -high * (1.0 + 0.35 * f64::from(wave)).max(0.05))
        });
        let contour = top.chain([(4.0 * z, 0.0), (-4.0 * z, 0.0)]).collect();
        let look = if b.random.chance(0.6) { Look::Of(Material::Foliage) } else { Look::Any };
        let skin = b.skin(look, z * 0.3);
        let face = b.face(plane, vec![contour], &skin);
        b.add(vec![face], Rigid::STILL, false, tier::FAR + z);
    }
}

/// A street with houses, trees, cars and what else stands at its sides; the camera drives.
pub fn street(b: &mut Builder, size: Size) -> [Camera; 2] {
    let road = b.range(3.0, 8.0);
    let walk = road + b.range(1.0, 4.0);
    let still = Rigid::STILL;
    sky(b, 0.0);
    hills(b, 160.0);
    let look = match b.random.below(4) {
        0 => Look::Any,
        1 => Look::Of(Material::Asphalt),
        _ => Look::Of(Material::Foliage),
    };
    let metres = b.range(2.0, 6.0);
    let base = b.skin(look, metres);
    let far = 1_500.0;
    let mut floor = b.face(ground(0.0), vec![rectangle((-far, -far), (far, far))], &base);
    let up = [0.0, -1.0, 0.0];
    let mut strip = |b: &mut Builder, look: Look, contours: Vec<Vec<(f64, f64)>>| {
        let metres = b.range(2.0, 5.0);
        let skin = b.skin(look, metres);
        floor.parts.push(Part { contours, skin: b.lit(&skin, up) });
    };
    if b.random.chance(0.8) {
        let look = if b.random.chance(0.4) { Look::Of(Material::Checks) } else { Look::Of(Material::Asphalt) };
        let both = vec![rectangle((-walk, -far), (-road, far)), rectangle((road, -far), (walk, far))];
        strip(b, look, both);
    }
    strip(b, Look::Of(Material::Asphalt), vec![rectangle((-road, -far), (road, far))]);
    if b.random.chance(0.8) {
        let (dash, gap, wide) = (b.range(1.5, 5.0), b.range(2.0, 8.0), b.range(0.06, 0.1));
        let phase = b.range(0.0, 6.0);
        let line = |x: f64, from: f64, to: f64| rectangle((x - wide, -to), (x + wide, -from));
        let mut marks: Vec<_> = (0..24)
            .map(|i| {
                let z = phase - 8.0 + i as f64 * (dash + gap);
                line(0.0, z, z + dash)
            })
            .collect();
        if b.random.chance(0.6) {
            marks.extend([line(0.3 - road, -20.0, 300.0), line(road - 0.3, -20.0, 300.0)]);
        }
        if b.random.chance(0.15) {
            let z = b.range(6.0, 25.0);
            let n = (road / 0.6) as usize;
            marks.extend((0..n).map(|i| {
                let x = -road + (i as f64 + 0.25) * 2.0 * road / n as f64;
                rectangle((x, -z - 3.0), (x + 0.5, -z))
            }));
        }
        let white = b.random.range(150.0, 245.0);
        strip(b, Look::Plain([white, white, white * 0.95]), marks);
    }
    b.add(vec![floor], still, false, tier::GROUND);

    for side in [-1.0, 1.0] {
        sides(b, side, road, walk);
    }
    for _ in 0..b.random.below(5) {
        let lane = b.side();
        let (x, z) = (lane * b.range(1.2, 0.75 * road.max(1.8)), b.log_range(7.0, 60.0));
        let speed = b.range(0.0, 2.0) * lane;
        let turning = if b.random.chance(0.2) { b.random.spread(0.06) } else { 0.0 };
        let crossing = b.random.chance(0.12);
        let yaw = if crossing { 1.57 } else { b.random.spread(0.05) };
        let shift = if crossing { [speed, 0.0, 0.0] } else { [0.0, 0.0, speed] };
        let foot = [x, 0.0, z];
        let motion = Rigid::about(foot, rotation(turning, 0.0, 0.0), shift);
        prop::car(b, foot, yaw, motion, z - 2.5);
    }
    if b.random.chance(0.12) {
        let z = b.range(2.0, 5.0);
        let foot = [b.range(-1.0, 1.0), 0.0, z];
        prop::glass(b, foot, (3.0, 4.0), (0.0, 1.0), still, z);
    }

    let pace = match b.random.below(12) {
        0 => 0.0,
        1 => -b.range(0.1, 0.8),
        2 => b.range(0.0, 0.3),
        _ => b.range(0.3, 2.0),
    };
    let turning = if b.random.chance(0.3) { b.random.spread(0.09) } else { b.random.normal() * 0.006 };
    let shake = |b: &mut Builder, scale: f32| b.random.normal() * scale;
    Shot {
        position: [b.range(-0.5, 0.5) * road, -b.range(1.2, 2.0), 0.0],
        turn: (shake(b, 0.05), shake(b, 0.04), shake(b, 0.01)),
        shift: [f64::from(turning) * pace * 0.5, f64::from(shake(b, 0.015)), pace],
        spin: (turning, shake(b, 0.005), shake(b, 0.004)),
        view: b.random.range(50.0, 100.0),
        zoom: 0.0,
    }
    .cameras(size)
}

/// What lines one side of a street.
fn sides(b: &mut Builder, side: f64, road: f64, walk: f64) {
    let still = Rigid::STILL;
    let kind = b.random.below(6);
    let end = 130.0;
    let mut z = b.range(-12.0, 4.0);
    if kind < 4 {
        let storey = b.range(2.6, 3.6);
        let row = b.random.chance(0.5);
        let spare = b.range(0.0, 4.0);
        while z < end {
            let (width, depth) = (b.range(6.0, 22.0), b.range(6.0, 14.0));
            let height = storey * f64::from(b.random.between(1, 6) as u8);
            let setback = walk + if row { spare } else { spare + b.range(0.0, 5.0) };
            let look = match b.random.below(8) {
                0 => Look::Any,
                1 => Look::Of(Material::Brick),
                _ => Look::Of(Material::Facade),
            };
            let metres = if let Look::Of(Material::Facade) = look { 4.0 * storey } else { b.range(2.0, 8.0) };
            let mut skin = b.skin(look, metres);
            // The tile's floors begin at the ground: boxes count from their top.
            let floors = height / (4.0 * storey);
            skin.map[5] = 512.0 * (1.0 - floors.fract());
            let roof = b.skin(Look::Any, 4.0);
            let foot = [side * (setback + 0.5 * depth), 0.0, z + 0.5 * width];
            b.block(foot, [depth, height, width], 0.0, [&skin, &roof], still, tier::SIDE + z.max(-20.0) + 30.0);
            z += width + if b.random.chance(0.35) { b.range(0.5, 9.0) } else { 0.0 };
        }
    } else if kind == 4 {
        // A wall or a hedge along the street.
        let look = match b.random.below(3) {
            0 => Look::Of(Material::Brick),
            1 => Look::Any,
            _ => Look::Of(Material::Foliage),
        };
        let metres = b.range(1.0, 4.0);
        let skin = b.skin(look, metres);
        let high = b.range(0.8, 4.0);
        b.block([side * (walk + 1.5), 0.0, 60.0], [1.0, high, 150.0], 0.0, [&skin, &skin], still, tier::SIDE);
    }
    let lined = b.random.unit();
    let step = b.range(5.0, 16.0);
    let edge = road + 0.3 * (walk - road);
    let mut z = b.range(3.0, 10.0);
    let mut last = None;
    while z < 90.0 {
        let (x, here) = (side * edge, z + b.range(-1.0, 1.0));
        if lined < 0.35 && b.random.chance(0.8) {
            prop::tree(b, [x, 0.0, here], here);
        } else if lined < 0.75 && b.random.chance(0.8) {
            let height = prop::pole(b, [x, 0.0, here], here);
            if let Some((from, tall)) = last
                && height > 4.0
                && b.random.chance(0.7)
            {
                prop::wire(b, x, 0.95 * height.min(tall), from, here, here - 0.2);
            }
            last = Some((here, height));
        }
        z += step;
    }
    if b.random.chance(0.2) {
        let (from, length) = (b.range(2.0, 15.0), b.range(6.0, 30.0));
        // Seen from the road: along x, towards the side.
        let plane = upright([side * (road + 0.1), 0.0, if side > 0.0 { from + length } else { from }], (side, 0.0));
        prop::fence(b, plane, length, still, from);
    }
    if b.random.chance(0.6) {
        let mut z = b.range(3.0, 20.0);
        while z < 70.0 {
            if b.random.chance(0.7) {
                let yaw = if b.random.chance(0.5) { 0.0 } else { std::f32::consts::PI } + b.random.spread(0.04);
                prop::car(b, [side * (road - 1.1), 0.0, z], yaw, still, z - 2.4);
            }
            z += b.range(5.5, 8.0);
        }
    }
    for _ in 0..b.random.below(3) {
        let z = b.log_range(4.0, 40.0);
        let x = side * b.range(road, walk + 0.5);
        let shift = [b.range(-0.1, 0.1), 0.0, b.range(-0.15, 0.15)];
        let size = b.range(0.8, 1.9);
        prop::cutout(b, [x, 0.0, z], size, (x, z), Rigid { shift, ..still }, z);
    }
}

/// Free motion: how far, in which direction, looking where. `near` is a typical distance of what is seen.
fn handheld(b: &mut Builder, near: f64) -> (Vector, (f32, f32, f32), f32) {
    // Displacement aimed at, as a share of the distance and of the view.
    let strength = b.random.log_range(0.002, 0.25);
    let turn = |b: &mut Builder, share: f32| share * strength * b.random.normal();
    let mut spin = (turn(b, 0.5), turn(b, 0.4), turn(b, 0.3));
    let reach = near * f64::from(strength);
    let mut shift = [0.5 * reach, 0.3 * reach, 0.5 * reach].map(|r| r * f64::from(b.random.normal()));
    let mut zoom = 0.0;
    match b.random.below(7) {
        // Forward or back, sideways, an orbit about what is near, turning only, zooming; else any of it.
        0 => shift = [0.1 * shift[0], 0.1 * shift[1], 2.0 * shift[2]],
        1 => {
            shift = [2.0 * shift[0], 0.3 * shift[1], 0.1 * shift[2]];
            spin = (0.1 * spin.0, 0.1 * spin.1, 0.1 * spin.2);
        }
        2 => {
            let around = reach * f64::from(b.random.spread(2.0));
            shift = [around, 0.1 * shift[1], 0.1 * shift[2]];
            spin = (-(around / near) as f32, 0.2 * spin.1, 0.3 * spin.2);
        }
        3 => shift = [0.0; 3],
        4 => {
            zoom = b.random.spread(1.2) * strength;
            shift = shift.map(|v| 0.2 * v);
        }
        _ => {}
    }
    (shift, spin, zoom)
}

/// Motion of a body of its own: still, sliding or tumbling, as a share of its distance.
fn own(b: &mut Builder, center: Vector, distance: f64, flat: bool) -> Rigid {
    if b.random.chance(0.45) {
        return Rigid::STILL;
    }
    let strength = distance * b.log_range(0.002, 0.2);
    let mut shift = [1.0, 0.6, 1.0].map(|k| k * strength * 0.6 * f64::from(b.random.normal()));
    shift[2] = shift[2].max(-0.35 * distance);
    if flat {
        shift[1] = 0.0;
    }
    let turn = if b.random.chance(0.5) {
        let reach = b.random.log_range(0.01, 0.5);
        let tumble = if flat { 0.0 } else { reach };
        rotation(reach * b.random.spread(1.0), tumble * b.random.spread(0.6), tumble * b.random.spread(0.8))
    } else {
        rotation(0.0, 0.0, 0.0)
    };
    Rigid::about(center, turn, shift)
}

/// Inside four walls, with furniture; the camera is held in the hand.
pub fn room(b: &mut Builder, size: Size) -> [Camera; 2] {
    let still = Rigid::STILL;
    let (half, high, deep) = (b.range(1.6, 4.0), b.range(2.3, 3.4), b.range(3.5, 9.0));
    let back = -b.range(0.8, 3.0);
    let look = |b: &mut Builder| match b.random.below(5) {
        0 => Look::Of(Material::Brick),
        1 | 2 => {
            let color = b.color();
            Look::Plain(color.map(|c| 0.5 * c + 110.0))
        }
        _ => Look::Any,
    };
    let wall = look(b);
    let metres = b.range(0.8, 4.0);
    let wall = b.skin(wall, metres);
    let floor = match b.random.below(4) {
        0 => Look::Any,
        1 => Look::Of(Material::Checks),
        _ => Look::Of(Material::Wood),
    };
    let metres = b.range(1.0, 3.0);
    let floor = b.skin(floor, metres);
    let ceiling = b.color();
    let ceiling = b.skin(Look::Plain(ceiling.map(|c| 0.3 * c + 160.0)), 1.0);
    let (front, left, right) = (
        upright([-half, 0.0, deep], (0.0, 1.0)),
        upright([-half, 0.0, back], (-1.0, 0.0)),
        upright([half, 0.0, deep], (1.0, 0.0)),
    );
    let behind = upright([half, 0.0, back], (0.0, -1.0));
    let mut faces = Vec::new();
    for (plane, length) in [(front, 2.0 * half), (left, deep - back), (right, deep - back), (behind, 2.0 * half)] {
        let mut face = b.face(plane, vec![rectangle((0.0, -high), (length, 0.0))], &wall);
        let skirting = b.color();
        let skirting = b.skin(Look::Plain(skirting), 1.0);
        face.parts.push(Part {
            contours: vec![rectangle((0.0, -0.1), (length, 0.0))],
            skin: b.lit(&skirting, plane.normal()),
        });
        for _ in 0..b.random.below(4) {
            // Pictures, windows, doors: a frame and what is in it.
            let (w, h) = (b.range(0.3, 1.6).min(0.6 * length), b.range(0.3, 1.4));
            let (s, t) = (b.range(0.05, 0.9) * (length - w), -b.range(0.8, 1.2) - h);
            let t = t.max(0.1 - high);
            let edge = b.color();
            let edge = b.skin(Look::Plain(edge), 1.0);
            let look = if b.random.chance(0.3) { Look::Of(Material::Sky) } else { Look::Any };
            let inside = b.skin(look, w * 1.5);
            face.parts
                .push(Part { contours: vec![rectangle((s, t), (s + w, t + h))], skin: b.lit(&edge, plane.normal()) });
            face.parts.push(Part {
                contours: vec![rectangle((s + 0.05, t + 0.05), (s + w - 0.05, t + h - 0.05))],
                skin: inside,
            });
        }
        faces.push(face);
    }
    let below = rectangle((-half, -deep), (half, -back));
    faces.push(b.face(ground(0.0), vec![below], &floor));
    let above = Plane { origin: [0.0, -high, 0.0], across: [1.0, 0.0, 0.0], down: [0.0, 0.0, 1.0] };
    faces.push(b.face(above, vec![rectangle((-half, back), (half, deep))], &ceiling));
    b.add(faces, still, true, tier::SKY);

    for _ in 0..b.random.between(2, 8) {
        let z = b.range(1.5, deep - 0.6);
        let (x, yaw) = (b.range(0.6 - half, half - 0.6), b.random.spread(3.0));
        let distance = (x * x + z * z).sqrt();
        let foot = [x, 0.0, z];
        let motion = if b.random.chance(0.7) { still } else { own(b, foot, distance, true) };
        if b.random.chance(0.55) {
            prop::furniture(b, foot, yaw, motion, distance);
        } else {
            let size = b.range(0.6, 1.3);
            prop::cutout(b, foot, size, (x, z), motion, distance);
        }
    }
    if b.random.chance(0.5) {
        let foot = [b.range(-1.0, 1.0), 0.0, b.range(1.5, 3.0)];
        prop::pole(b, foot, foot[2]);
    }
    let near = 0.5 * deep;
    let (shift, spin, zoom) = handheld(b, near);
    Shot {
        position: [b.range(-0.4, 0.4) * half, -b.range(0.9, 1.8), 0.0],
        turn: (b.random.normal() * 0.25, b.random.normal() * 0.1 - 0.08, b.random.normal() * 0.04),
        // Hands reach no further than this.
        shift: shift.map(|v| v.clamp(-0.5, 0.5)),
        spin,
        view: b.random.range(45.0, 90.0),
        zoom,
    }
    .cameras(size)
}

/// Open ground with boxes, cut-outs, trees and fences in any distance, some in the air; any camera.
pub fn open(b: &mut Builder, size: Size) -> [Camera; 2] {
    let still = Rigid::STILL;
    let yaw = 0.0;
    sky(b, yaw);
    let near = b.log_range(2.0, 12.0);
    if b.random.chance(0.85) {
        let far = 2_000.0;
        let look = match b.random.below(5) {
            0 => Look::Of(Material::Checks),
            1 => Look::Of(Material::Foliage),
            2 => Look::Of(Material::Wood),
            _ => Look::Any,
        };
        let metres = b.log_range(1.5, 8.0);
        let skin = b.skin(look, metres);
        let mut floor = b.face(ground(0.0), vec![rectangle((-far, -far), (far, far))], &skin);
        for _ in 0..b.random.below(4) {
            // Carpets, puddles, paths.
            let (x, z) = (b.range(-1.0, 1.0) * near, b.range(0.2, 3.0) * near);
            let (w, l) = (b.range(0.2, 1.0) * near, b.range(0.2, 2.0) * near);
            let metres = b.log_range(0.5, 3.0);
            let skin = b.skin(Look::Any, metres);
            let skin = b.lit(&skin, [0.0, -1.0, 0.0]);
            floor.parts.push(Part { contours: vec![rectangle((x - w, -z - l), (x + w, -z))], skin });
        }
        b.add(vec![floor], still, false, tier::GROUND);
        hills(b, 20.0 * near);
    } else {
        hills(b, 3.0 * near);
    }
    if b.random.chance(0.3) {
        // A wall across the view.
        let z = near * b.range(2.0, 5.0);
        let look = if b.random.chance(0.5) { Look::Of(Material::Facade) } else { Look::Any };
        let metres = near * b.range(0.5, 2.0);
        let skin = b.skin(look, metres);
        let (yaw, high) = (b.random.spread(0.5), near * b.range(0.6, 2.5));
        let size = [8.0 * near, high, 1.0];
        b.block([0.0, 0.0, z + 1.0], size, yaw, [&skin, &skin], still, tier::SIDE);
    }
    let eye = near * b.range(0.1, 0.6);
    for _ in 0..b.random.between(3, 16) {
        let distance = near * b.log_range(0.35, 5.0);
        // In the view, whatever its distance.
        let (x, z) = (distance * b.range(-0.8, 0.8), distance);
        let big = distance * b.log_range(0.06, 0.5);
        let foot = [x, 0.0, z];
        let sort = (x * x + z * z).sqrt();
        match b.random.below(10) {
            0 | 1 => {
                let (motion, size) = (own(b, foot, distance, true), big * 1.2);
                prop::cutout(b, foot, size, (x, z), motion, sort);
                prop::shadow(b, foot, (0.7 * size, 0.3 * size), 0.0, motion);
            }
            2 | 3 => {
                // In the air.
                let center = [x, -eye - distance * b.range(-0.4, 0.5), z];
                let motion = own(b, center, distance, false);
                prop::cutout(b, plus(center, [0.0, 0.5 * big, 0.0], 1.0), big, (x, z), motion, sort);
            }
            4 | 5 => {
                let metres = big * b.log_range(0.7, 3.0);
                let (skin, top) = (b.skin(Look::Any, metres), b.skin(Look::Any, metres));
                let size = [big, big * b.log_range(0.4, 2.0), big * b.log_range(0.4, 2.0)];
                let motion = own(b, foot, distance, true);
                let yaw = b.random.spread(1.6);
                b.block(foot, size, yaw, [&skin, &top], motion, sort - 0.5 * big);
                prop::shadow(b, foot, (1.15 * size[0], 1.15 * size[2]), yaw, motion);
            }
            6 => {
                // Tumbling, or half in the ground: ramps and rocks.
                let metres = big * b.log_range(0.7, 3.0);
                let (skin, top) = (b.skin(Look::Any, metres), b.skin(Look::Any, metres));
                let aloft = b.random.chance(0.5);
                let y = if aloft { -eye - distance * b.range(-0.2, 0.4) - big } else { 0.1 * big };
                let center = [x, y, z];
                let size = [big, big * b.log_range(0.3, 1.5), big * b.log_range(0.3, 1.5)];
                let turn = rotation(b.random.spread(3.0), b.random.spread(0.6), b.random.spread(0.6));
                let faces = b.solid(center, size, &turn, [&skin, &top]);
                let motion = if aloft { own(b, center, distance, false) } else { still };
                b.add(faces, motion, true, sort - 0.5 * big);
            }
            7 => prop::tree(b, foot, sort),
            8 => {
                prop::pole(b, foot, sort);
            }
            _ => {
                let along = b.random.spread(0.15);
                let direction = (f64::from(sin_turns(along)), f64::from(cos_turns(along)));
                let plane = upright([x - 0.5 * big, 0.0, z], direction);
                prop::fence(b, plane, 2.0 * big, still, sort);
            }
        }
    }
    if b.random.chance(0.15) {
        let z = near * b.range(0.3, 0.8);
        let foot = [b.range(-0.3, 0.3) * z, z, z];
        let motion = own(b, foot, z, false);
        prop::glass(b, foot, (z, 2.5 * z), (0.0, 1.0), motion, z);
    }
    let (shift, spin, zoom) = handheld(b, near);
    Shot {
        position: [0.0, -eye, 0.0],
        turn: (b.random.normal() * 0.08 + yaw, b.random.normal() * 0.1 - 0.04, b.random.normal() * 0.06),
        shift,
        spin,
        view: b.random.range(30.0, 90.0),
        zoom,
    }
    .cameras(size)
}
