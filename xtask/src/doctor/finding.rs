//! What a check has found.

use serde::Serialize;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Ok,
    Warn,
    Red,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(super) check: &'static str,
    pub(super) status: Status,
    pub(super) message: String,
    /// What to do about it; every failed check has one.
    pub(super) fix: Option<String>,
    /// The exit code where the line is red.
    #[serde(skip)]
    pub(super) code: u8,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Ok,
            message: message.into(),
            fix: None,
            code: 0,
        }
    }

    pub(crate) fn warn(
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Warn,
            fix: Some(fix.into()),
            ..Self::ok(check, message)
        }
    }

    pub(crate) fn red(
        check: &'static str,
        code: u8,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Red,
            code,
            ..Self::warn(check, message, fix)
        }
    }

    pub(super) fn line(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Red => "red ",
        };
        let fix = self.fix.as_ref();
        let fix = fix.map_or(String::new(), |fix| format!("\n      fix: {fix}"));
        format!("{status}  {}: {}{fix}", self.check, self.message)
    }
}
