//! Tests across modules, some on real files that are not part of the repository.

mod formats;
mod golden_metrics;
mod golden_occlusion;
mod real_files;

use ferroflow_testing::shared;
