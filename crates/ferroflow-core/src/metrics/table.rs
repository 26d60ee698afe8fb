//! Metrics as a table of text.

use std::fmt::Write as _;

use super::Metrics;

/// Metrics as rows, with one column for each `(heading, metrics)`; a metric that no column has is left out.
pub fn metrics_table(columns: &[(&str, &Metrics)]) -> String {
    let width = columns.iter().map(|(heading, _)| heading.len()).max().unwrap_or(0).max(12);
    let rows: Vec<_> = columns.iter().map(|(_, metrics)| metrics.rows()).collect();
    let mut text = String::new();
    if columns.iter().any(|(heading, _)| !heading.is_empty()) {
        let headings: String = columns.iter().map(|(heading, _)| format!(" {heading:>width$}")).collect();
        let _ = writeln!(text, "{:<18}{headings}", "");
    }
    let Some(first) = rows.first() else { return text };
    for (index, (name, unit, _)) in first.iter().enumerate() {
        let values: Vec<Option<f64>> = rows.iter().map(|row| row[index].2).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let cells: String = values
            .iter()
            .map(|value| format!(" {:>width$}", value.map_or("-".into(), |v| Metrics::written(unit, v))))
            .collect();
        let label = if unit.is_empty() { name.to_string() } else { format!("{name} ({unit})") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label:<18}{cells}");
    }
    text
}
