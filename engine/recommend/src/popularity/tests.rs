use super::*;
use crate::contract::{Fixture, recommender_contract};
use crate::recommender::ContextPlay;
use segue_listen::{EventTime, TrackKey, UserId};

fn admit(recommender: &mut dyn Recommender, tracks: u32) {
    let tracks: Vec<Admitted<'_>> = (0..tracks)
        .map(|id| Admitted {
            track: TrackId(id),
            key: TrackKey(u128::from(id) + 1),
            names: None,
            content: None,
        })
        .collect();
    recommender.admit(&tracks).unwrap();
}

fn context(tracks: &[u32]) -> Vec<ContextPlay> {
    (0i64..)
        .zip(tracks)
        .map(|(at, &track)| ContextPlay {
            track: TrackId(track),
            at: EventTime::from_millis(at),
            ratio: None,
            opens_session: false,
        })
        .collect()
}

fn ask(context: &[ContextPlay]) -> Ask<'_> {
    Ask {
        user: UserId(0),
        plays: context.len() as u64,
        context,
    }
}

fn ranks(recommender: &mut dyn Recommender, context: &[ContextPlay], tracks: u32) -> Vec<u32> {
    let actual: Vec<TrackId> = (0..tracks).map(TrackId).collect();
    let mut ranks = Vec::new();
    recommender
        .rank_of(&vec![ask(context); actual.len()], &actual, &mut ranks)
        .unwrap();
    ranks.into_iter().map(Option::unwrap).collect()
}

fn play(recommender: &mut dyn Recommender, epoch: u64, tracks: &[u32]) {
    let examples: Vec<Example<'_>> = tracks
        .iter()
        .map(|&track| Example {
            ask: ask(&[]),
            actual: TrackId(track),
        })
        .collect();
    recommender.learn(Epoch(epoch), &examples).unwrap();
}

#[test]
fn both_keep_the_contract() {
    let fixture = Fixture::default();
    recommender_contract(|| Box::new(PersonalMostPop::new()), &fixture).unwrap();
    recommender_contract(|| Box::new(MostPopular::new(1.0)), &fixture).unwrap();
    recommender_contract(|| Box::new(MostPopular::new(0.9)), &fixture).unwrap();
}

#[test]
fn own_counts_first_recency_breaks_ties_and_the_rest_is_last() {
    let mut recommender = PersonalMostPop::new();
    admit(&mut recommender, 6);
    let own = context(&[2, 0, 2, 1]);
    assert_eq!(ranks(&mut recommender, &own, 6), [3, 2, 1, 6, 6, 6]);
    // Only the last 50 plays count.
    let mut long = vec![5; 10];
    long.extend([3; 49]);
    long.push(4);
    let long = context(&long);
    assert_eq!(ranks(&mut recommender, &long, 6), [6, 6, 6, 1, 2, 6]);
    // Fifty different plays: the newest leads, none of them reaches a count of two.
    admit(&mut recommender, 60);
    let mut varied: Vec<u32> = (0..48).collect();
    varied.extend([50, 50]);
    let varied = context(&varied);
    let found = ranks(&mut recommender, &varied, 60);
    assert_eq!((found[50], found[47], found[0], found[59]), (1, 2, 49, 60));
}

#[test]
fn lists_are_filled_with_what_everybody_plays() {
    let mut recommender = PersonalMostPop::new();
    admit(&mut recommender, 6);
    play(&mut recommender, 1, &[4, 4, 4, 5, 5, 1]);
    let own = context(&[5]);
    let mut out = Vec::new();
    recommender.recommend(&[ask(&own)], 3, &mut out).unwrap();
    let found: Vec<u32> = out[0].tracks.iter().map(|s| s.track.0).collect();
    assert_eq!(found, [5, 4, 1]);
    assert_eq!(out[0].tracks[1].score, 0.0);
}

#[test]
fn counts_decay_and_wait_for_their_track() {
    let mut recommender = MostPopular::new(0.5);
    admit(&mut recommender, 2);
    play(&mut recommender, 1, &[0, 0, 0, 2, 2]);
    assert_eq!(ranks(&mut recommender, &[], 2), [1, 2]);
    // 3 plays are worth 1.5 now, 2 of the unknown track 1.
    play(&mut recommender, 2, &[1, 1]);
    admit(&mut recommender, 3);
    assert_eq!(ranks(&mut recommender, &[], 3), [2, 1, 3]);
    play(&mut recommender, 3, &[2]);
    assert_eq!(ranks(&mut recommender, &[], 3), [3, 2, 1]);
}
