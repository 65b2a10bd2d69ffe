// SPDX-License-Identifier: GPL-2.0

//! Figures of several rounds, and the columns of tables.

use crate::units::size;

/// The values of one figure in all rounds.
pub struct Figures {
    /// In round order.
    pub values: Vec<f64>,
    /// A value as text.
    pub write: fn(f64) -> String,
}

impl Figures {
    /// The value in the middle, or the mean of the two values in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        match (sorted.get(low), sorted.get(high)) {
            (Some(low), Some(high)) => (low + high) / 2.0,
            _ => f64::NAN,
        }
    }

    /// The median, and the smallest and the largest value if there are several.
    pub fn columns(&self) -> (String, String) {
        let of = |least: fn(f64, f64) -> f64| self.values.iter().copied().reduce(least);
        let spread = match (of(f64::min), of(f64::max)) {
            (Some(least), Some(most)) if self.values.len() > 1 => {
                format!("{} to {}", (self.write)(least), (self.write)(most))
            }
            _ => String::new(),
        };
        ((self.write)(self.median()), spread)
    }
}

/// A line of a table: a name, the median, the spread.
pub fn line(name: &str, figures: &Figures) -> String {
    let (median, spread) = figures.columns();
    format!("  {name:28}{median:>12}   {spread:28}")
}

pub fn bytes(value: f64) -> String {
    size(value as u64)
}

/// The ratio of `ours` to `other` in each round.
pub fn ratios(ours: &Figures, other: &Figures) -> Figures {
    let pairs = ours.values.iter().zip(&other.values);
    Figures {
        values: pairs
            .filter(|(_, other)| **other > 0.0)
            .map(|(ours, other)| ours / other)
            .collect(),
        write: |value| format!("{value:.2}"),
    }
}

/// The distinct values, in the order of their first appearance.
pub fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut seen, one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
        seen
    })
}

/// Removes the blanks at the ends of lines.
pub fn trim_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}
