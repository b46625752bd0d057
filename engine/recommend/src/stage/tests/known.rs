//! Recommenders that were trained on another log, and its tracks, which are there before the first play.

use super::*;

/// The tracks of a log as MessagePack, and the states of what was trained on it.
type Learnt = (Vec<u8>, [Vec<u8>; 2]);

/// Trains, and hands the states out instead of answering with them.
struct Giving(Arc<Mutex<Option<Learnt>>>);

impl Curriculum for Giving {
    fn teach(
        self: Box<Self>,
        log: &TrainingLog,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let (mut rules, mut favourites) = (SequentialRules::default(), PersonalMostPop::new());
        rules.train(log);
        favourites.train(log);
        let states = [rules.snapshot()?, favourites.snapshot()?];
        let tracks = rmp_serde::to_vec(content).unwrap();
        *self.0.lock().unwrap() = Some((tracks, states));
        Ok(Vec::new())
    }

    fn untaught(self: Box<Self>, _: &Content) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        Ok(Vec::new())
    }
}

fn fed(mut stage: RecommendStage, script: Vec<Line>) -> RunSummary {
    for batch in batches(LaneId(0), 1, script, 1) {
        stage.take(batch).unwrap();
    }
    stage.finish().unwrap()
}

#[test]
fn what_was_trained_before_answers_from_the_first_round_on_in_other_addresses() {
    let learnt = Arc::default();
    let giving = Giving(Arc::clone(&learnt));
    let (mut gathering, nothing) = stage_with(1, None, |parts| {
        parts.curriculum = Some(Box::new(giving));
    });
    gathering.settings.compare.clear();
    gathering.settings.train_plays = u64::MAX;
    let summary = fed(gathering, script(600));
    assert_eq!((summary.trained_on, summary.predictions), (600, 0));
    assert!(summary.prequential.is_none() && summary.rungs.is_empty());
    assert!(nothing.lock().unwrap().iter().all(|r| r.0 != "predictions"));

    let (tracks, states) = learnt.lock().unwrap().take().unwrap();
    let (stage, written) = stage_with(1, None, |parts| {
        parts.curriculum = None;
        parts.known = Some(rmp_serde::from_slice(&tracks).unwrap());
        let (mut rules, mut favourites) = (SequentialRules::default(), PersonalMostPop::new());
        rules.restore(&states[0], &[]).unwrap();
        favourites.restore(&states[1], &[]).unwrap();
        parts.recommenders = vec![Box::new(rules), Box::new(favourites)];
    });
    // The stream begins in the middle of everybody's circle: its first track was not the first there.
    let lines = script(260).split_off(26);
    let summary = fed(stage, lines);
    assert_eq!((summary.tracks, summary.trained_on), (30, 200));
    let report = summary.prequential.unwrap();
    let rules = &report.recommenders[0].parts;
    assert_eq!(rules.overall.events, summary.stream.plays);
    assert_eq!(rules.cold_tracks.events, 0, "they were played, elsewhere");
    let recall = rules.overall.per_event.recall_10.mean.unwrap();
    // All but everybody's first play.
    assert!(recall > 0.98, "{recall}");
    let written = written.lock().unwrap();
    let first = written.iter().find(|r| r.0 == "predictions").unwrap();
    let first: serde_json::Value = serde_json::from_slice(&first.2).unwrap();
    assert_eq!(first["recommender"], "sequential-rules");
    assert_eq!(first["tracks"].as_array().unwrap().len(), 3);
}
