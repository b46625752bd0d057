//! A sorted run: in memory while there is room, else compressed in a temporary file without a name,
//! which the system removes however the process ends.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::record;
use crate::error::ReplayError;

/// zstd's fastest ordinary level: a third of the size for little time.
const LEVEL: i32 = 1;

/// 512 KiB: what a reader holds per open run.
const WINDOW_LOG: u32 = 19;

const BUFFER_BYTES: usize = 128 * 1024;

/// A run on disk, rewound and ready to be read.
#[derive(Debug)]
pub(super) struct Spilled {
    file: File,
}

/// A run that is being written.
pub(super) struct RunWriter {
    out: zstd::Encoder<'static, BufWriter<File>>,
    dir: PathBuf,
}

impl RunWriter {
    /// A run in a new temporary file in `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self, ReplayError> {
        let file = tempfile::tempfile_in(dir).map_err(|e| ReplayError::temporary(dir, e))?;
        Self::over(file, dir)
    }

    pub(super) fn over(file: File, dir: &Path) -> Result<Self, ReplayError> {
        let fail = |e| ReplayError::temporary(dir, e);
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut out = zstd::Encoder::new(out, LEVEL).map_err(fail)?;
        out.window_log(WINDOW_LOG).map_err(fail)?;
        Ok(Self {
            out,
            dir: dir.to_owned(),
        })
    }

    /// Adds a record, given without its length.
    pub(super) fn write(&mut self, record: &[u8]) -> Result<(), ReplayError> {
        let length = (record.len() as u32).to_le_bytes();
        self.out
            .write_all(&length)
            .and_then(|()| self.out.write_all(record))
            .map_err(|e| ReplayError::temporary(&self.dir, e))
    }

    /// Ends the run.
    pub(super) fn finish(self) -> Result<Spilled, ReplayError> {
        let finish = || -> io::Result<File> {
            let mut file = self.out.finish()?.into_inner()?;
            file.rewind()?;
            Ok(file)
        };
        let file = finish().map_err(|e| ReplayError::temporary(&self.dir, e))?;
        Ok(Spilled { file })
    }
}

/// A run that is being read; stands at a record or at the end.
pub(super) struct RunReader {
    input: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    current: Vec<u8>,
    dir: PathBuf,
}

impl RunReader {
    /// Stands before the first record.
    pub(super) fn new(run: Spilled, dir: &Path) -> Result<Self, ReplayError> {
        let file = BufReader::with_capacity(BUFFER_BYTES, run.file);
        let input = zstd::Decoder::with_buffer(file).map_err(|e| ReplayError::temporary(dir, e))?;
        Ok(Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            current: Vec::new(),
            dir: dir.to_owned(),
        })
    }

    /// Goes to the next record; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ReplayError> {
        let fail = |e| ReplayError::temporary(&self.dir, e);
        let mut length = [0u8; record::LENGTH];
        let mut known = 0;
        while known < length.len() {
            let rest = length.get_mut(known..).unwrap_or(&mut []);
            match self.input.read(rest).map_err(fail)? {
                0 if known == 0 => return Ok(false),
                0 => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                read => known += read,
            }
        }
        self.current.resize(u32::from_le_bytes(length) as usize, 0);
        self.input.read_exact(&mut self.current).map_err(fail)?;
        Ok(true)
    }

    /// The record it stands at, without its length.
    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }
}

/// A run in memory: records in order of arrival, and their sorted positions.
#[derive(Default)]
pub(super) struct Resident {
    arena: Vec<u8>,
    /// Time and offset: the time is copied out so that most comparisons touch no record.
    order: Vec<(i64, u32)>,
    next: usize,
}

impl Resident {
    /// Room for about `bytes`; touched only as it fills.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self {
            arena: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn push(&mut self, listen: &segue_listen::ListenRef<'_>) {
        self.order
            .push((listen.at.millis(), self.arena.len() as u32));
        record::write(listen, &mut self.arena);
    }

    /// Time, then user, then order of arrival.
    pub(super) fn sort(&mut self) {
        let arena = self.arena.as_slice();
        let user = |offset: u32| record::at(arena, offset as usize).map(|r| record::key(r).1);
        self.order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| user(a.1).cmp(&user(b.1)))
                .then_with(|| a.1.cmp(&b.1))
        });
    }

    /// The next record of a sorted run, without its length.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let (_, offset) = self.order.get(self.next)?;
        self.next += 1;
        record::at(&self.arena, *offset as usize)
    }

    /// Forgets everything but its room.
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.order.clear();
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named() {
        // Linux has a file that is always full; elsewhere there is nothing to try.
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            return;
        };
        let mut writer = RunWriter::over(full, Path::new("/some/folder")).unwrap();
        let noise: Vec<u8> = (0..100_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let failed = (0..100).find_map(|_| writer.write(&noise).err());
        let error = match failed {
            Some(error) => error,
            None => writer.finish().unwrap_err(),
        };
        let error = error.to_string();
        assert!(
            error.contains("/some/folder") && error.contains("temp_dir"),
            "{error}"
        );
    }
}
