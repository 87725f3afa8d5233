//! The tables that verbs print. Only this file lays them out.
//!
//! A table fits the terminal: paths are shortened in the middle, and the last column is wrapped. If
//! the terminal is too narrow for columns, each row becomes lines of its own. A pipe gets whole
//! lines without colours, so that grep finds everything. `COLUMNS` gives a pipe a width, too.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};
use comfy_table::{ColumnConstraint, ContentArrangement, presets};
use modstamp::Sentence;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::print_escaped;

/// The columns between two cells.
const GAP: usize = 2;

/// The fewest columns for a shortened path, and for a wrapped text.
const LEAST: usize = 20;

/// The columns of a wrapped text for which a path is shortened.
const READABLE: usize = 30;

/// The width of the narrowest lay-out. A narrower terminal breaks its lines.
const NARROWEST: usize = 24;

/// Stands for a space in a quoted command while lines are wrapped, so that no command is broken.
const UNBROKEN: &str = "\u{a0}";

/// The first words of a state that have a colour.
const COLOURS: [(&str, AnsiColor); 4] = [
    ("fresh", AnsiColor::Green),
    ("stale", AnsiColor::Yellow),
    ("run as root", AnsiColor::Yellow),
    ("not known", AnsiColor::Red),
];

const BOLD: Style = Style::new().bold();

/// One cell. Each character that a terminal may obey is escaped when the cell enters a table.
pub enum Cell {
    /// It is wrapped in the last column, and whole in any other.
    Text(String),
    /// It is shortened in the middle if it does not fit.
    Path(String),
    /// Like a path. If it is shortened, it stands whole below the table, ready to be pasted.
    Command(String),
}

/// Rows of cells as they are shown.
type Grid = Vec<Vec<String>>;

/// A table under construction, of `N` columns.
pub struct Table<const N: usize> {
    header: [&'static str; N],
    rows: Vec<[Cell; N]>,
    headings: Vec<String>,
    notes: Vec<String>,
}

/// The terminal that standard output leads to.
struct Terminal {
    /// The width in columns. `None` without a terminal and `COLUMNS`. Lines may then have any
    /// length.
    width: Option<usize>,
    has_colours: bool,
}

impl<const N: usize> Table<N> {
    pub fn new(header: [&'static str; N]) -> Table<N> {
        Table {
            header,
            rows: Vec::new(),
            headings: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.map(Cell::escaped));
    }

    /// Adds a sentence above the table.
    pub fn heading(&mut self, text: impl std::fmt::Display) {
        let text = text.to_string();
        self.headings.push(Sentence(&text).to_string());
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, text: impl std::fmt::Display) {
        let text = text.to_string();
        self.notes.push(Sentence(&text).to_string());
    }

    /// Prints the table and its notes to standard output. A table without rows has no header.
    pub fn print(&self) -> anyhow::Result<()> {
        print_escaped(&self.lines(&Terminal::of_stdout()))
    }

    fn lines(&self, terminal: &Terminal) -> Vec<String> {
        let width = terminal.width.map(|width| width.max(NARROWEST));
        let shape = width.map_or(Shape::WHOLE, |width| self.shape(width));
        let sentence = |text: &String| lay_out(vec![vec![unbroken(text)]], width);
        let mut lines: Vec<String> = self.headings.iter().flat_map(sentence).collect();
        for (index, grid) in self.grids(shape).into_iter().enumerate() {
            let start = start_of_last(&grid);
            let laid_out = lay_out(grid, width).into_iter();
            lines.extend((index > 0).then(String::new));
            lines.extend(laid_out.map(|line| match terminal.has_colours {
                true => paint(line, start),
                false => line,
            }));
        }
        let commands = self.rows.iter().flatten();
        let commands = commands.filter_map(|cell| cell.command_longer_than(shape.most()));
        let mut commands = commands.map(|command| format!("  {command}")).peekable();
        if commands.peek().is_some() {
            lines.push("commands shortened above:".to_owned());
            lines.extend(commands);
        }
        lines.extend(self.notes.iter().flat_map(sentence));
        lines
    }

    /// The cells as they are shown: all rows in one grid with the header, or each in its own.
    fn grids(&self, shape: Shape) -> Vec<Grid> {
        let rows = self.rows.iter();
        match shape {
            _ if self.rows.is_empty() => Vec::new(),
            Shape::Columns { path } => {
                let header = self.header.map(str::to_owned).to_vec();
                let rows = rows.map(|row| row.iter().map(|cell| cell.shown(path)).collect());
                vec![[header].into_iter().chain(rows).collect()]
            }
            Shape::Lines { value } => {
                let line = |key: &str, cell: &Cell| vec![key.to_owned(), cell.shown(value)];
                let lines = |row| {
                    self.header
                        .iter()
                        .zip(row)
                        .map(|(key, cell)| line(key, cell))
                };
                rows.map(|row| lines(row).collect()).collect()
            }
        }
    }

    /// The lay-out for a terminal of that width.
    fn shape(&self, width: usize) -> Shape {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text().width());
            cells.fold(self.header[column].width(), usize::max)
        };
        let is_elastic = |column: &usize| {
            let mut cells = self.rows.iter().map(|row| &row[*column]);
            cells.any(|cell| !matches!(cell, Cell::Text(_)))
        };
        let path = (0..N - 1).find(is_elastic);
        let fixed = (0..N - 1).filter(|column| Some(*column) != path);
        let fixed = fixed.map(natural).sum::<usize>() + GAP * (N - 1);
        let (room, text) = (width.saturating_sub(fixed), natural(N - 1));
        let wanted = path.map_or(0, natural);
        if wanted + text > room && room < LEAST + wanted.min(LEAST) {
            let keys = self.header.iter().map(|key| key.width()).max();
            let value = width - (keys.unwrap_or(0) + GAP);
            return Shape::Lines { value };
        }
        let left = room - text.min(READABLE).min(room);
        let left = left.max(room / 2).max(room.saturating_sub(text));
        Shape::Columns {
            path: wanted.min(left),
        }
    }
}

/// How rows are laid out, and the width of a path or a value.
#[derive(Clone, Copy)]
enum Shape {
    Columns { path: usize },
    Lines { value: usize },
}

impl Shape {
    const WHOLE: Shape = Shape::Columns { path: usize::MAX };

    /// The width of a path or a command.
    fn most(self) -> usize {
        match self {
            Shape::Columns { path } => path,
            Shape::Lines { value } => value,
        }
    }
}

impl Cell {
    fn escaped(self) -> Cell {
        let escaped = |text: String| Sentence(&text).to_string();
        match self {
            Cell::Text(text) => Cell::Text(escaped(text)),
            Cell::Path(path) => Cell::Path(escaped(path)),
            Cell::Command(command) => Cell::Command(escaped(command)),
        }
    }

    fn text(&self) -> &str {
        match self {
            Cell::Text(text) | Cell::Path(text) | Cell::Command(text) => text,
        }
    }

    /// The text of the cell. A path or a command is shortened to `width` columns.
    fn shown(&self, width: usize) -> String {
        match self {
            Cell::Text(text) => unbroken(text),
            Cell::Path(text) | Cell::Command(text) => shortened(text, width),
        }
    }

    fn command_longer_than(&self, width: usize) -> Option<&str> {
        match self {
            Cell::Command(command) if command.width() > width => Some(command),
            _ => None,
        }
    }
}

impl Terminal {
    /// The width is that of `COLUMNS`, if it has a number, or else the terminal's own. Colours are
    /// for a terminal that can show them, unless `NO_COLOR` is set (no-color.org).
    fn of_stdout() -> Terminal {
        let stdout = io::stdout();
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let columns = variable("COLUMNS").and_then(|text| text.to_str()?.parse::<u16>().ok());
        let own = || terminal_size::terminal_size_of(&stdout).map(|(width, _)| width.0);
        let width = columns.filter(|columns| *columns > 0).or_else(own);
        let is_dumb = variable("TERM").is_none_or(|term| term == "dumb");
        Terminal {
            width: width.map(usize::from),
            has_colours: stdout.is_terminal() && !is_dumb && variable("NO_COLOR").is_none(),
        }
    }
}

/// Cuts the middle out of a text that is wider than `width` columns. The end of a path tells more
/// than its beginning.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let end = first_columns(text.chars().rev(), room * 2 / 3);
    let start: String = first_columns(text.chars(), room - room * 2 / 3);
    let end: String = end.chars().rev().collect();
    format!("{start}…{end}")
}

/// As many characters as fit into `width` columns.
fn first_columns(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    chars.take_while(fits).collect()
}

/// The column at which the last cell of each row begins.
fn start_of_last(grid: &Grid) -> usize {
    let Some(count) = grid.first().map(Vec::len) else {
        return 0;
    };
    let width = |column: usize| grid.iter().map(|row| row[column].width()).max();
    let widths = (0..count - 1).filter_map(width);
    widths.map(|width| width + GAP).sum()
}

/// Lays out rows. Wraps their last cells if there is a width.
fn lay_out(grid: Grid, width: Option<usize>) -> Vec<String> {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(match width {
        Some(_) => ContentArrangement::Dynamic,
        None => ContentArrangement::Disabled,
    });
    if let Some(width) = width {
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    let last = grid.first().map_or(0, Vec::len).saturating_sub(1);
    table.add_rows(grid);
    for (index, column) in table.column_iter_mut().enumerate() {
        match index == last {
            true => {
                column.set_padding((0, 0));
            }
            false => {
                column.set_padding((0, GAP as u16));
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
    let lines = table.lines();
    let lines = lines.map(|line| line.trim_end().replace(UNBROKEN, " "));
    lines.collect()
}

/// A text in which each quoted command stays on one line, if it fits.
fn unbroken(text: &str) -> String {
    let mut is_quoted = false;
    let pieces = text.split_inclusive(['“', '”']).map(|piece| {
        let shown = match is_quoted {
            true => piece.replace(' ', UNBROKEN),
            false => piece.to_owned(),
        };
        is_quoted = piece.ends_with('“');
        shown
    });
    pieces.collect()
}

/// Colours the header, and the state that begins at column `start` in the first line of a row.
fn paint(line: String, start: usize) -> String {
    let before = first_columns(line.chars(), start);
    let state = &line[before.len()..];
    let is_header = state.chars().all(|c| c.is_ascii_uppercase());
    let known = COLOURS.iter().find(|(word, _)| state.starts_with(word));
    let (style, word) = match known {
        _ if line.starts_with(' ') || state.is_empty() => return line,
        _ if is_header => return format!("{BOLD}{line}{BOLD:#}"),
        Some((word, colour)) => (colour.on_default(), word),
        None => return line,
    };
    let rest = &state[word.len()..];
    format!("{before}{style}{word}{style:#}{rest}")
}
