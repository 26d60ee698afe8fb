//! dev
#![allow(unsafe_code)]
use std::time::Instant;

use ferroflow_kernels::{
    conv::{Activation, ConvKind, ConvPlan, ConvShape, Layer, Options},
    simd::{self, Kernel, Simd},
    *,
};

struct Peak<'a>(&'a [f32], &'a mut [f32]);
impl Kernel for Peak<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        const K: usize = 256;
        const R: usize = 200;
        let t = Instant::now();
        unsafe {
            if S::PANEL == 2 {
                body::<S, 14, 2>(self.0, self.1, K, R)
            } else if S::TILE == 6 {
                body::<S, 6, 1>(self.0, self.1, K, R)
            } else {
                body::<S, 4, 1>(self.0, self.1, K, R)
            }
        }
        2.0 * (S::TILE * S::PANEL * 16 * K * R) as f64 / t.elapsed().as_secs_f64() / 1e9
    }
}
#[inline(always)]
unsafe fn body<S: Simd, const T: usize, const P: usize>(a: &[f32], o: &mut [f32], k: usize, r: usize) {
    unsafe {
        let mut acc = [[S::zero(); P]; T];
        for _ in 0..r {
            let mut w = a.as_ptr();
            let mut x = a.as_ptr();
            for _ in 0..k {
                let mut b = [S::zero(); P];
                for p in 0..P {
                    b[p] = S::load(w.add(p * 16));
                }
                for t in 0..T {
                    let s = S::splat(*x.add(t * 16));
                    for p in 0..P {
                        acc[t][p] = S::fma(s, b[p], acc[t][p]);
                    }
                }
                w = w.add(P * 16);
                x = x.add(1);
            }
        }
        for t in 0..T {
            for p in 0..P {
                S::store(o.as_mut_ptr().add((t * P + p) * 16), acc[t][p]);
            }
        }
    }
}
fn peak(isa: Isa) -> f64 {
    let a = Buffer::zeroed(16384);
    let mut o = Buffer::zeroed(2048);
    (0..5).map(|_| simd::run(isa, Peak(&a, &mut o))).fold(0.0, f64::max)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let filter = args.get(1).cloned().unwrap_or_default();
    let threads: usize = args.get(2).map_or(1, |s| s.parse().unwrap());
    let isas: Vec<Isa> = match args.get(3).map(|s| s.as_str()) {
        Some("avx2") => vec![Isa::Avx2],
        Some("all") => Isa::available(),
        _ => vec![Isa::detect()],
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let f = ConvKind::Forward;
    let t = ConvKind::Transposed;
    // kind, parts, out, k, s, d, h, w
    let layers: Vec<(&str, ConvKind, Vec<usize>, usize, usize, usize, usize, usize, usize)> = vec![
        ("mini 64->64 k3 12x56", f, vec![64], 64, 3, 1, 1, 12, 56),
        ("mini 64->64 k3 12x112", f, vec![64], 64, 3, 1, 1, 12, 112),
        ("mini 64->64 pw 12x112", f, vec![64], 64, 1, 1, 1, 12, 112),
        ("mini 256->32 pw 12x56", f, vec![256], 32, 1, 1, 1, 12, 56),
        ("mini 256->32 k3 12x56", f, vec![256], 32, 3, 1, 1, 12, 56),
        ("first 6->64 k7s2", f, vec![3, 3], 64, 7, 2, 1, 448, 1024),
        ("first12->64 k7s2", f, vec![12], 64, 7, 2, 1, 448, 1024),
        ("first 3->16 k3s2", f, vec![3], 16, 3, 2, 1, 448, 1024),
        ("first11->64 k3s1", f, vec![11], 64, 3, 1, 1, 448, 1024),
        ("64->128 k5s2", f, vec![64], 128, 5, 2, 1, 224, 512),
        ("128->256 k5s2", f, vec![128], 256, 5, 2, 1, 112, 256),
        ("256->256 k3", f, vec![256], 256, 3, 1, 1, 56, 128),
        ("512->512 k3 28x64", f, vec![512], 512, 3, 1, 1, 28, 64),
        ("512->512 k3 14x32", f, vec![512], 512, 3, 1, 1, 14, 32),
        ("1024->1024 k3 7x16", f, vec![1024], 1024, 3, 1, 1, 7, 16),
        ("256->512 k3s2", f, vec![256], 512, 3, 2, 1, 56, 128),
        ("512->512 k3s2", f, vec![512], 512, 3, 2, 1, 28, 64),
        ("512->1024 k3s2", f, vec![512], 1024, 3, 2, 1, 14, 32),
        ("128->128 k3 d4", f, vec![128], 128, 3, 1, 4, 112, 256),
        ("32->32 k3", f, vec![32], 32, 3, 1, 1, 112, 256),
        ("16->16 k3", f, vec![16], 16, 3, 1, 1, 224, 512),
        ("16->32 k3s2", f, vec![16], 32, 3, 2, 1, 224, 512),
        ("T 386->64", t, vec![256, 128, 2], 64, 4, 2, 1, 56, 128),
        ("T 1024->512", t, vec![1024], 512, 4, 2, 1, 7, 16),
        ("T 770->128", t, vec![512, 256, 2], 128, 4, 2, 1, 28, 64),
        ("pw 256->256 28x64", f, vec![256], 256, 1, 1, 1, 28, 64),
        ("pw 1024->1024 7x16", f, vec![1024], 1024, 1, 1, 1, 7, 16),
        ("pw 32->64 112x256", f, vec![32], 64, 1, 1, 1, 112, 256),
        ("pw 96->16 112x256", f, vec![96], 16, 1, 1, 1, 112, 256),
        ("pw 473->256 56x128", f, vec![441, 32], 256, 1, 1, 1, 56, 128),
        ("few 565->2 112x256", f, vec![128, 128, 96, 64, 32, 81, 32, 2, 2], 2, 3, 1, 1, 112, 256),
        ("few 194->2 112x256", f, vec![128, 64, 2], 2, 3, 1, 1, 112, 256),
        ("few 1024->2 7x16", f, vec![1024], 2, 3, 1, 1, 7, 16),
        ("few T 565->2 56x128", t, vec![128, 128, 96, 64, 32, 81, 32, 2, 2], 2, 4, 2, 1, 56, 128),
        ("few T 2->2 56x128", t, vec![2], 2, 4, 2, 1, 56, 128),
    ];
    for isa in isas {
        println!("{isa:?} peak {:.0}", peak(isa));
        for (name, kind, parts, out, k, s, d, h, w) in &layers {
            if !name.contains(&filter) {
                continue;
            }
            let inc: usize = parts.iter().sum();
            let shape = ConvShape {
                kind: *kind,
                in_channels: inc,
                out_channels: *out,
                kernel: *k,
                stride: *s,
                dilation: *d,
                padding: if *kind == t { [1; 4] } else { [d * (k - 1) / 2; 4] },
            };
            let input = Extent { n: 1, h: *h, w: *w };
            let lanes = lane_map(parts);
            let weight: Vec<f32> = (0..inc * out * k * k).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect();
            let plan = ConvPlan::new(
                &Layer {
                    shape,
                    input,
                    lanes: &lanes,
                    weight: &weight,
                    bias: None,
                    activation: Activation::LeakyRelu(0.1),
                },
                Options { isa, exact: true, threads, algorithm: None },
            );
            let ins: Vec<Buffer> = (0..lanes.len() / 16)
                .map(|_| {
                    let mut b = Buffer::zeroed(input.len());
                    b.fill(0.5);
                    b
                })
                .collect();
            let ext = plan.output();
            let mut outs: Vec<Buffer> = (0..plan.output_blocks()).map(|_| Buffer::zeroed(ext.len())).collect();
            let planes: Vec<&[f32]> = ins.iter().map(|b| &b[..]).collect();
            let mut out: Vec<&mut [f32]> = outs.iter_mut().map(|b| &mut b[..]).collect();
            let scratch = Scratch::new();
            let (mut best, mut top) = (f64::MAX, 0.0f64);
            let begin = Instant::now();
            let mut n = 0;
            while n < 5 || begin.elapsed().as_secs_f64() < 0.4 {
                if n % 4 == 0 {
                    top = top.max(peak(isa));
                }
                let at = Instant::now();
                plan.run(
                    Blocks { extent: input, planes: &planes },
                    None,
                    &mut BlocksMut { extent: ext, planes: &mut out },
                    &scratch,
                );
                best = best.min(at.elapsed().as_secs_f64());
                n += 1;
            }
            let rate = shape.flop(input) / best / 1e9;
            println!(
                "{name:20} {:7.3} ms {rate:6.1} GFLOP/s  {:4.2} of {top:.0}  {}",
                best * 1e3,
                rate / top,
                plan.algorithm()
            );
        }
    }
}
