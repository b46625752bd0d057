//! The stage and the encoder's thread, each waiting for the other's queue.

use segue_catalog::content::TrackContent;
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_catalog::library::{Library, TrackMedia};
use segue_catalog::newcomers::{self, Arrivals, Encoded};
use segue_flow::queue::{Inlet, Outlet};

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
        newcomers::serve(
            &mut Length,
            2,
            &CurrentLibrary::default(),
            &arrived,
            &mut done,
        );
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

/// Who a test encodes for: what it is given, and where it puts what comes of it.
type Hands = (Outlet<Arrivals>, Inlet<Encoded>);

/// An encoder that is the test itself.
fn by_hand(name: &'static str, dimensions: usize) -> (EncoderLink, Hands) {
    let clock = Arc::new(MachineClock::start());
    let holds = |when_full| QueueSettings {
        capacity: 4,
        when_full,
    };
    let (arrivals, arrived) = queue(name, holds(WhenFull::Coalesce), clock.clone());
    let (done, encoded) = queue(name, holds(WhenFull::Block), clock);
    let link = EncoderLink {
        arrivals,
        encoded,
        batch: 8,
        dimensions,
    };
    (link, (arrived, done))
}

/// Gives back one row for each track that has arrived; how many that were.
fn encode_all((arrived, done): &mut Hands, row: &[f32]) -> usize {
    let mut all = 0;
    while let Some(Arrivals(tracks)) = arrived.ready() {
        all += tracks.len();
        let encoded = Encoded {
            rows: row.repeat(tracks.len()),
            tracks: tracks.into_iter().map(|track| track.track).collect(),
            ..Encoded::default()
        };
        done.send(encoded).unwrap();
    }
    all
}

#[test]
fn a_lone_track_goes_at_once_is_known_by_its_text_and_better_when_it_was_heard() {
    let (quick, mut text) = by_hand("text", 2);
    let (thorough, mut sound) = by_hand("sound", 1);
    let key = TrackKey::from_names("artist", "song 0 of user-0");
    let (mut stage, _) = stage_with(1, None, |parts| {
        parts.encoders = vec![quick, thorough];
        let mut library = Library::default();
        library.insert(key, TrackMedia::default());
        parts.library = library.into();
        parts.curriculum = None;
        parts.recommenders = vec![
            Box::new(SequentialRules::new(100, 1.0)),
            Box::new(PersonalMostPop::new()),
        ];
    });
    stage.settings.exact = false;
    stage.merge = None;
    let mut plays = batches(LaneId(0), 1, script(200), 1).into_iter();
    let track = TrackId(0);
    while stage.content.is_empty() {
        stage.take(plays.next().unwrap()).unwrap();
    }
    assert_eq!(stage.content.len(), 1);
    // No second track came for it to wait for, and nobody waits for the sound.
    assert_eq!(encode_all(&mut text, &[0.6, 0.8]), 1);
    stage.idle().unwrap();
    assert_eq!(stage.content.vector(track), Some(&[0.6, 0.8, 0.0][..]));
    assert_eq!(stage.content.outstanding(), 1);
    let predicted = stage.predictions;
    for batch in plays {
        stage.take(batch).unwrap();
        stage.caught_up().unwrap();
        encode_all(&mut text, &[0.8, 0.6]);
    }
    assert!(stage.predictions > predicted, "answers do not wait either");

    // Only the library's own track is listened to. It is better known from the next barrier on.
    assert_eq!(encode_all(&mut sound, &[1.0]), 1);
    stage.idle().unwrap();
    stage.admit().unwrap();
    assert_eq!(stage.content.vector(track), Some(&[0.6, 0.8, 1.0][..]));
    assert_eq!((stage.content.len(), stage.content.outstanding()), (30, 0));

    // A library that takes the other's place says something else of it, and knows another track.
    let other = TrackKey::from_names("artist", "song 1 of user-0");
    let another = TrackMedia {
        lyrics: Some("la".into()),
        ..TrackMedia::default()
    };
    let mut library = Library::default();
    library.insert(key, another);
    library.insert(other, TrackMedia::default());
    stage.parts.library.replace(library);
    stage.idle().unwrap();
    assert_eq!(encode_all(&mut text, &[0.6, 0.8]), 2);
    assert_eq!(encode_all(&mut sound, &[0.5]), 2);
    stage.idle().unwrap();
    stage.admit().unwrap();
    assert_eq!(stage.content.vector(track), Some(&[0.6, 0.8, 0.5][..]));
    let heard = |row: u32| {
        stage
            .content
            .vector(TrackId(row))
            .is_some_and(|v| v[2] == 0.5)
    };
    assert_eq!((0..30).filter(|&row| heard(row)).count(), 2);
    let summary = stage.finish().unwrap();
    assert_eq!((summary.encoded, summary.failed), (30, 0));
}
