//! E4SRec's promises, over decoders small enough to run in a blink.

use std::collections::HashMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_listen::{Ratio, TrackId, TrackKey, UserId};
use segue_nn::decoder::{Decoder, DecoderOptions};
use segue_nn::decoder_config::{DecoderConfig, ModelType};
use segue_nn::packed::WeightFormat;
use segue_recommend::contract::{Fixture, recommender_contract};
use segue_recommend::recommender::{Admitted, Ask, ContextPlay, Example, Recommender};
use segue_recommend::training::TrainingLog;
use tch::{Device, Kind, Tensor};

use crate::hidden::Freshness;
use crate::settings::{Completion, E4SRecSettings};
use crate::windows::BLOCK;
use crate::windows::tests_support::{ask_of, plays_of};
use crate::{E4SRec, Foundation};

mod adapters;
mod closed;
mod fusion;
mod history;
mod old_plays;
mod online;
mod words;

const CONTENT: usize = 6;

pub(crate) fn foundation(response: &[i64]) -> Foundation {
    foundation_in(Kind::Float, response)
}

pub(crate) fn foundation_in(kind: Kind, response: &[i64]) -> Foundation {
    let config = DecoderConfig {
        model_type: ModelType::Llama,
        vocab_size: 50,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: Some(2),
        head_dim: None,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        hidden_act: "silu".into(),
        use_sliding_window: false,
    };
    let weights = config
        .random_weights(&mut ChaCha8Rng::seed_from_u64(7))
        .unwrap();
    let options = DecoderOptions {
        depth: None,
        kind,
        weights: WeightFormat::AsComputed,
        device: Device::Cpu,
    };
    let decoder = Decoder::load(&weights, &config, options).unwrap();
    Foundation::new(decoder, vec![3, 1, 4], response.to_vec())
}

pub(crate) fn settings() -> E4SRecSettings {
    let mut settings = E4SRecSettings::default();
    settings.tower.dimensions = 16;
    settings.tower.hidden = 8;
    settings.tower.content = CONTENT;
    settings.lora.rank = 2;
    settings.lora.dropout = 0.0;
    settings.lookback = 5;
    settings.cached_listeners = 4;
    settings.keep_caches = true;
    settings.batch_tokens = 100;
    settings.offline.windows = 20;
    settings.offline.batch = 4;
    settings.online.batch = 32;
    settings.online.lora_every = 2;
    settings.online.lora_batch = 4;
    settings.online.content_every = 2;
    settings.online.watched = 2_048;
    settings
}

pub(crate) fn keys(tracks: u32) -> Vec<TrackKey> {
    (0..tracks)
        .map(|id| TrackKey::from_names("contract", &id.to_string()))
        .collect()
}

pub(crate) fn admitted<'a>(keys: &[TrackKey], content: &'a [Vec<f32>]) -> Vec<Admitted<'a>> {
    keys.iter()
        .zip(0u32..)
        .map(|(&key, id)| Admitted {
            track: TrackId(id),
            key,
            names: None,
            content: content.get(id as usize).map(Vec::as_slice),
        })
        .collect()
}

pub(crate) fn contents(tracks: usize) -> Vec<Vec<f32>> {
    (0..tracks)
        .map(|track| {
            let row: Vec<f32> = (0..CONTENT)
                .map(|c| ((track * 7 + c * 3) as f32).sin())
                .collect();
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(|x| x / norm).collect()
        })
        .collect()
}

fn walk(listener: u32, tracks: u32, length: u32) -> Vec<ContextPlay> {
    let mut plays = plays_of((0..length).map(|at| (listener * 3 + at) % tracks));
    for (at, play) in plays.iter_mut().enumerate() {
        play.ratio = Ratio::new((at % 5) as f32 / 4.0).filter(|_| at % 3 != 0);
    }
    plays
}

pub(crate) fn log(tracks: u32) -> TrainingLog {
    let mut log = TrainingLog::default();
    for listener in 0..5 {
        log.push(walk(listener, tracks, 70));
    }
    log
}

fn fit(response: &[i64], settings: &E4SRecSettings, tracks: u32) -> E4SRec {
    let content = contents(tracks as usize);
    let admitted = admitted(&keys(tracks), &content);
    let encoded = HashMap::new();
    let foundation = foundation(response);
    let (model, report) = E4SRec::fit(
        &foundation,
        &log(tracks),
        &admitted,
        &encoded,
        settings,
        &mut (),
    )
    .unwrap();
    assert_eq!(report.windows, 10);
    model
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// A question of `plays[read]` of one of several listeners.
fn ask(user: u32, plays: &[ContextPlay], read: usize) -> Ask<'_> {
    Ask {
        user: UserId(user),
        ..ask_of(plays, read)
    }
}

#[test]
fn the_contract_is_kept_frozen_and_online() {
    let fixture = Fixture {
        rank_tolerance: 1,
        score_tolerance: 1e-3,
        ..Fixture::with_content(CONTENT)
    };
    let model = fit(&[], &settings(), 20);
    recommender_contract(|| Box::new(model.frozen().unwrap()), &fixture).unwrap();
    // Each of a model of its own: those that follow one share its hidden states.
    let following = || model.frozen().unwrap().following().unwrap();
    recommender_contract(|| Box::new(following()), &fixture).unwrap();
    recommender_contract(|| Box::new(model.online().unwrap()), &fixture).unwrap();
    let model = fit(&[5, 6], &settings(), 20);
    recommender_contract(|| Box::new(model.online().unwrap()), &fixture).unwrap();
}

#[test]
fn a_model_that_has_not_been_trained_refuses_to_answer() {
    let mut model = E4SRec::untaught(&foundation(&[]), &settings()).unwrap();
    let content = contents(20);
    model.admit(&admitted(&keys(20), &content)).unwrap();
    let plays = walk(0, 20, 9);
    let error = model
        .rank_of(&[ask(0, &plays, 8)], &[TrackId(1)], &mut Vec::new())
        .unwrap_err();
    assert_eq!(error.remedy, segue_flow::Remedy::Configure);
    assert!(error.detail.contains("segue train"), "{}", error.detail);
    assert!(
        model
            .recommend(&[ask(0, &plays, 8)], 3, &mut Vec::new())
            .is_err()
    );
    // What it takes up has been trained.
    let state = fit(&[], &settings(), 20).snapshot().unwrap();
    let mut model = E4SRec::untaught(&foundation(&[]), &settings()).unwrap();
    model.restore(&state, &[]).unwrap();
    model.admit(&admitted(&keys(20), &content)).unwrap();
    model
        .rank_of(&[ask(0, &plays, 8)], &[TrackId(1)], &mut Vec::new())
        .unwrap();
}

#[test]
fn lists_from_coarse_scores_are_those_of_all_scores() {
    let content = contents(900);
    let all = admitted(&keys(900), &content);
    let foundation = foundation_in(Kind::BFloat16, &[]);
    let fit = E4SRec::fit(
        &foundation,
        &log(20),
        &all,
        &HashMap::new(),
        &settings(),
        &mut (),
    );
    let mut model = fit.unwrap().0.online().unwrap();
    model.admit(&all[..500]).unwrap();
    let logs: Vec<Vec<ContextPlay>> = (0..5).map(|user| walk(user, 20, 130)).collect();
    let asks: Vec<Ask<'_>> = (0u32..)
        .zip(&logs)
        .map(|(user, plays)| ask(user, plays, 120))
        .collect();
    for round in 0..3u64 {
        assert!(model.shortlists());
        let coarse = model
            .shortlisted(&asks, 10)
            .unwrap()
            .expect("there are enough tracks");
        let mut ranks = Vec::new();
        for place in 0..10 {
            let tracks: Vec<TrackId> = coarse.iter().map(|list| list.tracks[place].track).collect();
            ranks.clear();
            model.rank_of(&asks, &tracks, &mut ranks).unwrap();
            for rank in &ranks {
                // Sums in another order may swap neighbours.
                assert!(
                    rank.unwrap().abs_diff(place as u32 + 1) <= 1,
                    "{place}: {ranks:?}"
                );
            }
        }
        // What is learnt, admitted and grown is seen.
        let examples: Vec<_> = asks
            .iter()
            .map(|&ask| Example {
                ask,
                actual: TrackId(7),
            })
            .collect();
        model.learn(segue_flow::Epoch(round), &examples).unwrap();
        let known = 500 + 200 * round as usize;
        model.admit(&all[known..(known + 200).min(900)]).unwrap();
    }
    assert!(
        model.shortlisted(&asks, 150).unwrap().is_none(),
        "too many of too few"
    );
}

#[test]
fn completion_ratios_are_read_where_they_are_to_be() {
    let mut plays = walk(0, 20, 30);
    let mut other = plays.clone();
    for play in &mut other {
        play.ratio = Ratio::new(0.1);
    }
    plays[29].ratio = None;
    let content = contents(20);
    let differs = |completion| {
        let mut settings = settings();
        settings.completion = completion;
        let mut model = fit(&[], &settings, 20);
        model.admit(&admitted(&keys(20), &content)).unwrap();
        let asks = [ask(0, &plays, 29), ask(1, &other, 29)];
        let hidden = model.hidden(&asks, Freshness::Now).unwrap();
        furthest(&hidden.get(0), &hidden.get(1))
    };
    assert!(differs(Completion::None) < 1e-6);
    assert!(differs(Completion::Embedded) > 1e-4);
}

#[test]
fn from_the_cache_alone_and_in_company_is_the_same() {
    for response in [&[][..], &[9, 8]] {
        let mut cached = fit(response, &settings(), 20);
        let content = contents(20);
        cached.admit(&admitted(&keys(20), &content)).unwrap();
        alone_as_in_company(cached);
    }
}

/// Answers from a cache that is too small, of listeners who come a few plays at a time, are those of each
/// question alone.
fn alone_as_in_company(mut cached: E4SRec) {
    let logs: Vec<Vec<ContextPlay>> = (0..7).map(|user| walk(user, 23, 130)).collect();
    let mut growing = Vec::new();
    let mut reads: Vec<(u32, usize)> = Vec::new();
    // More listeners than slots, a few plays at a time, over block boundaries.
    for from in (0..120).step_by(8) {
        let batch: Vec<(u32, usize)> = (0..7u32)
            .filter(|user| !(from / 8 + *user as usize).is_multiple_of(3))
            .flat_map(|user| (from..from + 8).map(move |read| (user, read)))
            .collect();
        let asks: Vec<Ask<'_>> = batch
            .iter()
            .map(|&(user, read)| ask(user, &logs[user as usize], read))
            .collect();
        growing.push(cached.hidden(&asks, Freshness::Now).unwrap());
        reads.extend(batch);
    }
    let growing = Tensor::cat(&growing, 0);
    let mut fresh = cached.frozen().unwrap();
    for (row, &(user, read)) in reads.iter().enumerate().step_by(11) {
        fresh.cache = None;
        fresh.forget_memo();
        let alone = fresh
            .hidden(&[ask(user, &logs[user as usize], read)], Freshness::Now)
            .unwrap();
        let there = growing.narrow(0, row as i64, 1);
        assert!(furthest(&alone, &there) < 1e-4, "listener {user} at {read}");
    }
}

#[test]
fn a_corrected_ratio_and_late_content_are_read_anew() {
    let mut model = fit(&[], &settings(), 20);
    let content = contents(22);
    model.admit(&admitted(&keys(22), &content[..20])).unwrap();
    let mut plays = walk(0, 22, 40);
    let before = model.hidden(&[ask(0, &plays, 30)], Freshness::Now).unwrap();
    plays[12].ratio = Ratio::new(0.123);
    let corrected = model.hidden(&[ask(0, &plays, 30)], Freshness::Now).unwrap();
    assert!(furthest(&before, &corrected) > 1e-6);
    let late = Admitted {
        track: TrackId(20),
        key: keys(22)[20],
        names: None,
        content: Some(&content[20]),
    };
    model.admit(&[late]).unwrap();
    let told = model.hidden(&[ask(0, &plays, 30)], Freshness::Now).unwrap();
    assert!(furthest(&told, &corrected) > 1e-6);
    let mut fresh = model.frozen().unwrap();
    let alone = fresh.hidden(&[ask(0, &plays, 30)], Freshness::Now).unwrap();
    assert!(furthest(&alone, &told) < 1e-4);
}

#[test]
fn a_new_track_is_scored_at_once_and_its_content_counts() {
    let mut model = fit(&[], &settings(), 20);
    let mut content = contents(20);
    model.admit(&admitted(&keys(22), &content)).unwrap();
    let plays = walk(1, 20, 30);
    let score = |model: &mut E4SRec, track: u32| {
        let mut lists = Vec::new();
        model
            .recommend(&[ask(1, &plays, 20)], 22, &mut lists)
            .unwrap();
        let scored = lists[0].tracks.iter().find(|s| s.track.0 == track);
        scored.map(|scored| scored.score).unwrap()
    };
    let without = score(&mut model, 20);
    assert_eq!(
        without,
        score(&mut model, 21),
        "nothing tells them apart yet"
    );
    // The same content as the newest play: the likeness must count for it.
    content.push(content[plays[19].track.row()].clone());
    model.admit(&admitted(&keys(22), &content)).unwrap();
    assert!(score(&mut model, 20) > without);
    assert_eq!(score(&mut model, 21), without);
}

#[test]
fn bad_content_takes_nothing_in() {
    let mut model = fit(&[], &settings(), 20);
    let bad = vec![vec![0.1; CONTENT], vec![f32::INFINITY; CONTENT]];
    let error = model
        .admit(&admitted(&keys(2), &bad))
        .unwrap_err()
        .to_string();
    assert!(error.contains("component 0"), "{error}");
    assert_eq!(model.catalogue.len(), 0);
    let none = model.frozen().unwrap().hidden(&[], Freshness::Now).unwrap();
    assert_eq!(none.size(), [0, 24]);
}

#[test]
fn settings_are_checked() {
    let parsed: E4SRecSettings = serde_json::from_str(r#"{"online": {"row_rate": 0.2}}"#).unwrap();
    assert_eq!(parsed.online.row_rate, 0.2);
    parsed.check().unwrap();
    for unknown in [r#"{"onlin": {}}"#, r#"{"lora": {"rang": 2}}"#] {
        let error = serde_json::from_str::<E4SRecSettings>(unknown).unwrap_err();
        assert!(error.to_string().contains("unknown field"), "{error}");
    }
    let mut wrong = settings();
    wrong.lookback = BLOCK + 1;
    let error = wrong.check().unwrap_err().to_string();
    assert_eq!(
        error,
        "e4srec.lookback = 51 is out of range: set it from 0 to 50"
    );
    let mut wrong = settings();
    wrong.tower.dimensions = 7;
    assert!(wrong.check().is_err());
}
