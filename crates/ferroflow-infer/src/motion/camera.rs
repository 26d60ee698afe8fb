//! The motion of the whole picture: what a camera that pans, zooms and rolls does to all pixels.

use ferroflow_core::{FlowField, Size};

/// A similarity that fits most of a flow: what moves by itself does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Camera {
    /// Motion of the centre of the picture, pixels: u right, v down.
    pub pan: (f32, f32),
    /// Growth of the picture; 0.01 is a hundredth.
    pub zoom: f32,
    /// Turn of the picture, radians, clockwise on the screen.
    pub roll: f32,
    centre: (f32, f32),
}

/// A flow vector and its pixel's place, from the centre.
type Seen = [f32; 4];

impl Camera {
    /// Fits the flow, by least squares whose weights sink with what a pixel's flow differs by (Geman and McClure 1985).
    pub fn of(flow: &FlowField) -> Self {
        const PASSES: usize = 10;
        let centre = centre(flow.size());
        let seen = samples(flow, centre);
        let middle = |component: usize| median(seen.iter().map(|s| s[component]).collect());
        let mut camera = Self { pan: (middle(2), middle(3)), centre, ..Self::default() };
        for _ in 0..PASSES {
            let apart: Vec<f32> = seen.iter().map(|&[x, y, u, v]| camera.apart(x, y, u, v)).collect();
            // A tenth of a pixel is as exact as flow is.
            let usual = median(apart.clone()).max(0.1);
            let weights = apart.iter().map(|r| (1.0 + (r / usual).powi(2)).powi(-2));
            camera = fitted(seen.iter().copied().zip(weights), centre);
        }
        camera
    }

    /// The flow of a pixel that moves with the picture.
    pub fn flow(&self, x: usize, y: usize) -> (f32, f32) {
        self.at(x as f32 - self.centre.0, y as f32 - self.centre.1)
    }

    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.pan.0 + self.zoom * x - self.roll * y, self.pan.1 + self.zoom * y + self.roll * x)
    }

    fn apart(&self, x: f32, y: f32, u: f32, v: f32) -> f32 {
        let own = self.at(x, y);
        (u - own.0).hypot(v - own.1)
    }
}

fn centre(size: Size) -> (f32, f32) {
    ((size.width as f32 - 1.0) / 2.0, (size.height as f32 - 1.0) / 2.0)
}

/// Known vectors of an even grid.
fn samples(flow: &FlowField, centre: (f32, f32)) -> Vec<Seen> {
    const ACROSS: usize = 48;
    let step = |side: usize| side.div_ceil(ACROSS).max(1);
    let (dx, dy) = (step(flow.width()), step(flow.height()));
    let rows = (dy / 2..flow.height()).step_by(dy);
    let at = |(x, y): (usize, usize)| {
        let (u, v) = flow.known(x, y).filter(|(u, v)| u.is_finite() && v.is_finite())?;
        Some([x as f32 - centre.0, y as f32 - centre.1, u, v])
    };
    rows.flat_map(|y| (dx / 2..flow.width()).step_by(dx).map(move |x| (x, y))).filter_map(at).collect()
}

/// The weighted least squares of `u = pan + zoom x - roll y`, `v = pan + zoom y + roll x`.
fn fitted(seen: impl Iterator<Item = (Seen, f32)>, centre: (f32, f32)) -> Camera {
    let mut sums = [0f64; 8];
    for ([x, y, u, v], weight) in seen {
        let [x, y, u, v, w] = [x, y, u, v, weight].map(f64::from);
        let terms = [1.0, x, y, u, v, x * x + y * y, x * u + y * v, x * v - y * u];
        sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += w * term);
    }
    let [weight, ..] = sums;
    if weight <= 0.0 {
        return Camera { centre, ..Camera::default() };
    }
    let [_, x, y, u, v, spread, along, across] = sums.map(|sum| sum / weight);
    // Less is a single place, which has no size.
    let spread = spread - x * x - y * y;
    let part = |sum: f64| if spread > 1e-9 { sum / spread } else { 0.0 };
    let (zoom, roll) = (part(along - x * u - y * v), part(across - x * v + y * u));
    let pan = ((u - zoom * x + roll * y) as f32, (v - zoom * y - roll * x) as f32);
    Camera { pan, zoom: zoom as f32, roll: roll as f32, centre }
}

fn median(mut values: Vec<f32>) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_by_itself_is_left_out() {
        let size = Size::new(90, 161);
        let (cx, cy) = centre(size);
        // A third of the picture goes its own way.
        let flow = FlowField::from_fn(size, |x, y| match (x as f32 - cx, y as f32 - cy) {
            _ if x < 53 => (-20.0, 4.0),
            (x, y) => (3.0 + 0.02 * x - 0.01 * y, -1.5 + 0.02 * y + 0.01 * x),
        });
        let camera = Camera::of(&flow);
        // The weights of the others are small, not nought.
        let near = |a: f32, b: f32, by: f32| assert!((a - b).abs() < by, "{camera:?}");
        near(camera.pan.0, 3.0, 0.02);
        near(camera.pan.1, -1.5, 0.02);
        near(camera.zoom, 0.02, 2e-4);
        near(camera.roll, 0.01, 2e-4);
        let (u, v) = camera.flow(160, 0);
        near(u, flow.get(160, 0).0, 0.05);
        near(v, flow.get(160, 0).1, 0.05);
    }

    #[test]
    fn nothing_known_and_a_single_pixel_have_no_turn() {
        let nothing = FlowField::sparse_from_fn(Size::new(5, 5), |_, _| None);
        assert_eq!(Camera::of(&nothing).flow(3, 3), (0.0, 0.0));
        let camera = Camera::of(&FlowField::from_fn(Size::new(1, 1), |_, _| (2.0, 1.0)));
        assert_eq!((camera.pan, camera.zoom, camera.roll), ((2.0, 1.0), 0.0, 0.0));
    }
}
