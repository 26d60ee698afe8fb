//! What stands still on a video whatever it shows: bars at its borders, and signs laid over it. Neither moves as the scene does,
//! so neither may teach.

use ferroflow_core::{Frame, Size};

use super::plane::{Plane, range};

/// Widest grid on which signs are looked for.
pub(super) const GRID: usize = 128;

/// Part of a picture, in pixels; `right` and `bottom` are past the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl Area {
    pub fn width(&self) -> usize {
        self.right - self.left
    }

    pub fn height(&self) -> usize {
        self.bottom - self.top
    }

    fn pixels(&self) -> usize {
        self.width() * self.height()
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// This part of a frame.
    pub fn of(&self, frame: Frame) -> Frame {
        if (self.width(), self.height()) == (frame.width(), frame.height()) {
            return frame;
        }
        Frame::from_fn(Size::new(self.height(), self.width()), |x, y| frame.pixel(self.left + x, self.top + y))
    }
}

/// Which part of a video's frames is of use, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub area: Area,
    /// Whether bars were cut off.
    pub bars: bool,
    /// Signs that were cut off with the band they lie in.
    pub signs: usize,
    /// Signs that stay: too much would go with them.
    pub signs_left: usize,
}

/// A row or a column over time.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Its level in the first frame.
    level: f32,
    /// Frames in which it is not part of a bar.
    lively: usize,
}

impl Line {
    fn new((low, high): (f32, f32)) -> Self {
        Self { level: (low + high) / 2.0, lively: 0 }
    }

    /// A bar is near black, give or take what compression does to it, or exactly one colour that stays.
    fn watch(&mut self, (low, high): (f32, f32)) {
        let black = high <= 40.0 && high - low <= 16.0;
        let plain = high - low <= 4.0 && ((low + high) / 2.0 - self.level).abs() <= 2.0;
        self.lively += usize::from(!black && !plain);
    }
}

/// A cell of the grid over time: mean, and sum of squares about it.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    mean: f64,
    squares: f64,
}

/// What is gathered frame by frame.
#[derive(Debug)]
pub(super) struct Stillness {
    frames: usize,
    rows: Vec<Line>,
    columns: Vec<Line>,
    cells: Vec<Cell>,
    /// Pixels a side of a cell takes, and cells in a row.
    cell: usize,
    across: usize,
}

/// The range of every row and of every column.
fn ranges(grey: &Plane) -> [Vec<(f32, f32)>; 2] {
    let mut columns = vec![(f32::INFINITY, f32::NEG_INFINITY); grey.width];
    let rows = (0..grey.height).map(|y| {
        for (column, &v) in columns.iter_mut().zip(grey.row(y)) {
            *column = (column.0.min(v), column.1.max(v));
        }
        range(grey.row(y).iter().copied())
    });
    let rows = rows.collect();
    [rows, columns]
}

impl Stillness {
    /// Begins with the first frame, which is still to be [watched](Self::watch).
    pub fn new(grey: &Plane) -> Self {
        let [rows, columns] = ranges(grey).map(|ranges| ranges.into_iter().map(Line::new).collect());
        let cell = grey.cell(GRID);
        let across = grey.width.div_ceil(cell);
        let cells = vec![Cell::default(); across * grey.height.div_ceil(cell)];
        Self { frames: 0, rows, columns, cells, cell, across }
    }

    /// Takes a frame into account: its grey levels, and these reduced to [`GRID`].
    pub fn watch(&mut self, grey: &Plane, small: &Plane) {
        self.frames += 1;
        let [rows, columns] = ranges(grey);
        for (lines, ranges) in [(&mut self.rows, rows), (&mut self.columns, columns)] {
            lines.iter_mut().zip(ranges).for_each(|(line, range)| line.watch(range));
        }
        for (cell, &value) in self.cells.iter_mut().zip(&small.values) {
            let off = f64::from(value) - cell.mean;
            cell.mean += off / self.frames as f64;
            cell.squares += off * (f64::from(value) - cell.mean);
        }
    }

    /// What is left without bars and signs.
    pub fn kept(&self) -> Kept {
        /// Least share of the picture that is kept where signs are cut off, per cent.
        const WORTH: usize = 80;
        let whole = Area { left: 0, top: 0, right: self.columns.len(), bottom: self.rows.len() };
        let (rows, columns) = (self.between_bars(&self.rows), self.between_bars(&self.columns));
        let picture = Area { left: columns.0, top: rows.0, right: columns.1, bottom: rows.1 };
        let mut kept = Kept { area: picture, bars: picture != whole, signs: 0, signs_left: 0 };
        for sign in self.signs(&picture) {
            let area = kept.area;
            if !sign.meets(&area) {
                kept.signs += 1;
                continue;
            }
            let ways = [
                (sign.bottom < area.bottom).then_some(Area { top: sign.bottom, ..area }),
                (sign.top > area.top).then_some(Area { bottom: sign.top, ..area }),
                (sign.right < area.right).then_some(Area { left: sign.right, ..area }),
                (sign.left > area.left).then_some(Area { right: sign.left, ..area }),
            ];
            let best = ways.into_iter().flatten().max_by_key(Area::pixels);
            match best.filter(|best| 100 * best.pixels() >= WORTH * picture.pixels()) {
                Some(best) => {
                    kept.area = best;
                    kept.signs += 1;
                }
                None => kept.signs_left += 1,
            }
        }
        kept
    }

    /// Start and end of what lies between the bars of one direction; everything if that would be next to nothing.
    fn between_bars(&self, lines: &[Line]) -> (usize, usize) {
        // A title or a flash may break a bar now and then.
        let bar = |line: &&Line| 50 * line.lively <= self.frames;
        let start = lines.iter().take_while(bar).count();
        let end = lines.len() - lines[start..].iter().rev().take_while(bar).count();
        if 5 * (end - start) >= lines.len() { (start, end) } else { (0, lines.len()) }
    }

    /// Signs within the picture, the largest first: groups of cells that keep their levels while nearly all else changes, and that
    /// are not all of one grey, as a sky is.
    fn signs(&self, picture: &Area) -> Vec<Area> {
        /// Grey levels by which cells of a picture must change for stillness to mean anything.
        const CHANGING: f32 = 8.0;
        /// Beyond this share of the picture it is the camera that stands still, per cent.
        const MOST: usize = 15;
        const FEWEST_FRAMES: usize = 8;
        let side = |x: usize| x * self.cell;
        // Whole cells only: one at a bar's edge keeps the bar's level.
        let inner = |x: usize, y: usize| {
            side(x) >= picture.left
                && side(x + 1) <= picture.right
                && side(y) >= picture.top
                && side(y + 1) <= picture.bottom
        };
        let deviation = |cell: &Cell| (cell.squares / self.frames.max(1) as f64).sqrt() as f32;
        let at = |i: usize| (i % self.across, i / self.across);
        let cells: Vec<usize> = (0..self.cells.len()).filter(|&i| inner(at(i).0, at(i).1)).collect();
        let mut changes: Vec<f32> = cells.iter().map(|&i| deviation(&self.cells[i])).collect();
        changes.sort_by(f32::total_cmp);
        let usual = changes.get(changes.len() / 2).copied().unwrap_or(0.0);
        if self.frames < FEWEST_FRAMES || usual < CHANGING {
            return Vec::new();
        }
        let mut still = vec![false; self.cells.len()];
        for &i in &cells {
            still[i] = deviation(&self.cells[i]) < usual / 8.0;
        }
        if 100 * still.iter().filter(|&&s| s).count() > MOST * cells.len() {
            return Vec::new();
        }
        let mut groups: Vec<Vec<usize>> = self.groups(still).into_iter().filter(|group| self.is_sign(group)).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let bounds = |group: Vec<usize>| {
            let (xs, ys): (Vec<usize>, Vec<usize>) = group.into_iter().map(at).unzip();
            let span = |v: &[usize], limit: (usize, usize)| {
                let (low, high) = (v.iter().min().copied().unwrap_or(0), v.iter().max().copied().unwrap_or(0));
                // One more cell all around, of which it may cover a part.
                (side(low.saturating_sub(1)).max(limit.0), side(high + 2).min(limit.1))
            };
            let (left, right) = span(&xs, (picture.left, picture.right));
            let (top, bottom) = span(&ys, (picture.top, picture.bottom));
            Area { left, top, right, bottom }
        };
        groups.into_iter().map(bounds).collect()
    }

    fn is_sign(&self, group: &[usize]) -> bool {
        const FEWEST_CELLS: usize = 4;
        /// Grey levels between the darkest and the brightest of its cells.
        const CONTRAST: f32 = 20.0;
        let (low, high) = range(group.iter().map(|&i| self.cells[i].mean as f32));
        group.len() >= FEWEST_CELLS && high - low >= CONTRAST
    }

    /// Cells that touch, by sides or corners.
    fn groups(&self, mut still: Vec<bool>) -> Vec<Vec<usize>> {
        let (across, down) = (self.across, self.cells.len() / self.across);
        let mut groups = Vec::new();
        for start in 0..still.len() {
            if !std::mem::take(&mut still[start]) {
                continue;
            }
            let (mut group, mut next) = (vec![start], 0);
            while let Some(&i) = group.get(next) {
                next += 1;
                let (x, y) = (i % across, i / across);
                for y in y.saturating_sub(1)..(y + 2).min(down) {
                    for x in x.saturating_sub(1)..(x + 2).min(across) {
                        if std::mem::take(&mut still[y * across + x]) {
                            group.push(y * across + x);
                        }
                    }
                }
            }
            groups.push(group);
        }
        groups
    }
}
