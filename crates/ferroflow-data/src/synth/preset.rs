//! The families of scenes, by name, and every number that makes them.
//!
//! `chairs` follows the construction of FlyingChairs (Fischer et al. 2015): many chairs over a photograph, each moved by
//! its own affine map on top of the background's, parameters drawn as a clipped power of a normal variable, which gives
//! a peak at no motion and a heavy tail. `sdhom` has the small displacements of ChairsSDHom (Ilg et al. 2017), `things`
//! the large ones of FlyingThings3D (Mayer et al. 2016), `auto` mixes all scales in the manner of AutoFlow (Sun et al. 2021).
//! `shifts` is ours. Where most of a frame hardly moves, zero flow has a small error, and a network that concatenates its frames
//! stays at zero flow for a long time; even displacements teach it to compare the frames first.
//!
//! `world` and `wild` are ours too, and the only ones whose motion scales with the frame. `world` moves a camera through streets
//! (as in KITTI, Geiger et al. 2013), rooms and open places (as in Sintel, Butler et al. 2012); `wild` is `auto` with glass,
//! repeating textures and all effects.

/// A family of scenes. Lengths are in pixels of the frames, so that a larger frame is a wider window. If the preset is
/// [`relative`](Self::relative), they are in pixels of a frame as large as 512x384 and scale with the frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The name that selects it.
    pub name: &'static str,
    /// Fewest and most objects per 512x384 pixels; the number follows the frame's area.
    pub objects: (f32, f32),
    /// Diameter of objects, pixels: mean and standard deviation of a normal distribution, then the bounds to which it is clipped.
    pub diameter: [f32; 4],
    /// Share of objects that are chairs.
    pub chairs: f32,
    /// Motion of the background.
    pub background: Movement,
    /// Motion of an object relative to the background.
    pub object: Movement,
    /// All motion is multiplied by a factor drawn log-uniformly between these.
    pub speed: (f32, f32),
    /// Effects of the camera and the air.
    pub effects: Effects,
    /// Whether all lengths scale with the frame.
    pub relative: bool,
    /// A world with depth instead of a flat background.
    pub places: Option<Places>,
    /// Share of textures that repeat (bricks, tiles, windows) or hardly vary (asphalt).
    pub materials: f32,
    /// Share of objects that light passes through.
    pub glass: f32,
}

/// Shares of the places of a world; the rest is open ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Places {
    /// Streets that are driven along.
    pub street: f32,
    /// Rooms.
    pub room: f32,
}

/// Bounds of one layer's random motion; each parameter is `bound * clip(sign(g) |g|^power / at)`, g normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Movement {
    /// Largest shift along each axis, pixels.
    pub shift: f32,
    /// Exponent: higher means more layers that hardly move and a heavier tail.
    pub power: i32,
    /// Value of `|g|^power` that reaches the bound.
    pub at: f32,
    /// Largest rotation, radians.
    pub rotation: f32,
    /// Largest logarithm (base 2) of the zoom; half of it applies to each axis alone.
    pub zoom: f32,
    /// Largest perspective tilt: relative change of scale over 100 pixels.
    pub tilt: f32,
    /// Probability of non-rigid motion.
    pub bend_chance: f32,
    /// Largest gradient of a shear wave (displacement per pixel).
    pub bend: f32,
}

impl Movement {
    /// None at all.
    const NONE: Self =
        Self { shift: 0.0, power: 1, at: 1.0, rotation: 0.0, zoom: 0.0, tilt: 0.0, bend_chance: 0.0, bend: 0.0 };
}

/// Effects that break brightness constancy, all off in [`Effects::NONE`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effects {
    /// Probability of motion blur.
    pub blur_chance: f32,
    /// Longest exposure as a share of the time between frames.
    pub shutter: f32,
    /// Strength of the change of light between the frames (gain, tint, gradient).
    pub lighting: f32,
    /// Largest standard deviation of the noise, grey levels.
    pub noise: f32,
    /// Probability of fog.
    pub fog_chance: f32,
    /// Probability of soft shadows that move over the scene by themselves.
    pub shadow_chance: f32,
    /// Probability of a different tone curve in each frame.
    pub gamma_chance: f32,
    /// Probability of lossy compression.
    pub compress_chance: f32,
}

impl Effects {
    /// No effects: brightness is constant up to sampling.
    pub const NONE: Self = Self {
        blur_chance: 0.0,
        shutter: 0.0,
        lighting: 0.0,
        noise: 0.0,
        fog_chance: 0.0,
        shadow_chance: 0.0,
        gamma_chance: 0.0,
        compress_chance: 0.0,
    };
}

/// Names accepted by [`Preset::named`].
pub const PRESETS: [&str; 7] = ["chairs", "sdhom", "things", "auto", "shifts", "world", "wild"];

impl Preset {
    /// What the presets differ from: one thing that does not move.
    const PLAIN: Self = Self {
        name: "",
        objects: (1.0, 1.0),
        diameter: [130.0, 110.0, 40.0, 480.0],
        chairs: 0.0,
        background: Movement::NONE,
        object: Movement::NONE,
        speed: (1.0, 1.0),
        effects: Effects::NONE,
        relative: false,
        places: None,
        materials: 0.0,
        glass: 0.0,
    };

    /// The preset of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "chairs" => Some(Self::chairs()),
            "sdhom" => Some(Self::sdhom()),
            "things" => Some(Self::things()),
            "auto" => Some(Self::auto()),
            "shifts" => Some(Self::shifts()),
            "world" => Some(Self::world()),
            "wild" => Some(Self::wild()),
            _ => None,
        }
    }

    /// Many chairs, affine motion, the displacements of FlyingChairs (mean near 11 px).
    pub fn chairs() -> Self {
        Self {
            name: "chairs",
            objects: (10.0, 20.0),
            diameter: [130.0, 110.0, 40.0, 480.0],
            chairs: 0.7,
            background: Movement {
                shift: 30.0,
                power: 4,
                at: 16.0,
                rotation: 0.17,
                zoom: 0.1,
                tilt: 0.0,
                bend_chance: 0.15,
                bend: 0.06,
            },
            object: Movement {
                shift: 105.0,
                power: 4,
                at: 60.0,
                rotation: 0.5,
                zoom: 0.26,
                tilt: 0.0,
                bend_chance: 0.2,
                bend: 0.15,
            },
            speed: (1.0, 1.0),
            effects: Effects {
                blur_chance: 0.1,
                shutter: 0.5,
                lighting: 0.05,
                noise: 3.0,
                fog_chance: 0.05,
                ..Effects::NONE
            },
            ..Self::PLAIN
        }
    }

    /// Small displacements by homographies, a third of the backgrounds without texture.
    pub fn sdhom() -> Self {
        let movement = Movement {
            shift: 5.0,
            power: 2,
            at: 4.0,
            rotation: 0.02,
            zoom: 0.02,
            tilt: 0.012,
            bend_chance: 0.3,
            bend: 0.03,
        };
        Self {
            name: "sdhom",
            objects: (8.0, 16.0),
            diameter: [130.0, 110.0, 40.0, 480.0],
            chairs: 0.6,
            background: movement,
            object: Movement { shift: 8.0, ..movement },
            speed: (0.1, 1.0),
            effects: Effects {
                blur_chance: 0.1,
                shutter: 0.5,
                lighting: 0.05,
                noise: 3.0,
                fog_chance: 0.05,
                ..Effects::NONE
            },
            ..Self::PLAIN
        }
    }

    /// Objects of every kind and size, perspective, large displacements.
    pub fn things() -> Self {
        Self {
            name: "things",
            objects: (7.0, 20.0),
            diameter: [150.0, 140.0, 20.0, 560.0],
            chairs: 0.15,
            background: Movement {
                shift: 60.0,
                power: 2,
                at: 3.0,
                rotation: 0.12,
                zoom: 0.2,
                tilt: 0.06,
                bend_chance: 0.3,
                bend: 0.1,
            },
            object: Movement {
                shift: 170.0,
                power: 2,
                at: 4.0,
                rotation: 0.6,
                zoom: 0.35,
                tilt: 0.15,
                bend_chance: 0.4,
                bend: 0.25,
            },
            speed: (0.4, 1.2),
            effects: Effects {
                blur_chance: 0.25,
                shutter: 0.6,
                lighting: 0.08,
                noise: 3.0,
                fog_chance: 0.1,
                ..Effects::NONE
            },
            ..Self::PLAIN
        }
    }

    /// A wide mixture of scenes, with displacements from sub-pixel to very large, blur, noise, fog and changes of light.
    pub fn auto() -> Self {
        Self {
            name: "auto",
            objects: (3.0, 18.0),
            diameter: [140.0, 120.0, 16.0, 560.0],
            chairs: 0.25,
            background: Movement {
                shift: 60.0,
                power: 2,
                at: 3.0,
                rotation: 0.15,
                zoom: 0.2,
                tilt: 0.05,
                bend_chance: 0.5,
                bend: 0.12,
            },
            object: Movement {
                shift: 130.0,
                power: 3,
                at: 8.0,
                rotation: 0.6,
                zoom: 0.3,
                tilt: 0.12,
                bend_chance: 0.5,
                bend: 0.25,
            },
            speed: (0.05, 1.2),
            effects: Effects {
                blur_chance: 0.25,
                shutter: 0.7,
                lighting: 0.15,
                noise: 5.0,
                fog_chance: 0.15,
                ..Effects::NONE
            },
            ..Self::PLAIN
        }
    }

    /// Shifts whose displacements of up to 10 px are about equally likely, from which a network learns to match.
    pub fn shifts() -> Self {
        let movement = Movement {
            shift: 10.0,
            power: 1,
            at: 1.5,
            rotation: 0.0,
            zoom: 0.0,
            tilt: 0.0,
            bend_chance: 0.0,
            bend: 0.0,
        };
        Self {
            name: "shifts",
            objects: (4.0, 10.0),
            diameter: [130.0, 110.0, 40.0, 480.0],
            chairs: 0.5,
            background: movement,
            object: Movement { shift: 5.0, ..movement },
            speed: (1.0, 1.0),
            effects: Effects { noise: 2.0, ..Effects::NONE },
            ..Self::PLAIN
        }
    }

    /// A camera that moves through streets, rooms and open places, among objects that move; some objects fly past.
    pub fn world() -> Self {
        Self {
            name: "world",
            // Most scenes have none: the world is full enough.
            objects: (-4.0, 2.0),
            object: Self::auto().object,
            diameter: [90.0, 70.0, 20.0, 300.0],
            speed: (0.05, 1.0),
            effects: Effects {
                blur_chance: 0.2,
                shutter: 0.5,
                lighting: 0.08,
                noise: 4.0,
                fog_chance: 0.12,
                shadow_chance: 0.15,
                gamma_chance: 0.2,
                compress_chance: 0.3,
            },
            relative: true,
            places: Some(Places { street: 0.45, room: 0.2 }),
            ..Self::PLAIN
        }
    }

    /// `auto` with glass, repeating textures, shadows, tone curves and compression as well; it scales with the frame.
    pub fn wild() -> Self {
        let auto = Self::auto();
        Self {
            name: "wild",
            effects: Effects { shadow_chance: 0.25, gamma_chance: 0.25, compress_chance: 0.3, ..auto.effects },
            relative: true,
            materials: 0.3,
            glass: 0.1,
            ..auto
        }
    }

    /// The same scenes without noise, blur, fog, compression, changes of light and glass.
    pub fn without_effects(mut self) -> Self {
        self.effects = Effects::NONE;
        self.glass = 0.0;
        self
    }
}
