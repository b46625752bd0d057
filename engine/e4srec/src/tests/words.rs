//! The history prompt: words around each play's vector.

use std::sync::Arc;

use segue_nn::tokenizer::Tokenizer;
use segue_recommend::recommender::TrackNames;

use super::online::{examples, round};
use super::*;
use crate::TrackFeatures;
use crate::lines::Lines;
use crate::settings::Prompt;
use crate::windows::Token;

/// A letter a token, and a token for the longest word, so that all of a line's end has room.
fn tokenizer() -> Tokenizer {
    let mut vocabulary = serde_json::Map::new();
    let letters = ('a'..='z').chain('0'..='9').chain(" '[]:.,?\n".chars());
    for (id, letter) in letters.enumerate() {
        vocabulary.insert(letter.to_string(), id.into());
    }
    let word = serde_json::json!({"id": vocabulary.len(), "content": "completion",
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false});
    let whole = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [word],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "?", "fuse_unk": false,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocabulary, "merges": []}});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, whole.to_string()).unwrap();
    Tokenizer::from_json(&path).unwrap()
}

/// The third track of the tests is loud and fast.
#[derive(Debug)]
struct Rated(Vec<String>);

impl TrackFeatures for Rated {
    fn names(&self) -> &[String] {
        &self.0
    }
    fn ratings(&self, track: TrackKey, _: TrackNames<'_>) -> Option<&[f32]> {
        // Tempo is told from above two of five on.
        (track == keys(3)[2]).then_some(&[4.0, f32::NAN, 2.0, 2.1])
    }
}

fn features() -> Arc<dyn TrackFeatures> {
    let names = ["loud", "angry", "sad", "fast"];
    Arc::new(Rated(names.map(str::to_owned).to_vec()))
}

fn history(completion: Completion, line_tokens: usize) -> E4SRecSettings {
    let mut settings = settings();
    settings.backbone.prompt = Prompt::History;
    settings.backbone.line_tokens = line_tokens;
    settings.completion = completion;
    settings
}

fn titles(tracks: u32) -> Vec<String> {
    (0..tracks).map(|track| format!("s{track}")).collect()
}

fn named<'a>(
    keys: &[TrackKey],
    content: &'a [Vec<f32>],
    titles: &'a [String],
) -> Vec<Admitted<'a>> {
    let mut all = admitted(keys, content);
    for (track, title) in all.iter_mut().zip(titles) {
        track.names = Some(TrackNames { artist: "x", title });
    }
    all
}

fn fit_named(response: &[i64], settings: &E4SRecSettings) -> E4SRec {
    let (content, titles) = (contents(20), titles(20));
    let all = named(&keys(20), &content, &titles);
    let foundation = foundation(response).with_tokenizer(tokenizer());
    let foundation = foundation.with_features(features());
    let fit = E4SRec::fit(
        &foundation,
        &log(20),
        &all,
        &HashMap::new(),
        settings,
        &mut (),
    );
    let (mut model, report) = fit.unwrap();
    assert!(report.training.iter().all(|(_, loss)| loss.is_finite()));
    model.admit(&all).unwrap();
    model
}

/// The text of the plays of a window.
fn text(lines: &Lines, plays: &[Token]) -> String {
    let mut batch = crate::prompt::TokenBatch::default();
    for (number, token) in (1..).zip(plays) {
        lines.feed(
            &mut batch,
            number,
            i64::from(token.track.0) + crate::backbone::SPECIAL,
            token,
        );
    }
    let (tokenizer, mut text) = (tokenizer(), String::new());
    for item in batch.items {
        match item {
            vector if vector >= 0 => text.push('▮'),
            word => text.push_str(&tokenizer.decode(&[-1 - word]).unwrap()),
        }
    }
    text
}

#[test]
fn lines_say_what_is_known_and_are_cut_features_first() {
    let written = |completion, line_tokens| {
        let settings = history(completion, line_tokens);
        let (tokenizer, features) = (Arc::new(tokenizer()), features());
        let mut lines = Lines::new(&settings, Some(&tokenizer), Some(&features)).unwrap();
        let title = |title| TrackNames { artist: "x", title };
        let names = ["one", "two", "three", ""].map(title).map(Some);
        let names = names.into_iter().chain([
            None,
            Some(TrackNames {
                artist: "",
                title: "",
            }),
        ]);
        for (key, names) in keys(6).into_iter().zip(names) {
            lines.admit(key, names).unwrap();
        }
        let plays = [2u32, 0, 3, 4, 5, 6].map(|track| Token {
            track: TrackId(track),
            ratio_before: Ratio::new(0.874).filter(|_| track % 2 == 0),
            opens_session: false,
        });
        text(&lines, &plays)
    };
    assert_eq!(
        written(Completion::Prompt, 40),
        "▮ 'three' by x [loud, fast] [completion: 0.87]\n▮ 'one' by x [completion: ?]\n▮ '' by x \
         [completion: 0.87]\n▮ [completion: ?]\n▮ [completion: 0.87]\n▮"
    );
    let of_third = |line_tokens| {
        let all = written(Completion::Embedded, line_tokens);
        all.lines().next().unwrap().to_owned()
    };
    assert_eq!(of_third(26), "▮ 'three' by x [loud, fast]");
    assert_eq!(of_third(25), "▮ 'three' by x [loud]");
    assert_eq!(of_third(19), "▮ 'three' by x");
    assert_eq!(of_third(6), "▮ 'thre");
    let original = Lines::new(&settings(), None, None).unwrap();
    let play = Token {
        track: TrackId(0),
        ratio_before: None,
        opens_session: true,
    };
    assert_eq!(text(&original, &[play, play]), "▮▮");
}

#[test]
fn with_words_from_the_cache_alone_and_in_company_is_the_same() {
    for (response, completion) in [
        (&[][..], Completion::Prompt),
        (&[9, 8], Completion::Prompt),
        (&[], Completion::Embedded),
    ] {
        alone_as_in_company(fit_named(response, &history(completion, 8)));
    }
}

#[test]
fn how_much_was_heard_of_the_newest_play_is_not_read_before_the_next() {
    let mut model = fit_named(&[], &history(Completion::Prompt, 8));
    let mut plays = walk(0, 20, 40);
    let mut hidden = |plays: &[ContextPlay], read| {
        model.forget_listeners();
        model
            .hidden(&[ask(0, plays, read)], Freshness::Now)
            .unwrap()
    };
    let (behind, next) = (hidden(&plays, 30), hidden(&plays, 31));
    plays[29].ratio = Ratio::new(0.11);
    assert_eq!(
        furthest(&hidden(&plays, 30), &behind),
        0.0,
        "not even if it is told"
    );
    assert!(furthest(&hidden(&plays, 31), &next) > 1e-5);
    plays[28].ratio = Ratio::new(0.93);
    assert!(furthest(&hidden(&plays, 30), &behind) > 1e-5);
}

#[test]
fn a_track_whose_vector_comes_late_is_read_anew_with_its_line() {
    let mut model = fit_named(&[], &history(Completion::None, 8));
    let (content, titles) = (contents(21), titles(21));
    let all = named(&keys(21), &content, &titles);
    let plays = walk(0, 21, 40);
    let asks = [ask(0, &plays, 30)];
    let unknown = model.hidden(&asks, Freshness::Now).unwrap();
    // Its name is known before its vector: until then it is some track.
    model
        .admit(&[Admitted {
            content: None,
            ..all[20]
        }])
        .unwrap();
    let before = model.hidden(&asks, Freshness::Now).unwrap();
    assert_eq!(furthest(&unknown, &before), 0.0);
    model
        .admit(&[Admitted {
            names: None,
            ..all[20]
        }])
        .unwrap();
    let told = model.hidden(&asks, Freshness::Now).unwrap();
    assert!(furthest(&told, &before) > 1e-5);
    let mut fresh = model.frozen().unwrap();
    let alone = fresh.hidden(&asks, Freshness::Now).unwrap();
    assert!(furthest(&alone, &told) < 1e-4);
}

#[test]
fn it_learns_and_goes_on_from_a_checkpoint_as_with_vectors_alone() {
    let settings = history(Completion::Prompt, 8);
    let mut model = fit_named(&[], &settings).online().unwrap();
    let logs: Vec<Vec<ContextPlay>> = (0..4).map(|user| walk(user, 20, 130)).collect();
    let teach = |model: &mut E4SRec, epoch: u64| {
        let from = epoch as usize * 12 + 2;
        let all: Vec<_> = (0u32..)
            .zip(&logs)
            .flat_map(|(user, plays)| examples(user, plays, from..from + 12))
            .collect();
        round(model, epoch, &all);
    };
    (0..4).for_each(|epoch| teach(&mut model, epoch));
    assert!(model.adapter_version() > 0);
    let state = model.snapshot().unwrap();
    let foundation = || {
        foundation(&[])
            .with_tokenizer(tokenizer())
            .with_features(features())
    };
    let untaught = |settings: &E4SRecSettings| E4SRec::untaught(&foundation(), settings).unwrap();
    let (content, titles) = (contents(20), titles(20));
    let all = named(&keys(20), &content, &titles);
    let mut other = untaught(&settings).online().unwrap();
    other.restore(&state, &all).unwrap();
    (4..7).for_each(|epoch| teach(&mut model, epoch));
    (4..7).for_each(|epoch| teach(&mut other, epoch));
    let asks: Vec<Ask<'_>> = (0u32..)
        .zip(&logs)
        .map(|(user, plays)| ask(user, plays, 110))
        .collect();
    let hidden = |model: &mut E4SRec| model.hidden(&asks, Freshness::Now).unwrap();
    assert_eq!(furthest(&hidden(&mut model), &hidden(&mut other)), 0.0);
    // Words are part of what a model is.
    let mut silent = untaught(&super::settings()).online().unwrap();
    let error = silent.restore(&state, &all).unwrap_err();
    assert_eq!(error.remedy, segue_flow::Remedy::Configure);
    assert!(error.detail.contains("prompt"), "{}", error.detail);
}

#[test]
fn what_words_need_is_asked_for() {
    let history = history(Completion::Prompt, 8);
    let error = E4SRec::untaught(&foundation(&[]), &history).unwrap_err();
    assert!(
        error.to_string().contains("e4srec.backbone.prompt"),
        "{error}"
    );
    let mut wrong = settings();
    wrong.completion = Completion::Prompt;
    let error = wrong.check().unwrap_err().to_string();
    assert!(error.contains("e4srec.completion = prompt"), "{error}");
    let mut wrong = history;
    wrong.backbone.line_tokens = 0;
    assert!(wrong.check().is_err());
}
