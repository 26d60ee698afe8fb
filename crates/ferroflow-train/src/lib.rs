//! Supervised training: losses, optimisers, schedules, recipes, one loop, checkpoints and logs.

pub mod loss;
pub mod optimiser;
pub mod recipe;
pub mod schedule;
#[cfg(test)]
mod testing;
