use super::*;
use proptest::prelude::*;

fn event(user: u32, track: u32, at: i64) -> PlayEvent {
    PlayEvent {
        user: UserId(user),
        track: TrackId(track),
        at: EventTime::from_millis(at),
        opens_session: false,
        own_ratio: None,
        ratio_of_previous: None,
    }
}

fn ratio(value: f32) -> Option<Ratio> {
    Ratio::new(value)
}

fn tracks(ask: Ask<'_>) -> Vec<u32> {
    ask.context.iter().map(|play| play.track.0).collect()
}

#[test]
fn the_newest_ratio_is_held_back() {
    let mut listeners = Listeners::new();
    let user = UserId(1);
    listeners.absorb(&event(1, 7, 0));
    assert!(listeners.correct(user, EventTime::from_millis(0), TrackId(7), ratio(0.5)));
    assert_eq!(listeners.ask(user).context[0].ratio, None);

    let mut chunk = Chunk::new();
    chunk.push(&mut listeners, &event(1, 8, 100));
    let told = PlayEvent {
        own_ratio: None,
        ratio_of_previous: ratio(0.25),
        ..event(1, 9, 200)
    };
    chunk.push(&mut listeners, &told);
    let ratios = |ask: &Ask<'_>| ask.context.iter().map(|p| p.ratio).collect::<Vec<_>>();
    let asks = chunk.asks();
    assert_eq!(ratios(&asks[0]), [None]);
    assert_eq!(ratios(&asks[1]), [ratio(0.5), None]);
    assert_eq!(
        ratios(&listeners.ask(user)),
        [ratio(0.5), ratio(0.25), None]
    );

    assert!(listeners.correct(user, EventTime::from_millis(0), TrackId(7), None));
    assert_eq!(listeners.ask(user).context[0].ratio, None);
    assert!(!listeners.correct(user, EventTime::from_millis(1), TrackId(7), ratio(1.0)));
    assert!(!listeners.correct(UserId(9), EventTime::from_millis(0), TrackId(7), None));
}

#[test]
fn a_late_play_finds_its_place_and_asks_nothing() {
    let mut listeners = Listeners::new();
    let mut chunk = Chunk::new();
    for (track, at) in [(1, 10), (3, 30)] {
        assert_eq!(
            chunk.push(&mut listeners, &event(0, track, at)),
            Arrival::InOrder
        );
    }
    for (track, at) in [(2, 20), (0, 5)] {
        assert_eq!(
            chunk.push(&mut listeners, &event(0, track, at)),
            Arrival::Late
        );
    }
    chunk.push(&mut listeners, &event(0, 4, 30));
    assert_eq!(chunk.actual(), [TrackId(1), TrackId(3), TrackId(4)]);
    assert_eq!(tracks(chunk.asks()[2]), [0, 1, 2, 3]);
    assert_eq!(chunk.facts()[2].plays, 4);
    assert!(listeners.has_played(UserId(0), TrackId(0)));
}

#[test]
fn late_plays_keep_the_block_rule() {
    let mut listeners = Listeners::new();
    for at in 0..99 {
        listeners.absorb(&event(0, at as u32, at * 10));
    }
    assert_eq!(
        listeners.absorb(&event(0, 500, 985 - 10)),
        Arrival::Late,
        "the hundredth play, before the ninety-ninth"
    );
    let ask = listeners.ask(UserId(0));
    assert_eq!((ask.plays, ask.context.len()), (100, 50));
    assert_eq!(tracks(ask)[47..], [97, 500, 98]);
}

proptest! {
    /// Against the rule written down once more, over the listener's whole log.
    #[test]
    fn contexts_are_what_the_rule_says(
        log in prop::collection::vec((0u32..3, 0u32..30, 0i64..3, any::<bool>(), 0u8..5), 0..700),
        chunk_len in 1usize..90,
    ) {
        let mut listeners = Listeners::new();
        let mut logs: Vec<Vec<ContextPlay>> = vec![Vec::new(); 3];
        let mut chunk = Chunk::new();
        let mut now = 0;
        for events in log.chunks(chunk_len) {
            chunk.clear();
            let mut expected: Vec<(u64, Vec<ContextPlay>, bool, bool)> = Vec::new();
            for &(user, track, wait, opens_session, tell) in events {
                now += wait;
                let told = (tell > 0).then(|| Ratio::new(f32::from(tell) / 5.0)).flatten();
                let event = PlayEvent {
                    opens_session,
                    own_ratio: None,
                    ratio_of_previous: told,
                    ..event(user, track, now)
                };
                let all_heard = logs.iter().flatten().any(|p| p.track.0 == track);
                let own = &mut logs[user as usize];
                let plays = own.len();
                let begin = (plays / 50).saturating_sub(1) * 50;
                let repeat = own.iter().any(|p| p.track.0 == track);
                expected.push((plays as u64, own[begin..].to_vec(), !repeat, !all_heard));
                if let Some(last) = own.last_mut() {
                    last.ratio = told;
                }
                own.push(ContextPlay {
                    track: TrackId(track),
                    at: event.at,
                    ratio: None,
                    opens_session,
                });
                prop_assert_eq!(chunk.push(&mut listeners, &event), Arrival::InOrder);
            }
            let examples = chunk.examples();
            prop_assert_eq!(examples.len(), expected.len());
            for (at, example) in examples.iter().enumerate() {
                let (plays, context, first, cold) = &expected[at];
                prop_assert_eq!(example.ask.plays, *plays);
                prop_assert_eq!(example.ask.context, &context[..]);
                prop_assert!(context.len() < 100 && (*plays < 50 || context.len() >= 50));
                prop_assert_eq!(example.actual, chunk.actual()[at]);
                let facts = chunk.facts()[at];
                prop_assert_eq!((facts.first_play, facts.cold_track), (*first, *cold));
            }
        }
    }
}
