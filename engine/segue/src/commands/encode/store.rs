//! Vectors as they are made, and the file that comes of them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use segue_catalog::library::Library;
use segue_nn::tch::Tensor;
use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Item;
use super::cache::{Cache, ContentPrint};
use crate::report::figures::count;

/// The print of a file's content.
///
/// # Errors
/// It cannot be read.
pub fn file_print(path: &Path) -> Result<ContentPrint> {
    let read = || -> std::io::Result<ContentPrint> {
        let mut file = File::open(path)?;
        let mut print = Xxh3::new();
        let mut piece = vec![0u8; 1 << 16];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(print.digest128()),
                read => print.update(piece.get(..read).unwrap_or_default()),
            }
        }
    };
    read().with_context(|| format!("{} cannot be read", path.display()))
}

/// The print of what is written of a track.
pub fn text_print(item: &Item, library: &Library) -> ContentPrint {
    let media = library.media(item.key);
    let album = media.and_then(|media| media.album.as_deref());
    let lyrics = media.and_then(|media| media.lyrics.as_deref());
    let texts = (&item.artist, &item.title, album, lyrics);
    // Debug text tells apart what only joining would not.
    xxh3_128(format!("{texts:?}").as_bytes())
}

/// A line of the list of rows.
#[derive(Serialize)]
struct Line<'a> {
    track: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// What has been made, for each track of a library or folder.
pub struct Store {
    out: PathBuf,
    cache: Cache,
    /// Tracks and what their vectors are kept under, or why they have none.
    tracks: Vec<(String, Result<ContentPrint, String>)>,
    reused: usize,
}

impl Store {
    /// With the cache beside `out`.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(out: &Path, print: &str, dimensions: usize) -> Result<Self> {
        Ok(Self {
            out: out.to_path_buf(),
            cache: Cache::open(&beside(out, "cache"), print, dimensions)?,
            tracks: Vec::new(),
            reused: 0,
        })
    }

    /// Whether the vector of such content is there already; the track then has it.
    pub fn known(&mut self, track: &str, content: ContentPrint) -> bool {
        let known = self.cache.of(content).is_some();
        if known {
            self.reused += 1;
            self.tracks.push((track.to_owned(), Ok(content)));
        }
        known
    }

    /// Keeps a vector.
    ///
    /// # Errors
    /// The disk is full, or worse.
    pub fn made(&mut self, track: &str, content: ContentPrint, vector: Vec<f32>) -> Result<()> {
        self.cache.keep(content, vector)?;
        self.tracks.push((track.to_owned(), Ok(content)));
        Ok(())
    }

    /// Notes why a track has no vector.
    pub fn failed(&mut self, track: &str, problem: &str) {
        tracing::warn!(track, problem, "a track has no vector");
        self.tracks
            .push((track.to_owned(), Err(problem.to_owned())));
    }

    /// Writes the vectors and the list of rows, in the order in which tracks came.
    ///
    /// # Errors
    /// The disk is full, or worse; nothing could be encoded.
    pub fn finish(self) -> Result<()> {
        let mut rows: Vec<f32> = Vec::new();
        let mut lines = Vec::new();
        let mut made = 0;
        for (track, outcome) in &self.tracks {
            let vector = outcome.as_ref().ok();
            let vector = vector.and_then(|&print| self.cache.of(print));
            let line = Line {
                track,
                row: vector.map(|_| made),
                problem: outcome.as_ref().err().map(String::as_str),
            };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
            if let Some(vector) = vector {
                rows.extend_from_slice(vector);
                made += 1;
            }
        }
        let failed = self.tracks.len() - made;
        if made == 0 {
            let first = self
                .tracks
                .iter()
                .find_map(|(_, outcome)| outcome.as_ref().err());
            anyhow::bail!(
                "none of {} tracks could be encoded: {}",
                self.tracks.len(),
                first.map_or("there are none", String::as_str)
            );
        }
        let dimensions = self.cache.dimensions();
        let shape = [made as i64, dimensions as i64];
        let vectors = Tensor::f_from_slice(&rows)?.f_reshape(shape)?;
        let part = beside(&self.out, "part.safetensors");
        Tensor::write_safetensors(&[("vectors", vectors)], &part)
            .with_context(|| format!("{} cannot be written", part.display()))?;
        let list = beside(&self.out, "jsonl");
        std::fs::write(&list, lines)
            .and_then(|()| std::fs::rename(&part, &self.out))
            .with_context(|| format!("{} cannot be written", self.out.display()))?;
        println!(
            "{} vectors of {} numbers in {}: {} new, {} as before; {} tracks without: see {}",
            count(made as u64),
            dimensions,
            self.out.display(),
            count((made - self.reused) as u64),
            count(self.reused as u64),
            count(failed as u64),
            list.display()
        );
        Ok(())
    }
}

/// The file of another kind that belongs to `out`.
pub fn beside(out: &Path, extension: &str) -> PathBuf {
    out.with_extension(extension)
}
