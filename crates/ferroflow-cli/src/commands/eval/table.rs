//! Tables of text with columns that line up.

/// One line for each row, words to the left of their column and everything else to its right.
pub fn aligned(rows: &[Vec<String>], is_word: impl Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let aligned = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if is_word(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(aligned.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
