//! A table of pairs, separated by tabs, with one line for each pair and the names of the columns in the first line.
//!
//! The columns `image1` and `image2` are needed; `name`, `flow`, `occlusions` and `invalid` are used if they are there, and others
//! are ignored. Paths are relative to the table; an empty cell means that there is no file.

use std::{collections::HashSet, path::Path};

use ferroflow_core::io::read_text;

use super::{
    Access, Dataset, Request,
    listing::{Found, Listing},
};
use crate::DataError;

pub(super) const PAIRS: Dataset = Dataset {
    name: "pairs",
    title: "table of pairs",
    path: "a tab-separated file whose first line names the columns image1, image2, flow, ...",
    words: &[],
    marks: &[],
    inner: &[],
    access: Access::Listed(list),
};

fn list(request: &Request) -> Result<Listing, DataError> {
    let path = &request.root;
    let text = read_text(path)?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let Some((_, header)) = lines.next() else {
        return Err(DataError::content(path, "the table is empty; its first line names the columns"));
    };
    let columns: Vec<&str> = header.split('\t').map(str::trim).collect();
    let column = |name: &str| columns.iter().position(|c| *c == name);
    let (Some(image1), Some(image2)) = (column("image1"), column("image2")) else {
        let reason =
            format!("the first line names no columns image1 and image2 between tabs, but: {}", columns.join(", "));
        return Err(DataError::content(path, reason));
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut listing = Listing::new(format!("columns {}", columns.join(", ")));
    let mut names = HashSet::new();
    for (number, line) in lines {
        let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
        let cell = |column: Option<usize>| column.and_then(|c| cells.get(c)).copied().filter(|cell| !cell.is_empty());
        let find = |cell: &str| {
            let file = folder.join(cell);
            if file.is_file() { Found::There(file) } else { Found::Missing(file) }
        };
        let (Some(first), Some(second)) = (cell(Some(image1)), cell(Some(image2))) else {
            return Err(DataError::content(path, format!("line {} names no two images", number + 1)));
        };
        let id = cell(column("name")).unwrap_or(first).to_string();
        if !names.insert(id.clone()) {
            return Err(DataError::content(path, format!("line {}: the name '{id}' was there before", number + 1)));
        }
        let optional = |name| cell(column(name)).map(find);
        listing.add(id, [find(first), find(second)], optional("flow"), [optional("occlusions"), optional("invalid")]);
    }
    Ok(listing)
}
