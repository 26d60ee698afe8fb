//! Writes an evaluation as one self-contained web page with tables, curves and pictures of the worst pairs.

mod gallery;
mod plot;

use std::fmt::Write as _;

pub use gallery::{Gallery, Shown};

use ferroflow_core::metrics::Metrics;

use crate::evaluate::DataResult;

/// The contents of a page.
pub struct Page<'a> {
    /// The method in a line, as [`crate::Estimator::describe`] gives it.
    pub method: &'a str,
    /// Name of the processor that it ran on.
    pub processor: &'a str,
    /// One result for each data set.
    pub results: &'a [DataResult],
    /// Name of another method and its results on the same data sets; both are empty if there is none.
    pub baseline: (&'a str, &'a [DataResult]),
    /// The worst pairs.
    pub gallery: &'a Gallery,
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:.7rem 0}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px;margin:.3rem 0 1.4rem}\
.pair img{width:100%}figure{margin:0}figcaption{font-size:12px;color:#555}svg{max-width:100%;height:auto}";

impl Page<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><style>{STYLE}</style>\
             <h1>{0}</h1><p>{1}</p>",
            escaped(self.method),
            escaped(self.processor)
        );
        for (i, result) in self.results.iter().enumerate() {
            let compared = self.baseline.1.get(i);
            let _ = write!(
                page,
                "<h2>{}</h2><p>{} pairs, {} pixels scored, {:.0} ms a pair</p>{}",
                escaped(&result.data),
                result.summary.pairs,
                result.summary.scored_pixels,
                1e3 * result.seconds_per_pair,
                table(result, compared.map(|c| (self.baseline.0, c)))
            );
            let errors = |r: &DataResult| r.pairs.iter().filter_map(|p| p.metrics.epe).collect::<Vec<f64>>();
            let mut curves = vec![("this method", errors(result))];
            curves.extend(compared.map(|c| (self.baseline.0, errors(c))));
            page.push_str(&plot::distribution(&curves));
        }
        if !self.gallery.shown().is_empty() {
            let _ = write!(page, "<h2>The {} pairs with the largest errors</h2>", self.gallery.shown().len());
            self.gallery.shown().iter().for_each(|shown| page.push_str(&shown.html()));
        }
        page.push_str("</html>\n");
        page
    }
}

fn table(result: &DataResult, compared: Option<(&str, &DataResult)>) -> String {
    let columns = result.columns(compared);
    let mut html = String::from("<table><tr><th></th>");
    columns.iter().for_each(|(heading, _)| {
        let _ = write!(html, "<th>{}</th>", escaped(heading));
    });
    html.push_str("</tr>");
    let rows: Vec<_> = columns.iter().map(|(_, metrics)| metrics.rows()).collect();
    for (i, (name, unit, _)) in rows[0].iter().enumerate() {
        if rows.iter().all(|row| row[i].2.is_none()) {
            continue;
        }
        let _ = write!(html, "<tr><td>{name} {unit}</td>");
        for row in &rows {
            let _ = write!(html, "<td>{}</td>", row[i].2.map_or("-".into(), |v| Metrics::written(unit, v)));
        }
        html.push_str("</tr>");
    }
    html + "</table>"
}

/// Text that may stand in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
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
        (sample, truth, PairResult { id: id.into(), size: Size::new(16, 24), seconds: 0.1, metrics, occlusion: None })
    }

    #[test]
    fn the_gallery_keeps_the_worst_in_order() {
        let mut gallery = Gallery::new(2);
        for (id, epe) in [("a", 1.0), ("b", 5.0), ("c", 3.0), ("d", 0.5)] {
            let (sample, estimate, result) = pair(id, epe);
            gallery.add("data", &sample, &estimate, &result);
        }
        let names: Vec<&str> = gallery.shown().iter().map(|s| s.id.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn a_page_holds_everything_itself() {
        let mut gallery = Gallery::new(1);
        let (sample, estimate, result) = pair("scene/<1>", 2.5);
        gallery.add("data", &sample, &estimate, &result);
        let results = [DataResult {
            data: "chairs:/a&b".into(),
            summary: Evaluation::default().summary(),
            over_batches: None,
            occlusion: None,
            seconds_per_pair: 0.1,
            pairs: vec![result],
        }];
        let page =
            Page { method: "m", processor: "p", results: &results, baseline: ("dis", &results), gallery: &gallery };
        let html = page.html();
        assert!(html.contains("chairs:/a&amp;b") && html.contains("scene/&lt;1&gt;") && html.contains("<svg"));
        assert!(html.contains("<tr><td>unanswered pixels</td><td>0</td>"));
        assert_eq!(html.matches("data:image/jpeg;base64,").count(), 4, "frame, truth, estimate, errors");
        assert!(!html.contains("http") || html.contains("http://www.w3.org/2000/svg"), "nothing is loaded");
    }
}
