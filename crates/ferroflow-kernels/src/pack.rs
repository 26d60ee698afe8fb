//! Frames into blocks: channel order, scale, mean and concatenation of both frames in one pass.

use crate::{
    BlocksMut, Extent, Isa, LANES,
    machine::passes::{PACK_PIXELS, PACK_RUN},
    rows::for_pixels,
    simd::{self, Kernel, NO_BYTE, Simd},
    team,
};

/// One frame of every pair of a batch, RGB 0..=255.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// `[n][3][h][w]`
    Planar(&'a [f32]),
    /// Per image `[h][w][3]`.
    Rgb(&'a [&'a [u8]]),
}

impl Pixels<'_> {
    /// One channel of pixels `first ..` of an image, as many as `to` takes.
    #[inline(always)]
    pub(crate) fn row(&self, n: usize, channel: usize, pixels: usize, first: usize, to: &mut [f32]) {
        match self {
            Pixels::Planar(values) => to.copy_from_slice(&values[(n * 3 + channel) * pixels + first..][..to.len()]),
            Pixels::Rgb(images) => {
                let row = images[n][3 * first..][..3 * to.len()].chunks_exact(3);
                to.iter_mut().zip(row).for_each(|(to, pixel)| *to = f32::from(pixel[channel]));
            }
        }
    }

    pub(crate) fn check(&self, images: usize, pixels: usize) {
        match self {
            Pixels::Planar(values) => assert!(values.len() >= images * 3 * pixels, "frame"),
            Pixels::Rgb(all) => assert!(all.len() >= images && all.iter().all(|i| i.len() >= 3 * pixels), "frame"),
        }
    }

    /// Mean of each channel of each image, `[n][3]`.
    pub fn means(&self, images: usize, pixels: usize) -> Vec<[f64; 3]> {
        (0..images)
            .map(|n| {
                // Fixed pieces, added in their order: the result does not depend on the number of threads.
                const PIECE: usize = 1 << 14;
                let sums = |first: usize| -> [f64; 3] {
                    let count = PIECE.min(pixels - first);
                    match self {
                        Pixels::Planar(values) => std::array::from_fn(|c| {
                            let plane = &values[(n * 3 + c) * pixels + first..][..count];
                            plane.chunks(256).map(|run| f64::from(run.iter().sum::<f32>())).sum()
                        }),
                        Pixels::Rgb(images) => {
                            let mut sums = [0u64; 3];
                            for pixel in images[n][3 * first..][..3 * count].chunks_exact(3) {
                                for (sum, &v) in sums.iter_mut().zip(pixel) {
                                    *sum += u64::from(v);
                                }
                            }
                            sums.map(|s| s as f64)
                        }
                    }
                };
                let pieces: Vec<_> = team::map(0..pixels.div_ceil(PIECE), |i| sums(i * PIECE)).collect();
                std::array::from_fn(|c| pieces.iter().map(|p| p[c]).sum::<f64>() / pixels as f64)
            })
            .collect()
    }
}

/// Where a lane comes from: `scale * frames[frame][channel] + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// 0 for the first frame, 1 for the second.
    pub frame: usize,
    /// 0, 1, 2 for R, G, B.
    pub channel: usize,
    /// Factor.
    pub scale: f32,
    /// Summand.
    pub offset: f32,
}

/// Writes lane `l` of image `i` from `sources[i * lanes + l]`; image `i` of the output is image `i % batch` of the
/// frames. Lanes of `None` become 0.
pub fn pack(isa: Isa, frames: [Pixels<'_>; 2], batch: usize, sources: &[Option<Source>], out: &mut BlocksMut<'_, '_>) {
    let lanes = LANES * out.planes.len();
    assert_eq!(sources.len(), lanes * out.extent.n, "sources");
    let pixels = out.extent.h * out.extent.w;
    frames.iter().for_each(|f| f.check(batch, pixels));
    for_pixels(out, |block, n, first, out| {
        let sources = &sources[n * lanes + block * LANES..][..LANES];
        simd::run(isa, Pack { frames, n: n % batch, pixels, first, sources, channels: LANES, out });
    });
}

/// The same for one block with only `channels` floats per pixel, followed by 16 of any value: less to write and to read
/// for a first layer.
pub fn pack_narrow(
    isa: Isa,
    frames: [Pixels<'_>; 2],
    batch: usize,
    extent: Extent,
    channels: usize,
    sources: &[Option<Source>],
    out: &mut [f32],
) {
    let pixels = extent.h * extent.w;
    assert_eq!(sources.len(), LANES * extent.n, "sources");
    assert!((1..=LANES).contains(&channels) && out.len() >= extent.n * pixels * channels, "output");
    frames.iter().for_each(|f| f.check(batch, pixels));
    if pixels == 0 {
        return;
    }
    for (n, image) in out[..extent.n * pixels * channels].chunks_mut(pixels * channels).enumerate() {
        team::for_chunks_mut(image, PACK_PIXELS * channels, |i, out| {
            let sources = &sources[n * LANES..][..LANES];
            simd::run(isa, Pack { frames, n: n % batch, pixels, first: i * PACK_PIXELS, sources, channels, out });
        });
    }
}

/// Pixels `first ..` of one image, as many as `out` takes.
pub(crate) struct Pack<'a> {
    pub frames: [Pixels<'a>; 2],
    /// The image.
    pub n: usize,
    /// Of an image.
    pub pixels: usize,
    pub first: usize,
    /// Of 16 lanes.
    pub sources: &'a [Option<Source>],
    /// Floats from pixel to pixel of `out`.
    pub channels: usize,
    pub out: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        if let [Pixels::Rgb(first), Pixels::Rgb(second)] = self.frames {
            let frames = [first[self.n], second[self.n]];
            match Pattern::new(self.sources, self.channels) {
                Some(pattern) => self.by_pattern::<S>(&pattern, frames),
                None => self.look_up(frames),
            }
            return;
        }
        let channels = self.channels;
        let mut values = [[0.0f32; PACK_RUN]; LANES];
        for (i, out) in self.out.chunks_mut(PACK_RUN * channels).enumerate() {
            let (first, count) = (self.first + i * PACK_RUN, out.len() / channels);
            for (values, source) in values.iter_mut().zip(self.sources) {
                if let Some(Source { frame, channel, .. }) = *source {
                    self.frames[frame].row(self.n, channel, self.pixels, first, &mut values[..count]);
                }
            }
            for (group, out) in out.chunks_mut(LANES * channels).enumerate() {
                let mut rows = [S::zero(); LANES];
                for ((row, values), source) in rows.iter_mut().zip(&values).zip(self.sources) {
                    if let Some(Source { scale, offset, .. }) = *source {
                        let v = S::read(&values[group * LANES..]);
                        *row = S::fma(v, S::splat(scale), S::splat(offset));
                    }
                }
                S::transpose(&mut rows);
                for (pixel, row) in rows.into_iter().enumerate().take(out.len() / channels) {
                    let at = pixel * channels;
                    if at + LANES <= out.len() {
                        // Past the pixel's channels this writes zeros, which the next pixel overwrites.
                        S::write(&mut out[at..], row);
                    } else {
                        let mut last = [0.0; LANES];
                        S::write(&mut last, row);
                        out[at..][..channels].copy_from_slice(&last[..channels]);
                    }
                }
            }
        }
    }
}

/// Where the 16 floats of a vector come from.
struct Gather {
    /// The first byte, of both frames.
    first: usize,
    /// Bytes from there on, see [`Simd::bytes`].
    choice: [[u8; LANES]; 2],
    scale: [f32; LANES],
    offset: [f32; LANES],
}

/// The vectors of the output until they begin with a new pixel again.
struct Pattern {
    vectors: Vec<Gather>,
    /// Bytes of a frame from one repetition to the next.
    bytes: usize,
}

impl Pattern {
    /// `None` if a vector is of so many pixels that 16 bytes of a frame do not hold them.
    fn new(sources: &[Option<Source>], channels: usize) -> Option<Self> {
        let count = (1..=channels).find(|count| (count * LANES).is_multiple_of(channels))?;
        let gather = |vector: usize| {
            let first = 3 * (vector * LANES / channels);
            let (choice, none) = ([[NO_BYTE; LANES]; 2], [0.0; LANES]);
            let mut gather = Gather { first, choice, scale: none, offset: none };
            for lane in 0..LANES {
                let (pixel, channel) = ((vector * LANES + lane) / channels, (vector * LANES + lane) % channels);
                if let Some(source) = sources[channel] {
                    let byte = 3 * pixel + source.channel - first;
                    gather.choice[source.frame][lane] = u8::try_from(byte).ok().filter(|&b| b < 16)?;
                    (gather.scale[lane], gather.offset[lane]) = (source.scale, source.offset);
                }
            }
            Some(gather)
        };
        Some(Self { vectors: (0..count).map(gather).collect::<Option<_>>()?, bytes: 3 * count * LANES / channels })
    }
}

impl Pack<'_> {
    /// Bytes of both frames, shuffled into their places and made floats 16 at a time.
    #[inline(always)]
    fn by_pattern<S: Simd>(self, pattern: &Pattern, frames: [&[u8]; 2]) {
        let repetitions = self.out.chunks_mut(LANES * pattern.vectors.len());
        for (out, begin) in repetitions.zip((3 * self.first..).step_by(pattern.bytes)) {
            for (out, Gather { first, choice, scale, offset }) in out.chunks_mut(LANES).zip(&pattern.vectors) {
                let [a, b] = frames.map(|bytes| &bytes[begin + first..]);
                if let (LANES, Some(a), Some(b)) = (out.len(), a.first_chunk(), b.first_chunk()) {
                    let scaled = S::mul(S::bytes(a, b, choice), S::read(scale));
                    S::write(out, S::add(scaled, S::read(offset)));
                } else {
                    for (lane, to) in out.iter_mut().enumerate() {
                        let byte = |bytes: &[u8], i: u8| bytes.get(usize::from(i)).copied().map_or(0.0, f32::from);
                        let byte = byte(a, choice[0][lane]) + byte(b, choice[1][lane]);
                        *to = byte * scale[lane] + offset[lane];
                    }
                }
            }
        }
    }

    /// A byte has 256 values: each lane's are computed once for these pixels, and looked up.
    #[inline(always)]
    fn look_up(self, frames: [&[u8]; 2]) {
        let mut tables = [[0.0f32; 256]; LANES];
        for (table, source) in tables.iter_mut().zip(self.sources) {
            if let Some(Source { scale, offset, .. }) = *source {
                table.iter_mut().enumerate().for_each(|(byte, v)| *v = byte as f32 * scale + offset);
            }
        }
        for (i, out) in self.out.chunks_mut(PACK_RUN * self.channels).enumerate() {
            if self.channels == LANES {
                out.fill(0.0);
            }
            let first = self.first + i * PACK_RUN;
            for ((lane, table), source) in tables.iter().enumerate().zip(self.sources) {
                let Some(Source { frame, channel, .. }) = *source else { continue };
                let bytes = frames[frame][3 * first + channel..].iter().step_by(3);
                let values = out[lane..].iter_mut().step_by(self.channels);
                values.zip(bytes).for_each(|(v, &byte)| *v = table[usize::from(byte)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value};

    #[test]
    fn frames_land_in_their_lanes_scaled() {
        let mut random = Random::new(7);
        for (batch, h, w) in [(1, 1, 1), (2, 3, 5), (2, 37, 41)] {
            let bytes: Vec<Vec<u8>> =
                (0..2 * batch).map(|_| (0..3 * h * w).map(|_| random.below(256) as u8).collect()).collect();
            let slices: Vec<&[u8]> = bytes.iter().map(|b| &b[..]).collect();
            let at = |frame: usize, n: usize, c: usize, pixel: usize| slices[frame * batch + n][3 * pixel + c];
            let planar: Vec<Vec<f32>> = (0..2)
                .map(|f| {
                    let all = (0..batch).flat_map(|n| (0..3).map(move |c| (n, c)));
                    all.flat_map(|(n, c)| (0..h * w).map(move |p| (n, c, p)))
                        .map(|(n, c, p)| f32::from(at(f, n, c, p)))
                        .collect()
                })
                .collect();
            // Two parts: 6 channels of both frames with the order reversed, then one channel in lane 17.
            let mut sources = vec![None; 2 * batch * 32];
            for n in 0..batch {
                for c in 0..6 {
                    let (frame, channel) = (c / 3, 2 - c % 3);
                    sources[n * 32 + c] = Some(Source { frame, channel, scale: 0.5, offset: n as f32 - c as f32 });
                }
                sources[(batch + n) * 32 + 17] = Some(Source { frame: 1, channel: 0, scale: -1.0, offset: 3.0 });
            }
            let rgb = [Pixels::Rgb(&slices[..batch]), Pixels::Rgb(&slices[batch..])];
            let float = [Pixels::Planar(&planar[0]), Pixels::Planar(&planar[1])];
            for isa in Isa::available() {
                for frames in [rgb, float] {
                    let mut out = Value::zeroed(32, Extent { n: 2 * batch, h, w });
                    out.write(|out| pack(isa, frames, batch, &sources, out));
                    out.assert_close(1e-6, |c, n, y, x| {
                        sources[n * 32 + c].map_or(0.0, |s| {
                            f32::from(at(s.frame, n % batch, s.channel, y * w + x)) * s.scale + s.offset
                        })
                    });
                    let extent = Extent { n: batch, h, w };
                    // Three channels take more of a frame's bytes for a vector than there are in one.
                    for channels in [3, 5, 6] {
                        let lanes = |s: &[Option<Source>]| [&s[..channels], &vec![None; LANES - channels]].concat();
                        let first: Vec<_> = sources.chunks(32).take(batch).flat_map(lanes).collect();
                        let mut narrow = vec![f32::NAN; batch * h * w * channels + LANES];
                        pack_narrow(isa, frames, batch, extent, channels, &first, &mut narrow);
                        for (i, got) in narrow[..batch * h * w * channels].iter().enumerate() {
                            let (pixel, n) = (i / channels % (h * w), i / (channels * h * w));
                            assert_eq!(*got, out.at(i % channels, n, pixel / w, pixel % w), "{channels}");
                        }
                    }
                }
            }
            for (f, frames) in [(0, rgb[0]), (1, rgb[1]), (0, float[0])] {
                for (n, means) in frames.means(batch, h * w).into_iter().enumerate() {
                    for (c, mean) in means.into_iter().enumerate() {
                        let want = (0..h * w).map(|p| f64::from(at(f, n, c, p))).sum::<f64>() / (h * w) as f64;
                        assert!((mean - want).abs() < 1e-9);
                    }
                }
            }
        }
    }
}
