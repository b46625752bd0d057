//! Unseen tracks, encoded in micro-batches on a thread of their own, off the hot path.
//!
//! Tracks come in by a bounded queue and vectors go out by another; whoever announces tracks keeps
//! those for which there is no room yet. A batch that fails is tried once more, then track by track, so that a bad file
//! spoils its own row only.
//!
//! What is quick to be had and what takes its time are encoded on threads of their own ([`Encoders`]), each a
//! part of the vector: a track goes on with the text that it has, and no file that is hard to read keeps
//! another track from it.

use segue_flow::Remedy;
use segue_flow::queue::{Coalesce, Inlet, Outlet};
use segue_listen::TrackId;

use crate::content::TrackContent;
use crate::current_library::CurrentLibrary;
use crate::encoder::{Encoder, EncoderError, SegmentFault};
use crate::library::Library;
use crate::modality::Modality;

/// Who encodes the tracks of a run.
pub struct Encoders {
    /// Makes the first segments of a vector, from what a play says of its track.
    pub quick: Box<dyn Encoder>,
    /// So many tracks at a time.
    pub batch: usize,
    /// Makes the segments behind them, from what takes its time to be read.
    pub thorough: Option<Box<dyn Encoder>>,
    /// What is known of tracks beside their plays.
    pub library: CurrentLibrary,
}

impl Encoders {
    /// One encoder of all there is.
    pub fn quick(encoder: Box<dyn Encoder>, batch: usize) -> Self {
        Self {
            quick: encoder,
            batch,
            thorough: None,
            library: CurrentLibrary::default(),
        }
    }

    /// What a track's vector is made of, in order.
    pub fn modalities(&self) -> Vec<Modality> {
        let behind = self.thorough.as_ref().map(|encoder| encoder.modalities());
        let mut modalities = self.quick.modalities();
        modalities.extend(behind.into_iter().flatten());
        modalities
    }

    /// The length of a track's vector.
    pub fn dimensions(&self) -> usize {
        let behind = self.thorough.as_ref().map_or(0, |e| e.dimensions());
        self.quick.dimensions() + behind
    }
}

/// Tracks to be encoded, in order of first sight.
#[derive(Debug, Default)]
pub struct Arrivals(pub Vec<TrackContent>);

/// Vectors of encoded tracks, or one encoder's part of them.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Which tracks have a row, in order.
    pub tracks: Vec<TrackId>,
    /// `[tracks, dimensions]`, row-major.
    pub rows: Vec<f32>,
    /// Tracks without a row, and why.
    pub failed: Vec<(TrackId, String)>,
    /// Segments that are zero because something is wrong, of tracks that have a row.
    pub faults: Vec<SegmentFault>,
    /// The library's stamps of all these tracks, as they were before it was read; none without a library.
    pub stamps: Vec<(TrackId, u64)>,
}

impl Encoded {
    /// How many tracks it accounts for.
    pub fn len(&self) -> usize {
        self.tracks.len() + self.failed.len()
    }

    /// Whether it accounts for none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Coalesce for Encoded {
    fn coalesce(&mut self, mut newer: Self) {
        self.tracks.append(&mut newer.tracks);
        self.rows.append(&mut newer.rows);
        self.failed.append(&mut newer.failed);
        self.faults.append(&mut newer.faults);
        self.stamps.append(&mut newer.stamps);
    }
}

/// Encodes what arrives until the announcer goes, up to `batch` tracks at a time: those that are there, and
/// none waits for others. `library` is the encoder's.
pub fn serve(
    encoder: &mut dyn Encoder,
    batch: usize,
    library: &CurrentLibrary,
    arrivals: &Outlet<Arrivals>,
    out: &mut Inlet<Encoded>,
) {
    while let Some(Arrivals(tracks)) = arrivals.next() {
        for tracks in tracks.chunks(batch.max(1)) {
            // Before they are read: what changes meanwhile is seen to have changed.
            let library = library.now();
            let stamps = match library.is_empty() {
                true => Vec::new(),
                false => stamps(&library, tracks),
            };
            let encoded = Encoded {
                stamps,
                ..encode(encoder, tracks)
            };
            if out.send(encoded).is_err() {
                return;
            }
        }
        // Nobody may wait for a row that is only held back here.
        if out.flush().is_err() {
            return;
        }
    }
}

fn stamps(library: &Library, tracks: &[TrackContent]) -> Vec<(TrackId, u64)> {
    let stamp = |track: &TrackContent| (track.track, library.stamp(track));
    tracks.iter().map(stamp).collect()
}

/// Encodes one micro-batch, with one retry and then track by track.
pub fn encode(encoder: &mut dyn Encoder, tracks: &[TrackContent]) -> Encoded {
    let mut done = Encoded::default();
    let first = attempt(encoder, tracks, &mut done);
    let Err(error) = first.or_else(|_| attempt(encoder, tracks, &mut done)) else {
        return done;
    };
    tracing::warn!(tracks = tracks.len(), %error, "a micro-batch failed twice, going track by track");
    for track in tracks {
        if let Err(error) = attempt(encoder, std::slice::from_ref(track), &mut done) {
            done.failed.push((track.track, error.to_string()));
        }
    }
    done
}

fn attempt(
    encoder: &mut dyn Encoder,
    tracks: &[TrackContent],
    done: &mut Encoded,
) -> Result<(), EncoderError> {
    let dimensions = encoder.dimensions();
    let mut rows = Vec::with_capacity(tracks.len() * dimensions);
    let outcomes = encoder.encode(tracks, &mut rows)?;
    if outcomes.len() != tracks.len() || rows.len() != tracks.len() * dimensions {
        let (outcomes, numbers) = (outcomes.len(), rows.len());
        return Err(EncoderError {
            encoder: encoder.name(),
            detail: format!(
                "{outcomes} outcomes and {numbers} numbers for {} tracks of {dimensions} dimensions",
                tracks.len()
            ),
            remedy: Remedy::Bug,
        });
    }
    for ((track, outcome), row) in tracks
        .iter()
        .zip(outcomes)
        .zip(rows.chunks(dimensions.max(1)))
    {
        match outcome {
            Ok(()) if row.iter().all(|x| x.is_finite()) => {
                done.tracks.push(track.track);
                done.rows.extend_from_slice(row);
            }
            Ok(()) => done
                .failed
                .push((track.track, "its vector is not finite".to_owned())),
            Err(error) => done.failed.push((track.track, error.to_string())),
        }
    }
    done.faults.append(&mut encoder.take_faults());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::ContentError;
    use segue_listen::TrackKey;

    /// Fails whole batches that hold a track titled `poison`, and `hiccups` times in any case.
    struct Faulty {
        hiccups: u32,
    }

    impl Encoder for Faulty {
        fn name(&self) -> &'static str {
            "faulty"
        }
        fn dimensions(&self) -> usize {
            2
        }
        fn encode(
            &mut self,
            tracks: &[TrackContent],
            rows: &mut Vec<f32>,
        ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
            let failed = |detail: &str| EncoderError {
                encoder: "faulty",
                detail: detail.to_owned(),
                remedy: Remedy::Retry,
            };
            if self.hiccups > 0 {
                self.hiccups -= 1;
                return Err(failed("hiccup"));
            }
            if tracks.iter().any(|t| &*t.title == "short") {
                rows.push(1.0);
                return Ok(vec![Ok(()); tracks.len()]);
            }
            if tracks.iter().any(|t| &*t.title == "poison") {
                return Err(failed("poisoned"));
            }
            Ok(tracks
                .iter()
                .map(|t| {
                    let bad = &*t.title == "nan";
                    rows.extend([t.track.0 as f32, if bad { f32::NAN } else { 1.0 }]);
                    Ok(())
                })
                .collect())
        }
    }

    fn tracks(titles: &[&str]) -> Vec<TrackContent> {
        titles
            .iter()
            .enumerate()
            .map(|(id, title)| TrackContent {
                track: TrackId(id as u32),
                key: TrackKey(id as u128),
                artist: "a".into(),
                title: (*title).into(),
            })
            .collect()
    }

    #[test]
    fn a_hiccup_is_retried() {
        let done = encode(&mut Faulty { hiccups: 1 }, &tracks(&["x", "y"]));
        assert_eq!(done.tracks, [TrackId(0), TrackId(1)]);
        assert!(done.failed.is_empty());
    }

    #[test]
    fn a_row_of_the_wrong_length_is_no_row() {
        let done = encode(&mut Faulty { hiccups: 0 }, &tracks(&["x", "short"]));
        assert_eq!(done.tracks, [TrackId(0)]);
        let why = &done.failed[0].1;
        assert!(why.contains("1 numbers for 1 tracks of 2"), "{why}");
        assert_eq!(done.len(), 2, "every track is accounted for");
    }

    #[test]
    fn a_bad_track_spoils_its_own_row_only() {
        let done = encode(
            &mut Faulty { hiccups: 0 },
            &tracks(&["x", "poison", "y", "nan"]),
        );
        assert_eq!(done.tracks, [TrackId(0), TrackId(2)]);
        assert_eq!(done.rows, [0.0, 1.0, 2.0, 1.0]);
        let failed: Vec<_> = done
            .failed
            .iter()
            .map(|(t, why)| (t.0, why.as_str()))
            .collect();
        assert!(
            failed.contains(&(1, "encoder faulty: poisoned")),
            "{failed:?}"
        );
        assert!(
            failed.contains(&(3, "its vector is not finite")),
            "{failed:?}"
        );
    }
}
