//! Scenes that show where a method fails: each has one difficulty, and its flow is known exactly.
//!
//! The error on a benchmark is a mean over all that its frames contain. Each of these cases contains one thing: still frames,
//! motion of one length, a small object, noise, a repeating texture. A case and a seed give the same bytes on every machine. Light,
//! camera and surface are tested on a shift by [`SHORT`] pixels, so that their rows can be compared with the row of that shift
//! alone.

mod scene;
mod textures;

use ferroflow_core::{FlowField, Frame, Mask, Size};

use scene::{Camera, Move, Surface};
pub use textures::Textures;

/// Length of the motion in cases that test something other than motion, pixels.
pub const SHORT: f32 = 5.0;

/// A group of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Nothing moves.
    Still,
    /// Everything is shifted.
    Shift,
    /// Everything turns or grows.
    Turn,
    /// Objects move over a background.
    Object,
    /// Frames of unusual size.
    Size,
    /// Surfaces with little texture or with texture that repeats.
    Surface,
    /// Effects of a camera, such as noise and blur.
    Camera,
    /// Light that changes between the frames.
    Light,
}

impl Theme {
    /// All themes, in the order of the card.
    pub const ALL: [Self; 8] =
        [Self::Still, Self::Shift, Self::Turn, Self::Object, Self::Size, Self::Surface, Self::Camera, Self::Light];

    /// Its name, as a heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Shift => "shift",
            Self::Turn => "rotation and zoom",
            Self::Object => "objects",
            Self::Size => "frame size",
            Self::Surface => "surface",
            Self::Camera => "camera",
            Self::Light => "changing light",
        }
    }
}

/// Which pixels of frame 1 count. Pixels that cannot be seen in frame 2 never do, because nothing shows where they went.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scored {
    /// All that are visible in both frames.
    Visible,
    /// The visible pixels that move.
    Moving,
    /// The visible pixels within this many pixels of a border between two motions.
    Border(f32),
}

/// A scene with one difficulty.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The theme that it belongs to.
    pub theme: Theme,
    /// Its name, unique on the card.
    pub name: &'static str,
    /// What the scene shows, and which pixels count if not all do.
    pub what: &'static str,
    /// Size of the frames.
    pub size: Size,
    motion: Move,
    surface: Surface,
    camera: Camera,
    scored: Scored,
}

/// Two frames of a case with their flow.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Frame 1.
    pub first: Frame,
    /// Frame 2.
    pub second: Frame,
    /// The flow of every pixel of frame 1, px.
    pub flow: FlowField,
    /// The pixels of frame 1 that count.
    pub scored: Mask,
}

/// Size of a frame whose size is not the point.
const FRAME: Size = Size::new(384, 512);

impl Case {
    /// A shift of a whole rich texture, seen clearly, in a frame of ordinary size.
    const fn new(theme: Theme, name: &'static str, what: &'static str) -> Self {
        Self {
            theme,
            name,
            what,
            size: FRAME,
            motion: Move::Shift(SHORT),
            surface: Surface::Rich,
            camera: Camera::Clean,
            scored: Scored::Visible,
        }
    }

    const fn motion(self, motion: Move) -> Self {
        Self { motion, ..self }
    }

    const fn surface(self, surface: Surface) -> Self {
        Self { surface, ..self }
    }

    const fn camera(self, camera: Camera) -> Self {
        Self { camera, ..self }
    }

    const fn scored(self, scored: Scored) -> Self {
        Self { scored, ..self }
    }

    const fn size(self, height: usize, width: usize) -> Self {
        Self { size: Size { height, width }, ..self }
    }

    /// The pair of this case in the textures, directions and places of one seed.
    pub fn pair(&self, textures: &Textures) -> Pair {
        scene::pair(self, textures)
    }
}

/// Every case, by theme.
pub const CASES: [Case; 28] = [
    Case::new(Theme::Still, "no motion", "the same frame twice").motion(Move::Shift(0.0)),
    Case::new(Theme::Still, "flat grey", "two frames of one grey: nothing says that anything moves")
        .motion(Move::Shift(0.0))
        .surface(Surface::Flat),
    Case::new(Theme::Shift, "0.5 px", "everything shifted").motion(Move::Shift(0.5)),
    Case::new(Theme::Shift, "1 px", "everything shifted").motion(Move::Shift(1.0)),
    Case::new(Theme::Shift, "5 px", "everything shifted"),
    Case::new(Theme::Shift, "40 px", "everything shifted").motion(Move::Shift(40.0)),
    Case::new(Theme::Shift, "100 px", "everything shifted").motion(Move::Shift(100.0)),
    Case::new(Theme::Turn, "rotation", "about the centre by 10 degrees").motion(Move::Rotation(10.0)),
    Case::new(Theme::Turn, "zoom", "about the centre by 1.15").motion(Move::Zoom(1.15)),
    Case::new(
        Theme::Object,
        "small and fast",
        "a square of 20 px moves 60 px over a still background; the square counts",
    )
    .motion(Move::Square { side: 20.0, length: 60.0 })
    .scored(Scored::Moving),
    Case::new(Theme::Object, "thin bars", "bars 3 px thick move 8 px over a still background; the bars count")
        .motion(Move::Bars { thickness: 3.0, length: 8.0 })
        .scored(Scored::Moving),
    Case::new(
        Theme::Object,
        "occluding edge",
        "a square of 180 px moves 16 px, its background 4 px; 5 px about its edge count",
    )
    .motion(Move::Over { side: 180.0, length: 16.0, behind: 4.0 })
    .scored(Scored::Border(5.0)),
    Case::new(Theme::Size, "10x10", "shifted by 1 px").size(10, 10).motion(Move::Shift(1.0)),
    Case::new(Theme::Size, "40x40", "shifted by 2 px").size(40, 40).motion(Move::Shift(2.0)),
    Case::new(Theme::Size, "8x200", "shifted by 1 px").size(8, 200).motion(Move::Shift(1.0)),
    Case::new(Theme::Size, "437x1023", "odd, shifted by 5 px").size(437, 1023),
    Case::new(Theme::Size, "1080x1920", "shifted by 20 px").size(1080, 1920).motion(Move::Shift(20.0)),
    Case::new(Theme::Surface, "weak texture", "3 grey levels from the darkest to the brightest")
        .surface(Surface::Contrast { range: 3.0, mean: 128.0 }),
    Case::new(Theme::Surface, "fog", "30 grey levels, near white")
        .surface(Surface::Contrast { range: 30.0, mean: 210.0 }),
    Case::new(Theme::Surface, "chequerboard", "fields of 16 px, shifted by 8 px: half a period would be 11 px")
        .surface(Surface::Checks)
        .motion(Move::Shift(8.0)),
    Case::new(Theme::Surface, "bricks", "of 16x32 px, all alike, shifted by 8 px: half a period would be 11 px")
        .surface(Surface::Bricks)
        .motion(Move::Shift(8.0)),
    Case::new(Theme::Camera, "noise of 5", "standard deviation in grey levels").camera(Camera::Noise(5.0)),
    Case::new(Theme::Camera, "noise of 20", "standard deviation in grey levels").camera(Camera::Noise(20.0)),
    Case::new(Theme::Camera, "motion blur", "shifted by 20 px, the shutter open for half the time")
        .camera(Camera::Shutter(0.5))
        .motion(Move::Shift(20.0)),
    Case::new(Theme::Camera, "JPEG", "frame 2 compressed with quality 20").camera(Camera::Jpeg(20)),
    Case::new(Theme::Light, "darker", "frame 2 times 0.6").camera(Camera::Gain(0.6)),
    Case::new(Theme::Light, "gamma", "frame 2 to the power of 1.5").camera(Camera::Gamma(1.5)),
    Case::new(Theme::Light, "brighter", "frame 2 plus 30 grey levels").camera(Camera::Offset(30.0)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, textures: &Textures) -> Pair {
        CASES.iter().find(|case| case.name == name).unwrap().pair(textures)
    }

    #[test]
    fn names_are_unique_and_themes_in_order() {
        let themes: Vec<usize> = CASES.iter().map(|c| Theme::ALL.iter().position(|&t| t == c.theme).unwrap()).collect();
        assert!(themes.is_sorted());
        for (i, case) in CASES.iter().enumerate() {
            assert!(CASES[..i].iter().all(|other| other.name != case.name), "{}", case.name);
        }
    }

    #[test]
    fn every_case_has_its_size_and_something_to_score_and_repeats() {
        let (textures, again) = (Textures::new(5), Textures::new(5));
        for case in &CASES {
            let pair = case.pair(&textures);
            assert_eq!(pair.first.size(), case.size, "{}", case.name);
            assert!(pair.scored.data().iter().any(|&s| s), "{}", case.name);
            let same = case.pair(&again);
            assert!(same.first == pair.first && same.second == pair.second, "{}", case.name);
            assert_eq!(same.scored, pair.scored, "{}", case.name);
            assert_eq!(pair.first == pair.second, case.theme == Theme::Still, "{}", case.name);
        }
        assert_ne!(pair("5 px", &textures).first, pair("5 px", &Textures::new(6)).first);
    }

    /// A whole-pixel shift puts the very values of frame 1 into frame 2.
    #[test]
    fn frames_follow_the_flow() {
        let textures = Textures::new(1);
        let Pair { first, second, flow, scored } = pair("40 px", &textures);
        let mut seen = 0;
        for (x, y) in (0..first.height()).flat_map(|y| (0..first.width()).map(move |x| (x, y))) {
            if scored.get(x, y) {
                let (u, v) = flow.known(x, y).unwrap();
                let to = ((x as f32 + u).round() as usize, (y as f32 + v).round() as usize);
                let difference = first.pixel(x, y).into_iter().zip(second.pixel(to.0, to.1));
                assert!(difference.into_iter().all(|(a, b)| a.abs_diff(b) <= 1), "{x}, {y}");
                seen += 1;
            }
        }
        // 40 px of 512 columns and of 384 rows at the very most.
        assert!(seen >= 472 * 344, "{seen}");
    }

    #[test]
    fn what_counts_is_what_is_meant() {
        let textures = Textures::new(2);
        let count = |name: &str| pair(name, &textures).scored.data().iter().filter(|&&s| s).count();
        assert_eq!(count("small and fast"), 20 * 20);
        // Four sides of 180 px, 5 px in, and out, where half of it is covered in frame 2.
        let edge = count("occluding edge");
        assert!((4 * 180 * 5..2 * 4 * 185 * 5).contains(&edge), "{edge}");
        // 12 bars of 3 x 100 px.
        let bars = count("thin bars");
        assert!((3000..4200).contains(&bars), "{bars}");
        let weak = pair("weak texture", &textures);
        let levels = |f: &Frame| f.rgb().iter().fold((255, 0), |(l, h), &v| (v.min(l), v.max(h)));
        let (low, high) = levels(&weak.first);
        assert!((2..=4).contains(&(high - low)), "{low} to {high}");
    }
}
