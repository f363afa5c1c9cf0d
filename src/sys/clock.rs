//! The time of day, as GETINFO tells it.

use jiff::Zoned;
use jiff::tz::TimeZone;

/// Now, in UTC: `2026-01-31T23:59:59`.
#[must_use]
pub fn utc() -> String {
    written(&Zoned::now().with_time_zone(TimeZone::UTC))
}

/// Now, in the time zone of the system.
#[must_use]
pub fn local() -> String {
    written(&Zoned::now())
}

fn written(time: &Zoned) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}
