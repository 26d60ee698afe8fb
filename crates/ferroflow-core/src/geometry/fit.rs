//! Fitting frames of any size to the sizes that a network takes, and its flow back to the size of the input.
//!
//! Networks take sides that are multiples of a stride and not too small. [`Fit::plan`] decides the size and the place once for
//! each size of input; the [`FitPlan`] then fits frames, and fits the flow back.

use std::{borrow::Cow, ops::Range};

use super::resize::{Grid, resize_flow, resize_frame};
use crate::{FlowField, Frame, FrameView, Size};

/// How a frame is brought to the network's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fit {
    /// Adds pixels around the frame, up to the next multiples. The flow is cut out again.
    Pad(Place, Fill),
    /// Resizes up to the next multiples; the flow is resized back and each axis scaled by the ratio of the sides (NVlabs,
    /// UFlow).
    Resize(Grid),
    /// Resizes to this size, whatever that of the frames; the flow is resized back as with `Resize`. The size must be one that the
    /// network takes: it is not rounded.
    To(Size, Grid),
    /// Cuts out the centre, down to the multiples below (NVIDIA's evaluation); flow outside is unknown. A side that
    /// would become too small is padded instead.
    Crop,
}

/// Where padding puts the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The frame lies in the middle; an odd pixel goes to the right and the bottom.
    Centre,
    /// The frame lies in the top left corner, with padding on the right and at the bottom.
    TopLeft,
}

/// What padding is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fill {
    /// Black.
    Zero,
    /// The nearest pixel of the frame.
    Replicate,
}

impl Fit {
    /// Pads with zeros below and to the right, as most references do.
    pub const ZEROS: Self = Self::Pad(Place::TopLeft, Fill::Zero);
    /// Resizes as OpenCV and PyTorch do.
    pub const STRETCH: Self = Self::Resize(Grid::HalfPixel);

    /// The grid of a fit that resizes; `None` for those that move no pixel to a place between others.
    pub fn grid(self) -> Option<Grid> {
        match self {
            Self::Resize(grid) | Self::To(_, grid) => Some(grid),
            Self::Pad(..) | Self::Crop => None,
        }
    }
}

impl Default for Fit {
    /// Centred, border repeated: changes no pixel and adds no false edge.
    fn default() -> Self {
        Self::Pad(Place::Centre, Fill::Replicate)
    }
}

/// One size of input fitted to one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitPlan {
    fit: Fit,
    input: Size,
    network: Size,
    /// Where the input's first pixel lies in the network's frame, (x, y); negative when cropping.
    offset: (isize, isize),
}

impl Fit {
    /// The plan for frames of `size` and a network that takes multiples of `stride` that are at least `minimum`. Zeros count as 1,
    /// so that every size has a plan.
    pub fn plan(self, size: Size, stride: usize, minimum: usize) -> FitPlan {
        let input = size.map(|side| side.max(1));
        let stride = stride.max(1);
        let least = minimum.max(1).next_multiple_of(stride);
        let network = match self {
            Fit::To(size, _) => size.map(|side| side.max(1)),
            Fit::Crop => input.map(|side| (side / stride * stride).max(least)),
            Fit::Pad(..) | Fit::Resize(_) => input.map(|side| side.next_multiple_of(stride).max(least)),
        };
        let offset = |input: usize, network: usize| match self {
            Fit::Pad(Place::TopLeft, _) | Fit::Resize(_) | Fit::To(..) => 0,
            // The centre, rounded towards the top left whether there is too much or too little.
            _ if network >= input => ((network - input) / 2) as isize,
            _ => -(((input - network) / 2) as isize),
        };
        let offset = (offset(input.width, network.width), offset(input.height, network.height));
        FitPlan { fit: self, input, network, offset }
    }
}

impl FitPlan {
    /// Size of the input.
    pub fn input(&self) -> Size {
        self.input
    }

    /// Size that the network gets.
    pub fn network(&self) -> Size {
        self.network
    }

    /// The frame as the network gets it, borrowed if it already fits.
    ///
    /// # Panics
    /// If the frame does not have the size of the plan.
    pub fn apply<'a>(&self, frame: &'a Frame) -> Cow<'a, Frame> {
        if frame.size() == self.input && self.input == self.network {
            return Cow::Borrowed(frame);
        }
        Cow::Owned(self.fitted(frame.into()))
    }

    /// As [`FitPlan::apply`], the bytes of a view as the network gets them: borrowed if they already fit and rows have no gaps.
    ///
    /// # Panics
    /// If the frame does not have the size of the plan.
    pub fn apply_view<'a>(&self, frame: FrameView<'a>) -> Cow<'a, [u8]> {
        if frame.size() == self.input && self.input == self.network {
            return frame.rgb();
        }
        Cow::Owned(self.fitted(frame).into_rgb())
    }

    fn fitted(&self, frame: FrameView<'_>) -> Frame {
        assert_eq!(frame.size(), self.input, "the plan is for another size of frame");
        if let Some(grid) = self.fit.grid() {
            return resize_frame(frame, self.network, grid);
        }
        let black = matches!(self.fit, Fit::Pad(_, Fill::Zero));
        let width = self.network.width;
        let columns = self.columns();
        let left = columns.start.saturating_add_signed(self.offset.0);
        let mut padded = Frame::black(self.network);
        for (y, to) in padded.rgb_mut().chunks_exact_mut(3 * width).enumerate() {
            let place = y as isize - self.offset.1;
            let inside = place.clamp(0, self.input.height as isize - 1);
            if black && inside != place {
                continue;
            }
            let from = frame.row(inside as usize);
            let (before, rest) = to.split_at_mut(3 * left);
            let (seen, after) = rest.split_at_mut(3 * columns.len());
            seen.copy_from_slice(&from[3 * columns.start..3 * columns.end]);
            if !black {
                before.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&from[..3]));
                after.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&from[from.len() - 3..]));
            }
        }
        padded
    }

    /// The reverse of [`FitPlan::restore`], coarsely: a flow of the input, in its pixels, as planar `[2, h, w]` in pixels of a size that
    /// divides the network's. Each value is the mean over what it stands for; padding has the flow of the border.
    ///
    /// # Panics
    /// If the flow does not have the size of the input, or the size does not divide the network's.
    pub fn coarse(&self, flow: &FlowField, to: Size) -> Vec<f32> {
        assert_eq!(flow.size(), self.input, "the plan is for another size of flow");
        let Size { height, width } = self.network;
        let divides = to.height > 0 && to.width > 0 && height % to.height == 0 && width % to.width == 0;
        assert!(divides, "{to} does not divide {}", self.network);
        let (rows, columns) = (height / to.height, width / to.width);
        let resizes = self.fit.grid().is_some();
        // The input's pixel of a network's one along an axis.
        let source = |at: usize, offset: isize, network: usize, input: usize| match resizes {
            true => (2 * at + 1) * input / (2 * network),
            false => (at as isize - offset).clamp(0, input as isize - 1) as usize,
        };
        let ratio = |network: usize, input: usize| if resizes { network as f32 / input as f32 } else { 1.0 };
        let scale = [
            ratio(width, self.input.width) / (rows * columns * columns) as f32,
            ratio(height, self.input.height) / (rows * columns * rows) as f32,
        ];
        let mut coarse = vec![0.0; 2 * to.pixels()];
        let (u, v) = coarse.split_at_mut(to.pixels());
        for y in 0..height {
            let from_y = source(y, self.offset.1, height, self.input.height);
            for x in 0..width {
                let (du, dv) = flow.get(source(x, self.offset.0, width, self.input.width), from_y);
                let at = y / rows * to.width + x / columns;
                (u[at], v[at]) = (u[at] + scale[0] * du, v[at] + scale[1] * dv);
            }
        }
        coarse
    }

    /// Turns the network's flow, in pixels of the network's frame, into flow of the input, in pixels of the input.
    ///
    /// The flow may be coarser than the network's frame, for example 1/4 of its size. It is taken to cover the whole frame and is
    /// resized in one step.
    pub fn restore(&self, flow: FlowField) -> FlowField {
        let Size { height, width } = self.input;
        if let Some(grid) = self.fit.grid() {
            let scale = (width as f32 / self.network.width as f32, height as f32 / self.network.height as f32);
            return resize_flow(&flow, self.input, scale, grid);
        }
        let flow = if flow.size() == self.network {
            flow
        } else {
            resize_flow(&flow, self.network, (1.0, 1.0), Grid::HalfPixel)
        };
        if self.input == self.network {
            return flow;
        }
        let (columns, rows) = (self.columns(), self.rows());
        let at = |x: usize, y: usize| (x.saturating_add_signed(self.offset.0), y.saturating_add_signed(self.offset.1));
        if flow.validity().is_some() || columns.len() < width || rows.len() < height {
            return FlowField::sparse_from_fn(self.input, |x, y| {
                let (in_x, in_y) = at(x, y);
                if columns.contains(&x) && rows.contains(&y) { flow.known(in_x, in_y) } else { None }
            });
        }
        let mut cut = FlowField::zeros(self.input);
        let (u, v) = cut.planes_mut();
        for (to, from) in [(u, flow.u()), (v, flow.v())] {
            for (y, to) in to.chunks_exact_mut(width).enumerate() {
                let (x, y) = at(0, y);
                to.copy_from_slice(&from[y * flow.width() + x..][..width]);
            }
        }
        cut
    }

    /// The columns of the input that the network sees.
    fn columns(&self) -> Range<usize> {
        shared(self.input.width, self.network.width, self.offset.0)
    }

    /// The rows of the input that the network sees.
    fn rows(&self) -> Range<usize> {
        shared(self.input.height, self.network.height, self.offset.1)
    }
}

/// The part of a side of the input that lies within the network's frame.
fn shared(input: usize, network: usize, offset: isize) -> Range<usize> {
    let first = (-offset).max(0) as usize;
    first..input.min(network.saturating_add_signed(-offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FITS: [Fit; 7] = [
        Fit::Pad(Place::Centre, Fill::Zero),
        Fit::Pad(Place::Centre, Fill::Replicate),
        Fit::Pad(Place::TopLeft, Fill::Zero),
        Fit::Pad(Place::TopLeft, Fill::Replicate),
        Fit::Resize(Grid::HalfPixel),
        Fit::Resize(Grid::Asymmetric),
        Fit::Crop,
    ];

    fn numbered(width: usize, height: usize) -> Frame {
        Frame::from_fn(Size { height, width }, |x, y| [x as u8 + 1, y as u8 + 1, 7])
    }

    #[test]
    fn an_even_flow_is_even_in_pixels_of_the_network() {
        let flow = FlowField::from_fn(Size::new(11, 13), |_, _| (3.0, -2.0));
        for fit in FITS {
            let plan = fit.plan(flow.size(), 8, 8);
            let to = plan.network().map(|side| side / 8);
            let scale = |network: usize, input: usize| match fit.grid() {
                Some(_) => network as f32 / input as f32 / 8.0,
                None => 1.0 / 8.0,
            };
            let expected = [3.0 * scale(plan.network().width, 13), -2.0 * scale(plan.network().height, 11)];
            let coarse = plan.coarse(&flow, to);
            assert_eq!(coarse.len(), 2 * to.pixels());
            for (plane, expected) in coarse.chunks_exact(to.pixels()).zip(expected) {
                assert!(plane.iter().all(|v| (v - expected).abs() < 1e-5), "{fit:?}: {plane:?}, not {expected}");
            }
        }
    }

    #[test]
    fn padding_by_hand() {
        let frame = numbered(5, 2);
        let centred = Fit::Pad(Place::Centre, Fill::Zero).plan(frame.size(), 8, 1);
        let padded = centred.apply(&frame);
        assert_eq!((centred.network(), padded.size()), (Size::new(8, 8), Size::new(8, 8)));
        // (8 - 5) / 2 = 1 on the left, (8 - 2) / 2 = 3 above.
        assert_eq!((padded.pixel(0, 3), padded.pixel(1, 3), padded.pixel(1, 2)), ([0; 3], [1, 1, 7], [0; 3]));
        let corner = Fit::Pad(Place::TopLeft, Fill::Replicate).plan(frame.size(), 8, 1).apply(&frame);
        assert_eq!((corner.pixel(0, 0), corner.pixel(7, 7)), ([1, 1, 7], [5, 2, 7]));
    }

    #[test]
    fn cropping_by_hand() {
        let plan = Fit::Crop.plan(Size::new(10, 11), 4, 8);
        assert_eq!(plan.network(), Size::new(8, 8));
        assert_eq!(plan.apply(&numbered(11, 10)).pixel(0, 0), [2, 2, 7]);
        let flow = plan.restore(FlowField::from_fn(Size::new(8, 8), |x, y| (x as f32, y as f32)));
        assert!(!flow.is_valid(0, 5) && !flow.is_valid(9, 5) && flow.is_valid(8, 5));
        assert_eq!((flow.known(1, 1), flow.known(8, 8)), (Some((0.0, 0.0)), Some((7.0, 7.0))));
        // A side below the least is padded.
        assert_eq!(Fit::Crop.plan(Size::new(70, 3), 64, 64).network(), Size::new(64, 64));
    }

    #[test]
    fn resizing_scales_each_axis() {
        let plan = Fit::Resize(Grid::HalfPixel).plan(Size::new(50, 96), 64, 64);
        assert_eq!(plan.network(), Size::new(64, 128));
        let flow = plan.restore(FlowField::from_fn(Size::new(16, 32), |_, _| (4.0, 6.4)));
        assert!((flow.u()[0] - 3.0).abs() < 1e-6 && (flow.v()[0] - 5.0).abs() < 1e-5);
    }

    #[test]
    fn a_given_size_may_be_smaller_than_the_frames() {
        let frame = numbered(100, 40);
        let plan = Fit::To(Size::new(64, 32), Grid::HalfPixel).plan(frame.size(), 32, 32);
        assert_eq!((plan.network(), plan.apply(&frame).size()), (Size::new(64, 32), Size::new(64, 32)));
        let flow = plan.restore(FlowField::from_fn(Size::new(64, 32), |_, _| (8.0, 8.0)));
        assert_eq!((flow.size(), flow.known(50, 20)), (frame.size(), Some((25.0, 5.0))));
    }

    /// What [`FitPlan::apply`] and [`FitPlan::restore`] do, pixel by pixel.
    fn by_pixel(plan: &FitPlan, frame: &Frame, flow: &FlowField) -> (Frame, FlowField) {
        let black = matches!(plan.fit, Fit::Pad(_, Fill::Zero));
        let (left, top) = plan.offset;
        let applied = Frame::from_fn(plan.network, |x, y| {
            let place = (x as isize - left, y as isize - top);
            let within = |at: isize, side: usize| at.clamp(0, side as isize - 1);
            let nearest = (within(place.0, plan.input.width), within(place.1, plan.input.height));
            if black && nearest != place { [0; 3] } else { frame.pixel(nearest.0 as usize, nearest.1 as usize) }
        });
        let restored = FlowField::sparse_from_fn(plan.input, |x, y| {
            let at = (x as isize + left, y as isize + top);
            let inside = |at: isize, side: usize| (0..side as isize).contains(&at);
            let seen = inside(at.0, plan.network.width) && inside(at.1, plan.network.height);
            if seen { flow.known(at.0 as usize, at.1 as usize) } else { None }
        });
        (applied, restored)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn rows_are_copied_as_pixels_are(
            width in 1usize..=90, height in 1usize..=90, stride in prop::sample::select(vec![1usize, 8, 64]),
            minimum in 1usize..=70, fit in prop::sample::select(vec![FITS[0], FITS[1], FITS[2], FITS[3], Fit::Crop]),
            holes in any::<bool>(),
        ) {
            let plan = fit.plan(Size { height, width }, stride, minimum);
            let Size { height: h, width: w } = plan.network();
            let frame = numbered(width, height);
            let flow = FlowField::sparse_from_fn(Size::new(h, w), |x, y| {
                (!holes || (x + y) % 5 > 0).then_some((x as f32, y as f32))
            });
            let (applied, restored) = by_pixel(&plan, &frame, &flow);
            prop_assert_eq!(&*plan.apply_view((&frame).into()), applied.rgb());
            prop_assert_eq!(plan.apply(&frame).into_owned(), applied);
            prop_assert_eq!(plan.restore(flow), restored);
        }

        #[test]
        fn any_size_goes_there_and_comes_back(
            width in 1usize..=200, height in 1usize..=200,
            stride in prop::sample::select(vec![1usize, 4, 32, 64]), minimum in 1usize..=130,
            fit in prop::sample::select(FITS.to_vec()), coarse in prop::sample::select(vec![1usize, 4]),
        ) {
            let plan = fit.plan(Size { height, width }, stride, minimum);
            let Size { height: h, width: w } = plan.network();
            prop_assert!(w % stride == 0 && h % stride == 0 && w >= minimum && h >= minimum);
            let original = numbered(width, height);
            let frame = plan.apply(&original);
            prop_assert_eq!(frame.size(), plan.network());
            let coarse = if stride % coarse == 0 { coarse } else { 1 };
            let flow = plan.restore(FlowField::from_fn(Size { height: h / coarse, width: w / coarse }, |_, _| (2.0, -3.0)));
            prop_assert_eq!(flow.size(), original.size());
            prop_assert!(matches!(fit, Fit::Crop) || flow.validity().is_none());
        }

        #[test]
        fn padding_and_cropping_move_no_pixel(width in 1usize..=200, height in 1usize..=200, fit in 0usize..4) {
            // The flow of a frame whose pixels carry their own place, through the network's frame and back.
            for fit in [FITS[fit], Fit::Crop] {
                let original = numbered(width, height);
                let plan = fit.plan(original.size(), 64, 64);
                let seen = plan.apply(&original);
                let echo = FlowField::from_fn(seen.size(), |x, y| {
                    let [r, g, _] = seen.pixel(x, y);
                    (f32::from(r), f32::from(g))
                });
                let back = plan.restore(echo);
                for y in 0..height {
                    for x in 0..width {
                        if let Some(place) = back.known(x, y) {
                            prop_assert_eq!(place, ((x + 1) as f32, (y + 1) as f32));
                        }
                    }
                }
            }
        }
    }
}
