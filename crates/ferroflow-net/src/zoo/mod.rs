//! The networks, one file each, with configuration, graph and everything that other modules need to know about the network.
//! [`crate::Model`] names them all. To add one, write its file and name it here.

mod flownet;
pub mod flownet2;
mod flownet_c;
mod flownet_s;
mod flownet_sd;
mod fusion;
pub mod lightflow;
pub mod neuflow;
pub mod pwcnet;
pub mod raft;
pub mod rill;
pub mod sea_raft;
pub mod tfoptflow;
pub mod uflow;
mod uflow_names;

pub use uflow_names::UFlowNames;

use crate::model::Entry;

/// What each file defines, in the order in which networks are listed.
pub(crate) const NETWORKS: &[&[&dyn Entry]] = &[
    rill::NETWORKS,
    flownet2::NETWORKS,
    pwcnet::NETWORKS,
    tfoptflow::NETWORKS,
    uflow::NETWORKS,
    lightflow::NETWORKS,
    raft::NETWORKS,
    sea_raft::NETWORKS,
    neuflow::NETWORKS,
];
