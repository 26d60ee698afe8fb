//! The kinds of videos that are written.

use std::path::Path;

/// A kind of video.
#[derive(Debug)]
pub(super) struct Format {
    /// What the name ends in.
    extension: &'static str,
    /// What `ffmpeg` calls it.
    pub muxer: &'static str,
    /// Encoders with their options, the best first: the first that `ffmpeg` has is taken. None for what needs no `ffmpeg`.
    pub encoders: &'static [Encoding],
    /// Whether it can have sound.
    pub sound: bool,
}

/// An encoder and its options, in `ffmpeg`'s words.
pub(super) type Encoding = (&'static str, &'static [&'static str]);

const H264: &[Encoding] = &[
    ("libx264", &["-crf", "16", "-preset", "medium", "-movflags", "+faststart"]),
    ("libopenh264", &["-b:v", "12M"]),
    ("mpeg4", &["-q:v", "2"]),
];
const MATROSKA: &[Encoding] =
    &[("libx264", &["-crf", "16"]), ("libopenh264", &["-b:v", "12M"]), ("mpeg4", &["-q:v", "2"])];
const WEBM: &[Encoding] = &[
    ("libvpx-vp9", &["-crf", "24", "-b:v", "0", "-row-mt", "1", "-cpu-used", "4"]),
    ("libsvtav1", &["-crf", "28"]),
    ("libvpx", &["-crf", "10", "-b:v", "12M"]),
];
const AVI: &[Encoding] = &[("mpeg4", &["-q:v", "2"]), ("mjpeg", &["-q:v", "2"])];
/// A palette for each picture, so that none has to wait for those after it.
const PALETTES: &str = "[0:v]split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1[v]";
const GIF: &[Encoding] = &[("gif", &["-loop", "0"])];
const WEBP: &[Encoding] =
    &[("libwebp_anim", &["-loop", "0", "-q:v", "90"]), ("libwebp", &["-loop", "0", "-q:v", "90"])];

const FORMATS: [Format; 9] = [
    Format { extension: "mp4", muxer: "mp4", encoders: H264, sound: true },
    Format { extension: "m4v", muxer: "mp4", encoders: H264, sound: true },
    Format { extension: "mov", muxer: "mov", encoders: H264, sound: true },
    Format { extension: "mkv", muxer: "matroska", encoders: MATROSKA, sound: true },
    Format { extension: "webm", muxer: "webm", encoders: WEBM, sound: true },
    Format { extension: "avi", muxer: "avi", encoders: AVI, sound: true },
    Format { extension: "gif", muxer: "gif", encoders: GIF, sound: false },
    Format { extension: "webp", muxer: "webp", encoders: WEBP, sound: false },
    Format { extension: "y4m", muxer: "yuv4mpegpipe", encoders: &[], sound: false },
];

/// What the names of videos that can be written end in.
pub const EXTENSIONS: [&str; 9] = {
    let mut extensions = [""; 9];
    let mut i = 0;
    while i < FORMATS.len() {
        extensions[i] = FORMATS[i].extension;
        i += 1;
    }
    extensions
};

impl Format {
    /// The filters between pictures and an encoder.
    pub fn filters(&self, encoder: &str) -> &'static str {
        match self.extension {
            "gif" => PALETTES,
            // Whose library makes better colours of half the resolution than ffmpeg does, and of odd sizes too.
            "webp" => "[0:v]format=bgra[v]",
            _ if self.tells_colours(encoder) => "[0:v]scale=out_color_matrix=bt709:out_range=tv,format=yuv420p[v]",
            _ => "[0:v]format=yuv420p[v]",
        }
    }

    /// Whether the file tells which colours its numbers mean. Those of others are taken for BT.601.
    pub fn tells_colours(&self, encoder: &str) -> bool {
        self.sound && !["mpeg4", "mjpeg"].contains(&encoder)
    }

    /// Whether both sides must be even, because colours have half the resolution.
    pub fn is_even(&self) -> bool {
        !["gif", "webp"].contains(&self.extension)
    }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// The kind that a name asks for.
pub(super) fn of(path: &Path) -> Option<&'static Format> {
    let extension = extension(path);
    FORMATS.iter().find(|format| format.extension == extension)
}

/// Whether a file of this name would be a video that can be written.
pub fn is_video_name(path: &Path) -> bool {
    of(path).is_some()
}
