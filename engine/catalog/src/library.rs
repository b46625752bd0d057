//! What is known of tracks beside their names: where their audio lies, their albums, their lyrics.
//!
//! A file of JSON lines, one track each, with `artist` and `title` or `mbid`, and what is known:
//!
//! ```json
//! {"artist": "Muldjord", "title": "Chaos God", "audio": "muldjord/chaos_god.ogg", "album": "Demo"}
//! ```
//!
//! `audio` is relative to the file's folder. Ratings come of a file of their own ([`crate::ratings::table`]),
//! by names. It is a side table: a track's content travels in streams and checkpoints, what a library says
//! of it is read anew at each start.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::FixedState;
use segue_listen::TrackKey;
use serde::Deserialize;

use crate::content::TrackContent;
use crate::ratings::schema::COUNT;
use crate::ratings::table::RatingTable;

/// What a library knows of one track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackMedia {
    /// The artist's name as the library writes it; may be empty.
    pub artist: Box<str>,
    /// The title as the library writes it; may be empty.
    pub title: Box<str>,
    /// Its audio file.
    pub audio: Option<PathBuf>,
    /// The name of its album.
    pub album: Option<Box<str>>,
    /// Its lyrics.
    pub lyrics: Option<Box<str>>,
}

/// What is known of many tracks, by their keys.
#[derive(Debug, Default)]
pub struct Library {
    media: HashMap<TrackKey, TrackMedia, FixedState>,
    /// Keys of names, for tracks that are kept under their MusicBrainz id.
    by_names: HashMap<TrackKey, TrackKey, FixedState>,
    ratings: Arc<RatingTable>,
}

/// A library that cannot be read. Nothing is encoded from a part of it.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The file is not there or may not be read.
    #[error("library {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line is not a track.
    #[error("library {path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    mbid: Option<String>,
    #[serde(default)]
    artist: Box<str>,
    #[serde(default)]
    title: Box<str>,
    #[serde(default)]
    audio: Option<PathBuf>,
    #[serde(default)]
    album: Option<Box<str>>,
    #[serde(default)]
    lyrics: Option<Box<str>>,
}

impl Library {
    /// Reads a file of JSON lines. Of several lines for one track the last counts, field by field.
    ///
    /// # Errors
    /// The first line that is not a track, by its number.
    pub fn read(path: &Path) -> Result<Self, LibraryError> {
        let read = |error| LibraryError::Read {
            path: path.to_path_buf(),
            error,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut library = Self::default();
        let file = BufReader::new(File::open(path).map_err(read)?);
        for (number, line) in file.lines().enumerate() {
            let line = line.map_err(read)?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |problem: String| LibraryError::Line {
                path: path.to_path_buf(),
                line: number + 1,
                problem,
            };
            let line: Line = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
            let key = key(&line).map_err(|problem| wrong(problem.to_owned()))?;
            let names = TrackKey::from_names(&line.artist, &line.title);
            if names != key && !(line.artist.is_empty() && line.title.is_empty()) {
                library.by_names.insert(names, key);
            }
            let media = library.media.entry(key).or_default();
            for (known, said) in [
                (&mut media.artist, line.artist),
                (&mut media.title, line.title),
            ] {
                if !said.is_empty() {
                    *known = said;
                }
            }
            if let Some(audio) = line.audio {
                media.audio = Some(folder.join(audio));
            }
            media.album = line.album.or(media.album.take());
            media.lyrics = line.lyrics.or(media.lyrics.take());
        }
        Ok(library)
    }

    /// The same, and tracks' ratings.
    #[must_use]
    pub fn with_ratings(self, ratings: Arc<RatingTable>) -> Self {
        Self { ratings, ..self }
    }

    /// What is known of a track of a log: by its key, else by its names, whichever of the two the
    /// library and the log have.
    pub fn of(&self, track: TrackKey, artist: &str, title: &str) -> Option<&TrackMedia> {
        let by_names = || {
            let names = TrackKey::from_names(artist, title);
            let key = self.by_names.get(&names).unwrap_or(&names);
            self.media.get(key)
        };
        self.media(track).or_else(by_names)
    }

    /// What is known under a key.
    fn media(&self, track: TrackKey) -> Option<&TrackMedia> {
        self.media.get(&track)
    }

    /// A track's ratings, by the schema; what is not rated is no number.
    pub fn ratings(&self, track: &TrackContent) -> Option<[f32; COUNT]> {
        let names = TrackKey::from_names(&track.artist, &track.title);
        let ratings = self.ratings.of(names)?;
        Some(self.ratings.by_schema(ratings))
    }

    /// Whether anything is known of a track beside its names.
    pub fn knows(&self, track: &TrackContent) -> bool {
        let media = || self.of(track.key, &track.artist, &track.title);
        self.ratings(track).is_some() || media().is_some()
    }

    /// What tells what is known of a track now from what was: its texts, its ratings, and size and time of
    /// its audio file, which is not read. 0 where nothing is known of it.
    pub fn stamp(&self, track: &TrackContent) -> u64 {
        let hasher = FixedState::default();
        let of_media = self
            .of(track.key, &track.artist, &track.title)
            .map(|media| {
                let about = media.audio.as_deref().map(std::fs::metadata);
                // A file that is not there is one that may come.
                let about =
                    about.map(|about| about.ok().map(|about| (about.len(), about.modified().ok())));
                hasher.hash_one((&media.audio, about, &media.album, &media.lyrics))
            });
        let of_ratings = self
            .ratings(track)
            .map(|ratings| hasher.hash_one(ratings.map(f32::to_bits)));
        match (of_media, of_ratings) {
            (None, None) => 0,
            // What checkpoints have of libraries without ratings stays as it is.
            (Some(media), None) => media.max(1),
            (media, Some(ratings)) => hasher.hash_one((media, ratings)).max(1),
        }
    }

    /// All tracks, in the order of their keys.
    pub fn tracks(&self) -> Vec<(TrackKey, &TrackMedia)> {
        let mut tracks: Vec<_> = self
            .media
            .iter()
            .map(|(&key, media)| (key, media))
            .collect();
        tracks.sort_unstable_by_key(|&(key, _)| key);
        tracks
    }

    /// Adds what is known of a track, in place of what was.
    pub fn insert(&mut self, track: TrackKey, media: TrackMedia) {
        self.media.insert(track, media);
    }

    /// Tracks that it has a line on; those that are only rated are not among them.
    pub fn described(&self) -> usize {
        self.media.len()
    }

    /// Whether it knows nothing of any track.
    pub fn is_empty(&self) -> bool {
        self.media.is_empty() && self.ratings.tracks().is_empty()
    }
}

fn key(line: &Line) -> Result<TrackKey, &'static str> {
    match &line.mbid {
        Some(mbid) => TrackKey::from_mbid(mbid).ok_or("its mbid is not one"),
        None if line.artist.is_empty() && line.title.is_empty() => {
            Err("it has neither mbid nor artist nor title")
        }
        None => Ok(TrackKey::from_names(&line.artist, &line.title)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_listen::TrackId;

    fn read(text: &str) -> Result<Library, LibraryError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.jsonl");
        std::fs::write(&path, text).unwrap();
        Library::read(&path)
    }

    #[test]
    fn a_track_has_what_its_lines_say() {
        let mbid = "2b8cd7f8-2d9b-4dd1-a1a1-b9f9a7a1e0d1";
        let library = read(&format!(
            r#"{{"artist": "Muldjord", "title": "Chaos God", "audio": "songs/chaos.ogg", "album": "A"}}

{{"mbid": "{mbid}", "lyrics": "la la"}}
{{"artist": "MULDJORD", "title": "Chaos God", "album": "B"}}
"#
        ))
        .unwrap();
        assert_eq!(library.described(), 2);
        let names = TrackKey::from_names("Muldjord", "Chaos God");
        let media = library.media(names).unwrap();
        let audio = media.audio.as_ref().unwrap();
        assert!(audio.is_absolute() && audio.ends_with("songs/chaos.ogg"));
        assert_eq!(media.album.as_deref(), Some("B"));
        assert_eq!((&*media.artist, &*media.title), ("MULDJORD", "Chaos God"));
        let keys: Vec<TrackKey> = library.tracks().into_iter().map(|(key, _)| key).collect();
        assert!(keys.is_sorted() && keys.len() == 2);
        let by_id = library.media(TrackKey::from_mbid(mbid).unwrap()).unwrap();
        assert_eq!(by_id.lyrics.as_deref(), Some("la la"));
        assert!(library.media(TrackKey::from_names("x", "y")).is_none());
    }

    #[test]
    fn a_track_is_found_by_its_id_or_its_names_whichever_both_have() {
        let mbid = "2b8cd7f8-2d9b-4dd1-a1a1-b9f9a7a1e0d1";
        let library = read(&format!(
            r#"{{"artist": "Björk", "title": "Joga", "album": "by names"}}
{{"mbid": "{mbid}", "artist": "Björk", "title": "Isobel", "album": "by id"}}"#
        ))
        .unwrap();
        let id = TrackKey::from_mbid(mbid).unwrap();
        let other = TrackKey(7);
        let album = |key, title| {
            let media = library.of(key, "BJÖRK", title);
            media.and_then(|media| media.album.as_deref())
        };
        // The log has an id that the library has not; the library has one that the log has not.
        assert_eq!(album(other, "joga"), Some("by names"));
        assert_eq!(
            album(TrackKey::from_names("Björk", "Isobel"), "isobel"),
            Some("by id")
        );
        assert_eq!(album(id, "misspelt"), Some("by id"));
        assert_eq!(album(other, "Hunter"), None);
    }

    #[test]
    fn a_stamp_changes_with_what_is_known_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let audio = folder.path().join("a.ogg");
        let key = TrackKey::from_names("x", "y");
        let track = TrackContent {
            track: TrackId(0),
            key,
            artist: "x".into(),
            title: "y".into(),
        };
        let stamp = |lyrics: &str| {
            let mut library = Library::default();
            library.insert(
                key,
                TrackMedia {
                    audio: Some(audio.clone()),
                    lyrics: Some(lyrics.into()),
                    ..TrackMedia::default()
                },
            );
            library.stamp(&track)
        };
        assert_eq!(Library::default().stamp(&track), 0);
        let missing = stamp("la");
        std::fs::write(&audio, "some").unwrap();
        let there = stamp("la");
        assert_eq!(there, stamp("la"));
        std::fs::write(&audio, "something else").unwrap();
        let stamps = [missing, there, stamp("la"), stamp("lu")];
        let different: std::collections::HashSet<u64> = stamps.into_iter().collect();
        assert!(different.len() == 4 && !different.contains(&0));
    }

    #[test]
    fn ratings_are_found_by_names_and_count_as_known() {
        let folder = tempfile::tempdir().unwrap();
        let rated = |text: &str| {
            let path = folder.path().join("ratings.tsv");
            std::fs::write(&path, format!("artist\ttitle\tTempo\n{text}")).unwrap();
            let ratings = RatingTable::read(&path).unwrap();
            Library::default().with_ratings(Arc::new(ratings))
        };
        let track = |title: &str| TrackContent {
            track: TrackId(0),
            key: TrackKey(7),
            artist: "x".into(),
            title: title.into(),
        };
        let library = rated("X\tY\t5\nX\tZ\t\n");
        assert!(!library.is_empty() && library.described() == 0);
        let ratings = library.ratings(&track("y")).unwrap();
        assert_eq!(ratings[9], 5.0);
        assert_eq!(ratings.iter().filter(|r| r.is_nan()).count(), COUNT - 1);
        assert!(library.knows(&track("y")) && !library.knows(&track("a")));
        assert_eq!(library.stamp(&track("a")), 0);

        let stamps = [
            library.stamp(&track("y")),
            library.stamp(&track("z")),
            rated("X\tY\t4\n").stamp(&track("y")),
        ];
        let different: std::collections::HashSet<u64> = stamps.into_iter().collect();
        assert!(different.len() == 3 && !different.contains(&0));
        assert_eq!(rated("X\tY\t5\n").stamp(&track("y")), stamps[0]);
    }

    #[test]
    fn a_line_that_is_no_track_is_named() {
        for (line, problem) in [
            ("{}", "neither mbid nor artist"),
            (r#"{"title": "a", "sound": "b"}"#, "sound"),
            (r#"{"mbid": "7"}"#, "mbid is not one"),
            ("[", "EOF"),
        ] {
            let error = read(&format!("{{\"title\": \"good\"}}\n{line}\n")).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("line 2") && said.contains(problem), "{said}");
        }
        let gone = Library::read(Path::new("nowhere.jsonl")).unwrap_err();
        assert!(gone.to_string().contains("nowhere.jsonl"));
    }
}
