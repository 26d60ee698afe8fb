//! The block in f64 on planar values, as plain as can be: what the tests compare with.

/// Planar values `[n][c][h][w]`.
#[derive(Clone)]
pub struct Planar {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub data: Vec<f64>,
}

impl Planar {
    pub fn zeros(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w, data: vec![0.0; n * c * h * w] }
    }

    pub fn index(&self, n: usize, c: usize, y: usize, x: usize) -> usize {
        ((n * self.c + c) * self.h + y) * self.w + x
    }

    fn at(&self, n: usize, c: usize, y: usize, x: usize) -> f64 {
        self.data[self.index(n, c, y, x)]
    }

    /// The values of one channel: indices.
    fn channel(&self, c: usize) -> Vec<usize> {
        let plane = self.h * self.w;
        (0..self.n).flat_map(|n| (0..plane).map(move |i| (n * self.c + c) * plane + i)).collect()
    }
}

/// Depthwise weights, scale, shift, 1x1 weights, scale, shift; and their gradients.
pub type Parameters = [Vec<f64>; 6];

pub struct Block {
    pub channels: usize,
    pub out: usize,
    pub stride: usize,
    pub epsilons: [f64; 2],
    pub slopes: [f64; 2],
    /// Mean and variance of each norm, if not those of the batch.
    pub given: [Option<[Vec<f64>; 2]>; 2],
}

struct Normed {
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// Before and after LeakyReLU.
    z: Planar,
    a: Planar,
}

impl Block {
    fn depthwise(&self, x: &Planar, weights: &[f64], mut visit: impl FnMut([usize; 3])) -> Planar {
        let mut d = Planar::zeros(x.n, x.c, x.h.div_ceil(self.stride), x.w.div_ceil(self.stride));
        for n in 0..x.n {
            for c in 0..x.c {
                for (y, at) in (0..d.h).flat_map(|y| (0..d.w).map(move |at| (y, at))) {
                    for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                        let (iy, ix) = (y * self.stride + ky, at * self.stride + kx);
                        if iy == 0 || iy > x.h || ix == 0 || ix > x.w {
                            continue;
                        }
                        let (to, from) = (d.index(n, c, y, at), x.index(n, c, iy - 1, ix - 1));
                        let weight = c * 9 + ky * 3 + kx;
                        d.data[to] += weights[weight] * x.data[from];
                        visit([to, from, weight]);
                    }
                }
            }
        }
        d
    }

    fn norm(&self, x: &Planar, which: usize, scale: &[f64], shift: &[f64]) -> Normed {
        let (mut z, mut a) = (x.clone(), x.clone());
        let (mut means, mut variances) = (vec![], vec![]);
        for c in 0..x.c {
            let all = x.channel(c);
            let count = all.len() as f64;
            let (mean, variance) = match &self.given[which] {
                Some([mean, variance]) => (mean[c], variance[c]),
                None => {
                    let mean = all.iter().map(|&i| x.data[i]).sum::<f64>() / count;
                    (mean, all.iter().map(|&i| (x.data[i] - mean).powi(2)).sum::<f64>() / count)
                }
            };
            for i in all {
                z.data[i] = (x.data[i] - mean) / (variance + self.epsilons[which]).sqrt() * scale[c] + shift[c];
                a.data[i] = z.data[i].max(self.slopes[which] * z.data[i]);
            }
            means.push(mean);
            variances.push(variance);
        }
        Normed { mean: means, variance: variances, z, a }
    }

    fn pointwise(&self, a: &Planar, weights: &[f64]) -> Planar {
        let mut p = Planar::zeros(a.n, self.out, a.h, a.w);
        for n in 0..a.n {
            for o in 0..self.out {
                for (y, x) in (0..a.h).flat_map(|y| (0..a.w).map(move |x| (y, x))) {
                    let i = p.index(n, o, y, x);
                    p.data[i] = (0..a.c).map(|c| weights[o * a.c + c] * a.at(n, c, y, x)).sum();
                }
            }
        }
        p
    }

    /// The output, and mean and biased variance that both norms used.
    pub fn forward(&self, w: &Parameters, x: &Planar) -> (Planar, [[Vec<f64>; 2]; 2]) {
        let first = self.norm(&self.depthwise(x, &w[0], |_| ()), 0, &w[1], &w[2]);
        let second = self.norm(&self.pointwise(&first.a, &w[3]), 1, &w[4], &w[5]);
        (second.a, [[first.mean, first.variance], [second.mean, second.variance]])
    }

    /// Gradients at a norm's input, and of its scale and shift.
    fn d_norm(
        &self,
        x: &Planar,
        norm: &Normed,
        which: usize,
        scale: &[f64],
        d_a: &Planar,
    ) -> (Planar, Vec<f64>, Vec<f64>) {
        let mut d_x = x.clone();
        let (mut d_scale, mut d_shift) = (vec![], vec![]);
        for c in 0..x.c {
            let all = x.channel(c);
            let count = all.len() as f64;
            let deviation = (norm.variance[c] + self.epsilons[which]).sqrt();
            let dz = |i: usize| d_a.data[i] * if norm.z.data[i] > 0.0 { 1.0 } else { self.slopes[which] };
            let hat = |i: usize| (x.data[i] - norm.mean[c]) / deviation;
            let sum: f64 = all.iter().map(|&i| dz(i)).sum();
            let product: f64 = all.iter().map(|&i| dz(i) * hat(i)).sum();
            for &i in &all {
                let through_statistics = match self.given[which] {
                    Some(_) => 0.0,
                    None => sum / count + hat(i) * product / count,
                };
                d_x.data[i] = scale[c] / deviation * (dz(i) - through_statistics);
            }
            d_scale.push(product);
            d_shift.push(sum);
        }
        (d_x, d_scale, d_shift)
    }

    /// Gradients of the input and of the parameters.
    pub fn backward(&self, w: &Parameters, x: &Planar, d_y: &Planar) -> (Planar, Parameters) {
        let d = self.depthwise(x, &w[0], |_| ());
        let first = self.norm(&d, 0, &w[1], &w[2]);
        let p = self.pointwise(&first.a, &w[3]);
        let second = self.norm(&p, 1, &w[4], &w[5]);
        let (d_p, d_scale2, d_shift2) = self.d_norm(&p, &second, 1, &w[4], d_y);
        let mut d_a = Planar::zeros(d.n, d.c, d.h, d.w);
        let mut d_pointwise = vec![0.0; w[3].len()];
        for n in 0..d.n {
            for (o, c) in (0..self.out).flat_map(|o| (0..d.c).map(move |c| (o, c))) {
                for (y, at) in (0..d.h).flat_map(|y| (0..d.w).map(move |at| (y, at))) {
                    let (i, g) = (d.index(n, c, y, at), d_p.at(n, o, y, at));
                    d_a.data[i] += g * w[3][o * d.c + c];
                    d_pointwise[o * d.c + c] += g * first.a.data[i];
                }
            }
        }
        let (d_d, d_scale1, d_shift1) = self.d_norm(&d, &first, 0, &w[1], &d_a);
        let mut d_x = Planar::zeros(x.n, x.c, x.h, x.w);
        let mut d_depthwise = vec![0.0; w[0].len()];
        self.depthwise(x, &w[0], |[to, from, weight]| {
            d_x.data[from] += d_d.data[to] * w[0][weight];
            d_depthwise[weight] += d_d.data[to] * x.data[from];
        });
        (d_x, [d_depthwise, d_scale1, d_shift1, d_pointwise, d_scale2, d_shift2])
    }
}
