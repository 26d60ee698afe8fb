//! Writes an evaluation as one self-contained web page: a summary, tables that can be sorted, curves, and pictures of the worst pairs
//! with the methods side by side.

mod date;
mod gallery;
mod plot;

use std::{fmt::Write as _, time::SystemTime};

pub use gallery::{Gallery, Shown};

use ferroflow_core::metrics::{METRICS, Metrics, Reliability};

use crate::evaluate::{Comparison, DataResult, Measured};

/// The contents of a page.
pub struct Page<'a> {
    /// Name of the processor that it ran on.
    pub processor: &'a str,
    /// The command that made it.
    pub command: &'a str,
    /// When it was made.
    pub made: SystemTime,
    /// The methods with one result for each data set.
    pub methods: &'a [Measured],
    /// Their comparison on each data set.
    pub comparisons: &'a [Comparison],
    /// The worst pairs.
    pub gallery: &'a Gallery,
}

const STYLE: &str = include_str!("style.css");
/// Lets a click on a heading sort a table of class `sortable`.
pub const SORT: &str = include_str!("sort.js");

/// What the averages mean, for the page and for help texts.
pub const AVERAGES: [(&str, &str); 3] = [
    ("over pixels", "the mean over all scored pixels of all pairs: large and dense pairs weigh more"),
    ("over images", "the mean of each pair's own figure: every pair weighs the same"),
    ("over batches", "the mean of the figures of groups of consecutive pairs, as loops over batches report it"),
];

impl Page<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut page = String::new();
        let names: Vec<&str> = self.methods.iter().map(|method| &*method.name).collect();
        let title = escaped(&format!("Optical flow: {}", names.join(", ")));
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>\
             <p class=about>{} · ferroflow {} · {}</p><pre>{}</pre>",
            date::written(self.made),
            env!("CARGO_PKG_VERSION"),
            escaped(self.processor),
            escaped(self.command),
        );
        page.push_str(&self.summary());
        let data_sets = self.methods.first().map_or(0, |method| method.results.len());
        for index in 0..data_sets {
            page.push_str(&self.data_set(index));
        }
        page.push_str(&columns());
        let shown = self.gallery.shown();
        if !shown.is_empty() {
            let of = if self.methods.len() > 1 { " of each method" } else { "" };
            let count = self.gallery.size().min(shown.len());
            let _ = write!(page, "<h2 id=worst>The {count} pairs with the largest errors{of}</h2>");
            shown.iter().for_each(|shown| page.push_str(&self.gallery.html(shown)));
        }
        let _ = write!(page, "<script>{SORT}</script></html>");
        page.push('\n');
        page
    }

    /// The methods and their main figures, in words and in one table.
    fn summary(&self) -> String {
        let mut html = String::from("<h2 id=summary>Summary</h2><ul>");
        for method in self.methods {
            let _ = write!(html, "<li><b>{}</b>: {}", escaped(&method.name), escaped(&method.method));
        }
        html.push_str("</ul>");
        for comparison in self.comparisons {
            html.push_str(&self.verdict(comparison));
        }
        let headings = [
            "data",
            "method",
            "pairs",
            "epe over images (px)",
            "epe over pixels (px)",
            "fl over pixels (%)",
            "ms a pair",
        ];
        let mut rows = Vec::new();
        for index in 0..self.methods.first().map_or(0, |method| method.results.len()) {
            let least = |figure: fn(&DataResult) -> Option<f64>| {
                let figures = self.methods.iter().filter_map(|method| figure(&method.results[index]));
                figures.fold(f64::INFINITY, f64::min)
            };
            let figures: [fn(&DataResult) -> Option<f64>; 3] = [
                |result| result.summary.over_images.epe,
                |result| result.summary.over_pixels.epe,
                |result| result.summary.over_pixels.fl,
            ];
            for method in self.methods {
                let result = &method.results[index];
                let mut row = vec![text(&result.data), text(&method.name), text(&result.summary.pairs.to_string())];
                row.extend(figures.map(|figure| {
                    let best = self.methods.len() > 1 && figure(result) == Some(least(figure));
                    number(figure(result), best)
                }));
                row.push(text(&result.seconds_per_pair.map_or("-".into(), |s| format!("{:.0}", 1e3 * s))));
                rows.push(row);
            }
        }
        html + &table(&headings.map(String::from), &rows)
    }

    /// Which method is best on a data set, in a sentence.
    fn verdict(&self, comparison: &Comparison) -> String {
        let Some(index) = self.methods.first().and_then(|m| m.results.iter().position(|r| r.data == comparison.data))
        else {
            return String::new();
        };
        let mut ranked: Vec<(&str, f64)> = self
            .methods
            .iter()
            .filter_map(|method| Some((&*method.name, method.results[index].summary.over_images.epe?)))
            .collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        match &ranked[..] {
            [(best, epe), (next, other), ..] => format!(
                "<p>On {}, <b>{}</b> has the smallest error: {epe:.3} px over images, {:.3} px less than {} ({other:.3} px).</p>",
                escaped(&comparison.data),
                escaped(best),
                other - epe,
                escaped(next)
            ),
            [(_, epe)] => format!("<p>On {}, the error is {epe:.3} px over images.</p>", escaped(&comparison.data)),
            [] => String::new(),
        }
    }

    fn data_set(&self, index: usize) -> String {
        let results: Vec<(&str, &DataResult)> =
            self.methods.iter().map(|method| (&*method.name, &method.results[index])).collect();
        let Some((_, first)) = results.first() else { return String::new() };
        let mut html = format!(
            "<h2>{}</h2><p>{} pairs, {} pixels scored</p>",
            escaped(&first.data),
            first.summary.pairs,
            first.summary.scored_pixels
        );
        html.push_str(&metrics(&results));
        if let Some(comparison) = self.comparisons.iter().find(|comparison| comparison.data == first.data) {
            html.push_str(&differences(comparison));
            html.push_str(&sequences(comparison));
        }
        let errors = |r: &DataResult| r.pairs.iter().filter_map(|p| p.metrics.epe).collect::<Vec<f64>>();
        let curves: Vec<(&str, Vec<f64>)> = results.iter().map(|(name, result)| (*name, errors(result))).collect();
        html.push_str(&plot::distribution(&curves));
        for (name, result) in &results {
            if let Some(told) = &result.occlusion {
                let _ = write!(
                    html,
                    "<p>Occlusion told by {}: F1 {:.4} above {:.4}, the best of 40 thresholds.</p>",
                    escaped(name),
                    told.f1,
                    told.threshold
                );
            }
            html.push_str(&result.confidence.as_ref().map_or(String::new(), |found| reliability(name, found)));
        }
        html + &pairs(&results)
    }
}

/// Every figure in every average.
fn metrics(results: &[(&str, &DataResult)]) -> String {
    let averages: Vec<(String, &Metrics)> = results
        .iter()
        .flat_map(|(name, result)| {
            let heading = |average: &str| if results.len() > 1 { format!("{name} {average}") } else { average.into() };
            result.averages().into_iter().map(move |(average, metrics)| (heading(average), metrics)).collect::<Vec<_>>()
        })
        .collect();
    let headings: Vec<String> =
        std::iter::once("figure".into()).chain(averages.iter().map(|(heading, _)| heading.clone())).collect();
    let present = METRICS.iter().filter(|metric| averages.iter().any(|(_, metrics)| (metric.of)(metrics).is_some()));
    let row = |metric: &ferroflow_core::metrics::Metric| {
        let written = |(_, metrics): &(String, &Metrics)| {
            text(&(metric.of)(metrics).map_or("-".into(), |value| Metrics::written(metric.unit, value)))
        };
        let name = format!("<td title=\"{}\">{} {}</td>", escaped(metric.definition), metric.name, metric.unit);
        std::iter::once(name).chain(averages.iter().map(written)).collect()
    };
    table(&headings, &present.map(row).collect::<Vec<_>>())
}

fn differences(comparison: &Comparison) -> String {
    if comparison.differences.is_empty() {
        return String::new();
    }
    let headings = ["difference", "in", "mean", "95 % interval", "pairs better", "pairs worse", "of"].map(String::from);
    let row = |found: &crate::evaluate::Difference| {
        let unit = if found.metric == "fl" { "%" } else { "px" };
        vec![
            text(&format!("{} less {}", found.method, found.than)),
            text(&format!("{} ({unit})", found.metric)),
            text(&format!("{:+.4}", found.mean)),
            text(&found.interval.map_or("-".into(), |[low, high]| format!("{low:+.4} to {high:+.4}"))),
            text(&found.better.to_string()),
            text(&found.worse.to_string()),
            text(&found.pairs.to_string()),
        ]
    };
    format!(
        "<h3>Paired differences over images</h3><p>Below 0, the method is better than the first. An interval that excludes 0 is a \
         difference beyond chance. 10,000 bootstrap resamples of {}, with a fixed seed.</p>{}",
        comparison.resampled,
        table(&headings, &comparison.differences.iter().map(row).collect::<Vec<_>>())
    )
}

fn sequences(comparison: &Comparison) -> String {
    if comparison.sequences.is_empty() {
        return String::new();
    }
    let mut headings = vec!["sequence".to_string(), "pairs".into()];
    headings.extend(comparison.methods.iter().map(|name| format!("{name} epe (px)")));
    headings.extend(comparison.methods.iter().map(|name| format!("{name} fl (%)")));
    let row = |row: &crate::evaluate::SequenceRow| {
        let mut cells = vec![text(&row.name), text(&row.pairs.to_string())];
        for figures in [&row.epe, &row.fl] {
            let least = figures.iter().flatten().copied().fold(f64::INFINITY, f64::min);
            cells.extend(figures.iter().map(|figure| number(*figure, figures.len() > 1 && *figure == Some(least))));
        }
        cells
    };
    let rows: Vec<_> = comparison.sequences.iter().map(row).collect();
    format!("<h3>Sequences, over images</h3>{}", table(&headings, &rows))
}

fn reliability(name: &str, found: &Reliability) -> String {
    let headings = ["confidence", "pixels (%)", "mean confidence", "error at most 1 px", "epe (px)", "calibrated"]
        .map(String::from);
    let rows: Vec<_> = found
        .bins
        .iter()
        .map(|bin| {
            let range = text(&format!("{:.2} to {:.2}", bin.from, bin.to));
            let figures = [bin.share, bin.confidence, bin.right, bin.epe, bin.calibrated];
            std::iter::once(range).chain(figures.map(|figure| number(Some(figure), false))).collect()
        })
        .collect();
    let calibrated = found.calibrated_error.map_or(String::new(), |error| {
        format!(", {error:.4} after calibration by one rising curve, on pairs that it was not made of")
    });
    let ause = found.ause.map_or(String::new(), |ause| {
        format!(" Area between the sparsification curve and the best one (AUSE): {ause:.4} of the mean error.")
    });
    format!(
        "<h3>Confidence of {}</h3><p>The forward-backward check's confidence against the true error. Calibration error {:.4}{calibrated}.{ause}</p>{}",
        escaped(name),
        found.calibration_error,
        table(&headings, &rows)
    )
}

/// Every pair with the error of every method, folded away.
fn pairs(results: &[(&str, &DataResult)]) -> String {
    let Some((_, first)) = results.first() else { return String::new() };
    let mut headings = vec!["pair".to_string()];
    headings.extend(results.iter().map(|(name, _)| format!("{name} epe (px)")));
    headings.extend(results.iter().map(|(name, _)| format!("{name} fl (%)")));
    let row = |(index, pair): (usize, &crate::evaluate::PairResult)| {
        let mut cells = vec![text(&pair.id)];
        let figures: [fn(&Metrics) -> Option<f64>; 2] = [|metrics| metrics.epe, |metrics| metrics.fl];
        for figure in figures {
            let of = |(_, result): &(&str, &DataResult)| result.pairs.get(index).and_then(|pair| figure(&pair.metrics));
            cells.extend(results.iter().map(|result| number(of(result), false)));
        }
        cells
    };
    let rows: Vec<_> = first.pairs.iter().enumerate().map(row).collect();
    format!("<details><summary>All {} pairs</summary>{}</details>", rows.len(), table(&headings, &rows))
}

/// What every column of the page means.
fn columns() -> String {
    let mut html = String::from(
        "<h2 id=columns>What the figures mean</h2><p>The error of a pixel is the distance between its estimated and its true vector.</p>\
         <table class=words>",
    );
    for (name, unit, definition) in METRICS.iter().map(|metric| (metric.name, metric.unit, metric.definition)) {
        let _ = write!(html, "<tr><td><b>{name}</b><td>{unit}<td>{}", escaped(definition));
    }
    for (name, definition) in AVERAGES {
        let _ = write!(html, "<tr><td><b>{name}</b><td><td>{definition}");
    }
    html + "</table>"
}

/// A table whose headings sort it. Cells are HTML.
fn table(headings: &[String], rows: &[Vec<String>]) -> String {
    let headings: String = headings.iter().map(|heading| format!("<th>{}</th>", escaped(heading))).collect();
    let rows: String = rows.iter().map(|cells| format!("<tr>{}</tr>", cells.concat())).collect();
    format!(
        "<div class=wide><table class=sortable><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

/// A cell.
fn text(text: &str) -> String {
    format!("<td>{}</td>", escaped(text))
}

/// A cell with a figure, which may be the best of its kind.
fn number(value: Option<f64>, best: bool) -> String {
    let class = if best { " class=best" } else { "" };
    format!("<td{class}>{}</td>", value.map_or("-".into(), |value| format!("{value:.4}")))
}

/// Text that may stand in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use ferroflow_core::metrics::Evaluation;
    use ferroflow_core::{FlowField, Frame, Size};
    use ferroflow_data::Sample;

    use super::*;
    use crate::evaluate::PairResult;

    fn pair(id: &str, epe: f64) -> (Sample, FlowField, PairResult) {
        let frame = Frame::from_fn(Size::new(16, 24), |x, y| [90, 10 * x as u8, 10 * y as u8]);
        let truth = FlowField::from_fn(Size::new(16, 24), |_, _| (1.0, 2.0));
        let sample = Sample {
            first: frame.clone(),
            second: frame,
            flow: Some(truth.clone()),
            occlusion: None,
            original: None,
            surround: None,
            id: id.into(),
        };
        let metrics = Metrics { epe: Some(epe), ..Metrics::default() };
        (sample, truth, PairResult { id: id.into(), size: Size::new(16, 24), seconds: None, metrics, occlusion: None })
    }

    /// Pairs of which the first method and the second find others worst.
    fn gallery(size: usize) -> Gallery {
        let mut gallery = Gallery::new(vec!["one".into(), "<two>".into()], size);
        for (id, first, second) in [("a", 1.0, 9.0), ("b", 5.0, 0.1), ("c", 3.0, 0.2), ("d", 0.5, 0.4)] {
            let ((sample, estimate, one), (.., two)) = (pair(id, first), pair(id, second));
            gallery.add("data", &sample, &[estimate.clone(), estimate], &[&one, &two]);
        }
        gallery
    }

    #[test]
    fn the_gallery_keeps_the_worst_of_each_method_in_order() {
        let names = |size| gallery(size).shown().iter().map(|s| s.id.clone()).collect::<String>();
        assert_eq!([1, 2, 0].map(names), ["ab", "abcd", ""].map(String::from));
    }

    #[test]
    fn a_page_holds_everything_itself() {
        let (.., result) = pair("scene/<1>", 2.5);
        let result = DataResult {
            data: "chairs:/a&b".into(),
            summary: Evaluation::default().summary(),
            over_batches: None,
            occlusion: None,
            confidence: None,
            seconds_per_pair: Some(0.1),
            iterations: None,
            pairs: vec![result],
        };
        let method = |name: &str| Measured { name: name.into(), method: "m".into(), results: vec![result.clone()] };
        let methods = [method("one"), method("<two>")];
        let compared: Vec<(&str, &DataResult)> = methods.iter().map(|m| (&*m.name, &m.results[0])).collect();
        let comparisons = [Comparison::of(&compared)];
        let (gallery, command) = (gallery(1), "ferroflow eval 'a & b'");
        let page = Page {
            processor: "p",
            command,
            made: UNIX_EPOCH,
            methods: &methods,
            comparisons: &comparisons,
            gallery: &gallery,
        };
        let html = page.html();
        assert!(html.contains("chairs:/a&amp;b") && html.contains("scene/&lt;1&gt;") && html.contains("<svg"));
        assert!(html.contains("ferroflow eval 'a &amp; b'") && html.contains("1970-01-01 00:00 UTC"));
        assert!(html.contains("&lt;two&gt; less one") && html.contains(METRICS[4].definition));
        assert_eq!(
            html.matches("data:image/jpeg;base64,").count(),
            2 * (2 + 2 * 2),
            "two pairs: frame, truth, two of each method"
        );
        let loaded = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!loaded.contains("http") && !loaded.contains("src=\"/"), "nothing is loaded");
    }
}
