//! What a content vector is made of: one segment per modality, in a fixed order.

use serde::{Deserialize, Serialize};

/// A way of knowing a track's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModalityKind {
    /// Artist, title and album.
    Text,
    /// The words that are sung.
    Lyrics,
    /// How it sounds.
    Audio,
    /// Musical attributes as people rate them (MGPHot).
    Ratings,
}

impl ModalityKind {
    /// Its name in settings, reports and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Lyrics => "lyrics",
            Self::Audio => "audio",
            Self::Ratings => "ratings",
        }
    }
}

/// One segment of a content vector. A segment that is zero throughout is a modality that the track
/// has not got: normal, and no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modality {
    /// What the segment tells of.
    pub kind: ModalityKind,
    /// How many numbers it has, at least one.
    pub dimensions: usize,
}

/// A content vector's segments, each with its modality, in order. What is left over behind the last
/// whole segment is left out.
pub fn segments<'a>(
    modalities: &'a [Modality],
    vector: &'a [f32],
) -> impl Iterator<Item = (Modality, &'a [f32])> {
    let mut rest = vector;
    modalities.iter().map_while(move |modality| {
        let (segment, behind) = rest.split_at_checked(modality.dimensions)?;
        rest = behind;
        Some((*modality, segment))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_falls_into_its_segments() {
        let modality = |kind, dimensions| Modality { kind, dimensions };
        let layout = [
            modality(ModalityKind::Text, 2),
            modality(ModalityKind::Audio, 1),
        ];
        let parts: Vec<_> = segments(&layout, &[1.0, 2.0, 3.0])
            .map(|(m, s)| (m.kind.name(), s.to_vec()))
            .collect();
        assert_eq!(parts, [("text", vec![1.0, 2.0]), ("audio", vec![3.0])]);
        assert_eq!(segments(&layout, &[1.0, 2.0]).count(), 1);
    }
}
