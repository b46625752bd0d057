//! The loss beside its definition.

use super::*;
use crate::memory::Recalled;
use crate::windows::tests_support::plays_of;
use rand::SeedableRng;
use segue_listen::TrackKey;

const TRACKS: usize = 60;
const D: i64 = 8;

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1])).unwrap()
}

/// Questions of contexts that overlap and differ in length; two answers are in their contexts.
fn questions() -> Questions {
    let mut questions = Questions::default();
    let mut personal = Personal::default();
    let contexts = [(0..7, 3u32), (5..25, 40), (10..12, 11), (0..0, 2)];
    for (at, (context, target)) in (0..).zip(contexts) {
        let plays = plays_of(context);
        personal.read(&plays, Recalled::default(), plays.len() as u64);
        questions.push(TrackId(target), &personal, TRACKS);
        questions.asked_at.push(at);
    }
    questions
}

/// The loss by its definition, a question and a track at a time.
fn defined(
    candidates: &Candidates,
    head: &Head,
    (query, vectors): (&Tensor, &Tensor),
    (questions, came_at): (&Questions, &HashMap<u32, i64>),
) -> f64 {
    let rows: Vec<i64> = Vec::try_from(&candidates.rows).unwrap();
    let correction = candidates.correction.as_ref().map(numbers);
    let personal = match questions.features.is_empty() {
        true => Vec::new(),
        false => numbers(&head.personal(&questions.features).unwrap()),
    };
    let levels = numbers(&head.popularity(&candidates.levels).unwrap());
    let products = numbers(&query.matmul(&vectors.tr()));
    let count = rows.len();
    let mut sum = 0.0;
    for (question, &target) in questions.targets.iter().enumerate() {
        let (mut all, mut actual) = (0.0, 0.0);
        for (column, &row) in rows.iter().enumerate() {
            let own = (question as i64, row as u32);
            let own = questions.own.iter().position(|&named| named == own);
            let mut logit = products[question * count + column] + levels[column];
            let is_target = row == i64::from(target);
            match (own, &correction) {
                (Some(own), _) => logit += personal[own],
                (None, Some(correction)) if !is_target => match correction.get(column) {
                    Some(correction) => logit += correction,
                    None => continue,
                },
                (None, _) => {}
            }
            let asked_at = questions.asked_at[question];
            if came_at
                .get(&(row as u32))
                .is_some_and(|&when| when > asked_at)
            {
                continue;
            }
            all += logit.exp();
            if is_target {
                actual = logit;
            }
        }
        sum += all.ln() - actual;
    }
    sum / questions.targets.len() as f64
}

#[test]
fn it_is_the_softmax_over_what_was_drawn_and_what_each_question_names() {
    tch::manual_seed(3);
    let questions = questions();
    let mut popularity = Popularity::new(100.0, 100);
    for key in 0..TRACKS as u128 {
        popularity.admit(TrackKey(key), 0, 0.0);
    }
    popularity.sort();
    for row in [4, 9, 9, 40, 33] {
        popularity.play(row);
    }
    let levels: Vec<f32> = (0..TRACKS).map(|row| row as f32 / 10.0).collect();
    let came_at = HashMap::from([(58, 2), (7, 1), (59, 0)]);
    let head = Head::new(5, D, 1, Device::Cpu).unwrap();
    let inputs = QueryInputs {
        hidden: random(&[4, 5]),
        newest: random(&[4, D]),
        lately: random(&[4, D]),
    };
    for limit in [TRACKS, 25, 3] {
        let mut rng = ChaCha8Rng::seed_from_u64(limit as u64);
        let mut candidates = Candidates::choose(
            &[&questions],
            &mut popularity,
            &levels,
            (TRACKS, limit),
            &mut rng,
            Device::Cpu,
        )
        .unwrap();
        candidates.tell_when(&came_at).unwrap();
        let vectors = random(&[candidates.rows.numel() as i64, D]).set_requires_grad(true);
        let loss = candidates
            .loss(&head, &inputs, &vectors, &questions)
            .unwrap();
        let by_definition = |vectors: &Tensor| {
            let query = head.query(&inputs).unwrap();
            defined(
                &candidates,
                &head,
                (&query, vectors),
                (&questions, &came_at),
            )
        };
        let expected = by_definition(&vectors);
        let found = loss.double_value(&[]);
        assert!(
            (found - expected).abs() < 1e-4,
            "{limit}: {found} {expected}"
        );

        // And so are its gradients: along a direction, as far as differences tell.
        loss.backward();
        let along = random(&vectors.size());
        let slope = (vectors.grad() * &along)
            .sum(Kind::Double)
            .double_value(&[]);
        let step = 1e-2;
        let moved = |by: f64| by_definition(&(vectors.detach() + &along * by));
        let measured = (moved(step) - moved(-step)) / (2.0 * step);
        assert!(
            (slope - measured).abs() < 0.01 * slope.abs().max(1.0),
            "{slope} {measured}"
        );
    }
}
