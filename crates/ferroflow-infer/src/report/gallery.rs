//! The pairs with the largest errors, as pictures.

use base64::{Engine, engine::general_purpose::STANDARD};
use ferroflow_core::io::frame::{ImageFormat, encode};
use ferroflow_core::viz::{Colours, ErrorScale, Normalisation, Scaler, error_map};
use ferroflow_core::{FlowField, Frame};
use ferroflow_data::Sample;

use super::escaped;
use crate::evaluate::PairResult;

/// The worst pairs of each method seen so far, with the flows of all methods.
pub struct Gallery {
    methods: Vec<String>,
    size: usize,
    shown: Vec<Shown>,
}

/// One pair of the gallery.
pub struct Shown {
    /// Its data set.
    pub data: String,
    /// Its name in the data set.
    pub id: String,
    /// Mean end-point error of each method in pixels.
    pub epe: Vec<Option<f64>>,
    /// Titles and JPEG files.
    pictures: Vec<(String, Vec<u8>)>,
}

impl Shown {
    /// The largest error of any method.
    fn worst(&self) -> f64 {
        self.epe.iter().flatten().copied().fold(0.0, f64::max)
    }
}

impl Gallery {
    /// A gallery for the `size` worst pairs of each of these methods.
    pub fn new(methods: Vec<String>, size: usize) -> Self {
        Self { methods, size, shown: Vec::new() }
    }

    /// The pairs, the worst first.
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// How many pairs of each method are kept.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Keeps a pair if it is among the worst of a method so far, and drops those that no longer are.
    pub fn add(&mut self, data: &str, sample: &Sample, estimates: &[FlowField], results: &[&PairResult]) {
        let epe: Vec<Option<f64>> = results.iter().map(|result| result.metrics.epe).collect();
        if !(0..epe.len()).any(|method| self.place(method, epe[method]) < self.size) {
            return;
        }
        let pictures = self.pictures(sample, estimates);
        self.shown.push(Shown { data: data.into(), id: sample.id.clone(), epe, pictures });
        let kept: Vec<bool> = self
            .shown
            .iter()
            .map(|shown| (0..shown.epe.len()).any(|method| self.place(method, shown.epe[method]) < self.size))
            .collect();
        let mut kept = kept.into_iter();
        self.shown.retain(|_| kept.next().unwrap_or(false));
        self.shown.sort_by(|a, b| b.worst().total_cmp(&a.worst()));
    }

    /// How many of the pairs a method does worse on.
    fn place(&self, method: usize, epe: Option<f64>) -> usize {
        let Some(epe) = epe else { return usize::MAX };
        self.shown.iter().filter(|shown| shown.epe[method].is_some_and(|other| other > epe)).count()
    }

    fn pictures(&self, sample: &Sample, estimates: &[FlowField]) -> Vec<(String, Vec<u8>)> {
        let mut pictures = vec![("frame 1".to_string(), Some(sample.first.clone()))];
        if let Some(truth) = &sample.flow {
            // All flows at the strength that suits the truth.
            let mut scaler = Scaler::new(Normalisation::Frame);
            let scale = scaler.scale(truth, Colours::default());
            pictures.push((
                format!("true flow, full colour at {:.1} px", scale.high),
                Some(Colours::default().paint(truth, scale)),
            ));
            for (method, estimate) in self.methods.iter().zip(estimates) {
                let errors = error_map(estimate, truth, sample.occlusion.as_ref(), ErrorScale::default());
                pictures.push((format!("flow of {method}"), Some(Colours::default().paint(estimate, scale))));
                pictures.push((format!("errors of {method}, in KITTI's colours"), errors.ok()));
            }
        }
        let jpeg = |frame: &Frame| encode(frame, ImageFormat::Jpeg).ok();
        pictures.into_iter().filter_map(|(title, frame)| Some((title, jpeg(&frame?)?))).collect()
    }

    pub(super) fn html(&self, shown: &Shown) -> String {
        let figure = |(title, jpeg): &(String, Vec<u8>)| {
            let (data, title) = (STANDARD.encode(jpeg), escaped(title));
            format!(
                "<figure><img alt=\"{title}\" src=\"data:image/jpeg;base64,{data}\"><figcaption>{title}</figcaption></figure>"
            )
        };
        let pictures: String = shown.pictures.iter().map(figure).collect();
        let error = |(name, epe): (&String, &Option<f64>)| {
            let epe = epe.map_or("no pixel scored".into(), |epe| format!("{epe:.3} px"));
            format!("{} {epe}", escaped(name))
        };
        let errors: Vec<String> = self.methods.iter().zip(&shown.epe).map(error).collect();
        format!(
            "<h3>{} of {}</h3><p>{}</p><div class=pair>{pictures}</div>",
            escaped(&shown.id),
            escaped(&shown.data),
            errors.join(", ")
        )
    }
}
