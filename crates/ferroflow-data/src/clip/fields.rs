//! Whether a video is interlaced: every other line of a frame is of another moment, so that what moves has combs for edges.

use super::plane::Plane;

/// What the pairs of successive frames say. Where neither is certain (nothing moves, or too fast), a pair does not vote.
#[derive(Debug, Default)]
pub(super) struct Fields {
    combed: usize,
    progressive: usize,
}

impl Fields {
    /// Looks at a frame and the one before it. (The test of FFmpeg's filter `idet`.)
    ///
    /// The lines of one field are woven with the other field of the frame before. Of a progressive video, both ways give combs
    /// alike, worse than the frame's own. Of an interlaced one, the fields woven one way are as close in time as the frame's own,
    /// and the other way three times as far apart.
    pub fn watch(&mut self, before: &Plane, now: &Plane) {
        /// Beyond noise: how much more of combs counts as more.
        const MORE: f32 = 1.3;
        /// What differs less is as good as equal.
        const EQUAL: f32 = 1.2;
        let comb = |above: f32, line: f32, below: f32| (above - 2.0 * line + below).abs();
        let (mut own, mut woven) = (0f32, [0f32; 2]);
        for y in 1..now.height.saturating_sub(1) {
            let of = |plane: &'_ Plane, x: usize| [y - 1, y, y + 1].map(|y| plane.at(x, y));
            let (mut sum, mut here, mut there) = (0.0, 0.0, 0.0);
            for x in (0..now.width).step_by(3) {
                let ([a, b, c], [p, q, r]) = (of(now, x), of(before, x));
                sum += comb(a, b, c);
                here += comb(p, b, r);
                there += comb(a, q, c);
            }
            own += sum;
            woven[y % 2] += here;
            woven[1 - y % 2] += there;
        }
        // Each line went into both ways of weaving once.
        let (near, far) = (woven[0].min(woven[1]), woven[0].max(woven[1]));
        if far > MORE * own && far > EQUAL * near && near < EQUAL * own {
            self.combed += 1;
        } else if near > MORE * own && far < EQUAL * near {
            self.progressive += 1;
        }
    }

    /// Whether the video is interlaced; `told` is what its header says. A header may be wrong: it is believed where the pictures
    /// agree, or say nothing.
    pub fn are_mixed(&self, told: bool) -> bool {
        let votes = self.combed + self.progressive;
        // Film that was spread over more fields has combs in two frames of five.
        let most = self.combed >= 3 && 4 * self.combed > votes;
        most || told && 20 * self.combed >= votes
    }

    /// Whether enough has been seen to stop looking.
    pub fn is_certain(&self) -> bool {
        self.combed >= 24 && self.combed > self.progressive
    }
}
