//! The table: each measurement, its peer, the ratio and the wanted ratio.

use std::time::Duration;

/// A time as the table shows it.
pub fn show(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        long @ 1000.0.. => format!("{:.2} ms", long / 1000.0),
        short => format!("{short:.2} µs"),
    }
}

/// A ratio, such as `0.52` or `1/31`, as a number.
fn number(text: &str) -> Option<f64> {
    match text.split_once('/') {
        None => text.parse().ok(),
        Some((above, below)) => Some(above.parse::<f64>().ok()? / below.parse::<f64>().ok()?),
    }
}

/// The table that `make bench` prints.
#[derive(Default)]
pub struct Table(Vec<[String; 5]>);

impl Table {
    pub fn ratio(
        &mut self,
        what: &str,
        time: Duration,
        peer: &str,
        theirs: Duration,
        wanted: &str,
    ) {
        let ratio = format!("{:.2}", time.as_secs_f64() / theirs.as_secs_f64());
        let peer = format!("{peer}, {}", show(theirs));
        self.row(what, show(time), &peer, ratio, wanted);
    }

    pub fn row(&mut self, what: &str, ours: String, peer: &str, ratio: String, wanted: &str) {
        let is_missed = match (
            number(&ratio),
            wanted.strip_prefix("at most ").and_then(number),
        ) {
            (Some(ratio), Some(most)) => ratio > most,
            _ => false,
        };
        let wanted = match is_missed {
            true => format!("{wanted}: **missed**"),
            false => wanted.to_owned(),
        };
        self.0
            .push([what.to_owned(), ours, peer.to_owned(), ratio, wanted]);
    }

    pub fn print(&self) {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name\t: "))
            .unwrap_or("?");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = jiff::Timestamp::now().to_string();
        println!(
            "{cpu}, {cores} cores, Linux {}, {}\n",
            kernel.trim(),
            &date[..10]
        );
        let head = ["what", "ours", "peer", "ratio", "wanted"].map(str::to_owned);
        let rows: Vec<&[String; 5]> = std::iter::once(&head).chain(&self.0).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..5).filter_map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let rules = widths.iter().map(|width| "-".repeat(*width));
                println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
            }
        }
    }
}
