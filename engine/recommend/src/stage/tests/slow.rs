//! A recommender that is far too slow: a fault put in, since no real one can be relied on to be.

use std::time::Duration;

use segue_flow::clock::WallClock;

use super::*;
use crate::recommender::{Admitted, Ask, Example, LearnReport, Ranking, Tier};

/// What a question costs: a hundred times what it may.
const COST: Duration = Duration::from_millis(20);

/// Answers as personal favourites would, and sleeps over each question.
struct Sleeper {
    favourites: PersonalMostPop,
    clock: Arc<MachineClock>,
}

impl Sleeper {
    fn sleep(&self, asks: usize) {
        self.clock.sleep(COST * asks as u32);
    }
}

impl Recommender for Sleeper {
    fn name(&self) -> &'static str {
        "sleeper"
    }
    fn tier(&self) -> Tier {
        Tier::LanguageModel
    }
    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.favourites.admit(tracks)
    }
    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        self.sleep(asks.len());
        self.favourites.recommend(asks, limit, out)
    }
    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        self.sleep(asks.len());
        self.favourites.rank_of(asks, actual, ranks)
    }
    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError> {
        self.favourites.learn(epoch, examples)
    }
}

/// The stage behind one lane on a thread of its own and a short queue, with or without the sleeper on
/// top; the depth of the queue whenever a batch was taken out.
fn run_behind(
    capacity: usize,
    when_full: WhenFull,
    slow: bool,
) -> (RunSummary, Vec<Record>, Vec<usize>) {
    let clock = Arc::new(MachineClock::start());
    let settings = QueueSettings {
        capacity,
        when_full,
    };
    let (inlet, outlet) = queue("lanes", settings, clock.clone());
    let rules = SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    };
    let mut lane = Lane::new(
        LaneId(0),
        ScriptedSource::new(script(PLAYS)),
        ListenDecoder::new(LaneId(0), 1),
        ListeningStage::new(rules),
        inlet,
        LaneSettings {
            batch: 16,
            ..LaneSettings::default()
        },
    );
    let (mut stage, committed) = stage(1, None);
    let mut recommenders: Vec<Box<dyn Recommender>> = vec![Box::new(PersonalMostPop::new())];
    if slow {
        let sleeper = Sleeper {
            favourites: PersonalMostPop::new(),
            clock: clock.clone(),
        };
        recommenders.insert(0, Box::new(sleeper));
    }
    stage.warm_up = None;
    stage.merge = None;
    stage.settings.exact = false;
    stage.settings.compare.clear();
    stage.settings.answer_within = Some(COST / 2);
    stage.measuring = Measuring::new(Some(COST / 2));
    stage.set_up_ladder(recommenders).unwrap();
    let mut depths = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || lane.run(&*clock, &|| false).unwrap());
        while let Some(batch) = outlet.next() {
            depths.push(outlet.depth());
            stage.behind(outlet.fill());
            stage.take(batch).unwrap();
        }
    });
    let summary = stage.finish().unwrap();
    let written = std::mem::take(&mut *committed.lock().unwrap());
    (summary, written, depths)
}

const PLAYS: u64 = 6_000;

fn of_topic(topic: &str, written: &[Record]) -> Vec<Record> {
    let of_topic = written.iter().filter(|record| record.0 == topic);
    of_topic.cloned().collect()
}

#[test]
fn a_model_far_too_slow_costs_answers_and_measurements_and_nothing_else() {
    let (fast, expected, _) = run_behind(4, WhenFull::Block, false);
    for when_full in [WhenFull::Block, WhenFull::Coalesce] {
        let (slow, written, depths) = run_behind(4, when_full, true);
        assert!(depths.iter().all(|depth| *depth <= 4));
        assert_eq!(slow.stream.plays, PLAYS, "every play is counted");
        assert_eq!(slow.stream.duplicates, fast.stream.duplicates);
        assert_eq!(slow.stream.dead_letters, 1);
        assert_eq!(slow.stream.ratios, fast.stream.ratios);
        assert_eq!(slow.stream.session_plays, fast.stream.session_plays);
        for topic in ["sessions", "listens.dead-letters"] {
            assert_eq!(of_topic(topic, &written), of_topic(topic, &expected));
        }

        // Measured, or counted as not measured; with a sleeper few can be.
        let report = slow.prequential.unwrap();
        let measured = report.recommenders[0].parts.overall.events;
        assert_eq!(measured + slow.stream.not_measured, PLAYS);
        assert!(measured > 0 && measured < PLAYS / 4, "{measured}");
        assert_eq!(report.recommenders[1].parts.overall.events, measured);

        // Answered by both, mostly by who is quick; each answer is whole and says by whom.
        let answers = of_topic("predictions", &written);
        let mut by_sleeper = 0;
        for (_, user, value) in &answers {
            let answer: serde_json::Value = serde_json::from_slice(value).unwrap();
            assert_eq!(answer["user"].as_str().unwrap().as_bytes(), user);
            assert_eq!(answer["tracks"].as_array().unwrap().len(), 3);
            let (name, tier) = (&answer["recommender"], &answer["tier"]);
            match tier.as_str().unwrap() {
                "language-model" => by_sleeper += u64::from(name == "sleeper"),
                "popularity" => assert_eq!(name, "personal-most-pop"),
                other => panic!("{other}"),
            }
        }
        let rungs = &slow.rungs;
        assert_eq!(by_sleeper, rungs[0].counts.answered);
        assert!(by_sleeper > 0, "it is tried");
        assert!(rungs[1].counts.answered > 10 * by_sleeper, "{rungs:?}");
        assert!(rungs[0].counts.over_budget > 10 * by_sleeper, "{rungs:?}");
        assert_eq!(answers.len() as u64, slow.predictions);
        let coalesced = slow.stream.answered_later;
        assert_eq!(
            coalesced > 0,
            when_full == WhenFull::Coalesce,
            "{coalesced}"
        );
    }
}
