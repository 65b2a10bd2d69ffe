// SPDX-License-Identifier: GPL-2.0

//! A client of QEMU's machine protocol, for any QEMU from 7.2 on.
//!
//! It has no schema, for few commands are used. Events are reported when they are read, and kept until a wait takes them.

use std::collections::VecDeque;
use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_host::event::What;
use rustix::time::clock_gettime;
use rustix::time::ClockId;
use serde_json::json;
use serde_json::Value;

use crate::diagnosis;
use crate::report;

/// The time limit of a command. No command here waits for a guest.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A connection to one QEMU.
pub struct Qmp {
    vm: String,
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    events: VecDeque<Event>,
}

/// An event of QEMU.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name, such as `MIGRATION`.
    pub name: String,
    /// Its data.
    pub data: Value,
}

impl Qmp {
    /// Greets the QEMU called `vm` at the other end of `stream`.
    pub fn new(vm: &str, stream: UnixStream) -> Result<Self> {
        let mut qmp = Self {
            vm: vm.to_owned(),
            stream: BufReader::new(stream),
            line: Vec::new(),
            events: VecDeque::new(),
        };
        let greeting = qmp.message(Instant::now() + COMMAND_LIMIT)?;
        if greeting
            .as_ref()
            .is_none_or(|greeting| greeting.get("QMP").is_none())
        {
            bail!("{vm}: expected QEMU's greeting, got {greeting:?}");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// The next message, or nothing when none came before `deadline`.
    fn message(&mut self, deadline: Instant) -> Result<Option<Value>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream
                .get_ref()
                .set_read_timeout(Some(left))
                .context("setting a timeout")?;
            match self.stream.read_until(b'\n', &mut self.line) {
                Ok(0) => bail!("{}: QEMU has gone", self.vm),
                Ok(_) => {
                    let line = std::mem::take(&mut self.line);
                    return serde_json::from_slice(&line)
                        .map(Some)
                        .with_context(|| format!("{}: not JSON on the monitor", self.vm));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{}: reading QMP", self.vm))
                }
            }
        }
    }

    fn keep(&mut self, message: &Value) {
        let Some(name) = message.get("event").and_then(Value::as_str) else {
            return;
        };
        let event = Event {
            name: name.to_owned(),
            data: message.get("data").cloned().unwrap_or(Value::Null),
        };
        let what = What::Qmp {
            vm: self.vm.clone(),
            name: event.name.clone(),
            data: event.data.clone(),
        };
        report::say_at(event_time(message).unwrap_or_else(report::now), what);
        self.events.push_back(event);
    }

    /// Executes a command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let deadline = Instant::now() + COMMAND_LIMIT;
        let text = format!(
            "{}\n",
            json!({ "execute": command, "arguments": arguments })
        );
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .with_context(|| format!("{}: {command}", self.vm))?;
        loop {
            let Some(message) = self
                .message(deadline)
                .with_context(|| format!("{}: {command}", self.vm))?
            else {
                diagnosis::look(command);
                bail!("{}: {command}: no answer", self.vm);
            };
            if let Some(value) = message.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = message.get("error") {
                let text = error
                    .get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or("no description");
                bail!("{}: {command}: {text}", self.vm);
            }
            self.keep(&message);
        }
    }

    /// Forgets all events so far.
    pub fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Waits for an event for which `wanted` returns a value. Other events are forgotten.
    pub fn wait<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(result) = wanted(&event) {
                    return Ok(result);
                }
            }
            match self
                .message(deadline)
                .with_context(|| format!("waiting for {what}"))?
            {
                Some(message) => self.keep(&message),
                None => {
                    diagnosis::look(what);
                    bail!("{}: {what} did not happen within {limit:?}", self.vm);
                }
            }
        }
    }

    /// Waits until the migration has one of these states.
    pub fn wait_migration(&mut self, states: &[&str], limit: Duration) -> Result<String> {
        self.wait(
            limit,
            &format!("a migration that is {}", states.join(" or ")),
            |event| {
                let status = event.data.get("status").and_then(Value::as_str)?;
                (event.name == "MIGRATION" && states.contains(&status)).then(|| status.to_owned())
            },
        )
    }

    /// As [`Self::wait_migration`]; returns nothing as soon as the number of passes over memory is a multiple of `passes`.
    pub fn wait_migration_or_pass(
        &mut self,
        states: &[&str],
        passes: u64,
        limit: Duration,
    ) -> Result<Option<String>> {
        let what = format!("a migration that is {}", states.join(" or "));
        self.wait(limit, &what, |event| match &*event.name {
            "MIGRATION" => {
                let status = event.data.get("status").and_then(Value::as_str)?;
                states.contains(&status).then(|| Some(status.to_owned()))
            }
            "MIGRATION_PASS" => {
                let pass = event.data.get("pass").and_then(Value::as_u64)?;
                (pass % passes == 0).then_some(None)
            }
            _ => None,
        })
    }

    /// Waits for an event by its name.
    pub fn wait_name(&mut self, name: &str, limit: Duration) -> Result<()> {
        self.wait(limit, &format!("the event {name}"), |event| {
            (event.name == name).then_some(())
        })
    }

    /// Starts a job and waits until it is done. An error of the job is an error here.
    pub fn job(&mut self, command: &str, mut arguments: Value, limit: Duration) -> Result<()> {
        let id = format!("ferry-{command}");
        arguments["job-id"] = json!(id);
        self.execute(command, arguments)?;
        self.wait(limit, &format!("the end of {command}"), |event| {
            let its_own = event.name == "JOB_STATUS_CHANGE" && event.data["id"] == json!(id);
            (its_own && event.data["status"] == json!("concluded")).then_some(())
        })?;
        let jobs = self.execute("query-jobs", json!({}))?;
        let error = jobs
            .as_array()
            .and_then(|jobs| jobs.iter().find(|job| job["id"] == json!(id)))
            .and_then(|job| job.get("error"))
            .map(Value::to_string);
        self.execute("job-dismiss", json!({ "id": id }))?;
        match error {
            Some(error) => bail!("{}: {command}: {error}", self.vm),
            None => Ok(()),
        }
    }
}

/// The time of an event on the monotonic clock, from QEMU's on the real-time clock.
fn event_time(message: &Value) -> Option<f64> {
    let stamp = message.get("timestamp")?;
    let seconds = stamp.get("seconds")?.as_f64()? + stamp.get("microseconds")?.as_f64()? / 1e6;
    let real = clock_gettime(ClockId::Realtime);
    let real = real.tv_sec as f64 + real.tv_nsec as f64 / 1e9;
    Some(seconds - real + report::now())
}
