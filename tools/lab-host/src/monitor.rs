// SPDX-License-Identifier: GPL-2.0

//! Looks at a QEMU through a monitor of its own, when something has gone wrong.
//!
//! Nothing here waits for long: the QEMU may be what hangs.

use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;

/// How long QEMU may take over one message.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection to a QEMU's machine protocol.
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to the socket at `path`, where QEMU listens.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("connecting to {}", path.display()))?;
        stream
            .set_read_timeout(Some(LIMIT))
            .context("setting a timeout")?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.message().context("QEMU's greeting")?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => bail!("QEMU has gone"),
            // The peer has closed the connection with a command unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bail!("QEMU has gone"),
            read => read.context("reading")?,
        };
        serde_json::from_str(&line).context("not JSON on the monitor")
    }

    /// Executes a command and returns its result. Events are skipped.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.0
            .get_mut()
            .write_all(format!("{text}\n").as_bytes())
            .with_context(|| format!("{command}: writing"))?;
        loop {
            let mut message = self.message().with_context(|| command.to_owned())?;
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = message.get("error") {
                bail!("{command}: {error}");
            }
        }
    }

    /// The output of a command of the monitor for humans, or the error.
    pub fn human(&mut self, command: &str) -> String {
        let arguments = json!({ "command-line": command });
        match self.execute("human-monitor-command", arguments) {
            Ok(value) => value
                .as_str()
                .unwrap_or_default()
                .replace('\r', "")
                .trim_end()
                .to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A QEMU that answers with `answers`, one for each line that it reads.
    fn serve(path: &Path, answers: &'static [&'static str]) -> thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(path).expect("binding the socket");
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut writer = stream.try_clone().expect("duplicating the connection");
            let mut lines = BufReader::new(stream).lines();
            writer
                .write_all(b"{\"QMP\": {}}\n")
                .expect("writing the greeting");
            let mut heard = Vec::new();
            for answer in answers {
                heard.push(lines.next().expect("a command").expect("reading"));
                writeln!(writer, "{answer}").expect("writing an answer");
            }
            heard
        })
    }

    fn socket(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("ferry-monitor-{}-{name}", std::process::id()))
    }

    #[test]
    fn an_answer_is_told_from_events_and_errors() {
        let path = socket("answers");
        let qemu = serve(
            &path,
            &[
                "{\"return\": {}}",
                "{\"event\": \"STOP\"}\n{\"return\": \"one\\r\\ntwo\\r\\n\"}",
                "{\"error\": {\"desc\": \"no such thing\"}}",
            ],
        );
        let mut monitor = Monitor::connect(&path).expect("connecting");
        assert_eq!(monitor.human("info pic"), "one\ntwo");
        let error = monitor.human("info nothing");
        assert!(
            error.contains("no such thing"),
            "expected QEMU's error, saw: {error}"
        );
        let gone = monitor.human("info pic");
        assert!(
            gone.contains("QEMU has gone") || gone.contains("writing"),
            "expected that QEMU has gone, saw: {gone}"
        );
        let heard = qemu.join().expect("the server");
        assert!(
            heard[1].contains("\"command-line\":\"info pic\""),
            "expected the command, saw: {}",
            heard[1]
        );
        std::fs::remove_file(path).expect("removing the socket");
    }
}
