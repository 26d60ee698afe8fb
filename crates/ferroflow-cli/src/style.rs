//! How flow is drawn: the arguments that `viz` and `estimate` share.

use std::str::FromStr;

use ferroflow::core::{
    FlowField, Frame, SizeError,
    viz::{Colours, Normalisation, Scaler, Zero, arrows, colour_legend, overlay, picture},
};

/// Appearance of a picture of flow.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Picture")]
pub struct StyleArgs {
    /// Colour code
    #[arg(long, value_enum, default_value_t = Style::Wheel)]
    style: Style,
    /// Which length of flow has full colour: frame (the longest of each frame), sequence (the longest of the frames so far),
    /// fixed:PX, or a percentile of the frame such as p99. Default: frame; for a video one length for the whole clip, which 99 % of
    /// the vectors do not exceed in any of the pairs that are looked at before, one in eight
    #[arg(long, value_name = "RULE")]
    norm: Option<Norm>,
    /// Colour of pixels that do not move
    #[arg(long, value_enum, default_value_t = ZeroArg::White)]
    zero: ZeroArg,
    /// Exponent of the relative length in the wheel; below 1, slow motion is more visible
    #[arg(long, default_value_t = 1.0)]
    gamma: f64,
    /// Draw a legend into the corner
    #[arg(long)]
    legend: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    /// The Middlebury colour wheel
    Wheel,
    /// Direction as hue, length as saturation
    Hsv,
    /// LightFlow's red, green and blue
    Rgb,
    /// Arrows over frame 1
    Arrows,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ZeroArg {
    White,
    Black,
}

#[derive(Clone, Copy, Debug)]
struct Norm(Normalisation);

impl FromStr for Norm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, most: f64| text.parse().ok().filter(|&v: &f64| v > 0.0 && v <= most);
        let rule = match text {
            "frame" => Some(Normalisation::Frame),
            "sequence" => Some(Normalisation::Sequence),
            _ => match (text.strip_prefix("fixed:"), text.strip_prefix('p')) {
                (Some(pixels), _) => number(pixels, f64::MAX).map(Normalisation::Fixed),
                (_, Some(percent)) => number(percent, 100.0).map(Normalisation::Percentile),
                _ => None,
            },
        };
        rule.map(Self).ok_or_else(|| "write frame, sequence, fixed:PIXELS or pPERCENT (p99)".into())
    }
}

/// Draws the flows of a sequence in one style.
pub struct Painter {
    args: StyleArgs,
    colours: Colours,
    scaler: Scaler,
    /// The longest of the usual flow of a clip, until its scale is settled.
    clip: Option<f64>,
}

impl Painter {
    /// Starts a sequence.
    pub fn new(args: &StyleArgs) -> Self {
        let zero = match args.zero {
            ZeroArg::White => Zero::White,
            ZeroArg::Black => Zero::Black,
        };
        let colours = match args.style {
            Style::Wheel | Style::Arrows => Colours::Wheel { zero, gamma: args.gamma },
            Style::Hsv => Colours::Hsv { zero },
            Style::Rgb => Colours::LightFlow,
        };
        let rule = args.norm.map_or(Normalisation::Frame, |norm| norm.0);
        Self { args: args.clone(), colours, scaler: Scaler::new(rule), clip: None }
    }

    /// Whether a picture needs frame 1 to be drawn on.
    pub fn needs_frame(&self) -> bool {
        self.args.style == Style::Arrows
    }

    /// Notes a flow before any is painted, for `--norm sequence`.
    pub fn observe(&mut self, flow: &FlowField) {
        self.scaler.observe(flow, self.colours);
    }

    /// Whether a clip needs a scale of its own, because none was asked for.
    pub fn wants_scale(&self) -> bool {
        self.args.norm.is_none()
    }

    /// Looks at a flow of a clip before any is painted.
    pub fn look(&mut self, flow: &FlowField) {
        let usual = Scaler::new(Normalisation::Percentile(99.0)).scale(flow, self.colours).high;
        self.clip = Some(self.clip.map_or(usual, |clip| clip.max(usual)));
    }

    /// Takes the scale of a clip from the flows that were looked at, or else from its first; from then on it stays.
    pub fn settle(&mut self, first: &FlowField) {
        if self.wants_scale() && self.clip.is_none() {
            self.look(first);
        }
        if let Some(clip) = self.clip.take() {
            self.args.norm = Some(Norm(Normalisation::Fixed(clip)));
            self.scaler = Scaler::new(Normalisation::Fixed(clip));
        }
    }

    /// The picture of a flow, over `frame` (frame 1) where the style wants one.
    pub fn paint(&mut self, flow: &FlowField, frame: Option<&Frame>) -> Result<Frame, SizeError> {
        let scale = self.scaler.scale(flow, self.colours);
        let image = match (self.args.style, frame) {
            (Style::Arrows, Some(frame)) => {
                let step = (flow.width().max(flow.height()) / 40).max(8);
                arrows(frame, flow, step, 1.0)?
            }
            _ => picture(flow, self.colours, &mut self.scaler),
        };
        if !self.args.legend {
            return Ok(image);
        }
        let diameter = (flow.width().min(flow.height()) / 5).clamp(48, 160);
        Ok(overlay(image, &colour_legend(self.colours, scale, diameter)))
    }
}
