//! The recipes in the program: one for each published stage, and one that needs no data.

/// A recipe by name.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What `ferroflow train` takes.
    pub name: &'static str,
    /// Its TOML; the first line is a comment that describes it.
    pub text: &'static str,
}

impl Shipped {
    /// The comment on its first line.
    pub fn description(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(Shipped { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }),*]
    };
}

/// Every recipe of `recipes/`.
pub const SHIPPED: &[Shipped] = shipped![
    "default",
    "lightflow-synth",
    "lightflow-1",
    "lightflow-2",
    "lightflow-3",
    "flownet2-c",
    "flownet2-s",
    "flownet2-sd",
    "flownet2-cs",
    "flownet2-css",
    "flownet2-fusion",
    "flownet2-finetune",
    "flownet2-mindspore",
    "pwcnet-chairs",
    "pwcnet-things",
    "pwcnet-sintel-v1",
    "pwcnet-sintel-v2",
    "uflow-chairs",
    "uflow-sintel",
    "uflow-kitti",
    "uflow-mindspore-chairs",
    "uflow-mindspore-sintel",
    "raft-chairs",
    "raft-things",
    "raft-sintel",
    "raft-kitti",
    "sea-raft-chairs",
    "sea-raft-things",
    "sea-raft-sintel",
    "sea-raft-kitti",
    "unlabelled-synth",
    "video",
];
