//! Float images, and the pairs of them that augmentations change.

use ferroflow_core::geometry::resize::{self, Grid};
use ferroflow_core::{FlowField, Frame, Mask, Size};

use crate::Sample;
use crate::math::floor;

/// An image of floats, interleaved `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Values per pixel.
    pub channels: usize,
    /// The values.
    pub data: Vec<f32>,
}

impl Image {
    /// An image computed value by value from `f(x, y, channel)`.
    pub fn from_fn(size: Size, channels: usize, mut f: impl FnMut(usize, usize, usize) -> f32) -> Self {
        let Size { height, width } = size;
        let mut data = Vec::with_capacity(size.pixels() * channels);
        for y in 0..height {
            for x in 0..width {
                data.extend((0..channels).map(|c| f(x, y, c)));
            }
        }
        Self { width, height, channels, data }
    }

    /// An image of a frame's values, 0 to 255.
    pub fn from_frame(frame: &Frame) -> Self {
        let data = frame.rgb().iter().map(|&b| f32::from(b)).collect();
        Self { width: frame.width(), height: frame.height(), channels: 3, data }
    }

    /// The frame of these values, rounded to 8 bits.
    pub fn to_frame(&self) -> Frame {
        let bytes = self.data.iter().map(|v| (v + 0.5).clamp(0.0, 255.0) as u8).collect();
        Frame::new(self.size(), bytes).expect("an image of three channels holds width * height * 3 values")
    }

    /// Height and width in pixels.
    pub fn size(&self) -> Size {
        Size { height: self.height, width: self.width }
    }

    /// One value.
    pub fn at(&self, x: usize, y: usize, channel: usize) -> f32 {
        self.data[(y * self.width + x) * self.channels + channel]
    }

    /// The window of `size` whose top left pixel is `at` (x, y).
    pub fn crop(&self, at: (usize, usize), size: Size) -> Self {
        let mut data = Vec::with_capacity(size.pixels() * self.channels);
        for y in at.1..at.1 + size.height {
            let start = (y * self.width + at.0) * self.channels;
            data.extend_from_slice(&self.data[start..start + size.width * self.channels]);
        }
        Self { width: size.width, height: size.height, channels: self.channels, data }
    }

    /// The image mirrored left to right (`horizontal`) or top to bottom.
    pub fn flip(&self, horizontal: bool) -> Self {
        let mut data = Vec::with_capacity(self.data.len());
        let rows = self.data.chunks_exact((self.width * self.channels).max(1));
        if horizontal {
            rows.for_each(|row| row.chunks_exact(self.channels).rev().for_each(|pixel| data.extend_from_slice(pixel)));
        } else {
            rows.rev().for_each(|row| data.extend_from_slice(row));
        }
        Self { data, ..*self }
    }

    /// Bilinear value at any point; pixels outside count as zero.
    pub fn sample_zero(&self, x: f32, y: f32, channel: usize) -> f32 {
        let (x0, y0) = (floor(x), floor(y));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let at = |x: i32, y: i32| {
            let inside = x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height;
            if inside { self.at(x as usize, y as usize, channel) } else { 0.0 }
        };
        let top = at(x0, y0) * (1.0 - fx) + at(x0 + 1, y0) * fx;
        let bottom = at(x0, y0 + 1) * (1.0 - fx) + at(x0 + 1, y0 + 1) * fx;
        top * (1.0 - fy) + bottom * fy
    }

    /// The image resized bilinearly on the half-pixel grid, with the border repeated and without smoothing.
    pub fn resize(&self, size: Size) -> Self {
        if size == self.size() {
            return self.clone();
        }
        let data = resize::resize(&self.data, self.size(), self.channels, size, Grid::HalfPixel);
        Self { width: size.width, height: size.height, channels: self.channels, data }
    }
}

/// Two frames, 0..255, with flow in pixels `(u, v)` and masks, all of one size unless a step says otherwise.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Both frames, three channels.
    pub images: [Image; 2],
    /// Flow, two channels; zero where unknown.
    pub flow: Option<Image>,
    /// 1 where the flow is known, 0 elsewhere; `None` = everywhere.
    pub valid: Option<Image>,
    /// 1 where frame 1 is occluded. Steps that resample drop it.
    pub occlusion: Option<Image>,
}

fn mask_image(mask: &Mask) -> Image {
    let data = mask.data().iter().map(|&b| f32::from(u8::from(b))).collect();
    Image { width: mask.width(), height: mask.height(), channels: 1, data }
}

fn image_mask(image: &Image) -> Mask {
    Mask::from_fn(image.size(), |x, y| image.at(x, y, 0) > 0.5)
}

impl Pair {
    /// The pair of a sample.
    pub fn from_sample(sample: &Sample) -> Self {
        let flow = sample.flow.as_ref().map(|f| {
            let data = f.u().iter().zip(f.v()).flat_map(|(&u, &v)| [u, v]).collect();
            Image { width: f.width(), height: f.height(), channels: 2, data }
        });
        Self {
            images: [Image::from_frame(&sample.first), Image::from_frame(&sample.second)],
            flow,
            valid: sample.flow.as_ref().and_then(|f| f.validity()).map(mask_image),
            occlusion: sample.occlusion.as_ref().map(mask_image),
        }
    }

    /// The sample of a pair, with frames rounded to 8 bits.
    pub fn into_sample(self, id: String) -> Sample {
        let flow = self.flow.map(|f| {
            let (u, v) = f.data.chunks_exact(2).map(|p| (p[0], p[1])).unzip();
            let field = FlowField::new(f.size(), u, v).expect("a flow image holds two values a pixel");
            match &self.valid {
                Some(valid) => field.with_validity(image_mask(valid)).expect("flow and mask change together"),
                None => field,
            }
        });
        let occlusion = self.occlusion.as_ref().map(image_mask);
        let [first, second] = self.images.map(|i| i.to_frame());
        Sample { first, second, flow, occlusion, original: None, surround: None, id }
    }

    /// Size of frame 1.
    pub fn size(&self) -> Size {
        self.images[0].size()
    }

    /// Changes every plane in the same way.
    pub fn map(self, f: impl Fn(&Image) -> Image) -> Self {
        let [a, b] = &self.images;
        Self {
            images: [f(a), f(b)],
            flow: self.flow.as_ref().map(&f),
            valid: self.valid.as_ref().map(&f),
            occlusion: self.occlusion.as_ref().map(&f),
        }
    }

    /// The same window of all planes.
    pub fn crop(self, at: (usize, usize), size: Size) -> Self {
        self.map(|image| image.crop(at, size))
    }

    /// The pair mirrored left to right (u changes sign) or top to bottom (v changes sign).
    pub fn flip(self, horizontal: bool) -> Self {
        let mut flipped = self.map(|image| image.flip(horizontal));
        if let Some(flow) = &mut flipped.flow {
            for pixel in flow.data.chunks_exact_mut(2) {
                let component = &mut pixel[usize::from(!horizontal)];
                *component = -*component;
            }
        }
        flipped
    }
}
