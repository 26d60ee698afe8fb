//! The networks, one file each; [`crate::Model`] names them all.

mod flownet;
mod flownet2;
mod flownet_c;
mod flownet_s;
mod flownet_sd;
mod fusion;

pub use flownet2::{FlowNet2Config, Mean, Member};
