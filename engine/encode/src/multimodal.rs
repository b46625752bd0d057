//! What is known of a track in several ways, as one vector: a segment for each, scaled to length 1, or zero
//! where a track has not got it.
//!
//! What is wrong with one way of knowing a track spoils that segment only. A row of zeros is a track of
//! which nothing is known here.

use std::path::Path;

use segue_catalog::content::TrackContent;
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError, SegmentFault};
use segue_catalog::library::Library;
use segue_catalog::modality::{Modality, ModalityKind};
use segue_catalog::newcomers;
use segue_catalog::ratings::segment;
use segue_listen::TrackId;

use crate::text::to_unit;
use crate::track_text::track_text;
use crate::vector_cache::{ContentPrint, VectorCache, file_print, text_print};

/// One segment, and who makes it.
pub struct Part {
    /// What it tells of.
    pub kind: ModalityKind,
    /// Makes its numbers, of tracks that have what it tells of; the same of a track in any company.
    pub encoder: Box<dyn Encoder>,
    /// What was made before, by content and before it was scaled.
    pub cache: Option<VectorCache>,
}

/// Makes vectors of several segments.
pub struct MultimodalEncoder {
    parts: Vec<Part>,
    library: CurrentLibrary,
    faults: Vec<SegmentFault>,
}

impl MultimodalEncoder {
    /// An encoder of these segments, in this order, for tracks of which `library` knows more than names.
    pub fn new(parts: Vec<Part>, library: impl Into<CurrentLibrary>) -> Self {
        Self {
            parts,
            library: library.into(),
            faults: Vec::new(),
        }
    }
}

/// Whether a track has what a segment tells of.
fn has(kind: ModalityKind, library: &Library, track: &TrackContent) -> bool {
    let media = library.of(track.key, &track.artist, &track.title);
    match kind {
        ModalityKind::Text => track_text(&track.title, &track.artist, "").is_some(),
        ModalityKind::Lyrics => media
            .and_then(|media| media.lyrics.as_deref())
            .is_some_and(|lyrics| !lyrics.trim().is_empty()),
        ModalityKind::Audio => media.is_some_and(|media| media.audio.is_some()),
        ModalityKind::Ratings => library
            .ratings(track)
            .is_some_and(|ratings| segment::segment(&ratings).is_some()),
    }
}

/// What a segment is kept under; `None` where that cannot be said.
fn print(kind: ModalityKind, library: &Library, track: &TrackContent) -> Option<ContentPrint> {
    let media = library.of(track.key, &track.artist, &track.title)?;
    match kind {
        ModalityKind::Lyrics => Some(text_print(&[media.lyrics.as_deref()])),
        // One that cannot be read is its encoder's to complain of.
        ModalityKind::Audio => file_print(media.audio.as_deref()?).ok(),
        // As soon made as read.
        ModalityKind::Text | ModalityKind::Ratings => None,
    }
}

/// A row's segment.
struct Segment<'a> {
    kind: ModalityKind,
    rows: &'a mut [f32],
    width: usize,
    at: usize,
    dimensions: usize,
}

impl Segment<'_> {
    /// Sets it in one row, scaled to length 1; whether there is such a direction.
    fn put(&mut self, row: usize, vector: &[f32]) -> bool {
        let start = row * self.width + self.at;
        let Some(place) = self.rows.get_mut(start..start + self.dimensions) else {
            return false;
        };
        if vector.len() != place.len() || vector.iter().all(|value| *value == 0.0) {
            return false;
        }
        place.copy_from_slice(vector);
        to_unit(place);
        true
    }
}

impl Part {
    fn fill(
        &mut self,
        library: &Library,
        tracks: &[TrackContent],
        mut segment: Segment<'_>,
        faults: &mut Vec<SegmentFault>,
    ) {
        let (mut open, mut prints) = (Vec::new(), Vec::new());
        for (row, track) in tracks.iter().enumerate() {
            if !has(self.kind, library, track) {
                continue;
            }
            let cache = self.cache.as_mut();
            let print = cache
                .as_ref()
                .and_then(|_| print(self.kind, library, track));
            let kept = cache.zip(print).and_then(|(cache, print)| cache.get(print));
            match kept {
                Some(vector) if segment.put(row, &vector) => {}
                _ => {
                    prints.push(print);
                    open.push(TrackContent {
                        // The row, for the time being: whoever encodes a backlog has no addresses.
                        track: TrackId(u32::try_from(row).unwrap_or(u32::MAX)),
                        ..track.clone()
                    });
                }
            }
        }
        if open.is_empty() {
            return;
        }
        let encoded = newcomers::encode(&mut *self.encoder, &open);
        let mut failed = encoded.failed;
        let rows = encoded.rows.chunks_exact(segment.dimensions.max(1));
        for (id, vector) in encoded.tracks.iter().zip(rows) {
            if !segment.put(id.row(), vector) {
                failed.push((*id, "its vector is of zeros".to_owned()));
                continue;
            }
            let place = open.iter().position(|track| track.track == *id);
            let print = place.and_then(|place| prints.get(place).copied().flatten());
            if let (Some(print), Some(cache)) = (print, &mut self.cache)
                && let Err(error) = cache.put(print, vector)
            {
                tracing::warn!(%error, "vectors are no longer kept");
                self.cache = None;
            }
        }
        for (id, detail) in failed {
            let track = tracks.get(id.row()).map(|track| track.track);
            faults.extend(track.map(|track| SegmentFault {
                track,
                kind: segment.kind,
                detail,
            }));
        }
    }
}

impl Encoder for MultimodalEncoder {
    fn name(&self) -> &'static str {
        "multimodal"
    }

    fn dimensions(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.encoder.dimensions())
            .sum()
    }

    fn modalities(&self) -> Vec<Modality> {
        let parts = self.parts.iter();
        parts
            .map(|part| Modality {
                kind: part.kind,
                dimensions: part.encoder.dimensions(),
            })
            .collect()
    }

    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
        self.faults.clear();
        let library = self.library.now();
        let width = self.dimensions();
        let mut made = vec![0f32; tracks.len() * width];
        let mut at = 0;
        for part in &mut self.parts {
            let dimensions = part.encoder.dimensions();
            let segment = Segment {
                kind: part.kind,
                rows: &mut made,
                width,
                at,
                dimensions,
            };
            part.fill(&library, tracks, segment, &mut self.faults);
            at += dimensions;
        }
        rows.append(&mut made);
        Ok(vec![Ok(()); tracks.len()])
    }

    fn take_faults(&mut self) -> Vec<SegmentFault> {
        std::mem::take(&mut self.faults)
    }
}

/// Opens a folder's cache of a segment's vectors, or goes without: a cache that cannot be used costs time,
/// and nothing else.
pub fn cache_in(
    folder: &Path,
    of: ModalityKind,
    made_by: &str,
    dimensions: usize,
    longest: u64,
) -> Option<VectorCache> {
    let path = VectorCache::file_in(folder, of.name(), made_by, dimensions);
    let opened = std::fs::create_dir_all(folder)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            VectorCache::open(&path, made_by, dimensions, longest)
                .map_err(|error| error.to_string())
        });
    match opened {
        Ok(cache) => {
            tracing::info!(vectors = cache.len(), "{} is gone on with", path.display());
            Some(cache)
        }
        Err(error) => {
            tracing::warn!(%error, "no vectors are kept");
            None
        }
    }
}
