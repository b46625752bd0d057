//! Parts of vectors that come one after the other.

use segue_catalog::encoder::SegmentFault;
use segue_catalog::library::TrackMedia;
use segue_catalog::modality::ModalityKind;

use super::*;

const TEXT: Share = Share {
    encoder: 0,
    components: 0..2,
    is_last: false,
};
const AUDIO: Share = Share {
    encoder: 1,
    components: 2..3,
    is_last: true,
};

fn track(id: u32) -> TrackContent {
    TrackContent {
        track: TrackId(id),
        key: TrackKey(u128::from(id) + 1),
        artist: "a".into(),
        title: "t".into(),
    }
}

fn of(tracks: &[u32], rows: &[f32]) -> Encoded {
    Encoded {
        tracks: tracks.iter().copied().map(TrackId).collect(),
        rows: rows.to_vec(),
        ..Encoded::default()
    }
}

/// What would be admitted now, and no longer is after that.
fn admit(content: &mut Content) -> Vec<(u32, Option<Vec<f32>>)> {
    let changed = content.settle();
    let admitted = content.to_admit(&changed).into_iter();
    let admitted = admitted.map(|a| (a.track.0, a.content.map(<[f32]>::to_vec)));
    let admitted = admitted.collect();
    content.admitted();
    admitted
}

#[test]
fn tracks_are_admitted_once_and_vectors_when_they_come() {
    let mut content = Content::new(2);
    content.sighted(track(0));
    content.sighted(track(1));
    content.announced(2);
    assert_eq!(admit(&mut content), [(0, None), (1, None)]);
    assert!(admit(&mut content).is_empty());
    let failed = vec![(TrackId(0), "why".to_owned())];
    let encoded = Encoded {
        failed,
        ..of(&[1], &[0.6, 0.8])
    };
    content.take(&TEXT, encoded);
    assert_eq!(content.outstanding(), 0);
    assert!(content.told().iter().all(|track| track.content.is_none()));
    assert_eq!(admit(&mut content), [(1, Some(vec![0.6, 0.8]))]);
    assert_eq!((content.encoded(), content.failed()), (1, 1));
    assert_eq!(content.vector(TrackId(0)), None);
    let [fault] = &content.take_faults()[..] else {
        panic!("one of them");
    };
    assert_eq!((fault.track, &*fault.why), (TrackId(0), "why"));
    assert!(content.take_faults().is_empty() && content.faults() == 1);
}

#[test]
fn a_vector_is_admitted_by_parts_and_what_takes_the_place_of_a_part_too() {
    let mut content = Content::new(3);
    content.sighted(track(0));
    content.take(&TEXT, of(&[0], &[0.6, 0.8]));
    assert_eq!(admit(&mut content), [(0, Some(vec![0.6, 0.8, 0.0]))]);
    content.take(&AUDIO, of(&[0], &[1.0]));
    // Until then those who were told are told the same again.
    assert_eq!(content.told()[0].content, Some(&[0.6, 0.8, 0.0][..]));
    let kept = rmp_serde::to_vec(&content).unwrap();
    let mut content: Content = rmp_serde::from_slice(&kept).unwrap();
    assert_eq!(admit(&mut content), [(0, Some(vec![0.6, 0.8, 1.0]))]);
    content.take(&AUDIO, of(&[0], &[1.0]));
    assert!(admit(&mut content).is_empty(), "nothing is new");
    content.take(&AUDIO, of(&[0], &[-1.0]));
    assert_eq!(admit(&mut content), [(0, Some(vec![0.6, 0.8, -1.0]))]);
    assert_eq!((content.encoded(), content.failed()), (1, 0));
}

#[test]
fn what_is_heard_makes_up_for_a_name_that_is_missing() {
    let mut content = Content::new(3);
    content.sighted(track(0));
    let failed = vec![(TrackId(0), "no name".to_owned())];
    let encoded = Encoded {
        failed,
        ..Encoded::default()
    };
    content.take(&TEXT, encoded);
    content.take(&AUDIO, of(&[0], &[1.0]));
    assert_eq!(content.vector(TrackId(0)), Some(&[0.0, 0.0, 1.0][..]));
    assert_eq!((content.encoded(), content.failed()), (1, 0));
    let fault = SegmentFault {
        track: TrackId(0),
        kind: ModalityKind::Audio,
        detail: "gone".into(),
    };
    let spoilt = Encoded {
        faults: vec![fault],
        ..of(&[0], &[0.0])
    };
    content.take(&AUDIO, spoilt);
    let kept = Some(&[0.0, 0.0, 1.0][..]);
    assert_eq!(content.vector(TrackId(0)), kept, "better than nothing");
    content.sighted(track(1));
    content.take(&AUDIO, of(&[1], &[0.0]));
    assert_eq!(content.vector(TrackId(1)), None, "all zeros is no vector");
    let told = content.take_faults();
    let told: Vec<_> = told.iter().map(|fault| &*fault.modality).collect();
    assert_eq!(told, ["audio", "content"]);
}

#[test]
fn after_a_restart_is_asked_again_what_was_not_answered_or_has_changed() {
    let mut library = Library::default();
    let said = |album: &str| TrackMedia {
        album: Some(album.into()),
        ..TrackMedia::default()
    };
    library.insert(TrackKey(2), said("A"));
    let mut content = Content::new(3);
    for id in 0..3 {
        content.sighted(track(id));
    }
    let waiting = |content: &mut Content, library: &Library| {
        let of = |content: &mut Content, share| -> Vec<u32> {
            let waiting = content.unanswered(share, library).into_iter();
            waiting.map(|track| track.0).collect()
        };
        (of(content, &TEXT), of(content, &AUDIO))
    };
    content.take(&TEXT, of(&[0, 1], &[1.0, 0.0, 0.0, 1.0]));
    let stamped = |tracks: &[u32], library: &Library| {
        let stamp = |&id: &u32| (TrackId(id), library.stamp(&track(id)));
        Encoded {
            stamps: tracks.iter().map(stamp).collect(),
            ..of(tracks, &vec![0.5; tracks.len()])
        }
    };
    content.take(&AUDIO, stamped(&[0, 1], &library));
    assert_eq!(waiting(&mut content, &library), (vec![2], vec![2]));

    library.insert(TrackKey(2), said("B"));
    assert_eq!(waiting(&mut content, &library), (vec![1, 2], vec![1, 2]));
    // Who has answered anew is not asked again, even if the other has not.
    content.take(&AUDIO, stamped(&[1], &library));
    assert_eq!(waiting(&mut content, &library), (vec![1, 2], vec![2]));
    content.take(&TEXT, of(&[1], &[1.0, 1.0]));
    let nothing = Library::default();
    assert_eq!(waiting(&mut content, &nothing), (vec![1, 2], vec![1, 2]));

    // One of before, which did not keep who has answered.
    content.answered.clear();
    content.stamps.clear();
    let mut content = content.restored();
    assert_eq!(waiting(&mut content, &nothing), (vec![2], vec![0, 1, 2]));
}
