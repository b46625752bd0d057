//! An index as one file: written under another name, synced and moved into place; with its version and
//! a checksum; and read by bounds that no content can break.
//!
//! Numbers are little-endian. After the header come, in this order: rows, tracks of slots, ground links,
//! heads, blocks above the ground; then the XXH3 of all before it. What the file says of itself is
//! believed only as far as the file is long.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use segue_listen::TrackId;
use xxhash_rust::xxh3::Xxh3;

use crate::beam::MOST_NODES;
use crate::graph::GraphWriter;
use crate::links::{Links, NONE};
use crate::settings::{Builder, Metric, Settings, SettingsError, Storage};
use crate::vectors::{Vector, VectorError};

const MAGIC: [u8; 8] = *b"SEGUE-RC";
/// Of the format.
const VERSION: u32 = 1;
/// Levels are below this: with m = 2 a level of 64 has a chance of 2⁻⁶⁴.
const MOST_LEVELS: u32 = 64;

/// Why an index was not written or read. Segue builds it anew from the vectors.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("not an index of Segue")]
    Foreign,
    /// A newer Segue wrote it.
    #[error("format {found} is newer than {VERSION}, which this Segue reads: use the newer one")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// Bytes were changed or are missing.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// It was made under other settings.
    #[error("made with {key} = {found}, the settings say {wanted}")]
    Other {
        /// The setting.
        key: &'static str,
        /// In the file.
        found: String,
        /// In the settings.
        wanted: String,
    },
    /// The settings are out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A row in it is no vector.
    #[error("damaged: a row is no vector: {0}")]
    Row(#[from] VectorError),
    /// A graph of hnsw_rs cannot be taken up again.
    #[error("an index with builder = \"hnsw_rs\" is not kept: hnsw_rs cannot go on from it")]
    NotKept,
}

/// Writes, and sums up what was written.
struct Summing<W> {
    to: W,
    sum: Xxh3,
}

impl<W: Write> Summing<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }

    fn word(&mut self, word: u32) -> io::Result<()> {
        self.bytes(&word.to_le_bytes())
    }

    fn long(&mut self, long: u64) -> io::Result<()> {
        self.bytes(&long.to_le_bytes())
    }
}

/// Reads, and sums up what was read.
struct Checking<R> {
    from: R,
    sum: Xxh3,
}

impl<R: Read> Checking<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        let read = self.from.read_exact(&mut bytes);
        read.map_err(|_| StoreError::Damaged("it ends too early"))?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn long(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

fn code(settings: &Settings) -> u32 {
    u32::from(settings.metric == Metric::InnerProduct)
        | u32::from(settings.storage == Storage::F16) << 1
}

/// The settings that a file's content depends on, beside those asked for.
fn same(
    key: &'static str,
    found: impl PartialEq + ToString,
    wanted: impl PartialEq + ToString,
) -> Result<(), StoreError> {
    let (found, wanted) = (found.to_string(), wanted.to_string());
    if found == wanted {
        return Ok(());
    }
    Err(StoreError::Other { key, found, wanted })
}

impl GraphWriter {
    /// Writes the index to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Io`], and [`StoreError::NotKept`] with hnsw_rs for a builder.
    pub fn save(&mut self, path: &Path) -> Result<(), StoreError> {
        if self.settings().builder != Builder::Segue {
            return Err(StoreError::NotKept);
        }
        let io = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let written = File::create(&part).and_then(|file| {
            let mut to = BufWriter::new(file);
            self.write(&mut to)?;
            to.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
            fs::rename(&part, path)?;
            // The name is on the disk when its folder is.
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
        if written.is_err() {
            // What is left of it is in nobody's way if it cannot be removed either.
            let _ = fs::remove_file(&part);
        }
        written.map_err(io)
    }

    /// Reads an index that [`GraphWriter::save`] wrote, to go on with it.
    ///
    /// # Errors
    /// If the file is not one, was damaged, is of a newer version or was made under other settings;
    /// content, whatever it is, makes for nothing worse.
    pub fn load(path: &Path, dimensions: usize, settings: Settings) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::read(BufReader::new(file), dimensions, settings)
    }

    /// Writes the index as a file has it. Every row is linked first and no sweep is left half done.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&mut self, to: &mut dyn Write) -> io::Result<()> {
        self.settle_all();
        let state = self.state();
        let (rows, slots, mesh) = (state.rows, state.slots, state.mesh);
        let mut out = Summing {
            to,
            sum: Xxh3::new(),
        };
        out.bytes(&MAGIC)?;
        out.word(VERSION)?;
        out.word(code(self.settings()))?;
        out.word(rows.dimensions() as u32)?;
        out.word(mesh.links.room(1) as u32)?;
        out.word(slots.used)?;
        out.word(mesh.links.heads_used)?;
        out.word(mesh.links.upper_used)?;
        out.word(mesh.links.entry.unwrap_or(NONE))?;
        out.long(self.settings().seed)?;
        out.long(state.linked)?;
        out.long(state.changes)?;
        out.long(rows.longest().to_bits())?;
        let mut room = Vec::new();
        for slot in 0..slots.used {
            // 0: nothing. 1: a row. 2: a row that is linked.
            let kind = match (slots.alive(slot), mesh.has(slot)) {
                (_, true) => 2,
                (true, false) => 1,
                (false, false) => 0,
            };
            out.word(kind)?;
            if kind == 0 {
                continue;
            }
            for number in rows.read(slot, &mut room) {
                out.bytes(&number.to_le_bytes())?;
            }
            let tracks: Vec<TrackId> = slots.tracks(slot).collect();
            out.word(tracks.len() as u32)?;
            for track in tracks.iter().rev() {
                out.word(track.0)?;
            }
            list(&mut out, mesh.links.of(slot, 0))?;
        }
        for head in 0..mesh.links.heads_used {
            let [slot, _, level] = mesh.links.head(head).unwrap_or([0, 0, 0]);
            let owned = mesh.head_of.get(&slot) == Some(&head);
            out.word(if owned { slot } else { NONE })?;
            out.word(level)?;
            for layer in 1..=level {
                list(&mut out, mesh.links.of(head, layer))?;
            }
        }
        let bridges = mesh.bridges();
        out.word(bridges.len() as u32)?;
        for (from, to) in bridges {
            out.word(from)?;
            out.word(to)?;
        }
        let sum = out.sum.digest();
        out.to.write_all(&sum.to_le_bytes())
    }

    /// Reads what [`GraphWriter::write`] wrote.
    ///
    /// # Errors
    /// As [`GraphWriter::load`].
    pub fn read(
        from: impl Read,
        dimensions: usize,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        if settings.builder != Builder::Segue {
            return Err(StoreError::NotKept);
        }
        let mut writer = Self::new(dimensions, settings)?;
        let mut from = Checking {
            from,
            sum: Xxh3::new(),
        };
        let magic = from.array().map_err(|_| StoreError::Foreign)?;
        if magic != MAGIC {
            return Err(StoreError::Foreign);
        }
        let version = from.word()?;
        if version > VERSION {
            return Err(StoreError::Newer { found: version });
        }
        let settings = writer.settings().clone();
        same(
            "metric and storage (as a number)",
            from.word()?,
            code(&settings),
        )?;
        same("dimensions", from.word()? as usize, dimensions)?;
        same("m", from.word()? as usize, settings.m)?;
        let (used, heads, blocks) = (from.word()?, from.word()?, from.word()?);
        let entry = Some(from.word()?).filter(|&entry| entry != NONE);
        same("seed", from.long()?, settings.seed)?;
        let (linked, changes) = (from.long()?, from.long()?);
        let longest = f64::from_bits(from.long()?);
        let sane = used < MOST_NODES
            && heads <= used.max(1)
            && (0.0..=f64::MAX).contains(&longest)
            && entry.is_none_or(|entry| entry < heads);
        if !sane {
            return Err(StoreError::Damaged("its header is out of range"));
        }
        writer.restore_longest(longest);
        let mut links = Links::new(settings.m);
        let mut point = vec![0.0f32; dimensions];
        for slot in 0..used {
            let kind = from.word()?;
            if kind == 0 {
                continue;
            }
            if kind > 2 {
                return Err(StoreError::Damaged("a slot is of no known kind"));
            }
            for number in &mut point {
                *number = f32::from_le_bytes(from.array()?);
            }
            let tracks = from.word()?;
            // Under f16 a row may have been rounded to nothing.
            if point.iter().any(|x| *x != 0.0) {
                Vector::check(&point, dimensions)?;
            }
            writer.restore_row(slot, &point);
            for _ in 0..tracks {
                if !writer.restore_track(TrackId(from.word()?), slot) {
                    return Err(StoreError::Damaged(
                        "a track is out of range or twice there",
                    ));
                }
            }
            let to = read_list(&mut from, 2 * settings.m, used)?;
            if kind == 2 {
                links.write(slot, 0, &to);
                writer.restore_point(slot);
            }
        }
        let mut above = 0u32;
        for head in 0..heads {
            let (slot, level) = (from.word()?, from.word()?);
            let ok = (slot < used || slot == NONE) && level < MOST_LEVELS && level > 0;
            if !ok || blocks - above < level {
                return Err(StoreError::Damaged("a head is out of range"));
            }
            let owner = Some(slot).filter(|&slot| slot != NONE);
            links.set_head(head, owner.unwrap_or(0), above, level);
            above += level;
            for layer in 1..=level {
                let to = read_list(&mut from, settings.m, heads)?;
                links.write(head, layer, &to);
            }
            if !writer.restore_head(head, owner, level) {
                return Err(StoreError::Damaged("a slot has two heads, or one too many"));
            }
        }
        (links.heads_used, links.upper_used, links.entry) = (heads, blocks, entry);
        let mut bridges = Vec::new();
        for _ in 0..from.word()? {
            let (from, to) = (from.word()?, from.word()?);
            if from >= used || to >= used {
                return Err(StoreError::Damaged("a link is out of range"));
            }
            bridges.push((from, to));
        }
        let sum = from.sum.digest();
        let mut end = Vec::new();
        let read = from.from.take(9).read_to_end(&mut end);
        if read.is_err() || end != sum.to_le_bytes() {
            return Err(StoreError::Damaged("its checksum is another"));
        }
        if above != blocks || !writer.restore_links(links, &bridges, used, linked, changes) {
            return Err(StoreError::Damaged("its links do not fit together"));
        }
        Ok(writer)
    }
}

fn list<W: Write>(out: &mut Summing<W>, links: &[u32]) -> io::Result<()> {
    out.word(links.len() as u32)?;
    links.iter().try_for_each(|&link| out.word(link))
}

fn read_list<R: Read>(
    from: &mut Checking<R>,
    room: usize,
    below: u32,
) -> Result<Vec<u32>, StoreError> {
    let count = from.word()? as usize;
    if count > room {
        return Err(StoreError::Damaged("a point has too many links"));
    }
    let mut links = Vec::with_capacity(count);
    for _ in 0..count {
        let link = from.word()?;
        if link >= below {
            return Err(StoreError::Damaged("a link is out of range"));
        }
        links.push(link);
    }
    Ok(links)
}
