//! Vectors by what they were made of, on disk: a file that grows by one at a time, after a header that
//! says what makes them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xxhash_rust::xxh3::xxh3_128;

/// What a vector is kept under: a hash of what it was made of.
pub type ContentPrint = u128;

/// Vectors of one length by content.
pub struct Cache {
    path: PathBuf,
    file: File,
    dimensions: usize,
    vectors: HashMap<ContentPrint, Vec<f32>>,
}

impl Cache {
    /// Opens a file of vectors that `print` describes the maker of. One that something else has made is
    /// begun anew, and what a crash has left of a last vector is cut off.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(path: &Path, print: &str, dimensions: usize) -> Result<Self> {
        let failed = || format!("{} cannot be read or written", path.display());
        let header = xxh3_128(format!("1 {dimensions} {print}").as_bytes()).to_le_bytes();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(failed)?;
        let mut vectors = HashMap::new();
        let mut whole = header.len() as u64;
        let mut reader = BufReader::new(&file);
        let mut found = [0u8; 16];
        let ours = reader.read_exact(&mut found).is_ok() && found == header;
        let mut record = vec![0u8; 16 + 4 * dimensions];
        if ours {
            loop {
                match reader.read_exact(&mut record) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error).with_context(failed),
                }
                let Some((print, values)) = record.split_first_chunk::<16>() else {
                    break;
                };
                let values = values.chunks_exact(4);
                let values =
                    values.filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)));
                vectors.insert(u128::from_le_bytes(*print), values.collect());
                whole += record.len() as u64;
            }
            file.set_len(whole).with_context(failed)?;
            file.seek(SeekFrom::End(0)).with_context(failed)?;
        } else {
            file.set_len(0).with_context(failed)?;
            file.rewind().with_context(failed)?;
            file.write_all(&header).with_context(failed)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            dimensions,
            vectors,
        })
    }

    /// The vector of such content.
    pub fn of(&self, content: ContentPrint) -> Option<&[f32]> {
        self.vectors.get(&content).map(Vec::as_slice)
    }

    /// Keeps a vector.
    ///
    /// # Errors
    /// The disk is full, or worse.
    pub fn keep(&mut self, content: ContentPrint, vector: Vec<f32>) -> Result<()> {
        let mut record = content.to_le_bytes().to_vec();
        record.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
        let written = self.file.write_all(&record);
        written.with_context(|| format!("{} cannot be written", self.path.display()))?;
        self.vectors.insert(content, vector);
        Ok(())
    }

    /// Numbers in a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }
}
