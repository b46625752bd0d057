//! What is learnt from a stream, and what is not.

use segue_flow::Epoch;
use segue_recommend::recommender::Example;

use super::*;
use crate::Publication;

pub(super) fn mean_reciprocal(
    model: &mut E4SRec,
    logs: &[Vec<ContextPlay>],
    reads: std::ops::Range<usize>,
) -> f64 {
    let mut sum = 0.0;
    let mut count = 0.0;
    for (user, plays) in (0u32..).zip(logs) {
        for read in reads.clone() {
            let mut ranks = Vec::new();
            model
                .rank_of(&[ask(user, plays, read)], &[plays[read].track], &mut ranks)
                .unwrap();
            sum += ranks[0].map_or(0.0, |rank| 1.0 / f64::from(rank));
            count += 1.0;
        }
    }
    sum / count
}

#[test]
fn what_is_learnt_online_shows_and_frozen_stays() {
    // The stream turns around: what followed now precedes.
    let logs: Vec<Vec<ContextPlay>> = (0..4)
        .map(|user: u32| plays_of((0..130).map(|at: u32| (200 + user * 5 - at) % 20)))
        .collect();
    let model = fit(&[], &settings(), 20);
    let content = contents(20);
    let run = |mut model: E4SRec| {
        model.admit(&admitted(&keys(20), &content)).unwrap();
        for epoch in 0..8u64 {
            let from = epoch as usize * 12 + 2;
            let examples: Vec<Example<'_>> = (from..from + 12)
                .flat_map(|read| {
                    (0u32..).zip(&logs).map(move |(user, plays)| Example {
                        ask: ask(user, plays, read),
                        actual: plays[read].track,
                    })
                })
                .collect();
            let report = model.learn(Epoch(epoch), &examples).unwrap();
            assert_eq!(report.examples, 48);
        }
        let journal = model.journal().publications();
        assert_eq!(model.adapter_version(), journal.len() as u64);
        (mean_reciprocal(&mut model, &logs, 100..125), journal)
    };
    let (frozen, still) = run(model.frozen().unwrap());
    let (online, moved) = run(model.online().unwrap());
    assert_eq!(still, []);
    let told: Vec<(u64, u64, u64)> = moved
        .iter()
        .map(|one| (one.version, one.epoch.0, one.examples))
        .collect();
    assert_eq!(told, [(1, 1, 96), (2, 3, 192), (3, 5, 288), (4, 7, 384)]);
    assert!(moved.iter().all(|one| one.loss.is_some_and(f64::is_finite)));
    assert!(online > 1.4 * frozen, "{online} {frozen}");
    // The model they came from has not moved either.
    let (again, _) = run(model.frozen().unwrap());
    assert_eq!(again, frozen);
}

fn copies(tensors: Vec<Tensor>) -> Vec<Tensor> {
    tensors
        .iter()
        .map(|tensor| tensor.detach().copy())
        .collect()
}

fn moved(before: &[Tensor], now: &[Tensor]) -> f64 {
    let pairs = before.iter().zip(now);
    pairs.map(|(a, b)| furthest(a, b)).fold(0.0, f64::max)
}

/// Questions `reads` of a listener's log, with what was played.
pub(super) fn examples(
    user: u32,
    plays: &[ContextPlay],
    reads: std::ops::Range<usize>,
) -> Vec<Example<'_>> {
    reads
        .map(|read| Example {
            ask: ask(user, plays, read),
            actual: plays[read].track,
        })
        .collect()
}

#[test]
fn a_track_is_learnt_from_its_second_play_on_and_among_those_that_had_been_played() {
    let mut settings = settings();
    settings.online.content_every = 0;
    settings.online.lora_every = 0;
    let fitted = fit(&[], &settings, 20);
    let mut content = contents(22);
    // Alike, so that they compete.
    content[21] = content[20].clone();
    let mut plays = walk(0, 20, 60);
    for at in [40, 43, 45] {
        plays[at].track = TrackId(20);
    }
    plays[46].track = TrackId(21);
    let learnt = |batch: &[Example<'_>], tracks: usize| {
        let mut model = fitted.online().unwrap();
        model.admit(&admitted(&keys(20), &content[..20])).unwrap();
        let new = &admitted(&keys(22), &content)[20..tracks];
        model.admit(new).unwrap();
        let report = model.learn(Epoch(1), batch).unwrap();
        assert_eq!(report.examples, batch.len() as u64);
        (report.loss, copies(model.head.parameters()), model)
    };
    let begun = copies(fitted.head.parameters());
    // Its first play could not have been answered: nothing is learnt from it.
    let first = examples(0, &plays, 40..41);
    let (loss, heads, mut model) = learnt(&first, 22);
    assert_eq!(loss, None);
    assert_eq!(moved(&begun, &heads), 0.0);
    // From the next epoch on it is one of those that were there, and has a vector of its own.
    let row = Tensor::from_slice(&[20i64]);
    let loss = model
        .learn(Epoch(2), &examples(0, &plays, 43..44))
        .unwrap()
        .loss;
    assert!(loss.is_some());
    assert!(
        model
            .tower
            .residuals(&row)
            .unwrap()
            .abs()
            .max()
            .double_value(&[])
            > 1e-4
    );
    assert!(moved(&begun, &model.head.parameters()) > 0.0);
    // Its second play in the same epoch could have been.
    let twice = [first, examples(0, &plays, 43..44)].concat();
    let (loss, heads, _) = learnt(&twice, 21);
    assert!(loss.is_some());
    assert!(moved(&begun, &heads) > 0.0);
    // Track 21 came later: it is as if it were not there.
    let later = [twice.clone(), examples(0, &plays, 46..47)].concat();
    let (as_if, same, _) = learnt(&later, 22);
    assert!((loss.unwrap() - as_if.unwrap()).abs() < 1e-6);
    assert!(moved(&heads, &same) < 1e-6);
    // Had it come earlier, it would have been.
    let earlier = [examples(0, &plays, 46..47), twice].concat();
    let (other, ..) = learnt(&earlier, 22);
    assert!(other.unwrap() > loss.unwrap() + 1e-5, "{other:?} {loss:?}");
}

#[test]
fn the_adapter_is_not_told_what_was_remembered_after_its_questions() {
    let fitted = fit(&[], &settings(), 20);
    let content = contents(20);
    let adapter = |remembered: usize| {
        let mut source = fitted.frozen().unwrap();
        let online = &mut source.settings.online;
        online.content_every = 0;
        online.lora_every = 3;
        // The other learners, which do know what is remembered, all but stand still.
        online.head_rate = 1e-12;
        online.term_rate = 1e-12;
        online.row_rate = 1e-12;
        source.memory = crate::memory::Memory::new(remembered);
        let mut model = source.online().unwrap();
        model.admit(&admitted(&keys(20), &content)).unwrap();
        let before = copies(model.backbone.adapter());
        for (epoch, from) in (0..3).zip([10, 60, 120]) {
            let plays = walk(0, 20, 140);
            let batch = examples(0, &plays, from..from + 10);
            model.learn(Epoch(epoch), &batch).unwrap();
        }
        assert_eq!(model.adapter_version(), 1);
        assert_eq!(
            model.memory.of(UserId(0)).tracks.is_empty(),
            remembered == 0
        );
        let after = copies(model.backbone.adapter());
        assert!(moved(&before, &after) > 1e-5);
        after
    };
    assert!(moved(&adapter(0), &adapter(100)) < 1e-7);
}

#[test]
fn one_that_follows_knows_what_was_played_and_has_learnt_nothing() {
    let mut frozen = fit(&[], &settings(), 20).frozen().unwrap();
    let content = contents(20);
    let mut state = frozen.following().unwrap();
    let plays = walk(0, 12, 130);
    let asks = [ask(0, &plays, 120)];
    for model in [&mut frozen, &mut state] {
        model.admit(&admitted(&keys(20), &content)).unwrap();
    }
    let mut lists = Vec::new();
    frozen.recommend(&asks, 20, &mut lists).unwrap();
    let worst = lists[0].tracks.last().unwrap().track;
    let rank = |model: &mut E4SRec| {
        let mut ranks = Vec::new();
        model.rank_of(&asks, &[worst], &mut ranks).unwrap();
        ranks[0].unwrap()
    };
    let before = rank(&mut frozen);
    assert_eq!(rank(&mut state), before);
    assert!(state.cache.is_none(), "the language model has read once");
    // Somebody, and this listener too, plays that track over and over.
    let often = plays_of(std::iter::repeat_n(worst.0, 60));
    for model in [&mut frozen, &mut state] {
        for user in [0, 1] {
            model
                .learn(Epoch(0), &examples(user, &often, 10..60))
                .unwrap();
        }
    }
    assert_eq!(rank(&mut frozen), before);
    assert!(rank(&mut state) < before);
    assert_eq!(
        moved(&frozen.head.parameters(), &state.head.parameters()),
        0.0
    );
    assert_eq!(
        moved(&frozen.backbone.adapter(), &state.backbone.adapter()),
        0.0
    );
}

/// Asks, measures and learns as the stage does.
pub(super) fn round(model: &mut E4SRec, epoch: u64, examples: &[Example<'_>]) {
    let asks: Vec<Ask<'_>> = examples.iter().map(|example| example.ask).collect();
    let actual: Vec<TrackId> = examples.iter().map(|example| example.actual).collect();
    model.rank_of(&asks, &actual, &mut Vec::new()).unwrap();
    model.learn(Epoch(epoch), examples).unwrap();
}

#[test]
fn what_poisoned_labels_teach_is_taken_back() {
    let logs: Vec<Vec<ContextPlay>> = (0..4).map(|user| walk(user, 20, 300)).collect();
    let mut settings = settings();
    settings.online.head_rate = 5e-3;
    settings.online.row_rate = 0.2;
    settings.online.watched = 96;
    // What is only known of listeners is not taken back: it happened.
    settings.online.remembered = 0;
    let fitted = fit(&[], &settings, 20);
    let content = contents(20);
    let at = |from: usize, label: fn(usize) -> TrackId| -> Vec<Example<'_>> {
        let reads = from..from + 12;
        reads
            .flat_map(|read| {
                (0u32..).zip(&logs).map(move |(user, plays)| {
                    let told = label(read * 7 + user as usize);
                    let actual = if told.0 == u32::MAX {
                        plays[read].track
                    } else {
                        told
                    };
                    Example {
                        ask: ask(user, plays, read),
                        actual,
                    }
                })
            })
            .collect()
    };
    let clean = |_| TrackId(u32::MAX);
    let poison = |drawn: usize| TrackId((drawn * 2_654_435_761 % 20) as u32);
    let run = |watched: u64| {
        let mut model = fitted.online().unwrap();
        let mut online = settings.online.clone();
        online.watched = watched;
        model.set_online(online);
        model.admit(&admitted(&keys(20), &content)).unwrap();
        // The last window that holds begins with the last two rounds before the poison.
        for epoch in 0..12u64 {
            round(&mut model, epoch, &at(epoch as usize * 12 + 2, clean));
        }
        let before = mean_reciprocal(&mut model.frozen().unwrap(), &logs, 250..290);
        for epoch in 12..18u64 {
            round(&mut model, epoch, &at(epoch as usize * 12 + 2, poison));
        }
        let after = mean_reciprocal(&mut model.frozen().unwrap(), &logs, 250..290);
        (before, after, model.journal().publications())
    };
    let (before, unwatched, published) = run(0);
    assert!(published.iter().all(|one| one.back_to.is_none()));
    assert!(
        unwatched < 0.9 * before,
        "poison does harm: {before} to {unwatched}"
    );
    let (before, watched, published) = run(96);
    let back: Vec<&Publication> = published
        .iter()
        .filter(|one| one.back_to.is_some())
        .collect();
    let first = back.first().expect("it went back");
    assert!(first.epoch.0 >= 12 && first.back_to < Some(first.version) && first.loss.is_none());
    assert!(watched > 0.97 * before, "{before} to {watched}");
    let versions: Vec<u64> = published.iter().map(|one| one.version).collect();
    assert_eq!(versions, (1..=published.len() as u64).collect::<Vec<u64>>());
}
