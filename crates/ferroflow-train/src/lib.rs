//! Training: losses with and without truth, optimisers, schedules, recipes, one loop, checkpoints and logs.
//!
//! A [`Recipe`] decides everything; a [`Run`] follows it in a folder of its own. The loop ([`run`]) runs on the host and takes
//! the device of the network as a [`ferroflow_net::device::Device`].

pub mod checkpoint;
mod clock;
pub mod criterion;
pub mod data;
mod dropout;
mod error;
pub mod folder;
mod init;
mod lock;
pub mod log;
pub mod loss;
pub mod optimiser;
pub mod peers;
pub mod pictures;
pub mod plot;
pub mod recipe;
pub mod run;
pub mod schedule;
mod state;
pub mod tensorboard;
#[cfg(test)]
mod testing;
mod trainers;
pub mod unsupervised;
pub mod validate;

pub use error::TrainError;
pub use init::InitError;
pub use recipe::{Recipe, RecipeError, nearest};
pub use run::{Event, Outcome, Run};
