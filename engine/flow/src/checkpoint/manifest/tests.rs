use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::remedy::Remedy;

fn example() -> Manifest {
    Manifest {
        number: 7,
        epoch: Epoch(42),
        created_by: "segue 0.1.0".to_owned(),
        body: ManifestBody {
            positions: vec![Position {
                topic: "listens".to_owned(),
                partition: 0,
                offset: Offset(41_982),
            }],
            partitions: 1,
            formats: BTreeMap::from([("sessions".to_owned(), 2)]),
            fixed: BTreeMap::from([("sessions.gap".to_owned(), "20m".to_owned())]),
        },
        parts: vec![PartEntry {
            name: "lane-0".to_owned(),
            bytes: 3,
            xxh3: "00".to_owned(),
        }],
    }
}

fn parse(text: &str) -> Result<Manifest, CheckpointError> {
    Manifest::parse("x/manifest.json", 7, text.as_bytes())
}

/// As version 1 was released; from now on each program has to read it.
const RELEASED_1: &str = include_str!("v1.json");

#[test]
fn the_released_version_is_written_and_read() {
    assert_eq!(example().to_text().unwrap(), RELEASED_1);
    assert_eq!(parse(RELEASED_1).unwrap(), example());
}

#[test]
fn a_newer_version_is_refused_with_the_file_its_version_and_ours() {
    let error = parse(&sealed(9, "{\"of\": \"the future\"}")).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Configure);
    assert!(
        error
            .to_string()
            .starts_with("x/manifest.json has version 9, and this program reads up to 1;"),
        "{error}"
    );
}

#[test]
fn an_older_version_climbs_the_chain_from_its_own_step() {
    fn offsets_by_partition(mut value: Value) -> Result<Value, String> {
        let offset = value["offset"].as_u64().ok_or("no offset")?;
        value["offsets"] = json!([offset]);
        Ok(value)
    }
    fn named(mut value: Value) -> Result<Value, String> {
        value["by"] = json!("nobody");
        Ok(value)
    }
    let chain: [Upgrade; 2] = [offsets_by_partition, named];
    let climb = |v, text: &str| current("x", sealed(v, text).as_bytes(), &chain);

    let from_1 = climb(1, "{\"offset\": 5}").unwrap();
    assert_eq!(from_1, json!({"offset": 5, "offsets": [5], "by": "nobody"}));
    let from_2 = climb(2, "{\"offsets\": [5, 6]}").unwrap();
    assert_eq!(from_2, json!({"offsets": [5, 6], "by": "nobody"}));
    assert_eq!(climb(3, "{}").unwrap(), json!({}));
    let error = climb(1, "{}").unwrap_err();
    assert_eq!(error.remedy(), Remedy::Restore);
    assert!(error.to_string().contains("version 1, found no offset"));
    assert!(matches!(climb(4, "{}"), Err(CheckpointError::Newer { .. })));
    assert!(matches!(
        climb(0, "{}"),
        Err(CheckpointError::Damaged { .. })
    ));
}

#[test]
fn a_manifest_of_another_checkpoint_or_with_a_path_for_a_name_is_damaged() {
    let error = Manifest::parse("x", 8, RELEASED_1.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("checkpoint 7"), "{error}");
    let mut outside = example();
    outside.parts[0].name = "../other/lane-0".to_owned();
    let error = parse(&outside.to_text().unwrap()).unwrap_err();
    assert!(error.to_string().contains("../other/lane-0"), "{error}");
    assert_eq!(error.remedy(), Remedy::Restore);
}

#[test]
fn a_manifest_cut_anywhere_is_damaged() {
    let text = RELEASED_1.trim_end();
    for end in 0..text.len() {
        let error = parse(&text[..end]).unwrap_err();
        assert_eq!(error.remedy(), Remedy::Restore, "cut at {end}: {error}");
    }
}

proptest! {
    #[test]
    fn one_wrong_bit_never_gives_another_manifest(at in 0..RELEASED_1.len(), bit in 0..8u8) {
        let mut text = RELEASED_1.as_bytes().to_vec();
        text[at] ^= 1 << bit;
        // Between the envelope's keys there is white space, which may become other white space.
        if let Ok(manifest) = Manifest::parse("x", 7, &text) {
            prop_assert_eq!(manifest, example());
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse("x", 7, &bytes);
    }

    #[test]
    fn a_hostile_manifest_never_panics(text in "[\\[\\]{}\":,0-9a-z ]{0,60}", v in 0..4u32) {
        let _ = Manifest::parse("x", 7, sealed(v, &text).as_bytes());
    }
}
