//! The results of `eval` as text.

use std::io::{self, Write};

use ferroflow::core::metrics::{Reliability, metrics_table};
use ferroflow::infer::evaluate::{Comparison, DataResult, Measured};

use super::table::aligned;

/// Prints the results of all methods on one data set.
pub fn results(methods: &[Measured], index: usize, comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let of: Vec<(&str, &DataResult)> = methods.iter().map(|method| (&*method.name, &method.results[index])).collect();
    let Some((_, first)) = of.first() else { return Ok(()) };
    let time = |(name, result): &(&str, &DataResult)| {
        result.seconds_per_pair.map(|seconds| format!(", {:.0} ms a pair with {name}", 1e3 * seconds))
    };
    let (pairs, pixels) = (first.summary.pairs, first.summary.scored_pixels);
    let times: String = of.iter().filter_map(time).collect();
    writeln!(out, "{}: {pairs} pairs, {pixels} pixels scored{times}", first.data)?;
    write!(out, "{}", tables(&of))?;
    for (name, result) in &of {
        if let Some(iterations) = result.iterations {
            writeln!(out, "{iterations:.1} iterations a pair with {name}")?;
        }
        if let Some(told) = result.occlusion {
            writeln!(
                out,
                "occlusion told by {name}: F1 {:.4} above {:.4}, the best of 40 thresholds",
                told.f1, told.threshold
            )?;
        }
        if let Some(found) = &result.confidence {
            write!(out, "\n{}", reliability(name, found))?;
        }
    }
    write!(out, "{}{}", sequences(comparison), differences(comparison))?;
    writeln!(out)
}

/// Two methods in one table; more than two in one table for each average.
fn tables(of: &[(&str, &DataResult)]) -> String {
    let averages: Vec<_> = of.iter().map(|(name, result)| (*name, result.averages())).collect();
    if of.len() <= 2 {
        let heading = |name: &str, average: &str, method: usize| {
            if method == 0 { average.to_string() } else { format!("{name} {average}") }
        };
        let columns: Vec<_> = averages
            .iter()
            .enumerate()
            .flat_map(|(method, (name, all))| {
                all.iter().map(move |&(average, metrics)| (heading(name, average, method), metrics))
            })
            .collect();
        let columns: Vec<_> = columns.iter().map(|(heading, metrics)| (heading.as_str(), *metrics)).collect();
        return metrics_table(&columns);
    }
    let kinds = averages.first().map_or(0, |(_, all)| all.len());
    let table = |kind: usize| {
        let columns: Vec<_> = averages.iter().map(|(name, all)| (*name, all[kind].1)).collect();
        format!("{}\n{}", averages[0].1[kind].0, metrics_table(&columns))
    };
    (0..kinds).map(table).collect()
}

fn figure(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.4}"))
}

fn sequences(comparison: &Comparison) -> String {
    if comparison.sequences.is_empty() {
        return String::new();
    }
    let mut rows = vec![vec!["sequence".to_string(), "pairs".into()]];
    rows[0].extend(
        ["epe", "fl"].iter().flat_map(|metric| comparison.methods.iter().map(move |name| format!("{name} {metric}"))),
    );
    rows.extend(comparison.sequences.iter().map(|row| {
        let figures = row.epe.iter().chain(&row.fl).map(|value| figure(*value));
        [row.name.clone(), row.pairs.to_string()].into_iter().chain(figures).collect()
    }));
    format!("\nsequences, over images (epe in px, fl in %)\n{}", aligned(&rows, |column| column == 0))
}

fn differences(comparison: &Comparison) -> String {
    if comparison.differences.is_empty() {
        return String::new();
    }
    let heading = ["difference", "in", "mean", "95 % interval", "better", "worse", "of"].map(String::from).to_vec();
    let row = |found: &ferroflow::infer::evaluate::Difference| {
        vec![
            format!("{} - {}", found.method, found.than),
            found.metric.into(),
            format!("{:+.4}", found.mean),
            found.interval.map_or("-".into(), |[low, high]| format!("{low:+.4} to {high:+.4}")),
            found.better.to_string(),
            found.worse.to_string(),
            found.pairs.to_string(),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(comparison.differences.iter().map(row)).collect();
    format!(
        "\npaired differences over images; below 0 the method is better ({} resampled)\n{}",
        comparison.resampled,
        aligned(&rows, |column| column < 2)
    )
}

fn reliability(name: &str, found: &Reliability) -> String {
    let heading =
        ["confidence", "pixels (%)", "mean", "error <= 1 px", "epe (px)", "calibrated"].map(String::from).to_vec();
    let row = |bin: &ferroflow::core::metrics::ReliabilityRow| {
        let figures = [bin.share, bin.confidence, bin.right, bin.epe, bin.calibrated].map(|value| figure(Some(value)));
        std::iter::once(format!("{:.2} to {:.2}", bin.from, bin.to)).chain(figures).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(found.bins.iter().map(row)).collect();
    format!(
        "confidence of {name}: calibration error {:.4}, calibrated {}, AUSE {}\n{}",
        found.calibration_error,
        figure(found.calibrated_error),
        figure(found.ause),
        aligned(&rows, |column| column == 0)
    )
}
