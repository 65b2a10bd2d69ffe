// SPDX-License-Identifier: GPL-2.0

//! The timeline as an SVG picture.
//!
//! Each migration has a panel, and below it the standstill of the guest, enlarged.

use lab_host::event::Migrated;
use svg::node::element::Line;
use svg::node::element::Polyline;
use svg::node::element::Rectangle;
use svg::node::element::Text;
use svg::Document;

use crate::timeline::Timeline;
use crate::units::size;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 24.0;
const LANE: f64 = 26.0;
const LANE_GAP: f64 = 8.0;
const GRAPH: f64 = 70.0;
const PANEL: f64 = 275.0;
const HEADER: f64 = 60.0;
const TICKS: usize = 8;

/// Seconds that the larger view shows before and after the standstill.
const AROUND: f64 = 0.15;

/// A state's colour. The picture also has the state's name, for people who cannot tell the colours.
fn colour(state: &str) -> &'static str {
    match state {
        "RUNNING" => "#a6d8a8",
        "PRE_COPY" => "#f7d774",
        "STOP_COPY" => "#ee8866",
        "RESUMING" => "#99c2ee",
        "STOP" => "#d0d0d0",
        _ => "#cc3311",
    }
}

struct Panel<'a> {
    timeline: &'a Timeline,
    migrated: &'a Migrated,
    from: f64,
    to: f64,
    top: f64,
}

fn text(x: f64, y: f64, size: f64, anchor: &str, content: impl Into<String>) -> Text {
    Text::new(content)
        .set("x", round(x))
        .set("y", round(y))
        .set("font-size", size)
        .set("text-anchor", anchor)
}

/// Rounds to tenths, which are fine enough for a picture.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Panel<'_> {
    fn x(&self, time: f64) -> f64 {
        let part = (time.clamp(self.from, self.to) - self.from) / (self.to - self.from);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn draw(&self, mut picture: Document, title: &str, moved: &str) -> Document {
        picture = picture
            .add(text(LEFT, self.top, 14.0, "start", title).set("font-weight", "bold"))
            .add(text(WIDTH - RIGHT, self.top, 11.0, "end", moved));
        let lanes = self.top + 14.0;
        if let Some((stop, resume)) = self.timeline.standstill(self.migrated) {
            let shade = Rectangle::new()
                .set("x", round(self.x(stop)))
                .set("y", lanes - 4.0)
                .set("width", round((self.x(resume) - self.x(stop)).max(1.0)))
                .set("height", 2.0 * (LANE + LANE_GAP) + 2.0 * (GRAPH + LANE_GAP))
                .set("fill", "#fbe3dc");
            picture = picture.add(shade);
        }
        let vms = [
            (&self.migrated.source, "source"),
            (&self.migrated.destination, "destination"),
        ];
        let mut top = lanes;
        for (vm, role) in vms {
            picture = self.draw_lane(picture, vm, role, top);
            top += LANE + LANE_GAP;
        }
        let source = &self.migrated.source;
        let pending: Vec<_> = self
            .timeline
            .pending
            .iter()
            .filter(|read| read.vm == *source)
            .map(|read| (read.time, read.bytes))
            .collect();
        picture = self.draw_graph(picture, "pending_bytes", &pending, top, "#994455", 0);
        top += GRAPH + LANE_GAP;
        if self.timeline.io.is_empty() {
            let lines = &self.timeline.received;
            let base = lines
                .iter()
                .find(|(time, _)| *time >= self.from)
                .map_or(0, |line| line.1);
            picture = self.draw_graph(picture, "lines back", lines, top, "#004488", base);
        } else {
            // A rate holds from the beginning of its interval.
            let rates = self.timeline.io.iter();
            let rates: Vec<_> = rates
                .map(|rate| (rate.from, rate.per_second.round() as u64))
                .collect();
            let what = if self.timeline.of_card {
                "packets per second"
            } else {
                "I/O per second"
            };
            picture = self.draw_graph(picture, what, &rates, top, "#004488", 0);
        }
        top += GRAPH;
        self.draw_axis(picture, top)
    }

    fn draw_lane(&self, mut picture: Document, vm: &str, role: &str, top: f64) -> Document {
        let name = format!("{vm}, {role}");
        picture = picture.add(text(LEFT - 8.0, top + 17.0, 12.0, "end", name));
        let mut changes: Vec<(f64, &str)> = Vec::new();
        if let Some(state) = self.timeline.state_at(vm, self.from) {
            changes.push((self.from, state));
        }
        let states = self.timeline.states.iter().filter(|change| change.vm == vm);
        let within = states.filter(|change| change.time > self.from && change.time < self.to);
        changes.extend(within.map(|change| (change.time, &*change.state)));
        for (index, (time, state)) in changes.iter().enumerate() {
            let end = changes.get(index + 1).map_or(self.to, |next| next.0);
            let (left, right) = (self.x(*time), self.x(end));
            let width = (right - left).max(1.0);
            let rectangle = Rectangle::new()
                .set("x", round(left))
                .set("y", top)
                .set("width", round(width))
                .set("height", LANE)
                .set("fill", colour(state))
                .set("stroke", "#555555")
                .set("stroke-width", 0.5);
            picture = picture.add(rectangle);
            // The approximate width of the name in this font.
            if width > 7.5 * state.len() as f64 {
                let middle = (left + right) / 2.0;
                picture = picture.add(text(middle, top + 17.0, 11.0, "middle", *state));
            }
        }
        picture
    }

    fn draw_graph(
        &self,
        mut picture: Document,
        name: &str,
        values: &[(f64, u64)],
        top: f64,
        colour: &str,
        base: u64,
    ) -> Document {
        let within = |time: f64| time >= self.from && time <= self.to;
        let shown: Vec<_> = values.iter().filter(|(time, _)| within(*time)).collect();
        if shown.is_empty() {
            return picture;
        }
        let most = shown
            .iter()
            .map(|(_, value)| value.saturating_sub(base))
            .max()
            .unwrap_or(0);
        let bottom = top + GRAPH;
        picture = picture
            .add(text(LEFT - 8.0, top + 14.0, 12.0, "end", name))
            .add(text(
                LEFT - 8.0,
                top + 30.0,
                10.0,
                "end",
                format!("up to {most}"),
            ))
            .add(rule(LEFT, WIDTH - RIGHT, bottom));
        let mut points = Vec::new();
        let mut last = None;
        for (time, value) in shown {
            let height = value.saturating_sub(base) as f64 / most.max(1) as f64 * (GRAPH - 6.0);
            let (x, y) = (self.x(*time), bottom - height);
            // A step: the value holds until the next one is known.
            if let Some(before) = last.replace(y) {
                points.push(format!("{:.1},{before:.1}", x));
            }
            points.push(format!("{x:.1},{y:.1}"));
        }
        if let Some(before) = last {
            points.push(format!("{:.1},{before:.1}", self.x(self.to)));
        }
        let line = Polyline::new()
            .set("points", points.join(" "))
            .set("fill", "none")
            .set("stroke", colour)
            .set("stroke-width", 1.5);
        picture.add(line)
    }

    fn draw_axis(&self, mut picture: Document, top: f64) -> Document {
        for tick in 0..=TICKS {
            let time = self.from + (self.to - self.from) * tick as f64 / TICKS as f64;
            let label = format!("{:.2} s", time - self.migrated.began);
            picture = picture.add(text(self.x(time), top + 16.0, 10.0, "middle", label));
        }
        picture
    }
}

fn rule(left: f64, right: f64, y: f64) -> Line {
    Line::new()
        .set("x1", left)
        .set("x2", right)
        .set("y1", y)
        .set("y2", y)
        .set("stroke", "#888888")
        .set("stroke-width", 0.5)
}

/// Draws the whole timeline.
pub fn draw(timeline: &Timeline) -> Document {
    let mut panels = Vec::new();
    for migrated in &timeline.migrations {
        let (from, to) = timeline.span(migrated);
        let title = format!(
            "{} to {}: {:.1} s, downtime {} ms",
            migrated.source,
            migrated.destination,
            migrated.total_ms as f64 / 1000.0,
            migrated.downtime_ms,
        );
        let moved = format!(
            "device state: {} in pre-copy, {} in stop-and-copy; guest memory: {} and {}",
            size(timeline.device_bytes(migrated, "PRE_COPY")),
            size(timeline.device_bytes(migrated, "STOP_COPY")),
            size(migrated.precopy_bytes),
            size(migrated.downtime_bytes),
        );
        panels.push((migrated, from, to, title, moved));
        if let Some((stop, resume)) = timeline.standstill(migrated) {
            let title = "the same, around the standstill".to_owned();
            let shade = "the guest stands still where the ground is red".to_owned();
            panels.push((migrated, stop - AROUND, resume + AROUND, title, shade));
        }
    }
    let height = HEADER + panels.len() as f64 * PANEL;
    let mut picture = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("font-family", "sans-serif")
        .add(
            Rectangle::new()
                .set("width", "100%")
                .set("height", "100%")
                .set("fill", "white"),
        )
        .add(
            text(
                WIDTH / 2.0,
                28.0,
                19.0,
                "middle",
                "Ferry: live migration of a VFIO device",
            )
            .set("font-weight", "bold"),
        );
    for (index, (migrated, from, to, title, moved)) in panels.into_iter().enumerate() {
        let top = HEADER + index as f64 * PANEL;
        picture = Panel {
            timeline,
            migrated,
            from,
            to,
            top,
        }
        .draw(picture, &title, &moved);
    }
    picture
}
