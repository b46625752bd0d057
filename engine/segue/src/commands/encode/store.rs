//! Vectors as they are made, and the file that comes of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use segue_catalog::library::Library;
use segue_catalog::modality::ModalityKind;
use segue_encode::text::TextOf;
use segue_encode::vector_cache::{ContentPrint, VectorCache, text_print};
use segue_nn::tch::Tensor;
use serde::Serialize;

use super::Item;
use crate::models::ModelSettings;
use crate::report::figures::count;

/// The print of what is written of a track, as far as it is encoded. That of lyrics is a run's own.
pub fn print_of(item: &Item, library: &Library, of: TextOf) -> ContentPrint {
    let media = library.of(item.key, &item.artist, &item.title);
    let album = media.and_then(|media| media.album.as_deref());
    let lyrics = media.and_then(|media| media.lyrics.as_deref());
    match of {
        TextOf::Names => text_print(&[Some(&item.artist), Some(&item.title), album]),
        TextOf::Lyrics => text_print(&[lyrics]),
        TextOf::Both => text_print(&[Some(&item.artist), Some(&item.title), album, lyrics]),
    }
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

/// Keeps a vector, or says why it cannot be kept.
///
/// # Errors
/// The disk is full, or worse, or the cache may grow no longer.
pub fn keep(cache: &mut VectorCache, content: ContentPrint, vector: &[f32]) -> Result<()> {
    cache.put(content, vector)?;
    if !cache.contains(content) {
        anyhow::bail!(
            "the cache of vectors is full or another process writes to it: raise \
             models.vector_cache_mib, or leave models.vector_cache empty"
        );
    }
    Ok(())
}

/// What has been made, and is to become the file.
pub struct Store {
    out: PathBuf,
    cache: VectorCache,
    dimensions: usize,
    /// Tracks and what their vectors are kept under, or why they have none.
    tracks: Vec<(String, Result<ContentPrint, String>)>,
    reused: usize,
}

impl Store {
    /// Opens the cache: that of runs, where one is set for vectors of a kind, else one beside `out`.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(
        out: &Path,
        (kind, settings): (Option<ModalityKind>, &ModelSettings),
        made_by: &str,
        dimensions: usize,
    ) -> Result<Self> {
        let folder = &settings.vector_cache;
        let (path, longest) = match kind {
            Some(kind) if !folder.as_os_str().is_empty() => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("models.vector_cache = {}", folder.display()))?;
                let path = VectorCache::file_in(folder, kind.name(), made_by, dimensions);
                (path, settings.vector_cache_mib << 20)
            }
            _ => (beside(out, "cache"), u64::MAX),
        };
        Ok(Self {
            out: out.to_path_buf(),
            cache: VectorCache::open(&path, made_by, dimensions, longest)?,
            dimensions,
            tracks: Vec::new(),
            reused: 0,
        })
    }

    /// Whether the vector of such content is there already; the track then has it.
    pub fn known(&mut self, track: &str, content: ContentPrint) -> bool {
        let known = self.cache.contains(content);
        if known {
            self.reused += 1;
            self.tracks.push((track.to_owned(), Ok(content)));
        }
        known
    }

    /// Keeps a vector.
    ///
    /// # Errors
    /// The disk is full, or worse, or the cache may grow no longer.
    pub fn made(&mut self, track: &str, content: ContentPrint, vector: &[f32]) -> Result<()> {
        keep(&mut self.cache, content, vector)?;
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
    pub fn finish(mut self) -> Result<()> {
        let mut rows: Vec<f32> = Vec::new();
        let mut lines = Vec::new();
        let mut made = 0;
        for (track, outcome) in &self.tracks {
            let vector = match outcome {
                Ok(print) => {
                    let vector = self.cache.get(*print);
                    Some(vector.context("a vector that was just kept is damaged: run this again")?)
                }
                Err(_) => None,
            };
            let line = Line {
                track,
                row: vector.as_ref().map(|_| made),
                problem: outcome.as_ref().err().map(String::as_str),
            };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
            if let Some(vector) = vector {
                rows.extend(vector);
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
        let dimensions = self.dimensions;
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
