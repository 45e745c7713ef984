//! A download's events as lines of JSON.

use std::time::Duration;

use cifar_loader::Event;
use serde::Serialize;

/// A line, whose first key names the event.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum EventLine<'a> {
    AlreadyPresent {
        folder: String,
    },
    Waiting {
        holder: Option<u32>,
    },
    Connecting {
        url: &'a str,
        attempt: u32,
        resume_from: u64,
    },
    Transfer {
        url: &'a str,
        bytes: u64,
        total: Option<u64>,
        bytes_per_second: Option<f64>,
        seconds_left: Option<f64>,
    },
    Slow {
        url: &'a str,
        bytes_per_second: f64,
        seconds_left: Option<f64>,
        next: Option<&'a str>,
    },
    Restarting {
        url: &'a str,
        reason: &'a str,
    },
    Retrying {
        url: &'a str,
        reason: &'a str,
        delay_seconds: f64,
    },
    GivingUp {
        url: &'a str,
        reason: &'a str,
        next: Option<&'a str>,
    },
    Verifying {
        bytes: u64,
        total: u64,
    },
    Published {
        folder: String,
    },
    /// One that the loader has and this program does not know.
    Other,
    /// All is there: the last line.
    Done {
        folder: String,
        images: u32,
    },
}

impl<'a> EventLine<'a> {
    pub(super) fn of(event: &Event<'a>) -> Self {
        let seconds = |time: &Option<Duration>| time.map(|time| time.as_secs_f64());
        match event {
            Event::AlreadyPresent { folder } => Self::AlreadyPresent {
                folder: folder.display().to_string(),
            },
            Event::Waiting { holder } => Self::Waiting { holder: *holder },
            Event::Connecting {
                url,
                attempt,
                resume_from,
            } => Self::Connecting {
                url,
                attempt: *attempt,
                resume_from: *resume_from,
            },
            Event::Transfer {
                url,
                bytes,
                total,
                rate,
                time_left,
            } => Self::Transfer {
                url,
                bytes: *bytes,
                total: *total,
                bytes_per_second: *rate,
                seconds_left: seconds(time_left),
            },
            Event::Slow {
                url,
                rate,
                time_left,
                next,
            } => Self::Slow {
                url,
                bytes_per_second: *rate,
                seconds_left: seconds(time_left),
                next: *next,
            },
            Event::Restarting { url, reason } => Self::Restarting { url, reason },
            Event::Retrying { url, reason, delay } => Self::Retrying {
                url,
                reason,
                delay_seconds: delay.as_secs_f64(),
            },
            Event::GivingUp { url, reason, next } => Self::GivingUp {
                url,
                reason,
                next: *next,
            },
            Event::Verifying { bytes, total } => Self::Verifying {
                bytes: *bytes,
                total: *total,
            },
            Event::Published { folder } => Self::Published {
                folder: folder.display().to_string(),
            },
            _ => Self::Other,
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("events have names and numbers only")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Other programs read these lines: keys, their order and the form of numbers stay.
    #[test]
    fn events_are_written_as_they_were() {
        let (url, reason) = ("u", "r");
        let time_left = Some(Duration::from_millis(1500));
        let events = [
            Event::AlreadyPresent {
                folder: Path::new("f"),
            },
            Event::Waiting { holder: None },
            Event::Connecting {
                url,
                attempt: 1,
                resume_from: 5,
            },
            Event::Transfer {
                url,
                bytes: 1,
                total: None,
                rate: Some(2.0),
                time_left,
            },
            Event::Slow {
                url,
                rate: 2.0,
                time_left: None,
                next: Some("v"),
            },
            Event::Restarting { url, reason },
            Event::Retrying {
                url,
                reason,
                delay: Duration::from_millis(250),
            },
            Event::GivingUp {
                url,
                reason,
                next: None,
            },
            Event::Verifying { bytes: 1, total: 2 },
            Event::Published {
                folder: Path::new("f"),
            },
        ];
        let lines = events.map(|event| EventLine::of(&event).to_json());
        assert_eq!(
            lines,
            [
                r#"{"event":"already_present","folder":"f"}"#,
                r#"{"event":"waiting","holder":null}"#,
                r#"{"event":"connecting","url":"u","attempt":1,"resume_from":5}"#,
                r#"{"event":"transfer","url":"u","bytes":1,"total":null,"bytes_per_second":2.0,"seconds_left":1.5}"#,
                r#"{"event":"slow","url":"u","bytes_per_second":2.0,"seconds_left":null,"next":"v"}"#,
                r#"{"event":"restarting","url":"u","reason":"r"}"#,
                r#"{"event":"retrying","url":"u","reason":"r","delay_seconds":0.25}"#,
                r#"{"event":"giving_up","url":"u","reason":"r","next":null}"#,
                r#"{"event":"verifying","bytes":1,"total":2}"#,
                r#"{"event":"published","folder":"f"}"#,
            ]
        );
    }
}
