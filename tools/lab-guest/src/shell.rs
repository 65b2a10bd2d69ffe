// SPDX-License-Identifier: GPL-2.0

//! Runs the scripts that the host sends.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use lab_guest::report::Report;

use crate::host::Host;

/// Where the guest's programs are.
pub const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The largest number of bytes of a script's output that is reported; the output's end is kept.
const OUTPUT_LIMIT: usize = 32 << 10;

/// The reported end of `text`.
pub fn end_of(text: &str) -> &str {
    let start = text.len().saturating_sub(OUTPUT_LIMIT);
    let start = (start..text.len()).find(|&at| text.is_char_boundary(at));
    &text[start.unwrap_or(text.len())..]
}

/// Starts `script`, whose outcome is reported when it ends, and returns at once.
pub fn begin(id: u64, script: String, host: &Arc<Host>) {
    let host = host.clone();
    thread::spawn(move || {
        // One stream for output and errors keeps their order.
        let ran = Command::new("/bin/sh")
            .args(["-c", &format!("exec 2>&1\n{script}")])
            .env("PATH", SEARCH_PATH)
            .current_dir("/tmp")
            .stdin(Stdio::null())
            .output();
        let (status, output) = match ran {
            Ok(ran) => {
                let signal = || 128 + ran.status.signal().unwrap_or_default();
                let status = ran.status.code().unwrap_or_else(signal);
                (status, String::from_utf8_lossy(&ran.stdout).into_owned())
            }
            Err(error) => (-1, format!("starting a shell: {error}")),
        };
        let output = end_of(&output).to_owned();
        host.say(&Report::Ran { id, status, output });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_cut_at_a_character() {
        assert_eq!(end_of("short"), "short");
        let long = "é".repeat(OUTPUT_LIMIT);
        let end = end_of(&long);
        assert!(long.ends_with(end) && end.len() <= OUTPUT_LIMIT && end.len() >= OUTPUT_LIMIT - 1);
        let odd = format!("{long}x");
        assert_eq!(
            end_of(&odd).len(),
            OUTPUT_LIMIT - 1,
            "expected half a character to be left out"
        );
    }
}
