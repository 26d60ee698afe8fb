//! What is known of a pair, as pictures and numbers for the page.

use std::sync::Arc;

use anyhow::Context;
use ferroflow::core::{
    FlowField, Frame, Mask, Size,
    io::frame::{ImageFormat, encode},
    metrics::{Metrics, Tally, Truth},
    viz::{Colours, ErrorScale, Normalisation, Scale, Scaler, colour_legend, error_legend, error_map, warp},
};
use serde::Serialize;

/// A pair: whatever of it there is, all of one size.
#[derive(Default)]
pub struct Scene {
    /// What the pair is called.
    pub name: String,
    /// Frame 1, and frame 2 if there is one.
    pub frames: Vec<Frame>,
    /// The flow that is looked at.
    pub flow: Option<FlowField>,
    /// The true flow.
    pub truth: Option<FlowField>,
    /// What of frame 1 is hidden in frame 2.
    pub occlusion: Option<Mask>,
    /// Confidence of the flow, `[height, width]`, 0 to 1.
    pub confidence: Option<Vec<f32>>,
}

/// A picture of the page.
#[derive(Serialize)]
struct Layer {
    id: &'static str,
    title: &'static str,
    #[serde(skip)]
    png: Arc<[u8]>,
}

/// A scene as the page gets it.
#[derive(Serialize)]
pub struct Shown {
    name: String,
    width: usize,
    height: usize,
    layers: Vec<Layer>,
    /// Names of the planes of numbers.
    planes: Vec<&'static str>,
    /// The length that has full colour, px.
    full_colour: f64,
    /// Mean length of the flow, px.
    mean_motion: Option<f64>,
    /// The errors, if the truth is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    #[serde(skip)]
    numbers: Vec<Arc<[u8]>>,
    #[serde(skip)]
    legends: [Arc<[u8]>; 2],
}

impl Shown {
    /// Draws a scene.
    ///
    /// # Errors
    /// If its parts have different sizes, or there is nothing to look at.
    pub fn new(scene: &Scene) -> anyhow::Result<Self> {
        let size = size_of(scene)?;
        let colours = Colours::default();
        let scale = scale_of(scene);
        let png = |frame: &Frame| Ok::<Arc<[u8]>, anyhow::Error>(encode(frame, ImageFormat::Png)?.into());
        let mut layers = Vec::new();
        let mut add = |id, title, frame: &Frame| {
            layers.push(Layer { id, title, png: png(frame)? });
            anyhow::Ok(())
        };
        for (frame, (id, title)) in scene.frames.iter().zip([("frame1", "Frame 1"), ("frame2", "Frame 2")]) {
            add(id, title, frame)?;
        }
        if let (Some(second), Some(flow)) = (scene.frames.get(1), &scene.flow) {
            add("warped", "Frame 2 brought back by the flow", &warp(second, flow).0)?;
        }
        if let Some(flow) = &scene.flow {
            add("flow", "Flow", &colours.paint(flow, scale))?;
        }
        let mut metrics = None;
        if let Some(truth) = &scene.truth {
            add("truth", "True flow", &colours.paint(truth, scale))?;
            if let Some(flow) = &scene.flow {
                add("error", "Error, in KITTI's colours", &error_map(flow, truth, None, ErrorScale::default())?)?;
                let mut known = Truth::new(truth);
                if let Some(mask) = &scene.occlusion {
                    known = known.occluded(mask);
                }
                metrics = Some(Metrics::of(&Tally::of(flow, &known)?));
            }
        }
        if let Some(mask) = &scene.occlusion {
            let shade = |x: usize, y: usize| [if mask.get(x, y) { 255 } else { 0 }; 3];
            add("occlusion", "Occlusion (white: hidden in frame 2)", &Frame::from_fn(size, shade))?;
        }
        if let Some(confidence) = &scene.confidence {
            let shade = |x: usize, y: usize| [(255.0 * confidence[y * size.width + x]).round() as u8; 3];
            add("confidence", "Confidence (white: sure)", &Frame::from_fn(size, shade))?;
        }
        let mut planes = Vec::new();
        let mut numbers = Vec::new();
        for (name, flow) in [("flow", &scene.flow), ("truth", &scene.truth)] {
            if let Some(flow) = flow {
                planes.push(name);
                numbers.push(numbers_of(flow));
            }
        }
        if let Some(confidence) = &scene.confidence {
            planes.push("confidence");
            numbers.push(confidence.iter().flat_map(|value| value.to_le_bytes()).collect());
        }
        Ok(Self {
            name: scene.name.clone(),
            width: size.width,
            height: size.height,
            layers,
            planes,
            full_colour: scale.high,
            mean_motion: scene.flow.as_ref().and_then(mean_motion),
            metrics,
            numbers,
            legends: [png(&colour_legend(colours, scale, 120))?, png(&error_legend(360))?],
        })
    }

    /// The PNG file of a layer or of a legend.
    pub fn png(&self, id: &str) -> Option<Arc<[u8]>> {
        let legend = |index: usize| Some(self.legends[index].clone());
        match id {
            "wheel" => legend(0),
            "errors" => legend(1),
            _ => self.layers.iter().find(|layer| layer.id == id).map(|layer| layer.png.clone()),
        }
    }

    /// The numbers of a plane: f32, little-endian, not a number where unknown; of a flow first all u, then all v.
    pub fn plane(&self, name: &str) -> Option<Arc<[u8]>> {
        self.planes.iter().zip(&self.numbers).find(|(plane, _)| **plane == name).map(|(_, bytes)| bytes.clone())
    }
}

/// The size that everything has.
fn size_of(scene: &Scene) -> anyhow::Result<Size> {
    let frames = scene.frames.iter().map(Frame::size);
    let flows = [&scene.flow, &scene.truth].into_iter().flatten().map(FlowField::size);
    let sizes: Vec<Size> = frames.chain(flows).chain(scene.occlusion.iter().map(Mask::size)).collect();
    let size = *sizes.first().context("there is nothing to look at")?;
    if let Some(other) = sizes.iter().find(|other| **other != size) {
        anyhow::bail!("{}: frames, flow and masks must have one size; there are {size} and {other}", scene.name);
    }
    Ok(size)
}

/// Both flows at the strength that suits the truth.
fn scale_of(scene: &Scene) -> Scale {
    let flow = scene.truth.as_ref().or(scene.flow.as_ref());
    let none = Scale { low: 0.0, high: 1.0 };
    // A single wild vector would pale all others.
    flow.map_or(none, |flow| Scaler::new(Normalisation::Percentile(99.5)).scale(flow, Colours::default()))
}

fn mean_motion(flow: &FlowField) -> Option<f64> {
    let size = flow.size();
    let lengths = (0..size.pixels()).filter_map(|i| flow.motion(i % size.width, i / size.width));
    let (sum, count) = lengths.fold((0.0, 0_u64), |(sum, count), (u, v)| (sum + f64::from(u.hypot(v)), count + 1));
    (count > 0).then(|| sum / count as f64)
}

fn numbers_of(flow: &FlowField) -> Arc<[u8]> {
    let size = flow.size();
    let at = |i: usize| flow.motion(i % size.width, i / size.width).unwrap_or((f32::NAN, f32::NAN));
    let u = (0..size.pixels()).map(|i| at(i).0);
    let v = (0..size.pixels()).map(|i| at(i).1);
    u.chain(v).flat_map(f32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_shows_what_is_known_of_it() {
        let size = Size::new(8, 12);
        let flow = FlowField::sparse_from_fn(size, |x, _| (x > 0).then_some((x as f32, -1.0)));
        let scene = Scene {
            frames: vec![Frame::black(size); 2],
            flow: Some(flow.clone()),
            truth: Some(FlowField::zeros(size)),
            ..Scene::default()
        };
        let shown = Shown::new(&scene).unwrap();
        let ids: Vec<&str> = shown.layers.iter().map(|layer| layer.id).collect();
        assert_eq!(ids, ["frame1", "frame2", "warped", "flow", "truth", "error"]);
        let plane = shown.plane("flow").unwrap();
        let at = |index: usize| f32::from_le_bytes(plane[4 * index..4 * index + 4].try_into().unwrap());
        assert!(at(0).is_nan() && at(5) == 5.0 && at(96 + 5) == -1.0 && plane.len() == 4 * 2 * 96);
        assert!(
            shown.plane("confidence").is_none() && shown.png("occlusion").is_none() && shown.png("wheel").is_some()
        );
        assert_eq!(shown.metrics.unwrap().unanswered, 8);
        let other = Scene { truth: Some(FlowField::zeros(Size::new(8, 13))), flow: Some(flow), ..Scene::default() };
        assert!(Shown::new(&other).is_err());
        assert!(Shown::new(&Scene::default()).is_err());
    }
}
