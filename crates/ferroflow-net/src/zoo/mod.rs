//! The networks, one file each; [`crate::Model`] names them all.

mod flownet;
mod flownet2;
mod flownet_c;
mod flownet_s;
mod flownet_sd;
mod fusion;
mod lightflow;
mod pwcnet;
mod rill;
mod tfoptflow;
mod uflow;
mod uflow_names;

pub use flownet2::{FlowNet2Config, Mean, Member};
pub use lightflow::LightFlowConfig;
pub use pwcnet::PwcNetConfig;
pub use rill::RillConfig;
pub use tfoptflow::TfOptFlowConfig;
pub use uflow::UFlowConfig;
pub use uflow_names::UFlowNames;
