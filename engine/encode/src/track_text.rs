//! A track as one line of text.

/// What a track is embedded as: `title by artist`, or the one of the two that is known.
///
/// Returns nothing if neither is: such a track has no text to be encoded. Text models place
/// `title by artist` near descriptions of the artist's style; the artist is the stronger half.
pub fn track_text(title: &str, artist: &str) -> Option<String> {
    match (title.trim(), artist.trim()) {
        ("", "") => None,
        (title, "") => Some(title.to_string()),
        ("", artist) => Some(artist.to_string()),
        (title, artist) => Some(format!("{title} by {artist}")),
    }
}
