//! ISO 8601 time stamps, as fast as their fixed width allows.

use segue_listen::EventTime;

/// Why a text is not the time of a play.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadTime {
    /// Not a time stamp.
    Unreadable,
    /// A time stamp before 1970 or after 2099.
    Implausible,
}

/// The instant that `text` states: `YYYY-MM-DDThh:mm:ssZ` at full speed, else any RFC 3339 form, or
/// `YYYY-MM-DD hh:mm[:ss]` in UTC.
///
/// # Errors
/// See [`BadTime`].
pub fn parse(text: &str) -> Result<EventTime, BadTime> {
    let millis = fixed(text.as_bytes())
        .or_else(|| odd(text))
        .ok_or(BadTime::Unreadable)?;
    EventTime::plausible(millis).map_err(|_| BadTime::Implausible)
}

/// The published form, by position; `None` for every other.
fn fixed(text: &[u8]) -> Option<i64> {
    let text: &[u8; 20] = text.try_into().ok()?;
    let &[
        y0,
        y1,
        y2,
        y3,
        b'-',
        m0,
        m1,
        b'-',
        d0,
        d1,
        b'T',
        h0,
        h1,
        b':',
        n0,
        n1,
        b':',
        s0,
        s1,
        b'Z',
    ] = text
    else {
        return None;
    };
    let two = |tens: u8, ones: u8| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
    };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(n0, n1)?, two(s0, s1)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > days_in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years from 0 on
/// (<https://howardhinnant.github.io/date_algorithms.html#days_from_civil>).
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Forms that other tools write.
#[cold]
fn odd(text: &str) -> Option<i64> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| time.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fast_form_agrees_with_chrono(seconds in 0i64..4_102_444_800) {
            let at = EventTime::from_millis(seconds * 1_000);
            let text = at.to_rfc3339();
            prop_assert_eq!(text.len(), 20);
            prop_assert_eq!(fixed(text.as_bytes()), Some(at.millis()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,24}", tail in "[0-9TZ:-]{20}") {
            let _ = parse(&text);
            let _ = parse(&tail);
        }

        #[test]
        fn what_is_no_date_is_refused(month in 0u32..20, day in 0u32..40) {
            let text = format!("2009-{month:02}-{day:02}T00:00:00Z");
            let real = chrono::NaiveDate::from_ymd_opt(2009, month, day).is_some();
            prop_assert_eq!(parse(&text).is_ok(), real);
        }
    }

    #[test]
    fn the_table() {
        let at = |text: &str| parse(text).map(EventTime::millis);
        assert_eq!(at("2009-05-04T23:08:57Z"), Ok(1_241_478_537_000));
        assert_eq!(at("2009-05-05T01:08:57+02:00"), Ok(1_241_478_537_000));
        assert_eq!(at("2009-05-04 23:08:57"), Ok(1_241_478_537_000));
        assert_eq!(at("2009-05-04T23:08:57.250Z"), Ok(1_241_478_537_250));
        assert_eq!(at("2008-02-29T00:00:00Z"), Ok(1_204_243_200_000));
        assert_eq!(at("1969-12-31T23:59:59Z"), Err(BadTime::Implausible));
        assert_eq!(at("0000-01-01T00:00:00Z"), Err(BadTime::Implausible));
        assert_eq!(at("2100-01-01T00:00:00Z"), Err(BadTime::Implausible));
        for bad in [
            "",
            "yesterday",
            "2009-05-04",
            "2009-13-04T23:08:57Z",
            "2009-05-04T24:08:57Z",
        ] {
            assert_eq!(at(bad), Err(BadTime::Unreadable), "{bad}");
        }
    }
}
