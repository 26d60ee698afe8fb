//! `bench --card`: what a method does on scenes whose answer is known.

use std::io::Write;

use ferroflow::data::card::{CASES, Theme};
use ferroflow::infer::{
    Estimator,
    card::{Card, Row, SEEDS},
};
use ferroflow::train::plot::bars::{Bars, Format, Group, Row as BarRow};
use serde::Serialize;

use super::Args;
use crate::{progress, session::Session, usage::UsageError};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    card: Card,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Card>,
}

/// Measures, draws, prints.
pub(super) fn run(args: &Args, session: &mut Session) -> anyhow::Result<()> {
    session.files.reads_all(args.method.weights());
    if let Some(path) = &args.output {
        Format::of(path).map_err(|error| UsageError(error.to_string()))?;
        session.files.plan(path, "the card's picture")?;
    }
    session.files.prepare()?;
    let estimator = args.method.estimator()?;
    let baseline = args.baseline.as_deref().and_then(Estimator::baseline);
    let total = (1 + usize::from(baseline.is_some())) * SEEDS.len() * CASES.len();
    let bar = if args.json { indicatif::ProgressBar::hidden() } else { progress::bar(total as u64, "pairs") };
    let measure = |estimator: &Estimator| Card::measure(estimator, |_| bar.inc(1));
    let report = Report { card: measure(&estimator), baseline: baseline.as_ref().map(measure) };
    bar.finish_and_clear();
    if let Some(path) = &args.output {
        report.bars().write(path)?;
    }
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(session.out, "{report}")?;
    }
    Ok(())
}

impl Report {
    /// Rows of the card with those of the baseline, by theme.
    fn themes(&self) -> impl Iterator<Item = (Theme, Vec<(&Row, Option<&Row>)>)> {
        let rows = || self.card.rows.iter().enumerate();
        Theme::ALL.into_iter().map(move |theme| {
            let of = |(i, row)| (row, self.baseline.as_ref().and_then(|b| b.rows.get(i)));
            (theme, rows().filter(|(_, row)| row.theme == theme.name()).map(of).collect())
        })
    }

    fn bars(&self) -> Bars {
        let epe = |row: &Row| row.errors.map(|e| e.epe);
        let bar = |(row, baseline): (&Row, Option<&Row>)| BarRow {
            name: row.name.into(),
            values: [epe(row)].into_iter().chain(baseline.map(epe)).collect(),
            line: row.zero_epe,
        };
        let groups = self
            .themes()
            .map(|(theme, rows)| Group { name: theme.name().into(), rows: rows.into_iter().map(bar).collect() });
        Bars {
            axis: "mean end-point error, px".into(),
            series: [&self.card].into_iter().chain(&self.baseline).map(|c| c.method.clone()).collect(),
            line: "zero flow".into(),
            groups: groups.collect(),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: the mean of {} pairs a row, errors in pixels", self.card.description, self.card.pairs)?;
        let compared = self.baseline.as_ref().map(|b| format!(" {:>8}", b.method)).unwrap_or_default();
        writeln!(f, "{:<18}{:>9}{:>9}{:>8}{:>8}{:>7}{compared}", "", "size", "zero", "epe", "p90", "> 3 px")?;
        for (theme, rows) in self.themes() {
            writeln!(f, "{}", theme.name())?;
            for (row, baseline) in rows {
                let size = format!("{}x{}", row.height, row.width);
                write!(f, "  {:<16}{size:>9}{:>9.2}", row.name, row.zero_epe)?;
                match &row.errors {
                    Some(e) => write!(f, "{:>8.2}{:>8.2}{:>6.1}%", e.epe, e.p90, e.px3)?,
                    None => write!(f, "{:>8}{:>8}{:>7}", "-", "-", "-")?,
                }
                if let Some(baseline) = baseline {
                    let epe = baseline.errors.map_or("-".into(), |e| format!("{:.2}", e.epe));
                    write!(f, " {epe:>8}")?;
                }
                write!(f, "  {:<7}{}", row.grade.name(), row.what)?;
                if row.unanswered > 0 {
                    write!(f, " ({} of {} pixels unanswered)", row.unanswered, row.scored)?;
                }
                writeln!(f)?;
                if let Some(failure) = &row.failure {
                    writeln!(f, "    {failure}")?;
                }
            }
        }
        Ok(())
    }
}
