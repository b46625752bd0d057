//! An answer in JSON, read strictly: every attribute once, each a number from 0 to 5, and nothing else.
//! What is not so is no answer, and the reason says why.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::MOST;
use super::schema::{ATTRIBUTES, COUNT, place_of};

/// Why an answer is none.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no JSON object, or the end is missing.
    #[error("the answer is no JSON object: {0}")]
    NoObject(String),
    /// It rates what nobody asked for.
    #[error("`{0}` is no attribute")]
    Unknown(String),
    /// It rates an attribute twice.
    #[error("{0} is rated twice")]
    Twice(&'static str),
    /// A rating is no number.
    #[error("{0} is rated {1}, which is no number")]
    NoNumber(&'static str, String),
    /// A rating is none.
    #[error("{0} is rated {1}, which is not from 0 to 5")]
    OutOfRange(&'static str, f64),
    /// Attributes are not rated.
    #[error("{count} of {COUNT} attributes are not rated, {first} among them")]
    Missing {
        /// How many.
        count: usize,
        /// The first of them.
        first: &'static str,
    },
}

/// Characters of a foreign text that are quoted, at most.
const QUOTED: usize = 60;

/// The entries of an object in their order, with repetitions: a map would keep the last of them silently.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::with_capacity(COUNT);
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(OfObject)
    }
}

/// The ratings of an answer, in the order of the schema, each from 0 to 5.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read_answer(text: &str) -> Result<[f32; COUNT], Unusable> {
    let Entries(entries) = serde_json::from_str(text)
        .map_err(|error| Unusable::NoObject(quoted(&error.to_string())))?;
    let mut ratings = [None; COUNT];
    for (name, value) in entries {
        let known = place_of(&name).and_then(|place| {
            let attribute = ATTRIBUTES.get(place)?;
            Some((attribute.name, ratings.get_mut(place)?))
        });
        let Some((name, rating)) = known else {
            return Err(Unusable::Unknown(quoted(&name)));
        };
        let Some(number) = value.as_f64() else {
            return Err(Unusable::NoNumber(name, quoted(&value.to_string())));
        };
        if !(0.0..=f64::from(MOST)).contains(&number) {
            return Err(Unusable::OutOfRange(name, number));
        }
        if rating.replace(number as f32).is_some() {
            return Err(Unusable::Twice(name));
        }
    }
    let unrated = ATTRIBUTES.iter().zip(&ratings);
    let mut unrated = unrated.filter(|(_, rating)| rating.is_none());
    if let Some((attribute, _)) = unrated.next() {
        return Err(Unusable::Missing {
            count: 1 + unrated.count(),
            first: attribute.name,
        });
    }
    // All are there.
    Ok(ratings.map(Option::unwrap_or_default))
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of twos with some entries said otherwise, or left out (`""`).
    fn answer(changed: &[(&str, &str)]) -> String {
        let entries = ATTRIBUTES.iter().filter_map(|attribute| {
            let other = changed.iter().find(|(name, _)| *name == attribute.name);
            let value = other.map_or("2", |(_, value)| value);
            (!value.is_empty()).then(|| format!("\"{}\": {value}", attribute.name))
        });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn a_whole_answer_is_read() {
        let ratings = read_answer(&answer(&[("Tempo", "4.5"), ("Organ", "0")])).unwrap();
        assert_eq!((ratings[9], ratings[29], ratings[57]), (4.5, 0.0, 2.0));
        let shouted = answer(&[]).replace("Tempo", "TEMPO");
        assert!(read_answer(&shouted).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = answer(&[]);
        for (text, said) in [
            (String::new(), "no JSON object"),
            ("null".to_owned(), "no JSON object"),
            ("[2, 2]".to_owned(), "no JSON object"),
            (format!("Sure! {whole}"), "no JSON object"),
            (format!("{whole}\nI hope this helps."), "no JSON object"),
            (whole[..whole.len() - 9].to_owned(), "no JSON object"),
            ("{}".to_owned(), "58 of 58 attributes are not rated"),
            (
                answer(&[("Tempo", "")]),
                "1 of 58 attributes are not rated, Tempo",
            ),
            (answer(&[("Tempo", "5.01")]), "Tempo is rated 5.01"),
            (answer(&[("Tempo", "-1")]), "Tempo is rated -1"),
            (answer(&[("Tempo", "NaN")]), "no JSON object"),
            (answer(&[("Tempo", "1e999")]), "no JSON object"),
            (
                answer(&[("Tempo", "\"NaN\"")]),
                "Tempo is rated \"NaN\", which is no number",
            ),
            (answer(&[("Tempo", "\"3\"")]), "which is no number"),
            (answer(&[("Tempo", "null")]), "Tempo is rated null"),
            (
                answer(&[("Tempo", "3, \"Tempo\": 4")]),
                "Tempo is rated twice",
            ),
            (
                answer(&[("Tempo", "3, \"Loudness\": 4")]),
                "`Loudness` is no attribute",
            ),
        ] {
            let error = read_answer(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let long = format!("{{\"{}\": 1}}", "é".repeat(10_000));
        let error = read_answer(&long).unwrap_err().to_string();
        assert!(error.chars().count() < 100, "{error}");
    }
}
