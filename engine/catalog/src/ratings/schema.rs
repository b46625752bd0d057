//! What is rated: the "genes" of MGPHot (Oramas, Gouyon, Hogan, Landau and Ehmann, *MGPHot: A Dataset of
//! Musicological Annotations for Popular Music (1958–2022)*, TISMIR 8(1), 2025).
//!
//! Names, order and categories are those of the published annotations: two public readers of them, the
//! `mgphot_genes.tsv` of arXiv 2606.00125 (`sreehitha177/E4SRec`) and `genome_positive.py` of
//! `MTG/MGPHot-audio`, list the same 58 names in the same order, and the first of them the categories.
//! What 0 and 5 mean is told here in words of our own, short, since a language model reads them before
//! each track: the annotators' rubrics are not ours to publish.

use std::fmt;

use serde::Serialize;

/// How many attributes there are.
pub const COUNT: usize = 58;

/// What an attribute is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The voices.
    Vocals,
    /// Keys and chords.
    Harmony,
    /// Tempo, meter and feel.
    Rhythm,
    /// Which instruments, and how they are played.
    Instrumentation,
    /// What is sung of.
    Lyrics,
    /// How it sounds as a whole.
    Sonority,
    /// What the composition rests on.
    Composition,
}

impl Category {
    /// All of them, in the order of the attributes.
    pub const ALL: [Self; 7] = [
        Self::Vocals,
        Self::Harmony,
        Self::Rhythm,
        Self::Instrumentation,
        Self::Lyrics,
        Self::Sonority,
        Self::Composition,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vocals => "vocals",
            Self::Harmony => "harmony",
            Self::Rhythm => "rhythm",
            Self::Instrumentation => "instrumentation",
            Self::Lyrics => "lyrics",
            Self::Sonority => "sonority",
            Self::Composition => "composition",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that is rated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// Its published name.
    pub name: &'static str,
    /// What it is about.
    pub category: Category,
    /// What 0 and 5 mean.
    pub scale: &'static str,
}

/// The place of an attribute in [`ATTRIBUTES`], by its name in any case.
pub fn place_of(name: &str) -> Option<usize> {
    ATTRIBUTES
        .iter()
        .position(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

const fn attribute(name: &'static str, category: Category, scale: &'static str) -> Attribute {
    Attribute {
        name,
        category,
        scale,
    }
}

use Category::{Composition, Harmony, Instrumentation, Lyrics, Rhythm, Sonority, Vocals};

/// How much there is of it, from none to dominant.
const PRESENCE: &str = "0 absent, 5 dominant";
/// How much a composition rests on it.
const FOCUS: &str = "0 incidental, 5 the point of the track";

/// All of them, in their published order.
pub const ATTRIBUTES: [Attribute; COUNT] = [
    attribute("Vocal Register", Vocals, "0 very low voice, 5 very high"),
    attribute("Vocal Timbre Thin to Full", Vocals, "0 thin, 5 full"),
    attribute("Vocal Breathiness", Vocals, "0 not breathy, 5 very"),
    attribute("Vocal Smoothness", Vocals, "0 not smooth, 5 very"),
    attribute("Vocal Grittiness", Vocals, "0 clean, 5 very rough"),
    attribute("Vocal Nasality", Vocals, "0 not nasal, 5 very"),
    attribute("Vocal Accompaniment", Vocals, PRESENCE),
    attribute(
        "Minor / Major Key Tonality",
        Harmony,
        "0 minor throughout, 5 major throughout",
    ),
    attribute(
        "Harmonic Sophistication",
        Harmony,
        "0 three chords, 5 extremely chromatic",
    ),
    attribute("Tempo", Rhythm, "0 very slow, 5 very fast"),
    attribute("Cut Time Feel", Rhythm, PRESENCE),
    attribute("Triple Meter", Rhythm, PRESENCE),
    attribute("Compound Meter", Rhythm, PRESENCE),
    attribute("Odd Meter", Rhythm, PRESENCE),
    attribute("Swing Feel", Rhythm, PRESENCE),
    attribute("Shuffle Feel", Rhythm, PRESENCE),
    attribute(
        "Syncopation Low to High",
        Rhythm,
        "0 on the beat, 5 highly syncopated",
    ),
    attribute("Backbeat", Rhythm, PRESENCE),
    attribute(
        "Danceability",
        Rhythm,
        "0 not for dancing, 5 made for dancing",
    ),
    attribute("Drum Set", Instrumentation, PRESENCE),
    attribute(
        "Drum Aggressiveness",
        Instrumentation,
        "0 very light, 5 extremely hard",
    ),
    attribute("Synthetic Drums", Instrumentation, PRESENCE),
    attribute("Percussion", Instrumentation, PRESENCE),
    attribute("Electric Guitar", Instrumentation, PRESENCE),
    attribute(
        "Electric Guitar Distortion",
        Instrumentation,
        "0 clean, 5 extremely distorted",
    ),
    attribute("Acoustic Guitar", Instrumentation, PRESENCE),
    attribute("String Ensemble", Instrumentation, PRESENCE),
    attribute("Horn Ensemble", Instrumentation, PRESENCE),
    attribute("Piano", Instrumentation, PRESENCE),
    attribute("Organ", Instrumentation, PRESENCE),
    attribute("Rhodes", Instrumentation, PRESENCE),
    attribute("Synthesizer", Instrumentation, PRESENCE),
    attribute(
        "Synth Timbre",
        Instrumentation,
        "0 ambient pads, 5 industrial or robotic",
    ),
    attribute("Bass Guitar", Instrumentation, PRESENCE),
    attribute("Reed Instrument", Instrumentation, PRESENCE),
    attribute("Angry Lyrics", Lyrics, PRESENCE),
    attribute("Sad Lyrics", Lyrics, PRESENCE),
    attribute("Happy/Joyful Lyrics", Lyrics, PRESENCE),
    attribute("Humorous Lyrics", Lyrics, PRESENCE),
    attribute("Love/Romance Lyrics", Lyrics, PRESENCE),
    attribute("Social/Political Lyrics", Lyrics, PRESENCE),
    attribute("Abstract Lyrics", Lyrics, PRESENCE),
    attribute(
        "Explicit Lyrics",
        Lyrics,
        "0 for everybody, 5 very explicit",
    ),
    attribute("Live Recording", Sonority, "0 studio, 5 live"),
    attribute(
        "Audio Production",
        Sonority,
        "0 very poor recording, 5 a masterpiece of production",
    ),
    attribute(
        "Aural Intensity",
        Sonority,
        "0 extremely quiet, 5 extremely loud",
    ),
    attribute("Acoustic Sonority", Sonority, PRESENCE),
    attribute("Electric Sonority", Sonority, PRESENCE),
    attribute("Synthetic Sonority", Sonority, PRESENCE),
    attribute("Focus on Lead Vocal", Composition, FOCUS),
    attribute("Focus on Lyrics", Composition, FOCUS),
    attribute("Focus on Melody", Composition, FOCUS),
    attribute("Focus on Vocal Accompaniment", Composition, FOCUS),
    attribute("Focus on Rhythmic Groove", Composition, FOCUS),
    attribute("Focus on Musical Arrangements", Composition, FOCUS),
    attribute("Focus on Form", Composition, FOCUS),
    attribute("Focus on Riffs", Composition, FOCUS),
    attribute("Focus on Performance", Composition, FOCUS),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_categories_have_the_published_sizes() {
        let names: HashSet<String> = ATTRIBUTES
            .iter()
            .map(|attribute| attribute.name.to_lowercase())
            .collect();
        assert_eq!(names.len(), COUNT);
        let sizes = Category::ALL.map(|category| {
            let of = ATTRIBUTES.iter().filter(|a| a.category == category);
            of.count()
        });
        assert_eq!(sizes, [7, 2, 10, 16, 8, 6, 9]);
        // In the published order a category is one stretch.
        assert!(ATTRIBUTES.is_sorted_by_key(|attribute| attribute.category));
        for attribute in &ATTRIBUTES {
            let scale = attribute.scale;
            assert!(scale.starts_with("0 ") && scale.contains(", 5 "), "{scale}");
        }
    }

    #[test]
    fn an_attribute_is_found_by_its_name_in_any_case() {
        assert_eq!(place_of("Vocal Register"), Some(0));
        assert_eq!(place_of("tempo"), Some(9));
        assert_eq!(place_of("Focus on Performance"), Some(57));
        assert_eq!(place_of("Loudness"), None);
    }
}
