//! Trains one item encoder on all but the last item of each sequence, and prints the rank of that
//! last one: what the scenario `item-encoders` runs as a process of its own, so that libtorch is not
//! in the one that measures.
//!
//! `cargo run --release -p segue-e4srec --example leave_one_out -- SEQUENCES ENCODER [SETTINGS]`
//!
//! `SEQUENCES` is a file with a sequence a line, items separated by spaces, oldest first. `ENCODER`
//! is `sasrec`, `bert4rec` or `gru4rec`, `SETTINGS` a JSON object of its settings. The last line of
//! the output is a JSON object: `ranks` among the items that the sequence does not have before, in
//! the order of the lines, `ranks_of_all` among all items, `epochs`, `validation_loss`, `seconds`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{HashMap, HashSet};

use segue_e4srec::item_encoders::{ItemEncoder, ItemEncoderSettings};
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::{EventTime, TrackId, TrackKey, UserId};
use segue_nn::device::{self, DevicePreference};
use segue_recommend::recommender::{Admitted, Ask, CONTEXT_BLOCK, ContextPlay};
use segue_recommend::training::{Progress, TrainingLog};

/// Questions that are asked at once.
const ASKED: usize = 256;

/// Plays of these tracks, a second apart.
fn plays(tracks: &[TrackId]) -> Vec<ContextPlay> {
    let play = |(at, &track): (usize, &TrackId)| ContextPlay {
        track,
        at: EventTime::from_millis(at as i64 * 1_000),
        ratio: None,
        opens_session: at == 0,
    };
    tracks.iter().enumerate().map(play).collect()
}

/// The sequences as dense ids, and each id's name.
fn sequences(text: &str) -> (Vec<Vec<TrackId>>, Vec<&str>) {
    let (mut ids, mut names) = (HashMap::new(), Vec::new());
    let mut sequences = Vec::new();
    for line in text.lines() {
        let ids = line.split_whitespace().map(|name| {
            *ids.entry(name).or_insert_with(|| {
                names.push(name);
                TrackId(u32::try_from(names.len() - 1).expect("fewer than 2^32 items"))
            })
        });
        sequences.push(ids.collect());
    }
    (sequences, names)
}

fn settings(encoder: &str, json: &str) -> ItemEncoderSettings {
    let wrong = "settings of this encoder";
    match encoder {
        "sasrec" => ItemEncoderSettings::SasRec(serde_json::from_str(json).expect(wrong)),
        "bert4rec" => ItemEncoderSettings::Bert4Rec(serde_json::from_str(json).expect(wrong)),
        "gru4rec" => ItemEncoderSettings::Gru4Rec(serde_json::from_str(json).expect(wrong)),
        other => panic!("{other}: one of sasrec, bert4rec, gru4rec"),
    }
}

/// Says every so often how far it is.
struct Told {
    next: u64,
}

impl Progress for Told {
    fn step(&mut self, done: u64, total: u64, note: &str) {
        if done >= self.next {
            eprintln!("step {done} of at most {total}: {note}");
            self.next = done + total / 50 + 1;
        }
    }
}

/// Rank of `target` among all, and among those not in `before`; as bad as ties allow.
fn ranks(scores: &[(TrackId, f32)], before: &[TrackId], target: TrackId) -> (usize, usize) {
    let seen: HashSet<TrackId> = before.iter().copied().collect();
    let own = scores.iter().find(|(track, _)| *track == target);
    let Some(&(_, own)) = own else {
        return (scores.len() + 1, scores.len() + 1);
    };
    let ahead =
        |(_, score): &&(TrackId, f32)| !matches!(score.partial_cmp(&own), Some(o) if o.is_lt());
    let all = scores.iter().filter(ahead).count();
    let unseen = scores.iter().filter(ahead);
    let unseen = unseen.filter(|(track, _)| *track == target || !seen.contains(track));
    (all, unseen.count())
}

fn asked(
    model: &mut dyn ItemEncoder,
    sequences: &[Vec<TrackId>],
    items: usize,
) -> (Vec<usize>, Vec<usize>) {
    let (mut of_all, mut of_unseen) = (Vec::new(), Vec::new());
    for chunk in sequences.chunks(ASKED) {
        let histories: Vec<Vec<ContextPlay>> = chunk
            .iter()
            .map(|sequence| plays(&sequence[..sequence.len() - 1]))
            .collect();
        let block = CONTEXT_BLOCK as usize;
        let asks: Vec<Ask<'_>> = histories
            .iter()
            .zip(0u32..)
            .map(|(history, user)| Ask {
                user: UserId(user),
                plays: history.len() as u64,
                context: &history[(history.len() / block * block).saturating_sub(block)..],
            })
            .collect();
        let mut lists = Vec::new();
        model.recommend(&asks, items, &mut lists).unwrap();
        for (sequence, list) in chunk.iter().zip(&lists) {
            let scores: Vec<(TrackId, f32)> =
                list.tracks.iter().map(|s| (s.track, s.score)).collect();
            let (target, before) = sequence.split_last().expect("no empty sequence");
            let (all, unseen) = ranks(&scores, before, *target);
            of_all.push(all);
            of_unseen.push(unseen);
        }
    }
    (of_all, of_unseen)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, encoder, rest @ ..] = &arguments[..] else {
        panic!("leave_one_out SEQUENCES ENCODER [SETTINGS]");
    };
    let text = std::fs::read_to_string(path).expect("the file of sequences");
    let (sequences, names) = sequences(&text);
    let keys: Vec<TrackKey> = names
        .iter()
        .map(|name| TrackKey::from_names("item", name))
        .collect();
    let mut log = TrainingLog::default();
    for sequence in &sequences {
        log.push(plays(&sequence[..sequence.len() - 1]));
    }
    let device = device::choose(DevicePreference::Auto);
    eprintln!("{encoder}: {}", device.reason);
    let settings = settings(encoder, rest.first().map_or("{}", String::as_str));
    let clock = MachineClock::start();
    let begun = clock.now();
    let mut told = Told { next: 0 };
    let fit = settings.fit(&log, &keys, device.device, &mut told);
    let (mut model, report) = fit.expect("training");
    let seconds = clock.now().saturating_sub(begun).as_secs_f64();
    let admitted: Vec<Admitted<'_>> = keys
        .iter()
        .zip(0u32..)
        .map(|(&key, id)| Admitted {
            track: TrackId(id),
            key,
            names: None,
            content: None,
        })
        .collect();
    model.admit(&admitted).unwrap();
    let (of_all, of_unseen) = asked(&mut *model, &sequences, keys.len());
    println!(
        "{}",
        serde_json::json!({
            "encoder": settings.name(),
            "items": keys.len(),
            "epochs": report.epochs,
            "validation_loss": report.validation_loss,
            "seconds": seconds,
            "ranks": of_unseen,
            "ranks_of_all": of_all,
        })
    );
}
