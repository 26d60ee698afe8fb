//! Progress on long work: a line on a terminal, silence elsewhere and with `--quiet`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::session::is_quiet;

/// Counts up; the total is not known.
pub fn counter(unit: &str) -> ProgressBar {
    styled(ProgressBar::new_spinner(), &format!("{{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}"))
}

/// Counts up to a total.
pub fn bar(total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}");
    styled(ProgressBar::new(total), &template)
}

/// A bar for training. Its message holds the pace, which is that of this process, not of the whole run. It is cut at the
/// edge of the terminal, for a line that wraps is drawn anew below itself.
pub fn training(steps: u64) -> ProgressBar {
    styled(ProgressBar::new(steps), "{bar:30} {pos}/{len} steps  {wide_msg}")
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    if is_quiet() {
        return ProgressBar::hidden();
    }
    // indicatif itself draws nothing where standard error is no terminal. The templates are constants.
    let bar = bar.with_style(ProgressStyle::with_template(template).expect("a valid template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
