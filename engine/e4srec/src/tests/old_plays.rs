//! Old questions, asked again: from their contexts alone, and not learnt from any more.

use super::online::{examples, round};
use super::*;

fn learnt(logs: &[Vec<ContextPlay>], hold_out: bool) -> E4SRec {
    let mut model = fit(&[], &settings(), 20).online().unwrap();
    model.admit(&admitted(&keys(20), &contents(20))).unwrap();
    for epoch in 0..6 {
        let from = epoch as usize * 12 + 2;
        let all: Vec<_> = (0u32..)
            .zip(logs)
            .flat_map(|(user, plays)| examples(user, plays, from..from + 12))
            .collect();
        round(&mut model, epoch, &all);
        if hold_out && epoch == 1 {
            // All that has been learnt from so far.
            let asks: Vec<Ask<'_>> = (0u32..)
                .zip(logs)
                .flat_map(|(user, plays)| (2..26).map(move |read| ask(user, plays, read)))
                .collect();
            model.hold_out(&asks);
        }
    }
    model
}

fn logs() -> Vec<Vec<ContextPlay>> {
    (0..4)
        .map(|user: u32| plays_of((0..200).map(|at: u32| (400 + user * 5 - at) % 20)))
        .collect()
}

#[test]
fn what_is_remembered_of_a_listener_does_not_answer_old_questions() {
    let logs = logs();
    let mut model = learnt(&logs, false);
    let asks: Vec<Ask<'_>> = (0..4)
        .map(|user| ask(user, &logs[user as usize], 9))
        .collect();
    let actual: Vec<TrackId> = logs.iter().map(|plays| plays[9].track).collect();
    let again = |model: &mut E4SRec| {
        let mut ranks = Vec::new();
        model.rank_again(&asks, &actual, &mut ranks).unwrap();
        ranks
    };
    let first = again(&mut model);
    assert!(first.iter().all(Option::is_some));
    // Somebody plays what was asked for a hundred times: it is remembered, and changes nothing here.
    let mut remembers = Vec::new();
    model.rank_of(&asks, &actual, &mut remembers).unwrap();
    for user in 0..4u32 {
        let plays: Vec<ContextPlay> = plays_of((0..150).map(|_| actual[user as usize].0));
        for read in 100..150 {
            let example = Example {
                ask: ask(user, &plays, read),
                actual: actual[user as usize],
            };
            model.memory.learn(&example);
        }
    }
    let mut knows = Vec::new();
    model.rank_of(&asks, &actual, &mut knows).unwrap();
    assert_ne!(knows, remembers, "the memory answers where it may");
    assert_eq!(again(&mut model), first);
    // And it is still there.
    let mut still = Vec::new();
    model.rank_of(&asks, &actual, &mut still).unwrap();
    assert_eq!(still, knows);
}

#[test]
fn what_is_held_out_is_not_kept_and_teaches_no_adapter() {
    let logs = logs();
    let (held, free) = (learnt(&logs, true), learnt(&logs, false));
    let old = |model: &E4SRec| {
        let memory = &model.learner.as_ref().unwrap().memory;
        let kept = memory.sample().iter().chain(memory.recent());
        kept.filter(|example| example.as_example().ask.plays < 26)
            .count()
    };
    assert!(old(&free) > 0);
    assert_eq!(old(&held), 0);
    let distance: f64 = held
        .backbone
        .adapter()
        .iter()
        .zip(free.backbone.adapter())
        .map(|(one, other)| furthest(one, &other))
        .fold(0.0, f64::max);
    assert!(distance > 0.0, "other plays were learnt from");
}
