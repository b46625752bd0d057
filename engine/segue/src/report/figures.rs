//! How a number is written for people. What is not a number, or not there, is a dash.

use segue_listen::EventTime;
use segue_recommend::interval::Estimate;

/// Stands where there is no figure.
pub const ABSENT: &str = "–";

/// `186160` → `186,160`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// About three significant digits, for rates and axes: `48.2`, `1,240`, `3.1 M`.
pub fn about(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => ABSENT.to_owned(),
        _ if size >= 1e9 => format!("{} G", trimmed(value / 1e9, 2)),
        _ if size >= 1e6 => format!("{} M", trimmed(value / 1e6, 2)),
        _ if size >= 1e3 && value > 0.0 => count(value.round() as u64),
        _ if size >= 10.0 => trimmed(value, 1),
        _ if size >= 0.1 => trimmed(value, 2),
        _ if size == 0.0 => "0".to_owned(),
        _ => trimmed(value, 4),
    }
}

/// With so many decimals, less trailing zeros.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A share of one as per cent: `12.34 %`.
pub fn percent(share: f64) -> String {
    match share.is_finite() {
        true => format!("{:.2} %", share * 100.0),
        false => ABSENT.to_owned(),
    }
}

/// `part` of `whole` as per cent; a dash of nothing.
pub fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => ABSENT.to_owned(),
        _ => percent(part as f64 / whole as f64),
    }
}

/// Seconds as `0.42 s`, `42.1 s` or `3 min 20 s`.
pub fn seconds(value: f64) -> String {
    match value {
        _ if !value.is_finite() || value < 0.0 => ABSENT.to_owned(),
        _ if value >= 120.0 => format!("{} min {:02.0} s", (value / 60.0) as u64, value % 60.0),
        _ if value >= 10.0 => format!("{value:.1} s"),
        _ => format!("{value:.2} s"),
    }
}

/// Microseconds as `850 µs`, `12.3 ms` or `1.25 s`.
pub fn micros(value: u64) -> String {
    match value {
        0..1_000 => format!("{value} µs"),
        1_000..1_000_000 => format!("{} ms", trimmed(value as f64 / 1e3, 2)),
        _ => format!("{} s", trimmed(value as f64 / 1e6, 2)),
    }
}

/// The day of an event time in milliseconds since 1970.
pub fn day(millis: i64) -> String {
    let text = EventTime::from_millis(millis).to_rfc3339();
    text.split_once('T')
        .map_or_else(|| text.clone(), |(day, _)| day.to_owned())
}

/// How a metric is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// A share of one, as per cent.
    Percent,
    /// A number as it is.
    Plain,
}

impl Scale {
    /// A mean with its interval: `12.34 [11.90, 12.78] %`.
    pub fn estimate(self, estimate: &Estimate) -> String {
        self.written(
            estimate,
            |value, decimals| format!("{value:.decimals$}"),
            "%",
        )
    }

    /// A difference of means with its interval, signs shown, per cent as points.
    pub fn difference(self, estimate: &Estimate) -> String {
        self.written(
            estimate,
            |value, decimals| format!("{value:+.decimals$}"),
            "points",
        )
    }

    fn written(
        self,
        estimate: &Estimate,
        write: impl Fn(f64, usize) -> String,
        unit: &str,
    ) -> String {
        let (factor, decimals, unit) = match self {
            Scale::Percent => (100.0, 2, format!(" {unit}")),
            Scale::Plain => (1.0, 4, String::new()),
        };
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let Some(mean) = finite(estimate.mean) else {
            return ABSENT.to_owned();
        };
        let mean = write(mean * factor, decimals);
        match (finite(estimate.low), finite(estimate.high)) {
            (Some(low), Some(high)) => {
                let low = write(low * factor, decimals);
                let high = write(high * factor, decimals);
                format!("{mean} [{low}, {high}]{unit}")
            }
            _ => format!("{mean}{unit}"),
        }
    }
}
