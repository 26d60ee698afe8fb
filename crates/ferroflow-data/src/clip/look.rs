//! What a frame of a video is to the one before it.

use ferroflow_core::Frame;

use super::{cuts, plane::Plane, still::GRID};

/// Standard deviation, in grey levels, of a picture that shows nothing.
const BLANK: f32 = 2.0;

/// What a frame of a video is to the one before it that is no repetition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// It has a single colour.
    Blank,
    /// It shows the same again: what differs is what compression leaves.
    Repeats,
    /// There is none before it, or that has a single colour.
    Begins,
    /// It follows, or begins another scene: which of both, [`super::CutFinder`] says from how unlike they are, 0 to about 1.
    Follows {
        /// How little the two have in common.
        unlikeness: f32,
    },
}

/// A frame as others are compared with it.
#[derive(Clone, Debug)]
pub struct Look {
    pub(super) grey: Plane,
    pub(super) small: Plane,
    coarse: Plane,
}

impl Look {
    /// Looks at a frame.
    pub fn at(frame: &Frame) -> Self {
        let grey = Plane::grey(frame);
        let small = grey.reduced(GRID);
        let coarse = small.reduced(cuts::COARSE);
        Self { grey, small, coarse }
    }

    /// What it is to the frame before. Both have one size.
    pub fn after(&self, before: Option<&Self>) -> Step {
        match before {
            _ if self.small.deviation() < BLANK => Step::Blank,
            None => Step::Begins,
            Some(before) if cuts::same(&before.small, &self.small) => Step::Repeats,
            Some(before) => Step::Follows { unlikeness: cuts::unlikeness(&before.coarse, &self.coarse) },
        }
    }
}
