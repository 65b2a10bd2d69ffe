// SPDX-License-Identifier: GPL-2.0

//! Numbers as a person reads them.

/// A number of bytes in the largest unit that fits.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, worth) in UNITS {
        if bytes >= worth {
            return format!("{:.1} {unit}", bytes as f64 / worth as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_largest_unit_that_fits() {
        let told: Vec<_> = [523, 2048, 117 << 20].into_iter().map(size).collect();
        assert_eq!(told, ["523 B", "2.0 KiB", "117.0 MiB"]);
    }
}
