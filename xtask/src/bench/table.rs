//! Tables that fit a terminal of 80 columns, and the same as Markdown.

/// Columns of a terminal.
const WIDTH: usize = 80;
const GAP: usize = 2;

/// A table: the first column is text, the others are figures.
#[derive(Debug, Default)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// The heads of its columns.
    pub heads: Vec<String>,
    /// Its rows, each as long as the heads.
    pub rows: Vec<Vec<String>>,
    /// Below it, one line each.
    pub notes: Vec<String>,
}

impl Table {
    /// Without rows.
    pub fn new(title: &str, heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { title: title.to_owned(), heads, ..Self::default() }
    }

    /// For a terminal: at most 80 columns wide, if the figures alone are not wider.
    pub fn text(&self) -> String {
        let mut text = wrapped(&self.title, "");
        if !self.rows.is_empty() {
            let widths = self.widths();
            text.push_str(&line(&self.heads, &widths));
            text.push_str(&format!("{}\n", "-".repeat(widths.iter().sum::<usize>())));
            self.rows.iter().for_each(|row| text.push_str(&line(row, &widths)));
        }
        for note in &self.notes {
            text.push_str(&wrapped(note, "  "));
        }
        text
    }

    /// For `summary.md`.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
        let mut text = format!("## {}\n\n", self.title);
        if !self.rows.is_empty() {
            text.push_str(&row(&self.heads));
            text.push_str(&format!("|---|{}\n", "---:|".repeat(self.heads.len() - 1)));
            self.rows.iter().for_each(|cells| text.push_str(&row(cells)));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    /// The first column gets what the others leave, and is cut if that is too little.
    fn widths(&self) -> Vec<usize> {
        let all = || std::iter::once(&self.heads).chain(&self.rows);
        let widest = |column: usize| all().map(|row| length(&row[column])).max().unwrap_or(0);
        let figures: Vec<usize> = (1..self.heads.len()).map(|c| widest(c) + GAP).collect();
        let room = WIDTH.saturating_sub(figures.iter().sum());
        std::iter::once(widest(0).min(room)).chain(figures).collect()
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let first: String = cells[0].chars().take(widths[0]).collect();
    let mut text = format!("{first:<0$}", widths[0]);
    for (cell, width) in cells.iter().zip(widths).skip(1) {
        text.push_str(&format!("{cell:>width$}"));
    }
    format!("{}\n", text.trim_end())
}

/// Words in lines that fit, each after `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && length(indent) + length(&line) + 1 + length(word) > WIDTH {
            out.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    format!("{out}{indent}{line}\n")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Thousands in groups of three.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(first: &str) -> Table {
        let mut table = Table::new("Reads", &["operation", "bare", "agent"]);
        table.rows.push(vec![first.to_owned(), "1,200".to_owned(), "9".to_owned()]);
        table.notes.push("word ".repeat(40));
        table
    }

    #[test]
    fn figures_stand_to_the_right() {
        let text = example("pread").text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "operation   bare  agent");
        assert_eq!(lines[3], "pread      1,200      9");
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let text = example(&"×".repeat(200)).text();
        assert!(text.lines().all(|line| length(line) <= WIDTH), "{text}");
    }

    #[test]
    fn markdown_has_a_row_for_each() {
        let text = example("pread").markdown();
        assert!(text.starts_with("## Reads\n\n| operation | bare | agent |\n|---|---:|---:|\n"));
        assert!(text.contains("| pread | 1,200 | 9 |\n"));
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(7.4), "7");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(grouped(-4_000.0), "-4,000");
    }
}
