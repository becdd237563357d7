//! Tables that fit: columns as wide as their content, the elastic ones shortened first.

use super::{PLAIN, cut, cut_path, paint};
use anstyle::Style;
use unicode_width::UnicodeWidthStr;

/// Between two columns.
const GAP: usize = 2;

/// How a column behaves.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    right: bool,
    /// Never narrower than this; `usize::MAX` is never shortened.
    floor: usize,
    path: bool,
}

/// A column that is never shortened.
pub const fn fixed(title: &'static str) -> Column {
    Column { title, right: false, floor: usize::MAX, path: false }
}

/// A column of numbers.
pub const fn number(title: &'static str) -> Column {
    Column { title, right: true, floor: usize::MAX, path: false }
}

/// A column that may be shortened to `floor`.
pub const fn elastic(title: &'static str, floor: usize) -> Column {
    Column { title, right: false, floor, path: false }
}

/// A column of paths, shortened at the front.
pub const fn path(title: &'static str, floor: usize) -> Column {
    Column { title, right: false, floor, path: true }
}

/// One cell: text that passed [`super::clean`], and its style.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), style: PLAIN }
    }
}

/// A cell with a style.
pub fn styled(style: Style, text: impl Into<String>) -> Cell {
    Cell { text: text.into(), style }
}

/// A table being filled.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells stay empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The heading and the rows, in at most `width` columns if the fixed ones leave room.
    pub fn render(&self, width: usize) -> String {
        let widths = self.fit(width);
        let heading: Vec<Cell> = self.columns.iter().map(|c| styled(super::DIM, c.title)).collect();
        let mut out = self.line(&heading, &widths);
        for row in &self.rows {
            out.push_str(&self.line(row, &widths));
        }
        out
    }

    fn fit(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| c.title.width()).collect();
        for row in &self.rows {
            for (cell, have) in row.iter().zip(widths.iter_mut()) {
                *have = (*have).max(cell.text.width());
            }
        }
        let gaps = GAP * self.columns.len().saturating_sub(1);
        // From the right: what stands last tells least.
        for (i, column) in self.columns.iter().enumerate().rev() {
            let over = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
            let floor = column.floor.max(column.title.width()).min(widths[i]);
            widths[i] = widths[i].saturating_sub(over).max(floor);
        }
        widths
    }

    fn line(&self, cells: &[Cell], widths: &[usize]) -> String {
        let mut out = String::new();
        for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let column = &self.columns[i];
            let text =
                if column.path { cut_path(&cell.text, *width) } else { cut(&cell.text, *width) };
            let fill = " ".repeat(width.saturating_sub(text.width()));
            let last = i + 1 == cells.len();
            let shown = paint(cell.style, &text);
            out.push_str(&match (column.right, last) {
                (true, _) => format!("{fill}{shown}"),
                (false, true) => shown,
                (false, false) => format!("{shown}{fill}"),
            });
            if !last {
                out.push_str(&" ".repeat(GAP));
            }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::plain;
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[fixed("ID"), elastic("NAME", 6), number("N"), path("WHAT", 8)]);
        table.row(["a1".into(), "researcher".into(), "7".into(), "/srv/input/paper.txt".into()]);
        table.row(["b2".into(), "editor".into(), "1234".into(), "ls".into()]);
        table
    }

    #[test]
    fn a_wide_terminal_shows_all() {
        let expected = "ID  NAME           N  WHAT\n\
                        a1  researcher     7  /srv/input/paper.txt\n\
                        b2  editor      1234  ls\n";
        assert_eq!(plain(&table().render(80)), expected);
    }

    #[test]
    fn a_narrow_one_shortens_from_the_right() {
        let expected = "ID  NAME           N  WHAT\n\
                        a1  researcher     7  …/paper.txt\n\
                        b2  editor      1234  ls\n";
        assert_eq!(plain(&table().render(33)), expected);
        super::super::sample::fits(&table().render(28), 28);
    }
}
