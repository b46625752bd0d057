//! Segment files: their names, their first bytes, and the one writer of a partition.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::commits::{End, sync_folder};
use crate::error::LogError;
use crate::settings::Settings;

/// What every segment file begins with: a name and the version of its format.
pub const HEADER: [u8; 16] = *b"segue log 1\n\0\0\0\0";

/// Encoded records are handed to the system in pieces of about this many bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Path of the segment whose first record has offset `base`.
pub fn path_of(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.segment"))
}

/// First offsets of a partition's segments, ascending. A folder not made yet has none.
pub fn list(folder: &Path) -> Result<Vec<u64>, LogError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(LogError::io("list", folder)(cause)),
    };
    let mut bases = Vec::new();
    for entry in entries {
        let path = entry.map_err(LogError::io("list", folder))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "segment")
        {
            let base = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            let why = || "its name is not an offset".to_owned();
            bases.push(base.ok_or_else(|| LogError::Description { path, why: why() })?);
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Appends to the segments of one partition. What was appended since the last [`Self::committed`]
/// can be taken back.
pub struct SegmentWriter {
    folder: PathBuf,
    segment_bytes: u64,
    sync: bool,
    file: Option<File>,
    /// First offset and length in bytes of the segment in `file`, `pending` included.
    segment: u64,
    bytes: u64,
    next: u64,
    committed: End,
    /// Encoded, not yet handed to the system.
    pending: Vec<u8>,
    /// The segment has bytes that were not synced; the folder has names that were not.
    unsynced: bool,
    new_names: bool,
}

impl SegmentWriter {
    /// Opens a partition at its committed end, cutting off what follows. Returns how many bytes
    /// that was.
    pub fn open(folder: PathBuf, end: End, settings: &Settings) -> Result<(Self, u64), LogError> {
        std::fs::create_dir_all(&folder).map_err(LogError::io("create", &folder))?;
        let mut writer = Self {
            folder,
            segment_bytes: settings.segment_bytes,
            sync: settings.sync,
            file: None,
            segment: end.segment,
            bytes: end.bytes,
            next: end.offset,
            committed: end,
            pending: Vec::new(),
            unsynced: false,
            new_names: false,
        };
        let cut = writer.roll_back()?;
        Ok((writer, cut))
    }

    /// Appends one record; `encode` puts it into the buffer, or nothing and an error.
    pub fn append(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>, u64) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let before = self.pending.len();
        encode(&mut self.pending, self.next)?;
        let size = (self.pending.len() - before) as u64;
        if self.next > self.segment && self.bytes + size > self.segment_bytes {
            self.rotate(before)?;
        }
        if self.bytes == 0 {
            self.begin_segment()?;
        }
        self.bytes += size;
        self.next += 1;
        if self.pending.len() >= WRITE_BYTES {
            self.hand_over(self.pending.len())?;
        }
        Ok(())
    }

    /// Hands over and, if so set, syncs all that was appended; returns the end to be committed.
    pub fn flush(&mut self) -> Result<End, LogError> {
        self.hand_over(self.pending.len())?;
        self.make_durable()?;
        Ok(End {
            offset: self.next,
            segment: self.segment,
            bytes: self.bytes,
        })
    }

    /// `end`, returned by [`Self::flush`], is committed: nothing before it is ever taken back.
    pub fn committed(&mut self, end: End) {
        self.committed = end;
    }

    /// Where the committed records end.
    pub fn end(&self) -> End {
        self.committed
    }

    /// Whether something was appended since the last commit.
    pub fn is_dirty(&self) -> bool {
        self.next != self.committed.offset
    }

    /// Takes back all that was appended since the last commit; returns how many bytes were in
    /// files already.
    pub fn roll_back(&mut self) -> Result<u64, LogError> {
        let End {
            offset,
            segment,
            bytes,
        } = self.committed;
        self.pending.clear();
        self.file = None;
        let mut cut = 0;
        for base in list(&self.folder)? {
            if base > segment || (base == segment && bytes == 0) {
                let path = path_of(&self.folder, base);
                cut += std::fs::metadata(&path)
                    .map_err(LogError::io("read", &path))?
                    .len();
                std::fs::remove_file(&path).map_err(LogError::io("delete", &path))?;
            }
        }
        if bytes > 0 {
            cut += self.reopen(segment, bytes, offset)?;
        }
        (self.segment, self.bytes, self.next) = (segment, bytes, offset);
        self.unsynced = cut > 0 && self.file.is_some();
        self.new_names = cut > 0;
        Ok(cut)
    }

    fn reopen(&mut self, segment: u64, bytes: u64, offset: u64) -> Result<u64, LogError> {
        let path = path_of(&self.folder, segment);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(LogError::io("open", &path))?;
        let length = file.metadata().map_err(LogError::io("read", &path))?.len();
        let Some(cut) = length.checked_sub(bytes) else {
            let why = format!("the file ends at byte {length}, but {bytes} were committed");
            return Err(LogError::Damaged {
                path,
                offset,
                at: length,
                why,
            });
        };
        if cut > 0 {
            file.set_len(bytes)
                .map_err(LogError::io("shorten", &path))?;
        }
        file.seek(SeekFrom::Start(bytes))
            .map_err(LogError::io("seek in", &path))?;
        self.file = Some(file);
        Ok(cut)
    }

    /// Ends the segment before the bytes of `pending` from `keep` on, and begins the next.
    fn rotate(&mut self, keep: usize) -> Result<(), LogError> {
        self.hand_over(keep)?;
        self.make_durable()?;
        self.file = None;
        (self.segment, self.bytes) = (self.next, 0);
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), LogError> {
        let path = path_of(&self.folder, self.segment);
        let mut file = File::create_new(&path).map_err(LogError::io("create", &path))?;
        file.write_all(&HEADER)
            .map_err(LogError::io("write", &path))?;
        self.file = Some(file);
        self.bytes = HEADER.len() as u64;
        (self.unsynced, self.new_names) = (true, true);
        Ok(())
    }

    /// Hands the first `count` bytes of `pending` to the system.
    fn hand_over(&mut self, count: usize) -> Result<(), LogError> {
        if count == 0 {
            return Ok(());
        }
        let path = path_of(&self.folder, self.segment);
        let bytes = self.pending.get(..count).unwrap_or_default();
        let Some(file) = &mut self.file else {
            let why = "no segment is open to write to".to_owned();
            return Err(LogError::Description { path, why });
        };
        file.write_all(bytes)
            .map_err(LogError::io("write", &path))?;
        self.pending.drain(..count);
        self.unsynced = true;
        Ok(())
    }

    fn make_durable(&mut self) -> Result<(), LogError> {
        if !self.sync {
            return Ok(());
        }
        if let (true, Some(file)) = (self.unsynced, &self.file) {
            let path = path_of(&self.folder, self.segment);
            file.sync_data().map_err(LogError::io("sync", &path))?;
            self.unsynced = false;
        }
        if self.new_names {
            sync_folder(&self.folder)?;
            self.new_names = false;
        }
        Ok(())
    }
}
