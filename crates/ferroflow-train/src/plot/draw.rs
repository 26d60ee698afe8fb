//! Lines, bars and texts on a white sheet, for any format.

/// What a text's position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Debug)]
pub(super) enum Mark {
    Line {
        points: Vec<(f64, f64)>,
        colour: [u8; 3],
        width: f64,
        dashed: bool,
    },
    /// A filled rectangle from its upper left to its lower right corner.
    Bar {
        from: (f64, f64),
        to: (f64, f64),
        colour: [u8; 3],
    },
    /// At the left end, middle or right end of its baseline.
    Text {
        at: (f64, f64),
        text: String,
        anchor: Anchor,
    },
}

/// Height of capital letters and width of each letter, which is the same for all in both formats.
pub(super) const LETTER: (f64, f64) = (8.0, 7.5);
/// Length of a dash and of a gap.
pub(super) const DASH: f64 = 6.0;

#[derive(Clone, Debug)]
pub(super) struct Drawing {
    pub size: (f64, f64),
    pub marks: Vec<Mark>,
}

impl Drawing {
    pub fn new(size: (f64, f64)) -> Self {
        Self { size, marks: Vec::new() }
    }

    pub fn line(&mut self, points: &[(f64, f64)], colour: [u8; 3], width: f64, dashed: bool) {
        self.marks.push(Mark::Line { points: points.to_vec(), colour, width, dashed });
    }

    pub fn bar(&mut self, from: (f64, f64), to: (f64, f64), colour: [u8; 3]) {
        self.marks.push(Mark::Bar { from, to, colour });
    }

    pub fn text(&mut self, at: (f64, f64), text: &str, anchor: Anchor) {
        self.marks.push(Mark::Text { at, text: text.into(), anchor });
    }
}
