// SPDX-License-Identifier: GPL-2.0

//! fio, and its report.

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use serde_json::Value;

use crate::report::Io;

/// Arguments of every run of fio: one process for each job, and results in JSON.
pub const ARGUMENTS: [&str; 3] = ["--output-format=json", "--thread", "--group_reporting"];

/// The reads and writes in fio's report. Notes may precede the report.
pub fn parse(said: &str) -> Result<(Io, Io)> {
    let start = said.find('{').context("no report")?;
    let mut reports = serde_json::Deserializer::from_str(&said[start..]).into_iter::<Value>();
    let report = reports.next().context("no report")??;
    let jobs = report["jobs"].as_array().context("no jobs")?;
    let (mut read, mut written) = (Io::default(), Io::default());
    for job in jobs {
        if let Some(error) = job["error"].as_i64().filter(|&error| error != 0) {
            bail!("error {error}");
        }
        for (sum, name) in [(&mut read, "read"), (&mut written, "write")] {
            let part = &job[name];
            let count = |field: &str| part[field].as_u64().unwrap_or(0);
            let rate = |field: &str| part[field].as_f64().unwrap_or(0.0);
            sum.operations += count("total_ios");
            sum.bytes += count("io_bytes");
            sum.per_second += rate("iops");
            sum.bytes_per_second += rate("bw_bytes");
            // Jobs are reported as one group, which avoids a mean of means.
            sum.latency_ns = part["clat_ns"]["mean"].as_f64().unwrap_or(0.0);
        }
    }
    Ok((read, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"note: both iodepth >= 1 and synchronous I/O engine are selected
{ "fio version": "fio-3.39", "jobs": [ { "jobname": "a", "error": 0,
  "read": { "total_ios": 7, "io_bytes": 28672, "iops": 3.5, "bw_bytes": 14336, "clat_ns": { "mean": 9.5 } },
  "write": { "total_ios": 0, "io_bytes": 0, "iops": 0.0, "bw_bytes": 0 } } ] }
"#;

    #[test]
    fn fios_report_is_found_and_read() {
        let (read, written) = parse(REPORT).expect("a report");
        let expected = Io {
            operations: 7,
            bytes: 28672,
            per_second: 3.5,
            bytes_per_second: 14336.0,
            latency_ns: 9.5,
        };
        assert_eq!((read, written), (expected, Io::default()));
    }

    #[test]
    fn a_job_that_failed_is_an_error() {
        let report = REPORT.replace("\"error\": 0", "\"error\": 84");
        let error = parse(&report).expect_err("expected an error");
        assert_eq!(error.to_string(), "error 84");
        assert!(
            parse("fio: no").is_err(),
            "expected no report to be an error"
        );
    }
}
