//! The folder: opened beside its place, fed with what a lane says, put in place when it is whole.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segue_catalog::durations::DurationEstimates;
use segue_listen::EventTime;
use segue_listen::session::Session;
use segue_sessions::{PlayUpdate, Update, Witness};
use tempfile::TempDir;

use crate::card::{self, About};
use crate::error::ExportError;
use crate::features::{self, Feature, Written};
use crate::listeners::{LengthBy, Listener, OpenPlay, witness};
use crate::split::{Boundaries, Split};
use crate::table::Kind::{Int, Long, Real, Text, Time};
use crate::table::{Cell, Column, Table, column, maybe};
use crate::tracks::{self, Tracks};

/// The columns of the files in `interactions/`.
pub(crate) const INTERACTIONS: [Column; 13] = [
    column("user", Text, "the listener, as the log names them"),
    column(
        "session",
        Long,
        "the session's number: rows of a session stand together, in order of time; sessions in the order in which they close",
    ),
    column("position", Int, "the play's place in its session, from 0"),
    column("started_at", Time, "when it started, UTC"),
    column("track", Text, "the track's key, as in `tracks.parquet`"),
    column("artist", Text, "the artist, as the log first writes it"),
    column("title", Text, "the title, as the log first writes it"),
    maybe(
        "gap_ms",
        Long,
        "from its start to that of the session's next play; none for the last",
    ),
    maybe("played_ms", Long, "how long it was heard"),
    maybe(
        "played_by",
        Text,
        "who says so: `player` (its own figure), `gap` (the gap to the next play)",
    ),
    maybe("duration_ms", Long, "the length that the ratio is taken of"),
    maybe(
        "duration_by",
        Text,
        "who says so: `event` (it is stated), `estimate` (from everybody's gaps up to then)",
    ),
    maybe(
        "completion_ratio",
        Real,
        "played_ms / duration_ms, between 0 and 1; none where either is not known",
    ),
];

/// The columns of `sessions.parquet`.
pub(crate) const SESSIONS: [Column; 8] = [
    column("session", Long, "its number: rows are in its order"),
    column("user", Text, "the listener, as the log names them"),
    column("split", Text, "the split of its first play"),
    column("started_at", Time, "when its first play started, UTC"),
    column("last_started_at", Time, "when its last play started, UTC"),
    column("plays", Int, "how many plays it has"),
    column("ratios", Int, "how many of them have a completion ratio"),
    maybe("mean_completion_ratio", Real, "their mean"),
];

/// Names of what a data set consists of.
pub(crate) const INTERACTIONS_FOLDER: &str = "interactions";
pub(crate) const SESSIONS_FILE: &str = "sessions.parquet";
pub(crate) const TRACKS_FILE: &str = "tracks.parquet";
pub(crate) const FEATURES_FILE: &str = "features.safetensors";
pub(crate) const CARD_FILE: &str = "README.md";
const OURS: [&str; 5] = [
    INTERACTIONS_FOLDER,
    SESSIONS_FILE,
    TRACKS_FILE,
    FEATURES_FILE,
    CARD_FILE,
];

/// How many of what a data set has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// By split, those that have a file.
    pub splits: Vec<SplitContents>,
    /// Listeners.
    pub listeners: u64,
    /// Tracks.
    pub tracks: u64,
    /// Sessions.
    pub sessions: u64,
    /// Sessions that begin in one split and end in another.
    pub straddling: u64,
    /// What ratios rest on.
    pub ratios: RatioCounts,
    /// Tracks with a length that an event states.
    pub lengths_stated: u64,
    /// Tracks with a length that is estimated.
    pub lengths_estimated: u64,
    /// The first play and the last.
    pub times: Option<(EventTime, EventTime)>,
    /// Vectors of tracks.
    pub features: Vec<Written>,
}

/// What a split has.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitContents {
    /// Which.
    pub split: Split,
    /// Plays.
    pub plays: u64,
    /// Listeners.
    pub listeners: u64,
    /// Tracks.
    pub tracks: u64,
    /// Those of them that are in no split before it.
    pub new_tracks: u64,
    /// From when on; `None`: from the first play.
    pub from: Option<EventTime>,
    /// Until before when; `None`: to the last play.
    pub until: Option<EventTime>,
}

/// Plays by what their ratio rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RatioCounts {
    /// The player's own figure.
    pub by_player: u64,
    /// A gap, and a length that the event states.
    pub by_stated_length: u64,
    /// A gap, and a length that is estimated.
    pub by_estimated_length: u64,
    /// It is known how long they were heard, and not how long the track is.
    pub unknown_length: u64,
    /// The last plays of sessions: nobody says how long they were heard.
    pub last_of_session: u64,
}

/// A data set that is being written.
pub struct Dataset {
    temporary: TempDir,
    out: PathBuf,
    replace: bool,
    boundaries: Arc<Boundaries>,
    /// Plays between two publications of estimated lengths.
    epoch: u64,
    interactions: Vec<(Split, Table)>,
    sessions: Table,
    listeners: Vec<Listener>,
    tracks: Tracks,
    durations: DurationEstimates,
    plays: u64,
    contents: Contents,
}

impl Dataset {
    /// Begins one beside `out`, which it comes to at the end. Lengths are estimated as a run does it
    /// whose rounds have `epoch` plays.
    ///
    /// # Errors
    /// Something is at `out` that may not be replaced, or the folder cannot be made.
    pub fn create(
        out: &Path,
        replace: bool,
        boundaries: Arc<Boundaries>,
        epoch: usize,
    ) -> Result<Self, ExportError> {
        check_place(out, replace)?;
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(ExportError::io("make", parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".export-")
            .tempdir_in(parent)
            .map_err(ExportError::io("make a folder in", parent))?;
        let folder = temporary.path().join(INTERACTIONS_FOLDER);
        fs::create_dir(&folder).map_err(ExportError::io("make", &folder))?;
        let mut interactions = Vec::new();
        for split in Split::ALL {
            if boundaries.has(split) {
                let path = folder.join(format!("{}.parquet", split.name()));
                interactions.push((split, Table::create(&path, &INTERACTIONS)?));
            }
        }
        Ok(Self {
            sessions: Table::create(&temporary.path().join(SESSIONS_FILE), &SESSIONS)?,
            temporary,
            out: out.to_path_buf(),
            replace,
            boundaries,
            epoch: epoch.max(1) as u64,
            interactions,
            listeners: Vec::new(),
            tracks: Tracks::default(),
            durations: DurationEstimates::default(),
            plays: 0,
            contents: Contents::default(),
        })
    }

    /// Takes what a lane says that keeps the order of time.
    ///
    /// # Errors
    /// The disk is full, or the lane does not keep it.
    pub fn take(&mut self, update: Update) -> Result<(), ExportError> {
        match update {
            Update::Listener { slot: _, name } => {
                self.listeners.push(Listener::new(name));
                Ok(())
            }
            Update::Track(content) => {
                self.tracks.sighted(*content);
                Ok(())
            }
            Update::Play(play) => self.play(&play),
            Update::Closed { slot, session } => self.close(slot, &session),
            Update::Correction { slot, settled } => {
                Err(self.disorder(slot, format!("a correction of {}", settled.at)))
            }
            Update::Retracted { slot, session } => {
                Err(self.disorder(slot, format!("the session of {} goes on", session.first)))
            }
        }
    }

    /// Plays taken so far.
    pub const fn plays(&self) -> u64 {
        self.plays
    }

    /// Tracks seen so far.
    pub fn tracks(&self) -> u64 {
        self.tracks.len()
    }

    fn play(&mut self, play: &PlayUpdate) -> Result<(), ExportError> {
        let durations = &mut self.durations;
        let listener = self.listeners.get_mut(play.slot as usize);
        listener
            .ok_or_else(|| unknown(play.slot))?
            .take(play, durations)?;
        if let Some(settled) = &play.previous {
            durations.note(settled.track, settled.gap);
        }
        self.tracks.take(play);
        let (first, last) = self.contents.times.unwrap_or((play.at, play.at));
        self.contents.times = Some((first.min(play.at), last.max(play.at)));
        self.plays += 1;
        if self.plays.is_multiple_of(self.epoch) {
            durations.publish();
        }
        Ok(())
    }

    fn close(&mut self, slot: u32, session: &Session) -> Result<(), ExportError> {
        let number = i64::try_from(self.contents.sessions).unwrap_or(i64::MAX);
        let listener = self.listeners.get_mut(slot as usize);
        let listener = listener.ok_or_else(|| unknown(slot))?;
        // Its plays are written while it is borrowed.
        let name = listener.name.clone();
        let (mut known, mut sum) = (0, 0.0);
        let mut splits = 0;
        for (position, play) in (0..).zip(listener.close(session)?) {
            let split = self.boundaries.split(play.at);
            splits |= split.bit();
            self.contents.ratios.count(&play);
            if let Some(ratio) = play.ratio {
                known += 1;
                sum += f64::from(ratio.value());
            }
            let key = self.tracks.key(play.track).to_string();
            let content = self.tracks.content(play.track);
            let row = row(&name, number, position, &key, content, &play);
            if let Some((_, table)) = self.interactions.iter_mut().find(|(s, _)| *s == split) {
                table.push(&row)?;
            }
            self.tracks.is_in(play.track, split);
        }
        if let Some(listener) = self.listeners.get_mut(slot as usize) {
            listener.splits |= splits;
        }
        self.contents.straddling += u64::from(!splits.is_power_of_two());
        self.contents.sessions += 1;
        self.sessions.push(&[
            Cell::Long(number),
            Cell::Text(&name),
            Cell::Text(self.boundaries.split(session.first).name()),
            Cell::Time(session.first.millis()),
            Cell::Time(session.last.millis()),
            Cell::Int(i32::try_from(session.plays).unwrap_or(i32::MAX)),
            Cell::Int(known),
            Cell::maybe((known > 0).then(|| sum / f64::from(known)), |mean| {
                Cell::Real(mean as f32)
            }),
        ])
    }

    fn disorder(&self, slot: u32, detail: String) -> ExportError {
        match self.listeners.get(slot as usize) {
            Some(listener) => listener.disorder(detail),
            None => unknown(slot),
        }
    }

    /// Writes the rest, the vectors of tracks among it, and puts the folder in its place; `progress`
    /// is told of tracks whose vectors are made, and may say stop.
    ///
    /// # Errors
    /// The log had no plays, the disk is full, vectors cannot be made: nothing is then in place.
    pub fn finish(
        self,
        mut features: Vec<Feature>,
        about: &About,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Contents, ExportError> {
        if self.plays == 0 {
            return Err(ExportError::Empty);
        }
        features::check_names(features.iter().map(|feature| &*feature.name))?;
        let (mut contents, mut durations) = (self.contents, self.durations);
        durations.publish();
        for (split, table) in self.interactions {
            let (from, until) = self.boundaries.of(split);
            let (tracks, new_tracks) = self.tracks.in_split(split);
            let there = |listener: &&Listener| listener.splits & split.bit() != 0;
            contents.splits.push(SplitContents {
                split,
                plays: table.finish()?,
                listeners: self.listeners.iter().filter(there).count() as u64,
                tracks,
                new_tracks,
                from,
                until,
            });
        }
        self.sessions.finish()?;
        contents.listeners = self.listeners.len() as u64;
        contents.tracks = self.tracks.len();
        (contents.lengths_stated, contents.lengths_estimated) =
            self.tracks.with_lengths(&durations);
        let folder = self.temporary.path();
        let table = Table::create(&folder.join(TRACKS_FILE), &tracks::COLUMNS)?;
        let tracks = self.tracks.write(table, &durations)?;
        if !features.is_empty() {
            let path = folder.join(FEATURES_FILE);
            contents.features = features::write(&path, &mut features, &tracks, progress)?;
        }
        let path = folder.join(CARD_FILE);
        let card = card::written(about, &contents);
        fs::write(&path, card).map_err(ExportError::io("write", &path))?;
        put(self.temporary, &self.out, self.replace)?;
        Ok(contents)
    }
}

fn row<'a>(
    user: &'a str,
    session: i64,
    position: i32,
    key: &'a str,
    content: Option<&'a segue_catalog::content::TrackContent>,
    play: &OpenPlay,
) -> [Cell<'a>; INTERACTIONS.len()] {
    let millis = |span: segue_listen::Span| Cell::Long(span.millis());
    [
        Cell::Text(user),
        Cell::Long(session),
        Cell::Int(position),
        Cell::Time(play.at.millis()),
        Cell::Text(key),
        Cell::Text(content.map_or("", |content| &content.artist)),
        Cell::Text(content.map_or("", |content| &content.title)),
        Cell::maybe(play.gap, millis),
        Cell::maybe(play.heard, |(heard, _)| millis(heard)),
        Cell::maybe(play.heard, |(_, by)| Cell::Text(witness(by))),
        Cell::maybe(play.length, |(length, _)| millis(length)),
        Cell::maybe(play.length, |(_, by)| Cell::Text(by.name())),
        Cell::maybe(play.ratio, |ratio| Cell::Real(ratio.value())),
    ]
}

impl RatioCounts {
    fn count(&mut self, play: &OpenPlay) {
        let by = play.length.map(|(_, by)| by);
        let count = match (play.heard, play.ratio, by) {
            (None, ..) => &mut self.last_of_session,
            (_, None, _) => &mut self.unknown_length,
            (Some((_, Witness::Player)), ..) => &mut self.by_player,
            (_, _, Some(LengthBy::Event)) => &mut self.by_stated_length,
            _ => &mut self.by_estimated_length,
        };
        *count += 1;
    }
}

/// A lane announces its listeners before it speaks of them.
fn unknown(slot: u32) -> ExportError {
    ExportError::Disorder {
        listener: format!("in slot {slot}"),
        detail: "never announced".to_owned(),
    }
}

/// Refuses a place where something is that may not be replaced.
///
/// # Errors
/// What is there.
pub fn check_place(out: &Path, replace: bool) -> Result<(), ExportError> {
    if !out.exists() {
        return Ok(());
    }
    if !replace {
        return Err(ExportError::Exists {
            path: out.to_path_buf(),
        });
    }
    for entry in fs::read_dir(out).map_err(ExportError::io("read", out))? {
        let entry = entry.map_err(ExportError::io("read", out))?;
        let name = entry.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            return Err(ExportError::NotOurs {
                path: out.to_path_buf(),
                stranger: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Renames the folder to its place; what was there is moved aside first and removed afterwards, so
/// that one or the other is always whole.
fn put(temporary: TempDir, out: &Path, replace: bool) -> Result<(), ExportError> {
    // Looked at again: the writing may have taken hours.
    check_place(out, replace)?;
    let new = temporary.keep();
    let old = new.with_extension("replaced");
    let replaces = out.exists();
    if replaces {
        fs::rename(out, &old).map_err(ExportError::io("move aside", out))?;
    }
    if let Err(error) = fs::rename(&new, out) {
        if replaces {
            fs::rename(&old, out).map_err(ExportError::io("move back", &old))?;
        }
        // Whatever this says, the error above is the one to report.
        _ = fs::remove_dir_all(&new);
        return Err(ExportError::io("put in place", out)(error));
    }
    // Others may look at what was made for us alone.
    open_to_others(out)?;
    if replaces {
        fs::remove_dir_all(&old).map_err(ExportError::io("remove", &old))?;
    }
    Ok(())
}

/// Temporary folders are for their owner only; what stays is as any folder.
#[cfg(unix)]
fn open_to_others(folder: &Path) -> Result<(), ExportError> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, permissions).map_err(ExportError::io("open", folder))
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Result<(), ExportError> {
    Ok(())
}

#[cfg(test)]
mod tests;
