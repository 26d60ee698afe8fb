//! The gradients of the values of a plan, buffer by buffer.

use ferroflow_kernels::{BlocksMut, Buffer, LANES, Update};

use super::super::value::{Plane, Value};

/// A gradient that is wanted, and how.
pub type Target<'a, 'b, 'c> = Option<(Update, &'a mut BlocksMut<'b, 'c>)>;

/// One buffer for each buffer of values whose gradient somebody has begun.
pub struct ValueGradients {
    /// Floats of each buffer of values.
    lens: Vec<usize>,
    wanted: Vec<bool>,
    held: Vec<Option<Buffer>>,
    /// Buffers nobody uses at the moment, and their floats.
    free: Vec<(usize, Buffer)>,
}

impl ValueGradients {
    pub fn new(lens: &[usize], wanted: Vec<bool>) -> Self {
        Self { lens: lens.to_vec(), wanted, held: lens.iter().map(|_| None).collect(), free: Vec::new() }
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        let held = self.held.iter().flatten().map(|b| b.len()).sum::<usize>();
        4 * (held + self.free.iter().map(|(_, b)| b.len()).sum::<usize>())
    }

    /// Frees the buffers that nobody uses at the moment.
    pub fn free_unused(&mut self) {
        self.free.clear();
    }

    /// Whether any part of a value wants its gradient.
    pub fn wants(&self, value: &Value) -> bool {
        value.planes.iter().any(|plane| self.wanted[plane.buffer])
    }

    /// A buffer of at least `len` floats of any value.
    fn take(&mut self, len: usize) -> Buffer {
        match self.free.iter().position(|(held, _)| *held == len) {
            Some(i) => self.free.swap_remove(i).1,
            None => Buffer::zeroed(len),
        }
    }

    fn give(&mut self, len: usize, buffer: Buffer) {
        self.free.push((len, buffer));
    }

    /// Calls `f` with the gradients of a value's planes, to be overwritten if nobody has added to any of them yet, else
    /// added to. Planes that want no gradient get a buffer that is thrown away.
    pub fn with(&mut self, value: &Value, f: impl FnOnce(Update, &mut BlocksMut<'_, '_>)) {
        self.lend(value, |_, update, d| f(update, d));
    }

    /// The same with two values at once, and returns true; false if not both want a gradient, or if they share a buffer.
    pub fn with_both(
        &mut self,
        [first, second]: [&Value; 2],
        f: impl FnOnce(Target<'_, '_, '_>, Target<'_, '_, '_>),
    ) -> bool {
        let shared = first.planes.iter().any(|p| second.planes.iter().any(|q| p.buffer == q.buffer));
        if shared || !self.wants(first) || !self.wants(second) {
            return false;
        }
        self.lend(first, |gradients, update, d_first| {
            gradients.lend(second, |_, of_second, d_second| f(Some((update, d_first)), Some((of_second, d_second))));
        });
        true
    }

    fn lend(&mut self, value: &Value, f: impl FnOnce(&mut Self, Update, &mut BlocksMut<'_, '_>)) {
        let whole = |plane: &Plane| plane.start == 0 && plane.len == self.lens[plane.buffer];
        let fresh = |plane: &Plane| !self.wanted[plane.buffer] || (self.held[plane.buffer].is_none() && whole(plane));
        let update = if value.planes.iter().all(fresh) { Update::Overwrite } else { Update::Add };
        // A value may list a buffer twice: two parts of a stack, or a value concatenated with itself.
        let first =
            |i: usize| value.planes.iter().position(|plane| plane.buffer == value.planes[i].buffer).unwrap_or(i);
        let mut buffers: Vec<Buffer> = Vec::with_capacity(value.planes.len());
        for (i, plane) in value.planes.iter().enumerate() {
            let len = self.lens[plane.buffer];
            let held = if self.wanted[plane.buffer] && first(i) == i { self.held[plane.buffer].take() } else { None };
            buffers.push(match held {
                Some(buffer) => buffer,
                None => {
                    let mut buffer = self.take(len);
                    if update == Update::Add {
                        buffer.fill(0.0);
                    }
                    buffer
                }
            });
        }
        {
            let planes = buffers.iter_mut().zip(&value.planes);
            let mut planes: Vec<&mut [f32]> = planes.map(|(b, p)| &mut b[p.start..][..p.len]).collect();
            f(self, update, &mut BlocksMut { extent: value.extent, planes: &mut planes });
        }
        for (i, plane) in value.planes.iter().enumerate().rev() {
            let Some(buffer) = buffers.pop() else { break };
            if let Some(whole) = buffers.get_mut(first(i)) {
                let (sum, own) = (&mut whole[plane.start..][..plane.len], &buffer[plane.start..][..plane.len]);
                sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                self.give(self.lens[plane.buffer], buffer);
            } else if self.wanted[plane.buffer] {
                self.held[plane.buffer] = Some(buffer);
            } else {
                self.give(self.lens[plane.buffer], buffer);
            }
        }
    }

    /// Adds planar `[N, channels, H, W]` values.
    pub fn add_planar(&mut self, value: &Value, channels: usize, planar: &[f32]) {
        if !self.wants(value) {
            return;
        }
        let pixels = value.extent.h * value.extent.w;
        self.with(value, |update, d| {
            for (plane, lanes) in d.planes.iter_mut().zip(value.lanes.chunks(LANES)) {
                if update == Update::Overwrite {
                    plane.fill(0.0);
                }
                for (lane, channel) in lanes.iter().enumerate() {
                    let Some(channel) = channel else { continue };
                    for (n, image) in plane.chunks_exact_mut(pixels * LANES).enumerate() {
                        let from = &planar[(n * channels + *channel as usize) * pixels..][..pixels];
                        image.chunks_exact_mut(LANES).zip(from).for_each(|(to, v)| to[lane] += v);
                    }
                }
            }
        });
    }

    /// The gradient of a step's output, once all its readers have added to it: planes that nobody read are zero. `None`
    /// if nobody read any or nobody wants it. Give it back with [`Self::release`].
    pub fn collect(&mut self, value: &Value) -> Option<Vec<Buffer>> {
        let begun = |plane: &Plane| self.held[plane.buffer].is_some();
        if !value.planes.iter().any(begun) {
            return None;
        }
        let mut buffers = Vec::with_capacity(value.planes.len());
        for plane in &value.planes {
            buffers.push(match self.held[plane.buffer].take() {
                Some(buffer) => buffer,
                None => {
                    let mut buffer = self.take(self.lens[plane.buffer]);
                    buffer.fill(0.0);
                    buffer
                }
            });
        }
        Some(buffers)
    }

    /// Frees what [`Self::collect`] gave.
    pub fn release(&mut self, value: &Value, buffers: Vec<Buffer>) {
        for (plane, buffer) in value.planes.iter().zip(buffers) {
            self.give(self.lens[plane.buffer], buffer);
        }
    }
}
