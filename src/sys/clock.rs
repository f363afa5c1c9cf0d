//! The time of day, as GETINFO tells it.

use jiff::Zoned;
use jiff::tz::TimeZone;

/// Now, in UTC: `2026-01-31T23:59:59`.
#[must_use]
pub fn utc() -> String {
    written(&Zoned::now().with_time_zone(TimeZone::UTC))
}

/// Now, in UTC and to the millisecond, as RFC 3339 has it: `2026-01-31T23:59:59.123Z`.
#[must_use]
pub fn stamp() -> String {
    let now = Zoned::now().with_time_zone(TimeZone::UTC);
    now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Now, in the time zone of the system.
#[must_use]
pub fn local() -> String {
    written(&Zoned::now())
}

fn written(time: &Zoned) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}
