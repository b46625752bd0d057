//! The stage through a lane's loop, against plain recomputations of what it should say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segue_listen::completion::Part;
use segue_listen::session;
use segue_listen::{Ratio, TrackId, WatermarkClock};

use super::*;

const GAP: i64 = 1_200_000;

fn settings() -> SessionSettings {
    SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(600),
    }
}

fn stage() -> ListeningStage {
    ListeningStage::new(settings())
}

fn arrival(slot: u32, track: u32, at: i64) -> Arrival {
    Arrival {
        slot,
        track: TrackId(track),
        tie: track.wrapping_mul(0x9e37_79b9),
        at: EventTime::from_millis(at),
        duration: Some(Span::from_seconds(200)),
        played: None,
    }
}

fn mark(millis: i64) -> Watermark {
    let mut clock = WatermarkClock::new(Span::ZERO, Span::ZERO);
    clock.observe(EventTime::from_millis(millis));
    clock.watermark().unwrap()
}

/// What stands after all corrections and retractions.
#[derive(Debug, Default, PartialEq)]
struct Standing {
    ratios: BTreeMap<(u32, i64, u32), Option<f32>>,
    sessions: BTreeMap<(u32, i64), (i64, u32)>,
    plays: usize,
}

impl Standing {
    fn settle(&mut self, slot: u32, settled: &Settled) {
        self.ratios.insert(
            (slot, settled.at.millis(), settled.track.0),
            settled.part.ratio(None).map(Ratio::value),
        );
    }
}

fn standing(updates: &[Update]) -> Standing {
    let mut stands = Standing::default();
    for update in updates {
        match update {
            Update::Play(p) => {
                stands.plays += 1;
                if let Some(previous) = p.previous {
                    stands.settle(p.slot, &previous);
                }
            }
            Update::Correction { slot, settled } => stands.settle(*slot, settled),
            Update::Closed { slot, session } => {
                let key = (*slot, session.first.millis());
                let clash = stands
                    .sessions
                    .insert(key, (session.last.millis(), session.plays));
                assert_eq!(clash, None, "two finals of one session stand");
            }
            Update::Retracted { slot, session } => {
                let key = (*slot, session.first.millis());
                assert!(
                    stands.sessions.remove(&key).is_some(),
                    "retracted what did not stand"
                );
            }
            Update::Listener { .. } | Update::Track(_) => {}
        }
    }
    stands
}

/// The same by sorting everything: the definition.
fn recomputed(log: &[(u32, u32, i64)]) -> Standing {
    let mut stands = Standing::default();
    let mut by_user: BTreeMap<u32, Vec<(i64, u32, u32)>> = BTreeMap::new();
    for (slot, track, at) in log {
        let plays = by_user.entry(*slot).or_default();
        let play = (*at, track.wrapping_mul(0x9e37_79b9), *track);
        if !plays.contains(&play) {
            plays.push(play);
        }
    }
    for (user, mut plays) in by_user {
        plays.sort();
        stands.plays += plays.len();
        let starts: Vec<_> = plays.iter().map(|p| EventTime::from_millis(p.0)).collect();
        for range in session::split(&starts, SessionGap::default()) {
            let (first, last) = (plays[range.start].0, plays[range.end - 1].0);
            stands
                .sessions
                .insert((user, first), (last, range.len() as u32));
            for pair in plays[range].windows(2) {
                let ratio = ((pair[1].0 - pair[0].0) as f64 / 200_000.0).min(1.0) as f32;
                stands
                    .ratios
                    .insert((user, pair[0].0, pair[0].2), Some(ratio));
            }
        }
    }
    stands
}

fn log() -> impl Strategy<Value = Vec<(u32, u32, i64)>> {
    // Few listeners and coarse times: ties, duplicates, exact gaps and long pauses all happen. At
    // most 40 plays, so that nobody's history overflows.
    prop::collection::vec((0u32..3, 0u32..4, 0i64..60), 1..40).prop_map(|plays| {
        plays
            .into_iter()
            .map(|(slot, track, at)| (slot, track, at * GAP / 4))
            .collect()
    })
}

proptest! {
    #[test]
    fn what_stands_is_the_sorted_result_whatever_the_order(log in log(), marks in any::<u64>()) {
        let mut stage = stage();
        let mut out = Vec::new();
        let mut reached = 0;
        for (index, (slot, track, at)) in log.iter().enumerate() {
            stage.absorb(&[arrival(*slot, *track, *at)], &mut out).unwrap();
            if marks >> (index % 64) & 1 == 1 {
                // Any watermark may be reached while the lateness still lets everything in.
                reached = reached.max(*at);
                stage.advance(mark(reached), &mut out).unwrap();
            }
        }
        stage.advance(Watermark::END, &mut out).unwrap();
        prop_assert_eq!(standing(&out), recomputed(&log));
        prop_assert_eq!(stage.open_sessions(), 0);
    }

    #[test]
    fn a_play_is_never_told_its_own_ratio_before_the_next(log in log()) {
        let mut stage = stage();
        let mut out = Vec::new();
        for (slot, track, at) in &log {
            out.clear();
            stage.absorb(&[arrival(*slot, *track, *at)], &mut out).unwrap();
            for update in &out {
                if let Update::Play(play) = update {
                    prop_assert!(play.stated.played().is_none(), "nobody stated it");
                    if let Some(previous) = play.previous {
                        prop_assert!(previous.at <= play.at);
                        prop_assert_eq!(previous.gap, play.at.since(previous.at));
                    }
                }
            }
        }
    }
}

fn plays(updates: &[Update]) -> Vec<PlayUpdate> {
    let play = |update: &Update| match update {
        Update::Play(play) => Some(*play),
        _ => None,
    };
    updates.iter().filter_map(play).collect()
}

#[test]
fn the_players_word_is_told_at_once_and_stands() {
    let mut stage = stage();
    let mut out = Vec::new();
    let mut first = arrival(0, 1, 0);
    first.played = Some(Span::from_seconds(50));
    stage
        .absorb(&[first, arrival(0, 2, 180_000)], &mut out)
        .unwrap();
    let plays = plays(&out);
    let quarter = Part::Ratio(Ratio::new(0.25).unwrap());
    assert_eq!(plays[0].stated.part(), Some(quarter));
    let previous = plays[1].previous.unwrap();
    assert_eq!(previous.part, quarter, "not 0.9 by the gap");
    assert_eq!(previous.witness, Witness::Player);
    assert_eq!(previous.gap, Span::from_seconds(180));
}

#[test]
fn where_no_length_is_stated_the_time_heard_is_told() {
    let mut stage = stage();
    let bare = |track, at| Arrival {
        duration: None,
        ..arrival(3, track, at)
    };
    let mut spoken = bare(2, 100_000);
    spoken.played = Some(Span::from_seconds(30));
    let mut out = Vec::new();
    stage
        .absorb(&[bare(1, 0), spoken, bare(3, 200_000)], &mut out)
        .unwrap();
    let plays = plays(&out);
    let seconds = |n| Part::Span(Span::from_seconds(n));
    assert_eq!(plays[1].stated.part(), Some(seconds(30)));
    let settled: Vec<_> = plays.iter().filter_map(|p| p.previous).collect();
    assert_eq!(
        settled
            .iter()
            .map(|s| (s.part, s.witness))
            .collect::<Vec<_>>(),
        [(seconds(100), Witness::Gap), (seconds(30), Witness::Player)]
    );
}

#[test]
fn a_duplicate_is_one_however_many_plays_lie_between() {
    let mut stage = stage();
    let mut out = Vec::new();
    let log: Vec<Arrival> = (0..120)
        .map(|n| arrival(0, n, i64::from(n) * 1_000))
        .collect();
    stage.absorb(&log, &mut out).unwrap();
    out.clear();
    let again = [arrival(0, 3, 3_000), arrival(0, 90, 90_000)];
    stage.absorb(&again, &mut out).unwrap();
    assert!(out.is_empty(), "{out:?}");
    // Another track at a forgotten instant is news, once.
    for expected in [1, 0] {
        out.clear();
        stage.absorb(&[arrival(0, 500, 3_000)], &mut out).unwrap();
        assert_eq!(plays(&out).len(), expected);
    }
}

proptest! {
    /// However often somebody finds the lane idle, what stands in the end is the same.
    #[test]
    fn being_idle_changes_when_a_final_is_told_and_never_which_stands(
        log in log(), idle in any::<u64>(),
    ) {
        let mut stage = stage();
        let mut out = Vec::new();
        for (index, (slot, track, at)) in log.iter().enumerate() {
            stage.absorb(&[arrival(*slot, *track, *at)], &mut out).unwrap();
            if idle >> (index % 64) & 1 == 1 {
                stage.idle(&mut out).unwrap();
            }
        }
        stage.advance(Watermark::END, &mut out).unwrap();
        prop_assert_eq!(standing(&out), recomputed(&log));
        prop_assert_eq!(stage.open_sessions(), 0);
    }
}
