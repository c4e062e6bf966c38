//! Columns of text: numbers to the right, words to the left.

use std::fmt;

/// On which side of a column its cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells; every row has as many as there are columns.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose columns have titles.
    pub(crate) fn new<const N: usize>(columns: [(&str, Align); N]) -> Self {
        let titles = columns.map(|(title, _)| title.to_owned()).into();
        Self { columns: columns.map(|(_, align)| align).into(), rows: vec![titles] }
    }

    /// Names and values, one pair a line.
    pub(crate) fn fields() -> Self {
        Self { columns: vec![Align::Left, Align::Left], rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }

    /// Adds a name and its value; the further lines of a value stand under the first.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<str>) {
        for (index, line) in value.as_ref().lines().enumerate() {
            self.row([if index == 0 { name } else { "" }.to_owned(), line.to_owned()]);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (0..self.columns.len()).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&self.columns).zip(&widths).map(|((cell, align), &width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            let end = if index + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_no_line_ends_in_blanks() {
        let mut table = Table::new([("NAME", Align::Left), ("SIZE", Align::Right), ("MESSAGE", Align::Left)]);
        table.row(["ä".into(), "4.00 GiB".into(), "first".into()]);
        table.row(["longer".into(), "0 B".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME        SIZE  MESSAGE\nä       4.00 GiB  first\nlonger       0 B");
    }

    #[test]
    fn long_values_stay_in_their_column() {
        let mut table = Table::fields();
        table.field("id", "7");
        table.field("message", "one\ntwo");
        table.field("nothing", "");
        assert_eq!(table.to_string(), "id       7\nmessage  one\n         two");
    }
}
