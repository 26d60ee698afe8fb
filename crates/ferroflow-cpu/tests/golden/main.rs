//! Every network against what its reference implementations computed from formula weights and formula images.
//!
//! The large set lies beside the repository (`../shared/golden`, or `FERROFLOW_SHARED/golden`); without it those tests say
//! so and pass. `small.json` is our own extract, made by the double-precision interpreter once it agreed with the large
//! set, so that the networks stay proved anywhere.
//!
//! RAFT and SEA-RAFT have small files of their own in `raft/`, with the script that made them.
//!
//! Files of unsupervised training (`google_train`, `google_losses`, `google_masks`) are not read here.

mod cases;
mod compare;
mod executor;
mod kernels;
mod networks;
mod ops;
mod raft;
mod shared;
mod small;
mod tables;
mod training;
