//! Pictures of an evaluation for TensorBoard.

use ferroflow_core::{
    FlowField, Frame,
    io::{FormatError, frame},
    viz::{self, Colours, Normalisation, Scaler},
};
use ferroflow_data::Sample;
use ferroflow_infer::Estimator;

use crate::recipe::Pictures;

/// Pairs that LightFlow and tfoptflow show.
const SHOWN: usize = 3;
/// LightFlow's full strength, px.
const LIGHTFLOW_SCALE: f64 = 10.0;
/// Pixels between pictures side by side.
const GAP: usize = 4;

/// A picture with its tag.
pub struct Picture {
    /// The data set, and what of it is shown.
    pub tag: String,
    /// The picture.
    pub frame: Frame,
}

/// Draws the first pairs of a data set.
pub(crate) struct Gallery<'a> {
    data: &'a str,
    kind: Pictures,
    /// What does not change from one evaluation to the next is drawn once.
    first_time: bool,
    seen: usize,
    pictures: Vec<Picture>,
}

impl<'a> Gallery<'a> {
    pub fn new(data: &'a str, kind: Pictures, first_time: bool) -> Self {
        Self { data, kind, first_time, seen: 0, pictures: Vec::new() }
    }

    /// Draws the next pair if it is one of those that are shown. `levels` estimate the flow of each level, coarse to fine.
    pub fn add(&mut self, sample: &Sample, estimate: &FlowField, levels: &[Estimator]) {
        let number = self.seen;
        let shown = if self.kind == Pictures::Beside { 1 } else { SHOWN };
        let Some(truth) = sample.flow.as_ref().filter(|_| number < shown) else { return };
        self.seen += 1;
        let colours = Colours::default();
        let scale = Scaler::new(Normalisation::Frame).scale(truth, colours);
        let [painted_truth, painted] = [truth, estimate].map(|flow| colours.paint(flow, scale));
        let [first, second] = [&sample.first, &sample.second].map(Frame::clone);
        match self.kind {
            Pictures::Beside => self.row("", &[first, painted_truth, painted]),
            Pictures::TopFlow => self.row(&format!("/{number}"), &[first, second, painted_truth, painted]),
            Pictures::Pyramid => {
                let mut row = vec![first, second, painted_truth];
                // The estimate of a level may fail where that of all levels did not; then it is not shown.
                let flows = levels.iter().filter_map(|level| level.estimate(&sample.first, &sample.second).ok());
                row.extend(flows.map(|flow| colours.paint(&flow, scale)));
                row.push(painted);
                self.row(&format!("/{number}"), &row);
            }
            Pictures::Lightflow => {
                let colours = Colours::LightFlow;
                let paint =
                    |flow| colours.paint(flow, Scaler::new(Normalisation::Fixed(LIGHTFLOW_SCALE)).scale(flow, colours));
                if self.first_time {
                    let truth = paint(truth);
                    self.row(&format!("/{number}/Inputs/1"), &[first]);
                    self.row(&format!("/{number}/Inputs/2"), &[second]);
                    self.row(&format!("/{number}/GroundTruth"), &[truth]);
                }
                self.row(&format!("/{number}/FlowNet Outputs"), &[paint(estimate)]);
            }
        }
    }

    fn row(&mut self, tag: &str, frames: &[Frame]) {
        self.pictures.push(Picture { tag: format!("{}{tag}", self.data), frame: viz::beside(frames, GAP) });
    }

    /// What was drawn.
    pub fn pictures(self) -> Vec<Picture> {
        self.pictures
    }
}

/// The bytes of a PNG file.
pub fn png(frame: &Frame) -> Result<Vec<u8>, FormatError> {
    frame::encode(frame, image::ImageFormat::Png)
}
