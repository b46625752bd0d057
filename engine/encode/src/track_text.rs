//! A track as one line of text.

/// What a track is embedded as: `title by artist, from album`, or what of it is known.
///
/// Returns nothing if neither title nor artist is: such a track has no text to be encoded. Text
/// models place `title by artist` near descriptions of the artist's style; the artist is the
/// stronger half.
pub fn track_text(title: &str, artist: &str, album: &str) -> Option<String> {
    let line = match (title.trim(), artist.trim()) {
        ("", "") => return None,
        (title, "") => title.to_string(),
        ("", artist) => artist.to_string(),
        (title, artist) => format!("{title} by {artist}"),
    };
    Some(match album.trim() {
        "" => line,
        album => format!("{line}, from {album}"),
    })
}
