//! The stage and the encoder's thread, each waiting for the other's queue.

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_catalog::library::Library;
use segue_catalog::newcomers;

use super::*;

/// Says how long the title is.
struct Length;

impl Encoder for Length {
    fn name(&self) -> &'static str {
        "length"
    }
    fn dimensions(&self) -> usize {
        1
    }
    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
        rows.extend(tracks.iter().map(|track| track.title.len() as f32));
        Ok(vec![Ok(()); tracks.len()])
    }
}

/// One new track a play: far more than both queues hold.
#[test]
fn many_new_tracks_through_short_queues_do_not_stop_the_stage() {
    through_short_queues(WhenFull::Coalesce);
}

#[test]
fn where_the_stage_waits_for_the_encoder_it_takes_vectors_meanwhile() {
    through_short_queues(WhenFull::Block);
}

fn through_short_queues(newcomers: WhenFull) {
    let lines = (0..2_000i64).map(|n| {
        let title = "x".repeat(n as usize % 50) + &n.to_string();
        let listen = ListenRef {
            user: "u",
            track: TrackKey::from_names("artist", &title),
            artist: "artist",
            title: &title,
            at: EventTime::from_millis(n * 60_000),
            duration: None,
            played: None,
        };
        let mut value = Vec::new();
        wire::encode(listen, Format::MessagePack, &mut value).unwrap();
        Line::Record(b"u".to_vec(), value)
    });
    let batches = batches(LaneId(0), 1, lines.collect(), 300);
    let clock = Arc::new(MachineClock::start());
    let short = |when_full| QueueSettings {
        capacity: 1,
        when_full,
    };
    let (arrivals, arrived) = queue("newcomers", short(newcomers), clock.clone());
    let (mut done, encoded) = queue("vectors", short(WhenFull::Block), clock);
    // The encoder starts when everything before the training's end has been announced: what waits
    // for it is a batch of many chunks.
    let start = Arc::new(std::sync::Barrier::new(2));
    let started = start.clone();
    let encoder = std::thread::spawn(move || {
        started.wait();
        newcomers::serve(&mut Length, 2, &Library::default(), &arrived, &mut done);
    });
    let link = EncoderLink {
        arrivals,
        encoded,
        batch: 7,
        dimensions: 1,
    };
    let (mut stage, _) = stage(1, Some(link));
    stage.settings.train_plays = 1_900;
    for (number, batch) in batches.into_iter().enumerate() {
        // A stage that waits for the encoder has to have one.
        if number == if newcomers == WhenFull::Block { 0 } else { 5 } {
            start.wait();
        }
        stage.take(batch).unwrap();
    }
    let summary = stage.finish().unwrap();
    assert_eq!((summary.tracks, summary.encoded), (2_000, 2_000));
    encoder.join().unwrap();
}
