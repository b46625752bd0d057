//! What a search says of itself is what happened.

use segue_listen::TrackId;
use segue_recall::explain::{Origin, Path, Reason};
use segue_recall::{Hit, IndexWriter, Metric};

use crate::kinds::{KINDS, any, clustered, fill, find, graph, vector};

#[test]
fn an_explained_search_is_the_search_and_says_where_each_hit_was() {
    let vectors = clustered(1500, 21);
    for (name, make) in KINDS {
        let mut writer = make(Metric::Cosine);
        fill(&mut *writer, &vectors);
        let index = writer.publish(7);
        let mut hits = Vec::<Hit>::new();
        let note = index
            .explain(vector(&vectors[3]), 10, &any, &mut hits)
            .unwrap();
        assert_eq!(hits, find(&*index, &vectors[3], 10, &any), "{name}");
        assert_eq!(note.origins.len(), 10, "{name}");
        assert_eq!(note.version, index.version(), "{name}");
        let said = note.to_string();
        assert!(said.starts_with("epoch 7 change 1500: "), "{said}");
    }
}

#[test]
fn the_path_and_its_reason_are_told() {
    let vectors = clustered(3000, 22);
    let mut writer = graph(Metric::Cosine, usize::MAX);
    fill(&mut writer, &vectors[..2500]);
    let full = writer.publish(1);
    let mut hits = Vec::new();
    let query = vector(&vectors[2400]);
    let note = full.explain(query, 10, &any, &mut hits).unwrap();
    assert_eq!(note.path, Path::Graph);
    assert!(note.layers >= 2 && note.breadths == [128] && note.compared >= 128);
    assert_eq!((note.scanned, note.selectivity()), (0, 1.0));
    assert!(note.origins.iter().all(|&origin| origin == Origin::Graph));

    let rare = |track: TrackId| track.0.is_multiple_of(500);
    let note = full.explain(query, 10, &rare, &mut hits).unwrap();
    assert_eq!(note.path, Path::Exact(Reason::Selective));
    assert_eq!((hits.len(), note.scanned), (5, 5));
    assert!(note.to_string().contains("the filter lets few through"));

    let wide = full.explain(query, 1000, &any, &mut hits).unwrap();
    assert_eq!(wide.path, Path::Exact(Reason::Wide));

    let none = full.explain(query, 0, &any, &mut hits).unwrap();
    assert_eq!((none.path, none.origins.len()), (Path::Empty, 0));

    // What came since waits in the tail, and is found there.
    let mut writer = graph(Metric::Cosine, 0);
    fill(&mut writer, &vectors[..2500]);
    writer.settle(2400);
    let tailed = writer.publish(2);
    let note = tailed
        .explain(vector(&vectors[2450]), 1, &any, &mut hits)
        .unwrap();
    assert_eq!((note.path, note.scanned), (Path::Graph, 100));
    assert_eq!(note.origins, [Origin::Tail]);
    assert_eq!(hits[0].track, TrackId(2450));
}
