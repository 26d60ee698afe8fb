//! Things that stand about: cars, houses, trees, poles, wires, fences, furniture, cut-outs.

use super::build::{Builder, Look, ground, rectangle, shaded, tier, upright};
use super::space::{Plane, Rigid, Vector, plus, rotation};
use super::{Face, Part, Skin};
use crate::math::{cos_turns, sin_turns};
use crate::synth::shape;
use crate::synth::texture::Material;

/// A car whose front points along z before it is turned by `yaw`, with what moves it.
pub fn car(b: &mut Builder, foot: Vector, yaw: f32, motion: Rigid, distance: f64) {
    let van = b.random.chance(0.25);
    let (width, length) = (b.range(1.6, 2.0), b.range(3.6, 5.2));
    let (clearance, waist) = (b.range(0.2, 0.35), if van { b.range(0.9, 1.3) } else { b.range(0.7, 0.95) });
    let roof = waist + if van { b.range(0.6, 1.2) } else { b.range(0.45, 0.65) };
    let color = b.color();
    let any = b.random.chance(0.2);
    let paint = b.skin(if any { Look::Any } else { Look::Plain(color) }, 2.5);
    let glass = b.color().map(|c| 15.0 + 0.25 * c);
    let glass = b.skin(Look::Plain(glass), 1.0);
    let dark = b.skin(Look::Plain([18.0, 18.0, 20.0]), 1.0);
    let turn = rotation(yaw, 0.0, 0.0);
    let at = |x: f64, y: f64, z: f64| plus(foot, super::space::apply(&turn, [x, -y, z]), 1.0);

    let back = if van { 0.0 } else { b.range(-0.6, -0.1) };
    let cabin = if van { length - 0.9 } else { length * 0.5 };
    let mut faces =
        b.solid(at(0.0, 0.5 * (waist + roof), back), [width * 0.92, roof - waist, cabin], &turn, [&paint, &paint]);
    for face in &mut faces {
        // Sides only: the roof has no windows.
        if face.plane.down[1] > 0.9 {
            let (s, t) = (face.parts[0].contours[0][2].0, roof - waist);
            let pane = |from: f64, to: f64| rectangle((from * s, 0.12 * t), (to * s, 0.85 * t));
            let panes = if s > 2.0 { vec![pane(0.05, 0.47), pane(0.52, 0.95)] } else { vec![pane(0.07, 0.93)] };
            face.parts.push(Part { contours: panes, skin: b.lit(&glass, face.plane.normal()) });
        }
    }
    b.add(faces, motion, true, distance - 0.02);

    let mut faces =
        b.solid(at(0.0, 0.5 * (waist + clearance), 0.0), [width, waist - clearance, length], &turn, [&paint, &paint]);
    for face in &mut faces {
        if face.plane.down[1] > 0.9 {
            let (s, t) = (face.parts[0].contours[0][2].0, waist - clearance);
            let mut details = Vec::new();
            if s > 2.5 {
                // Doors.
                details.push(rectangle((0.5 * s, 0.05 * t), (0.505 * s, 0.8 * t)));
            } else {
                // Lamps and a plate.
                details.push(rectangle((0.04 * s, 0.2 * t), (0.2 * s, 0.42 * t)));
                details.push(rectangle((0.8 * s, 0.2 * t), (0.96 * s, 0.42 * t)));
                details.push(rectangle((0.38 * s, 0.55 * t), (0.62 * s, 0.75 * t)));
            }
            let color = if s > 2.5 { [20.0; 3] } else { [200.0, 120.0, 100.0] };
            let skin = b.skin(Look::Plain(color), 1.0);
            face.parts.push(Part { contours: details, skin: b.lit(&skin, face.plane.normal()) });
        }
    }
    b.add(faces, motion, true, distance - 0.01);

    // Wheels: discs just outside the sides, seen from there.
    let mut wheels = Vec::new();
    let radius = 0.33;
    for side in [-1.0, 1.0] {
        let center = at(side * (0.5 * width + 0.01), radius, 0.0);
        let outwards = super::space::apply(&turn, [side, 0.0, 0.0]);
        let plane = upright(center, (-outwards[0], -outwards[2]));
        let disc = |z: f64, r: f64| -> Vec<(f64, f64)> {
            (0..16)
                .map(|i| {
                    let turn = i as f32 / 16.0;
                    (z + r * f64::from(cos_turns(turn)), r * f64::from(sin_turns(turn)))
                })
                .collect()
        };
        let mut face = b.face(plane, vec![disc(-0.31 * length, radius), disc(0.31 * length, radius)], &dark);
        let hub = b.skin(Look::Plain([120.0; 3]), 1.0);
        face.parts.push(Part { contours: vec![disc(-0.31 * length, 0.18), disc(0.31 * length, 0.18)], skin: hub });
        wheels.push(face);
    }
    b.add(wheels, motion, false, distance - 0.015);
    shadow(b, foot, (width * 1.15, length * 1.05), yaw, motion);
}

/// A dark patch under a body; it moves with the body, the flow is the ground's.
pub fn shadow(b: &mut Builder, foot: Vector, size: (f64, f64), yaw: f32, motion: Rigid) {
    let turn = rotation(yaw, 0.0, 0.0);
    let corner = |x: f64, z: f64| {
        let p = super::space::apply(&turn, [x * size.0 * 0.5, 0.0, z * size.1 * 0.5]);
        (foot[0] + p[0], -(foot[2] + p[2]))
    };
    let contour = vec![corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)];
    let skin = b.skin(Look::Plain([4.0; 3]), 1.0);
    let opacity = b.random.range(0.25, 0.48);
    let plane = ground(foot[1]);
    let face = Face { plane, parts: vec![Part { contours: vec![contour], skin }], two_sided: false, opacity };
    b.add(vec![face], motion, false, tier::SHADOW);
}

/// A flat thing of drawn pieces, about `size` high, its lower edge at `foot`, facing those who look along `(x, z)`.
pub fn cutout(b: &mut Builder, foot: Vector, size: f64, along: (f64, f64), motion: Rigid, distance: f64) {
    let is_chair = b.random.chance(0.4);
    let pieces = if is_chair { shape::chair(&mut b.random) } else { shape::thing(&mut b.random) };
    let skins: Vec<Skin> = (0..3)
        .map(|_| {
            let metres = size * b.log_range(0.5, 3.0);
            b.skin(Look::Any, metres)
        })
        .collect();
    let lowest = pieces.iter().flat_map(|p| &p.contours).flatten().fold(0.0f32, |low, p| low.max(p.1));
    let plane = upright(plus(foot, [0.0, -size * f64::from(lowest), 0.0], 1.0), along);
    let parts = pieces
        .iter()
        .map(|piece| {
            let place = |p: &(f32, f32)| (f64::from(p.0) * size, f64::from(p.1) * size);
            let mut skin = b.lit(&skins[piece.paint % 3], plane.normal());
            if piece.plain {
                let mean = skin.tile.mean();
                skin.bias = std::array::from_fn(|k| skin.bias[k] + mean[k] * skin.gain[k]);
                skin.gain = [0.0; 3];
            }
            let contours = piece.contours.iter().map(|c| c.iter().map(place).collect()).collect();
            Part { contours, skin: shaded(&skin, piece.shade) }
        })
        .collect();
    b.add(vec![Face { plane, parts, two_sided: true, opacity: 1.0 }], motion, false, distance);
}

/// A tree: a trunk and a few crowns of leaves in different depths.
pub fn tree(b: &mut Builder, foot: Vector, distance: f64) {
    let height = b.range(3.0, 11.0);
    let thickness = height * b.range(0.02, 0.05);
    let trunk = b.skin(Look::Of(Material::Wood), 1.5);
    let high = height * b.range(0.5, 0.7);
    b.block(foot, [thickness, high, thickness], 0.3, [&trunk, &trunk], Rigid::STILL, distance);
    let metres = b.range(1.0, 3.0);
    let leaves = b.skin(Look::Of(Material::Foliage), metres);
    for layer in 0..3 {
        let (width, tall) = (height * b.range(0.2, 0.35), height * b.range(0.18, 0.3));
        let offset = b.range(-0.12, 0.12) * height;
        let depth = 0.4 * (layer as f64 - 1.0);
        let center = [foot[0] + offset, foot[1] - height * b.range(0.6, 0.85), foot[2] + depth];
        let plane = upright(center, (foot[0] * 0.3, foot[2].max(0.1)));
        let waves: Vec<(f32, f32)> = (2..9).map(|_| (b.random.spread(0.16), b.random.unit())).collect();
        let contour = (0..40)
            .map(|i| {
                let turn = i as f32 / 40.0;
                let bumps = waves.iter().enumerate().map(|(k, w)| w.0 * sin_turns(turn * (2 * k + 2) as f32 + w.1));
                let radius = f64::from(1.0 + bumps.sum::<f32>());
                (width * radius * f64::from(cos_turns(turn)), tall * radius * f64::from(sin_turns(turn)))
            })
            .collect();
        let skin = shaded(&leaves, b.random.range(0.75, 1.2));
        let parts = vec![Part { contours: vec![contour], skin }];
        let face = Face { plane, parts, two_sided: true, opacity: 1.0 };
        b.add(vec![face], Rigid::STILL, false, distance + 0.1 + depth);
    }
}

/// A pole with, by chance, a sign or a lamp on an arm.
pub fn pole(b: &mut Builder, foot: Vector, distance: f64) -> f64 {
    let (height, thickness) = (b.range(2.2, 8.0), b.range(0.05, 0.22));
    let color = b.color();
    let skin = b.skin(Look::Plain(color), 1.0);
    b.block(foot, [thickness, height, thickness], 0.4, [&skin, &skin], Rigid::STILL, distance);
    if b.random.chance(0.6) {
        let (w, h) = (b.range(0.4, 1.0), b.range(0.4, 0.9));
        let plane = upright(plus(foot, [-0.5 * w, -height, -0.5 * thickness - 0.02], 1.0), (0.0, 1.0));
        let (face, frame) = (b.color(), b.color());
        let (face, frame) = (b.skin(Look::Plain(face), 1.0), b.skin(Look::Plain(frame), 1.0));
        let mut sign = b.rectangle(plane, (w, h), &frame);
        sign.two_sided = true;
        let inner = rectangle((0.08 * w, 0.08 * h), (0.92 * w, 0.92 * h));
        sign.parts.push(Part { contours: vec![inner], skin: b.lit(&face, plane.normal()) });
        let bars = (0..3).map(|i| {
            let t = (0.25 + 0.2 * f64::from(i)) * h;
            rectangle((0.2 * w, t), (0.8 * w, t + 0.07 * h))
        });
        sign.parts.push(Part { contours: bars.collect(), skin: b.lit(&frame, plane.normal()) });
        b.add(vec![sign], Rigid::STILL, false, distance - 0.1);
    }
    height
}

/// A wire along z between two heights.
pub fn wire(b: &mut Builder, x: f64, height: f64, from: f64, to: f64, distance: f64) {
    let plane = Plane { origin: [x, -height, from], across: [0.0, 0.0, 1.0], down: [0.0, 1.0, 0.0] };
    let (thickness, sag) = (b.range(0.02, 0.06), b.range(0.2, 0.8));
    let n = 10;
    let length = to - from;
    let hang = |i: usize| {
        let f = i as f64 / n as f64;
        (f * length, 4.0 * sag * f * (1.0 - f))
    };
    let upper = (0..=n).map(hang);
    let lower = (0..=n).rev().map(|i| (hang(i).0, hang(i).1 + thickness));
    let skin = b.skin(Look::Plain([30.0; 3]), 1.0);
    let parts = vec![Part { contours: vec![upper.chain(lower).collect()], skin }];
    b.add(vec![Face { plane, parts, two_sided: true, opacity: 1.0 }], Rigid::STILL, false, distance);
}

/// A fence of bars on a plane: posts and rails, or a grid.
pub fn fence(b: &mut Builder, plane: Plane, length: f64, motion: Rigid, distance: f64) {
    let height = b.range(0.8, 1.8);
    let (gap, bar) = (b.range(0.12, 0.5), b.range(0.02, 0.08));
    let posts = ((length / gap) as usize).clamp(1, 120);
    let rails = if b.random.chance(0.3) { ((height / gap) as usize).max(2) } else { 2 };
    let mut contours: Vec<_> = (0..=posts)
        .map(|i| {
            let s = length * i as f64 / posts as f64;
            rectangle((s, -height), (s + bar, 0.0))
        })
        .collect();
    contours.extend((0..rails).map(|i| {
        let t = -height * (0.92 - 0.8 * i as f64 / rails as f64);
        rectangle((0.0, t), (length, t + bar))
    }));
    let color = b.color();
    let look = if b.random.chance(0.5) { Look::Of(Material::Wood) } else { Look::Plain(color) };
    let skin = b.skin(look, 1.5);
    let mut face = b.face(plane, contours, &skin);
    face.two_sided = true;
    b.add(vec![face], motion, false, distance);
}

/// A sheet of glass: it tints what is behind it and does not move the flow.
pub fn glass(b: &mut Builder, foot: Vector, size: (f64, f64), along: (f64, f64), motion: Rigid, distance: f64) {
    let look = if b.random.chance(0.5) { Look::Any } else { Look::Of(Material::Sky) };
    let skin = b.skin(look, 3.0);
    let plane = upright(foot, along);
    let mut face = b.face(plane, vec![rectangle((-0.5 * size.0, -size.1), (0.5 * size.0, 0.0))], &skin);
    (face.two_sided, face.opacity) = (true, b.random.range(0.1, 0.4));
    b.add(vec![face], motion, false, distance);
}

/// A table or a shelf of boxes.
pub fn furniture(b: &mut Builder, foot: Vector, yaw: f32, motion: Rigid, distance: f64) {
    let look = if b.random.chance(0.5) { Look::Of(Material::Wood) } else { Look::Any };
    let metres = b.range(0.5, 2.0);
    let skin = b.skin(look, metres);
    let (width, depth, height) = (b.range(0.5, 1.6), b.range(0.4, 1.0), b.range(0.4, 1.1));
    let turn = rotation(yaw, 0.0, 0.0);
    if b.random.chance(0.5) {
        // Low furniture is looked down on: the top hides the legs.
        let thickness = b.range(0.03, 0.08);
        let top = plus(foot, [0.0, -height + 0.5 * thickness, 0.0], 1.0);
        let faces = b.solid(top, [width, thickness, depth], &turn, [&skin, &skin]);
        b.add(faces, motion, true, distance - 0.02);
        let leg = b.range(0.03, 0.08);
        for (x, z) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
            let offset = super::space::apply(&turn, [x * (0.5 * width - leg), 0.0, z * (0.5 * depth - leg)]);
            let at = plus(foot, offset, 1.0);
            let near = distance - 0.01 + 0.001 * offset[2];
            b.block(at, [leg, height - thickness, leg], yaw, [&skin, &skin], motion, near);
        }
    } else {
        let tall = height * b.range(0.7, 2.2);
        b.block(foot, [width, tall, depth], yaw, [&skin, &skin], motion, distance);
        let color = b.color();
        let plain = b.skin(Look::Plain(color), 1.0);
        let over = b.skin(Look::Any, 0.4);
        // Something on top of it.
        let small = [width * b.range(0.1, 0.5), b.range(0.1, 0.4), depth * b.range(0.2, 0.7)];
        let on = plus(foot, [0.0, -tall, 0.0], 1.0);
        b.block(on, small, yaw + 0.4, [&over, &plain], motion, distance - 0.03);
    }
    shadow(b, foot, (width * 1.1, depth * 1.15), yaw, motion);
}
