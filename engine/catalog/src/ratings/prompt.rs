//! What a language model is told, so that it rates.
//!
//! The same words for both kinds of models. One that is asked over HTTP gets them as messages and answers
//! with an object in JSON; one that runs here reads them as plain text, a line for each rating, so that
//! the next thing to be said after `Tempo=` is a digit:
//!
//! ```text
//! Tempo: 0 very slow, 5 very fast      ← the schema, once
//! ...
//! Track: Blue in Green by Miles Davis  ← an anchor
//! Tempo=1
//! ...
//! Track: Mrs. Robinson by Simon & Garfunkel
//! Tempo=                               ← to be said
//! ```
//!
//! Anchors are tracks whose ratings are known: they show what the numbers mean. None are built in. Those
//! of arXiv 2606.00125 ("Mrs. Robinson", "Master Of Puppets") have the annotators' ratings, which MGPHot's
//! licence does not let anybody pass on; who has the data set names a file of a few rows of it.

use serde_json::{Map, Value, json};

use super::schema::{ATTRIBUTES, COUNT};

/// Characters of a name that are told, at most.
const NAME_CHARACTERS: usize = 200;

/// A track that is shown with its ratings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// `title by artist`.
    pub track: String,
    /// By attribute, rounded: what is answered are whole numbers.
    pub ratings: [u8; COUNT],
}

impl Anchor {
    /// Of a track and its ratings by the schema.
    ///
    /// # Errors
    /// What it lacks: an anchor with gaps would teach answers with gaps.
    pub fn new(artist: &str, title: &str, ratings: &[f32; COUNT]) -> Result<Self, String> {
        let track = track_line(artist, title).ok_or("a track without names is no anchor")?;
        let rated = ATTRIBUTES.iter().zip(ratings);
        let mut gaps = rated.filter(|(_, rating)| !rating.is_finite());
        if let Some((first, _)) = gaps.next() {
            let count = 1 + gaps.count();
            let name = first.name;
            return Err(format!(
                "{track} lacks {count} of {COUNT} ratings, {name} among them"
            ));
        }
        Ok(Self {
            track,
            ratings: ratings.map(|rating| rating.round() as u8),
        })
    }

    /// As it would be answered.
    pub fn answer(&self) -> String {
        let ratings = ATTRIBUTES.iter().zip(self.ratings);
        let told: Map<String, Value> = ratings
            .map(|(attribute, rating)| (attribute.name.to_owned(), rating.into()))
            .collect();
        Value::Object(told).to_string()
    }
}

/// How a track is named in a prompt: in one line, of bounded length. `None` if it has no name.
pub fn track_line(artist: &str, title: &str) -> Option<String> {
    let name = |text: &str| {
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty())
            .collect();
        let line = words.join(" ");
        line.chars().take(NAME_CHARACTERS).collect::<String>()
    };
    match (name(title).as_str(), name(artist).as_str()) {
        ("", "") => None,
        (title, "") => Some(title.to_owned()),
        ("", artist) => Some(format!("a track by {artist}")),
        (title, artist) => Some(format!("{title} by {artist}")),
    }
}

/// What ratings are and what is rated.
pub fn instruction() -> String {
    let mut text = "Rate a music track by each of these attributes with a whole number from 0 to 5, as \
                    a trained musicologist would who listens to the recording. Where you are not sure, \
                    rate what is usual for the artist and the style.\n\n"
        .to_owned();
    for attribute in &ATTRIBUTES {
        text.push_str(attribute.name);
        text.push_str(": ");
        text.push_str(attribute.scale);
        text.push('\n');
    }
    text
}

/// What is added for a model that answers with JSON.
pub fn answer_instruction() -> &'static str {
    "Answer with one JSON object and nothing else: a key for each attribute, named exactly as above, and \
     its rating."
}

/// The shape of an answer as a JSON Schema, within what strict modes of endpoints take: every key named
/// and required, no others, each one of six numbers.
pub fn answer_schema() -> Value {
    let rating = json!({"type": "integer", "enum": [0, 1, 2, 3, 4, 5]});
    let properties: Map<String, Value> = ATTRIBUTES
        .iter()
        .map(|attribute| (attribute.name.to_owned(), rating.clone()))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": ATTRIBUTES.map(|attribute| attribute.name).as_slice(),
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::answer::read_answer;
    use super::*;

    #[test]
    fn a_name_is_one_line_of_bounded_length() {
        let line = |artist, title| track_line(artist, title);
        assert_eq!(
            line("Simon &\tGarfunkel ", "Mrs.\n\0Robinson").unwrap(),
            "Mrs. Robinson by Simon & Garfunkel"
        );
        assert_eq!(line("Air", "\n").unwrap(), "a track by Air");
        assert_eq!(line("", "Ágætis byrjun").unwrap(), "Ágætis byrjun");
        assert_eq!(line(" ", "\t"), None);
        assert_eq!(line("", &"ü".repeat(500)).unwrap().chars().count(), 200);
    }

    #[test]
    fn an_anchor_is_answered_as_tracks_are() {
        let mut ratings = [2.4; COUNT];
        ratings[9] = 4.6;
        let anchor = Anchor::new("A", "B", &ratings).unwrap();
        let answer = read_answer(&anchor.answer()).unwrap();
        assert_eq!((answer[0], answer[9]), (2.0, 5.0));
        ratings[3] = f32::NAN;
        let error = Anchor::new("A", "B", &ratings).unwrap_err();
        assert!(error.contains("B by A lacks 1 of 58 ratings, Vocal Smoothness"));
        assert!(Anchor::new("", "", &[1.0; COUNT]).is_err());
    }

    #[test]
    fn the_instruction_and_the_schema_name_every_attribute() {
        let (text, schema) = (instruction(), answer_schema());
        for attribute in &ATTRIBUTES {
            assert!(text.contains(&format!("\n{}: {}\n", attribute.name, attribute.scale)));
            assert!(schema["properties"][attribute.name].is_object());
        }
        assert_eq!(schema["required"].as_array().unwrap().len(), COUNT);
    }
}
