//! The pairs with the largest errors, as pictures.

use base64::{Engine, engine::general_purpose::STANDARD};
use ferroflow_core::io::frame::{ImageFormat, encode};
use ferroflow_core::viz::{Colours, ErrorScale, Normalisation, Scaler, error_map};
use ferroflow_core::{FlowField, Frame};
use ferroflow_data::Sample;

use super::escaped;
use crate::evaluate::PairResult;

/// The worst pairs seen so far.
pub struct Gallery {
    size: usize,
    shown: Vec<Shown>,
}

/// One pair of the gallery.
pub struct Shown {
    /// Its data set.
    pub data: String,
    /// Its name in the data set.
    pub id: String,
    /// Mean end-point error in pixels.
    pub epe: f64,
    /// Titles and JPEG files.
    pictures: Vec<(&'static str, Vec<u8>)>,
}

impl Gallery {
    /// A gallery for the `size` worst pairs.
    pub fn new(size: usize) -> Self {
        Self { size, shown: Vec::new() }
    }

    /// The pairs, the worst first.
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// Keeps a pair if it is among the worst so far.
    pub fn add(&mut self, data: &str, sample: &Sample, estimate: &FlowField, result: &PairResult) {
        let Some(epe) = result.metrics.epe else { return };
        let place = self.shown.iter().position(|s| s.epe < epe).unwrap_or(self.shown.len());
        if place < self.size {
            let pictures = pictures(sample, estimate);
            self.shown.insert(place, Shown { data: data.into(), id: sample.id.clone(), epe, pictures });
            self.shown.truncate(self.size);
        }
    }
}

fn pictures(sample: &Sample, estimate: &FlowField) -> Vec<(&'static str, Vec<u8>)> {
    let mut pictures = vec![("frame 1", Some(sample.first.clone()))];
    if let Some(truth) = &sample.flow {
        // Both flows at the strength that suits the truth.
        let mut scaler = Scaler::new(Normalisation::Frame);
        let scale = scaler.scale(truth, Colours::default());
        let errors = error_map(estimate, truth, sample.occlusion.as_ref(), ErrorScale::default());
        pictures.push(("errors, in KITTI's colours", errors.ok()));
        pictures.push(("true flow", Some(Colours::default().paint(truth, scale))));
        pictures.push(("estimated flow", Some(Colours::default().paint(estimate, scale))));
    }
    let jpeg = |frame: &Frame| encode(frame, ImageFormat::Jpeg).ok();
    pictures.into_iter().filter_map(|(title, frame)| Some((title, jpeg(&frame?)?))).collect()
}

impl Shown {
    pub(super) fn html(&self) -> String {
        let figure = |(title, jpeg): &(&str, Vec<u8>)| {
            let data = STANDARD.encode(jpeg);
            format!(
                "<figure><img alt=\"{title}\" src=\"data:image/jpeg;base64,{data}\"><figcaption>{title}</figcaption></figure>"
            )
        };
        let pictures: String = self.pictures.iter().map(figure).collect();
        format!(
            "<h3>{} of {}: {:.3} px</h3><div class=pair>{pictures}</div>",
            escaped(&self.id),
            escaped(&self.data),
            self.epe
        )
    }
}
