//! Vectors on disk, by what they were made of: what was encoded once is not encoded again.
//!
//! ```text
//! 16 bytes: print of what makes the vectors    then records, each
//! 16 bytes: print of the content   4 bytes a component   8 bytes: XXH3 of the record before it
//! ```
//!
//! Numbers are little-endian. A record that a crash has cut short is cut off; one that is damaged counts as
//! not there and is made again. One process writes a file; another that opens it meanwhile only reads what
//! was there. In memory is where each record lies, and no vector.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// What tells one content from others.
pub type ContentPrint = u128;

const HEADER: usize = 16;
const PRINT: usize = 16;
const SUM: usize = 8;
/// Part of every header; another layout of the file has another number.
const LAYOUT: u32 = 2;

/// The print of a file's content: all of it is read.
///
/// # Errors
/// It cannot be read.
pub fn file_print(path: &Path) -> io::Result<ContentPrint> {
    let mut file = File::open(path)?;
    let mut print = Xxh3::new();
    let mut piece = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(print.digest128()),
            read => print.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

/// The print of texts, of which some may not be there.
pub fn text_print(texts: &[Option<&str>]) -> ContentPrint {
    // Debug text tells apart what only joining would not.
    xxh3_128(format!("{texts:?}").as_bytes())
}

/// A cache that cannot be used, or a vector that cannot be kept. What needs vectors makes them without it.
#[derive(Debug, thiserror::Error)]
#[error("vectors in {path}: {error}")]
pub struct CacheError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// Vectors of one length that were made in one way.
#[derive(Debug)]
pub struct VectorCache {
    path: PathBuf,
    file: File,
    dimensions: usize,
    /// Which record a content's vector is in.
    places: HashMap<ContentPrint, u64>,
    records: u64,
    /// The file grows no longer than this, in bytes.
    longest: u64,
    writes: bool,
    is_full: bool,
}

impl VectorCache {
    /// Opens the file of vectors that `made_by` makes, of so many numbers each, or begins it; one that
    /// something else has made is begun anew. It grows up to `longest` bytes.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(
        path: &Path,
        made_by: &str,
        dimensions: usize,
        longest: u64,
    ) -> Result<Self, CacheError> {
        let failed = |error| CacheError {
            path: path.to_path_buf(),
            error,
        };
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .clone();
        let file = options.clone().truncate(false).open(path).map_err(failed)?;
        let writes = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                tracing::warn!("another process writes to {path}: what it adds is made here, too");
                false
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        };
        let mut cache = Self {
            path: path.to_path_buf(),
            file,
            dimensions,
            places: HashMap::new(),
            records: 0,
            longest,
            writes,
            is_full: false,
        };
        let header = header(made_by, dimensions);
        cache.scan(header).map_err(failed)?;
        Ok(cache)
    }

    /// The file of vectors that `made_by` makes in a folder of such files.
    pub fn file_in(folder: &Path, of: &str, made_by: &str, dimensions: usize) -> PathBuf {
        let header = u128::from_le_bytes(header(made_by, dimensions));
        folder.join(format!("{of}-{header:032x}.cache"))
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether there is a vector of such content.
    pub fn contains(&self, content: ContentPrint) -> bool {
        self.places.contains_key(&content)
    }

    /// The vector of such content, if it is there and whole.
    pub fn get(&mut self, content: ContentPrint) -> Option<Vec<f32>> {
        let place = *self.places.get(&content)?;
        let mut record = vec![0u8; self.record_length()];
        let read = self.file.seek(SeekFrom::Start(self.start(place)));
        let read = read.and_then(|_| self.file.read_exact(&mut record));
        match (read, whole(&record)) {
            (Ok(()), Some((print, values))) if print == content => Some(values),
            _ => {
                tracing::warn!("a vector in {} is no longer whole", self.path.display());
                self.places.remove(&content);
                None
            }
        }
    }

    /// Keeps a vector, if there is room for it.
    ///
    /// # Errors
    /// The disk is full, or worse. What was kept before is still there.
    pub fn put(&mut self, content: ContentPrint, vector: &[f32]) -> Result<(), CacheError> {
        if !self.writes || vector.len() != self.dimensions || self.contains(content) {
            return Ok(());
        }
        let start = self.start(self.records);
        if start + self.record_length() as u64 > self.longest {
            if !std::mem::replace(&mut self.is_full, true) {
                let path = self.path.display();
                tracing::warn!("{path} is as long as it may be: no more vectors are kept");
            }
            return Ok(());
        }
        let mut record = content.to_le_bytes().to_vec();
        record.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
        record.extend(xxh3_64(&record).to_le_bytes());
        let written = self.file.seek(SeekFrom::Start(start));
        let written = written.and_then(|_| self.file.write_all(&record));
        if let Err(error) = written {
            // In vain where the disk fails altogether: the next start cuts it off.
            let _ = self.file.set_len(start);
            return Err(CacheError {
                path: self.path.clone(),
                error,
            });
        }
        self.places.insert(content, self.records);
        self.records += 1;
        Ok(())
    }

    fn record_length(&self) -> usize {
        PRINT + 4 * self.dimensions + SUM
    }

    fn start(&self, record: u64) -> u64 {
        HEADER as u64 + record * self.record_length() as u64
    }

    /// Finds what is there.
    fn scan(&mut self, header: [u8; HEADER]) -> io::Result<()> {
        let mut record = vec![0u8; self.record_length()];
        let mut reader = BufReader::new(&self.file);
        let mut found = [0u8; HEADER];
        let is_ours = reader.read_exact(&mut found).is_ok() && found == header;
        if !is_ours {
            if self.writes {
                self.file.set_len(0)?;
                self.file.rewind()?;
                self.file.write_all(&header)?;
            }
            return Ok(());
        }
        let mut damaged = 0u64;
        loop {
            match reader.read_exact(&mut record) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            match whole(&record) {
                Some((print, _)) => {
                    self.places.insert(print, self.records);
                }
                None => damaged += 1,
            }
            self.records += 1;
        }
        let end = self.start(self.records);
        let rest = self.file.metadata()?.len().saturating_sub(end);
        if damaged > 0 || rest > 0 {
            tracing::warn!(
                damaged,
                "{} is damaged, with {rest} bytes of a vector at its end: what is missing is made again",
                self.path.display()
            );
        }
        if self.writes {
            self.file.set_len(end)?;
        }
        Ok(())
    }
}

fn header(made_by: &str, dimensions: usize) -> [u8; HEADER] {
    xxh3_128(format!("{LAYOUT} {dimensions} {made_by}").as_bytes()).to_le_bytes()
}

/// What a record holds, if it is what was written.
fn whole(record: &[u8]) -> Option<(ContentPrint, Vec<f32>)> {
    let (written, sum) = record.split_last_chunk::<SUM>()?;
    if xxh3_64(written) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (print, values) = written.split_first_chunk::<PRINT>()?;
    let (values, _) = values.as_chunks::<4>();
    let values = values.iter().map(|value| f32::from_le_bytes(*value));
    Some((u128::from_le_bytes(*print), values.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = 1 << 20;

    fn open(path: &Path) -> VectorCache {
        VectorCache::open(path, "a model", 2, LONG).unwrap()
    }

    #[test]
    fn what_is_kept_is_there_after_a_crash_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.cache");
        let mut cache = open(&path);
        for content in 1..=3u128 {
            cache.put(content, &[content as f32, -1.0]).unwrap();
        }
        cache.put(3, &[9.0, 9.0]).unwrap();
        drop(cache);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 16 + 3 * (16 + 8 + 8));

        // Half a record at the end, a bit turned in the second one.
        let mut torn = whole.clone();
        torn[16 + 32 + 20] ^= 1;
        torn.extend([7; 13]);
        std::fs::write(&path, torn).unwrap();
        let mut cache = open(&path);
        assert_eq!((cache.len(), cache.contains(2)), (2, false));
        assert_eq!(cache.get(3), Some(vec![3.0, -1.0]));
        cache.put(2, &[2.0, -1.0]).unwrap();
        cache.put(4, &[4.0, -1.0]).unwrap();
        drop(cache);
        let mut cache = open(&path);
        for content in 1..=4u128 {
            assert_eq!(cache.get(content), Some(vec![content as f32, -1.0]));
        }
        assert_eq!(cache.get(5), None);
        drop(cache);
        let other = VectorCache::open(&path, "another model", 2, LONG).unwrap();
        assert!(other.is_empty());
    }

    #[test]
    fn it_grows_no_longer_than_it_may_and_one_process_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = VectorCache::file_in(folder.path(), "audio", "a model", 2);
        let mut small = VectorCache::open(&path, "a model", 2, 16 + 2 * 32).unwrap();
        for content in 1..=3 {
            small.put(content, &[1.0, 2.0]).unwrap();
        }
        assert_eq!(small.len(), 2);
        let mut reader = open(&path);
        reader.put(9, &[1.0, 2.0]).unwrap();
        assert_eq!((reader.get(2), reader.get(9)), (Some(vec![1.0, 2.0]), None));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 16 + 2 * 32);
    }

    #[test]
    fn prints_tell_contents_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("1"), folder.path().join("2"));
        std::fs::write(&one, [0; 70_000]).unwrap();
        std::fs::copy(&one, &other).unwrap();
        assert_eq!(file_print(&one).unwrap(), file_print(&other).unwrap());
        std::fs::write(&other, [0; 70_001]).unwrap();
        assert_ne!(file_print(&one).unwrap(), file_print(&other).unwrap());
        assert_ne!(
            text_print(&[Some("a"), Some("bc")]),
            text_print(&[Some("ab"), Some("c")])
        );
        assert_ne!(text_print(&[None]), text_print(&[Some("")]));
    }
}
