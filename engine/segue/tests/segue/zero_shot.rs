//! What SmolLM2 recommends of itself: where titles say what belongs together, it is better than chance.

use std::path::{Path, PathBuf};

use segue_e4srec::settings::BackboneSettings;
use segue_e4srec::{Foundation, ZeroShot};
use segue_listen::{EventTime, TrackId, TrackKey, UserId};
use segue_nn::device::Precision;
use segue_nn::tch::Device;
use segue_recommend::recommender::{Admitted, Ask, ContextPlay, Recommender, TrackNames};

/// Artist and title, six of a kind in a row.
const TRACKS: [(&str, &str); 24] = [
    ("Bing Crosby", "White Christmas"),
    ("Elvis Presley", "Blue Christmas"),
    ("Wham!", "Last Christmas"),
    ("Slade", "Merry Christmas Everybody"),
    ("Chris Rea", "Driving Home for Christmas"),
    ("Brenda Lee", "Rockin' Around the Christmas Tree"),
    ("Ludwig van Beethoven", "Symphony No. 5 in C minor"),
    ("Ludwig van Beethoven", "Symphony No. 9 in D minor"),
    ("Wolfgang Amadeus Mozart", "Symphony No. 40 in G minor"),
    ("Joseph Haydn", "Symphony No. 94 in G major"),
    ("Johannes Brahms", "Symphony No. 4 in E minor"),
    ("Gustav Mahler", "Symphony No. 2 in C minor"),
    ("Robert Johnson", "Cross Road Blues"),
    ("Bessie Smith", "St. Louis Blues"),
    ("Howlin' Wolf", "Moanin' Blues"),
    ("Muddy Waters", "Long Distance Call Blues"),
    ("Blind Lemon Jefferson", "Black Snake Moan Blues"),
    ("John Lee Hooker", "Tupelo Blues"),
    ("Daft Punk", "Robot Rock"),
    ("Kraftwerk", "The Robots"),
    ("Styx", "Mr. Roboto"),
    ("Robyn", "Robotboy"),
    ("The Flaming Lips", "One More Robot"),
    ("Futurecop!", "I Am a Robot"),
];
const KIND: usize = 6;

#[test]
fn it_is_better_than_chance_where_titles_tell() {
    let models = std::env::var_os("SEGUE_MODELS").map(PathBuf::from);
    let models =
        models.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models"));
    let settings = BackboneSettings {
        depth: 0,
        // In sixteen bits tracks tie, and another company has other ties.
        precision: Precision::F32,
        response: "\nNext track:".to_owned(),
        ..BackboneSettings::default()
    };
    let foundation = Foundation::load(&models.join("smollm2-135m"), &settings, Device::Cpu);
    let mut model = ZeroShot::new(foundation.unwrap(), 10, 2_048).unwrap();
    let tracks: Vec<Admitted<'_>> = (0u32..)
        .zip(TRACKS)
        .map(|(id, (artist, title))| Admitted {
            track: TrackId(id),
            key: TrackKey::from_names(artist, title),
            names: Some(TrackNames { artist, title }),
            content: None,
        })
        .collect();
    model.admit(&tracks).unwrap();
    // Each track is asked for by a listener who has played the others of its kind.
    let play = |track: usize| ContextPlay {
        track: TrackId(track as u32),
        at: EventTime::from_millis(0),
        ratio: None,
        opens_session: false,
    };
    let contexts: Vec<Vec<ContextPlay>> = (0..TRACKS.len())
        .map(|track| {
            let kind = track / KIND * KIND;
            let others = (kind..kind + KIND).filter(|other| *other != track);
            others.map(play).collect()
        })
        .collect();
    let asks: Vec<Ask<'_>> = (0u32..)
        .zip(&contexts)
        .map(|(user, context)| Ask {
            user: UserId(user),
            plays: context.len() as u64,
            context,
        })
        .collect();
    let mut lists = Vec::new();
    model.recommend(&asks, TRACKS.len(), &mut lists).unwrap();
    // The place of what was left out among all that the listener has not played: 1 to 19.
    let places: Vec<usize> = (0..TRACKS.len())
        .map(|track| {
            let order = lists[track]
                .tracks
                .iter()
                .map(|scored| scored.track.0 as usize);
            let new = order.filter(|other| *other == track || other / KIND != track / KIND);
            1 + new.take_while(|other| *other != track).count()
        })
        .collect();
    let mean = places.iter().sum::<usize>() as f64 / places.len() as f64;
    // By chance 10, with a standard deviation of 1.12 for the mean of 24.
    assert!(mean < 6.5, "{mean}: {places:?}");
    // And what it says is the same alone.
    let mut ranks = Vec::new();
    let mut alone = Vec::new();
    let actual: Vec<TrackId> = tracks.iter().map(|track| track.track).collect();
    model.rank_of(&asks, &actual, &mut ranks).unwrap();
    for (ask, actual) in asks.iter().zip(&actual) {
        model.rank_of(&[*ask], &[*actual], &mut alone).unwrap();
    }
    assert_eq!(ranks, alone);
}
