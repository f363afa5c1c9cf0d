//! The time of day, as GETINFO tells it.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

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

/// The seconds since 1970 of a time as RFC 3339 has it.
#[must_use]
pub fn seconds(time: &str) -> Option<i64> {
    let time: Timestamp = time.parse().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_back() {
        assert_eq!(seconds("1970-01-02T00:00:01Z"), Some(86_401));
        assert_eq!(seconds("1970-01-02T00:00:01"), None);
        assert_eq!(seconds(""), None);
        assert!(seconds(&stamp()) >= seconds(&(utc() + "Z")).map(|now| now - 1));
    }
}
