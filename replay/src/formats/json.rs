//! JSON values that are taken as they come: exports of many players disagree about types, and one
//! odd field must not cost the row.

use std::borrow::Cow;
use std::fmt;

use segue_listen::Span;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longer figures are a broken player's, as the wire format has it.
const LONGEST: Span = Span::from_minutes(24 * 60);

/// A value that should be text or a number.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Lenient<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(f64),
    /// Anything else.
    Other,
}

impl Lenient<'_> {
    /// The text; empty if it is something else.
    pub(super) fn text(&self) -> &str {
        match self {
            Lenient::Text(text) => text.as_ref(),
            _ => "",
        }
    }

    /// The number, also where it is written as text.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Lenient::Number(number) => Some(*number),
            Lenient::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number| number.is_finite())
    }

    /// The number as a length of time in units of `unit_ms`; `None` if it is negative or beyond a
    /// day.
    pub(super) fn span(&self, unit_ms: f64) -> Option<Span> {
        let span = Span::from_millis((self.number()? * unit_ms).round() as i64);
        (Span::ZERO..=LONGEST).contains(&span).then_some(span)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Lenient<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsItComes)
    }
}

struct AsItComes;

impl<'de> Visitor<'de> for AsItComes {
    type Value = Lenient<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Lenient::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Lenient::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Lenient::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Lenient::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Lenient::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Lenient::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Lenient::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Lenient::Other)
    }
}
