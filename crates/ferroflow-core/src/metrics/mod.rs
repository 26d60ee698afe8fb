//! How wrong a flow is. Per pixel, `e = |flow - truth|` and `m = |truth|`, both in pixels; sums are in f64.
//!
//! | name | definition | unit |
//! |---|---|---|
//! | `epe` | mean `e` (endpoint error, also AEE) | px |
//! | `px1`, `px3`, `px5` | share with `e > 1`, `3`, `5` | % |
//! | `fl` | share with `e > 3` and `e > 0.05 m` (KITTI 2015) | % |
//! | `fl_bg`, `fl_fg` | `fl` of the background and of the objects of KITTI's object maps | % |
//! | `aae` | mean angle between `(u, v, 1)` of flow and truth (Barron et al. 1994, Middlebury) | degrees |
//! | `wauc` | `100 sum_i w_i share(e <= i/20) / sum_i w_i`, `w_i = 1 - (i-1)/100`, `i` in 1..=100 (Spring) | 0..100 |
//! | `s0_10`, `s10_40`, `s40_plus` | `epe` where `m < 10`, `10 <= m <= 40`, `m > 40` (Sintel) | px |
//! | `matched`, `unmatched` | `epe` where the occlusion mask is false, true (Sintel) | px |
//! | `d0_10`, `d10_60`, `d60_140` | `epe` up to 10, from 10 to 60 and from 60 to 140 px away from the nearest occlusion boundary ([`Bands`], Sintel) | px |
//! | `density` | share of all pixels that are scored | % |
//! | `unanswered` | pixels of known truth that are not scored because the estimate says nothing there | pixels |
//!
//! A pixel is scored if its truth is known, the mask of [`Truth::only`] allows it, and its estimate is known. A vector that is
//! not finite or has a component of 1e9 px or more counts as unknown, in the truth and in the estimate. Averages over pixels and
//! over images differ, and papers use both, so each is named.

mod boundaries;
mod confidence;
mod evaluation;
mod occlusion;
mod table;
mod tally;

pub use boundaries::Bands;
pub use confidence::{ConfidenceTally, Reliability, ReliabilityRow};
pub use evaluation::{Average, Evaluation, METRICS, Metric, Metrics, Summary};
pub use occlusion::{OcclusionCurve, OcclusionScore};
pub use table::metrics_table;
pub use tally::{MetricError, Tally, Truth, endpoint_error};
