//! What every index promises, asked of each kind in turn; exact search is the oracle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod explained;
mod kept;
mod kinds;
mod random;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use segue_recall::{
    GraphHealth, GraphWriter, Hit, IndexWriter, Metric, Published, Settings, Vector, VectorError,
};

use kinds::{
    DIMENSIONS, KINDS, agreement, any, clustered, fill, find, graph, lost, oracle, vector,
};

#[test]
fn what_was_inserted_is_found_among_a_thousand_twins_too() {
    let mut vectors = clustered(5000, 1);
    let twin = vectors[17].clone();
    vectors[2000..3000].fill(twin.clone());
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        fill(&mut *writer, &vectors);
        let index = writer.publish(1);
        assert_eq!((index.len(), index.version().epoch), (5000, 1), "{name}");
        assert_eq!(lost(&*index, &vectors), [0usize; 0], "{name}");
        let twins = find(&*index, &twin, 1001, &any);
        let twins: BTreeSet<_> = twins.iter().map(|hit| hit.track.row()).collect();
        assert_eq!(twins, (2000..3000).chain([17]).collect(), "{name}");
    }
}

#[test]
fn what_was_inserted_is_found_while_the_graph_grows_bit_by_bit() {
    let vectors = clustered(2100, 2);
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        for (epoch, batch) in (0..2100u32).collect::<Vec<_>>().chunks(150).enumerate() {
            for &id in batch {
                writer
                    .upsert(TrackId(id), vector(&vectors[id as usize]))
                    .unwrap();
            }
            let index = writer.publish(epoch as u64);
            for &id in batch {
                let hits = find(&*index, &vectors[id as usize], 1, &any);
                assert_eq!(hits[0].track, TrackId(id), "{name}, epoch {epoch}");
            }
        }
    }
}

#[test]
fn recall_against_the_oracle() {
    let vectors = clustered(5000, 3);
    let queries = clustered(200, 4);
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        let oracle = oracle(metric, &vectors);
        for (name, make) in KINDS {
            let mut writer = make(metric);
            fill(&mut *writer, &vectors);
            let recall = agreement(&*writer.publish(1), &*oracle, &queries, &any);
            println!("{name}, {metric:?}: recall@10 = {recall:.4}");
            assert!(recall >= 0.95, "{name}, {metric:?}: recall@10 = {recall}");
        }
    }
}

#[test]
fn a_filter_is_obeyed_in_full_and_costs_no_hits() {
    let vectors = clustered(4000, 5);
    let queries = clustered(30, 6);
    let oracle = oracle(Metric::Cosine, &vectors);
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        fill(&mut *writer, &vectors);
        let index = writer.publish(1);
        for one_in in [2, 10, 100, 1000, 4000, 1_000_000] {
            let keep = |track: TrackId| track.row() % one_in == 1;
            for query in &queries {
                assert!(
                    find(&*index, query, 10, &keep)
                        .iter()
                        .all(|hit| keep(hit.track))
                );
            }
            if one_in <= 1000 {
                let recall = agreement(&*index, &*oracle, &queries, &keep);
                assert!(recall >= 0.95, "{name}, one in {one_in}: {recall}");
            }
        }
        assert!(find(&*index, &queries[0], 10, &|_| false).is_empty());
    }
}

#[test]
fn the_removed_never_come_back_and_updates_move() {
    let vectors = clustered(3000, 7);
    let moved = clustered(3000, 8);
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        fill(&mut *writer, &vectors);
        let before = writer.publish(1);
        // A third goes, a third moves; twice, so that slots are left and taken again.
        for round in 0..2 {
            for id in 0..3000u32 {
                match id % 3 {
                    0 => writer.remove(TrackId(id)),
                    1 => {
                        let to = if round == 0 {
                            &vectors[id as usize - 1]
                        } else {
                            &moved[id as usize]
                        };
                        writer.upsert(TrackId(id), vector(to)).unwrap();
                    }
                    _ => {}
                }
            }
        }
        let after = writer.publish(2);
        assert_eq!((before.len(), after.len()), (3000, 2000), "{name}");
        for id in (0..3000).step_by(7) {
            let track = TrackId(id as u32);
            let hits = find(&*after, &vectors[id], 20, &any);
            assert!(hits.iter().all(|hit| hit.track.0 % 3 != 0), "{name}");
            assert_eq!(
                hits.iter()
                    .any(|hit| hit.track == track && hit.score > 0.999),
                id % 3 == 2
            );
            if id % 3 == 1 {
                assert_eq!(find(&*after, &moved[id], 1, &any)[0].track, track, "{name}");
            }
            // The old snapshot still answers as it was.
            assert_eq!(
                find(&*before, &vectors[id], 1, &any)[0].track,
                track,
                "{name}"
            );
        }
        assert!(after.row(TrackId(0)).is_none() && before.row(TrackId(0)).is_some());
        for id in 0..3000 {
            writer.remove(TrackId(id));
        }
        assert!(
            find(&*writer.publish(3), &vectors[0], 10, &any).is_empty(),
            "{name}"
        );
        writer.upsert(TrackId(5), vector(&vectors[0])).unwrap();
        assert_eq!(
            find(&*writer.publish(4), &vectors[0], 10, &any)[0].track,
            TrackId(5),
            "{name}"
        );
    }
}

#[test]
fn a_worn_out_graph_is_replaced_without_a_gap() {
    let mut writer = graph(Metric::Cosine, 200);
    let mut latest = clustered(1500, 0);
    fill(&mut writer, &latest);
    let mut epoch = 0;
    for round in 1..4 {
        latest = clustered(1500, round);
        for (batch, ids) in (0..1500u32).collect::<Vec<_>>().chunks(150).enumerate() {
            for &id in ids {
                writer
                    .upsert(TrackId(id), vector(&latest[id as usize]))
                    .unwrap();
            }
            epoch += 1;
            let index = writer.publish(epoch);
            for &id in ids.iter().step_by(25) {
                let hits = find(&*index, &latest[id as usize], 1, &any);
                assert_eq!(hits[0].track, TrackId(id), "round {round}, batch {batch}");
            }
        }
    }
    let GraphHealth {
        points,
        dead,
        swept,
        ..
    } = writer.health();
    assert!(swept >= 1000, "{:?}", writer.health());
    assert!(dead * 2 <= points + 1000, "{:?}", writer.health());
    let index = writer.publish(epoch + 1);
    assert_eq!(lost(&*index, &latest), [0usize; 0]);
}

#[test]
fn the_edges_of_a_search() {
    let vectors = clustered(50, 9);
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        for (name, make) in KINDS {
            let mut writer = make(metric);
            let empty = writer.publish(0);
            assert!(
                empty.is_empty() && find(&*empty, &vectors[0], 10, &any).is_empty(),
                "{name}"
            );
            writer.remove(TrackId(3));
            fill(&mut *writer, &vectors[..1]);
            assert_eq!(
                find(&*writer.publish(1), &vectors[9], 10, &any).len(),
                1,
                "{name}"
            );
            fill(&mut *writer, &vectors);
            let index = writer.publish(2);
            assert!(find(&*index, &vectors[0], 0, &any).is_empty(), "{name}");
            assert_eq!(find(&*index, &vectors[0], 50, &any).len(), 50, "{name}");
            assert_eq!(
                find(&*index, &vectors[0], usize::MAX, &any).len(),
                50,
                "{name}"
            );
        }
    }
}

#[test]
fn what_is_no_vector_is_refused_with_its_reason_and_changes_nothing() {
    assert!(Vector::check(&[f32::NAN; DIMENSIONS], DIMENSIONS).is_err());
    assert!(Vector::check(&[0.0; DIMENSIONS], DIMENSIONS).is_err());
    let short = [1.0; 3];
    let short = Vector::check(&short, 3).unwrap();
    let good = vec![1.0; DIMENSIONS];
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        writer.upsert(TrackId(1), vector(&good)).unwrap();
        let error = writer.upsert(TrackId(1), short).unwrap_err().to_string();
        assert!(
            error.starts_with("vector of track 1: 3 components where 24"),
            "{name}: {error}"
        );
        let error = writer
            .upsert(TrackId(u32::MAX), vector(&good))
            .unwrap_err()
            .to_string();
        assert!(error.contains("recall.max_tracks"), "{name}: {error}");
        let index = writer.publish(1);
        let mut hits = vec![Hit {
            track: TrackId(9),
            score: 0.0,
        }];
        let error = index.search(short, 10, &any, &mut hits).unwrap_err();
        assert_eq!(
            error,
            VectorError::Length {
                found: 3,
                expected: DIMENSIONS
            },
            "{name}"
        );
        assert!(hits.is_empty());
        assert_eq!(find(&*index, &good, 10, &any).len(), 1, "{name}");
    }
    assert!(
        GraphWriter::new(
            8,
            Settings {
                m: 257,
                ..Settings::default()
            }
        )
        .is_err()
    );
    assert!(GraphWriter::new(0, Settings::default()).is_err());
}

#[test]
fn the_longest_and_the_shortest_vectors_are_ranked_too() {
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        for (name, make) in KINDS {
            let mut writer = make(metric);
            let mut vectors = clustered(300, 10);
            for (id, numbers) in vectors.iter_mut().enumerate() {
                let factor = [1e-30, 1.0, 1e30][id % 3];
                numbers.iter_mut().for_each(|x| *x *= factor);
            }
            if name.ends_with("16 bits") && metric == Metric::InnerProduct {
                let refused = writer.upsert(TrackId(2), vector(&vectors[2])).unwrap_err();
                assert!(refused.to_string().contains("recall.storage"), "{refused}");
                continue;
            }
            fill(&mut *writer, &vectors);
            let hits = find(&*writer.publish(1), &vectors[2], 5, &any);
            assert!(
                hits.len() == 5 && hits.iter().all(|hit| hit.score.is_finite()),
                "{name}"
            );
        }
    }
}

#[test]
fn two_readers_search_while_the_writer_inserts() {
    let vectors = clustered(2400, 11);
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        fill(&mut *writer, &vectors[..1000]);
        let published = Published::new(writer.publish(0));
        let done = AtomicBool::new(false);
        let searches: usize = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2u64)
                .map(|reader| {
                    let (published, done, vectors) = (&published, &done, &vectors);
                    scope.spawn(move || {
                        let mut random = ChaCha8Rng::seed_from_u64(reader);
                        let (mut searches, mut version) = (0, published.version());
                        while !done.load(Ordering::Acquire) || searches < 100 {
                            let index = published.current();
                            assert!(index.version() >= version);
                            version = index.version();
                            // Track ids are given in order: all below len() are in the snapshot.
                            let id = random.random_range(0..index.len());
                            let hits = find(&*index, &vectors[id], 10, &any);
                            assert!(hits.iter().all(|hit| hit.track.row() < index.len()));
                            assert_eq!(hits[0].track.row(), id, "{name}");
                            searches += 1;
                        }
                        searches
                    })
                })
                .collect();
            for (epoch, ids) in (1000..2400u32).collect::<Vec<_>>().chunks(200).enumerate() {
                for &id in ids {
                    writer
                        .upsert(TrackId(id), vector(&vectors[id as usize]))
                        .unwrap();
                }
                let next = writer.publish(epoch as u64 + 1);
                let before = published.swap(next);
                assert_eq!(before.version().epoch, epoch as u64);
            }
            done.store(true, Ordering::Release);
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .sum()
        });
        assert!(searches >= 200, "{name}");
        assert_eq!(published.current().len(), 2400);
    }
}

#[test]
fn the_same_changes_twice_give_the_same_answers() {
    let vectors = clustered(2500, 12);
    let queries = clustered(100, 13);
    for (name, make) in KINDS {
        let run = || {
            let mut writer = make(Metric::Cosine);
            let mut answers = Vec::new();
            for (epoch, part) in [&vectors[..1500], &vectors[..]].into_iter().enumerate() {
                fill(&mut *writer, part);
                (0..2500)
                    .step_by(9)
                    .for_each(|id| writer.remove(TrackId(id)));
                let index = writer.publish(epoch as u64);
                answers.push(index.version().to_string());
                for query in &queries {
                    for hit in find(&*index, query, 10, &any) {
                        answers.push(format!("{} {:08x}", hit.track.0, hit.score.to_bits()));
                    }
                }
            }
            answers
        };
        assert!(run() == run(), "{name}");
    }
}
