//! Flow fields and masks.

use crate::{Size, SizeError, check_len};

/// Dense optical flow: for every pixel of frame 1, how far it moved, in pixels of the input image.
///
/// `u` points right, `v` points down; both are planes `[height, width]`. Where `valid` is present and false the flow
/// is unknown (sparse or damaged ground truth) and `u`, `v` are 0 there.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowField {
    size: Size,
    /// `u`, then `v`.
    planes: Vec<f32>,
    valid: Option<Mask>,
}

impl FlowField {
    /// Flow known at every pixel, from its two planes `[height, width]`.
    pub fn new(size: Size, mut u: Vec<f32>, v: Vec<f32>) -> Result<Self, SizeError> {
        check_len("u plane", size.height.saturating_mul(size.width), u.len())?;
        check_len("v plane", size.height.saturating_mul(size.width), v.len())?;
        u.extend(v);
        Ok(Self { size, planes: u, valid: None })
    }

    /// Flow known at every pixel, from `[2, height, width]`: `u`, then `v`.
    pub fn from_planar(size: Size, planes: Vec<f32>) -> Result<Self, SizeError> {
        check_len("u and v planes", size.height.saturating_mul(size.width).saturating_mul(2), planes.len())?;
        Ok(Self { size, planes, valid: None })
    }

    /// The same flow, known only where `valid` is true; `u` and `v` of unknown pixels become 0.
    pub fn with_validity(mut self, valid: Mask) -> Result<Self, SizeError> {
        check_len("validity mask width", self.width(), valid.width())?;
        check_len("validity mask height", self.height(), valid.height())?;
        let (u, v) = self.planes_mut();
        for ((u, v), &known) in u.iter_mut().zip(v).zip(valid.data()) {
            if !known {
                (*u, *v) = (0.0, 0.0);
            }
        }
        self.valid = Some(valid);
        Ok(self)
    }

    /// No motion anywhere.
    pub fn zeros(size: Size) -> Self {
        Self { size, planes: vec![0.0; 2 * size.pixels()], valid: None }
    }

    /// Flow computed pixel by pixel from `f(x, y) -> (u, v)`.
    pub fn from_fn(size: Size, mut f: impl FnMut(usize, usize) -> (f32, f32)) -> Self {
        let mut flow = Self::zeros(size);
        let (u, v) = flow.planes_mut();
        for (i, (u, v)) in u.iter_mut().zip(v).enumerate() {
            (*u, *v) = f(i % size.width, i / size.width);
        }
        flow
    }

    /// Flow known only where `f(x, y)` gives one; the validity mask is kept only if some pixel is unknown.
    pub fn sparse_from_fn(size: Size, mut f: impl FnMut(usize, usize) -> Option<(f32, f32)>) -> Self {
        let mut known = Vec::with_capacity(size.pixels());
        let mut flow = Self::from_fn(size, |x, y| {
            let motion = f(x, y);
            known.push(motion.is_some());
            motion.unwrap_or((0.0, 0.0))
        });
        if known.contains(&false) {
            flow.valid = Some(Mask { size, data: known });
        }
        flow
    }

    /// Height and width in pixels.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.size.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.size.height
    }

    /// Horizontal motion, `[height, width]`, pixels, right positive.
    pub fn u(&self) -> &[f32] {
        &self.planes[..self.size.pixels()]
    }

    /// Vertical motion, `[height, width]`, pixels, down positive.
    pub fn v(&self) -> &[f32] {
        &self.planes[self.size.pixels()..]
    }

    /// `(u, v)` of pixel `(x, y)`, or `None` where the flow is unknown.
    pub fn known(&self, x: usize, y: usize) -> Option<(f32, f32)> {
        self.is_valid(x, y).then(|| self.get(x, y))
    }

    /// `(u, v)` of pixel `(x, y)` as far as it says anything: known, finite and below 1e9 px.
    pub fn motion(&self, x: usize, y: usize) -> Option<(f32, f32)> {
        self.known(x, y).filter(|&(u, v)| is_motion(u, v))
    }

    /// Both planes, to change in place.
    pub fn planes_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.planes.split_at_mut(self.size.pixels())
    }

    /// `[2, height, width]`: `u`, then `v`, without a copy. Where the flow is unknown, both are 0.
    pub fn into_planar(self) -> Vec<f32> {
        self.planes
    }

    /// Where the flow is known; `None` means everywhere.
    pub fn validity(&self) -> Option<&Mask> {
        self.valid.as_ref()
    }

    /// Whether the flow of pixel `(x, y)` is known.
    pub fn is_valid(&self, x: usize, y: usize) -> bool {
        self.valid.as_ref().is_none_or(|m| m.get(x, y))
    }

    /// `(u, v)` of pixel `(x, y)`; `(0, 0)` where the flow is unknown.
    pub fn get(&self, x: usize, y: usize) -> (f32, f32) {
        let i = y * self.size.width + x;
        (self.planes[i], self.planes[self.size.pixels() + i])
    }
}

/// Whether a vector says how something moved: both components are finite and below 1e9 px, Middlebury's mark of the unknown.
pub(crate) fn is_motion(u: f32, v: f32) -> bool {
    // NaN is below nothing.
    u.abs() < 1e9 && v.abs() < 1e9
}

/// A yes/no image, `[height, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    size: Size,
    data: Vec<bool>,
}

impl Mask {
    /// A mask from its values, `[height, width]`.
    pub fn new(size: Size, data: Vec<bool>) -> Result<Self, SizeError> {
        check_len("mask", size.height.saturating_mul(size.width), data.len())?;
        Ok(Self { size, data })
    }

    /// The same value everywhere.
    pub fn filled(size: Size, value: bool) -> Self {
        Self { size, data: vec![value; size.pixels()] }
    }

    /// A mask computed pixel by pixel from `f(x, y)`.
    pub fn from_fn(size: Size, mut f: impl FnMut(usize, usize) -> bool) -> Self {
        let mut data = Vec::with_capacity(size.pixels());
        for y in 0..size.height {
            data.extend((0..size.width).map(|x| f(x, y)));
        }
        Self { size, data }
    }

    /// Height and width in pixels.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.size.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.size.height
    }

    /// The values, `[height, width]`.
    pub fn data(&self) -> &[bool] {
        &self.data
    }

    /// The values, to change in place.
    pub fn data_mut(&mut self) -> &mut [bool] {
        &mut self.data
    }

    /// The values, `[height, width]`, without a copy.
    pub fn into_data(self) -> Vec<bool> {
        self.data
    }

    /// The value at `(x, y)`.
    pub fn get(&self, x: usize, y: usize) -> bool {
        self.data[y * self.size.width + x]
    }

    /// How many pixels are true.
    pub fn count(&self) -> usize {
        self.data.iter().filter(|&&b| b).count()
    }
}
