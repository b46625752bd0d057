use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

type State = BTreeMap<String, Vec<(u32, i64, Option<f64>)>>;

fn example() -> State {
    let plays = vec![(1, -5, Some(0.5)), (u32::MAX, i64::MAX, None)];
    BTreeMap::from([("ann".to_owned(), plays), ("bob".to_owned(), Vec::new())])
}

#[test]
fn a_state_comes_back() {
    let bytes = encode("listeners", 3, &example()).unwrap();
    assert_eq!(decode::<State>("listeners", 3, &bytes).unwrap(), example());
}

#[test]
fn another_room_and_other_versions_are_refused_by_name() {
    let bytes = encode("listeners", 3, &example()).unwrap();
    let refused = |room, version| decode::<State>(room, version, &bytes).unwrap_err();
    let other = refused("directory", 3);
    assert_eq!(other.remedy(), Remedy::Restore);
    assert!(other.to_string().contains("\"listeners\""), "{other}");
    assert!(other.to_string().contains("directory"), "{other}");
    let newer = refused("listeners", 2);
    assert_eq!(newer.remedy(), Remedy::Configure);
    assert_eq!(
        newer.to_string(),
        "a state of listeners in version 3, and this program reads up to 2"
    );
    assert!(matches!(
        refused("listeners", 4),
        EncodingError::Older { .. }
    ));
}

#[test]
fn a_cut_anywhere_and_anything_appended_is_refused() {
    let whole = encode("listeners", 1, &example()).unwrap();
    for end in 0..whole.len() {
        assert!(decode::<State>("listeners", 1, &whole[..end]).is_err());
    }
    let longer = [&whole[..], &[0xc0]].concat();
    assert!(decode::<State>("listeners", 1, &longer).is_err());
}

#[test]
fn a_body_with_more_than_one_state_is_refused() {
    for trailing in [&[0xc0][..], &[0x91], &[0xc1], &[0x91, 0x91]] {
        let mut bytes = encode("clock", 1, &7u8).unwrap();
        let length = bytes.len() - 1 - 8;
        bytes.extend_from_slice(trailing);
        bytes[length] += trailing.len() as u8;
        let error = decode::<u8>("clock", 1, &bytes).unwrap_err();
        assert!(error.to_string().contains("left after"), "{error}");
    }
}

/// `count` elements are claimed and none is there.
fn claims(marker: u8, count: u32) -> Vec<u8> {
    let mut bytes = encode("listeners", 1, &()).unwrap();
    bytes.truncate(bytes.len() - 9);
    bytes.extend_from_slice(&5u64.to_le_bytes());
    bytes.push(marker);
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes
}

#[test]
fn what_a_length_merely_claims_is_not_allocated() {
    let (array, map, text, binary) = (0xdd, 0xdf, 0xdb, 0xc6);
    assert!(decode::<Vec<u64>>("listeners", 1, &claims(array, u32::MAX)).is_err());
    assert!(decode::<HashMap<u64, u64>>("listeners", 1, &claims(map, u32::MAX)).is_err());
    assert!(decode::<String>("listeners", 1, &claims(text, u32::MAX)).is_err());
    assert!(decode::<String>("listeners", 1, &claims(binary, u32::MAX)).is_err());
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<State>("listeners", 1, &bytes);
    }

    #[test]
    fn a_hostile_body_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = encode("listeners", 1, &()).unwrap();
        bytes.truncate(bytes.len() - 9);
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        let _ = decode::<State>("listeners", 1, &bytes);
    }
}
