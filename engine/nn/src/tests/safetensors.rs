//! Safetensors: shards, and files that are not what they say.

use std::path::Path;

use tch::Tensor;

use crate::weights::{Weights, WeightsError};

fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    Tensor::write_safetensors(tensors, path).unwrap();
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(
        &at("one.safetensors"),
        &[("a", Tensor::from_slice(&[1f32, 2.0]))],
    );
    let half = Tensor::from_slice(&[0.5f32]).to_kind(tch::Kind::BFloat16);
    write(&at("two.safetensors"), &[("b", half)]);
    let index = r#"{"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    std::fs::write(at("model.safetensors.index.json"), index).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.names(), ["a", "b"]);
    assert_eq!(weights.get("b").unwrap().double_value(&[0]), 0.5);
    assert_eq!(weights.get("b").unwrap().kind(), tch::Kind::Float);
    assert!(matches!(
        weights.get("c"),
        Err(WeightsError::Missing { .. })
    ));
    let error = weights.get_shaped("a", &[3]).unwrap_err();
    assert!(
        matches!(&error, WeightsError::Shape { got, .. } if got == &[2]),
        "{error}"
    );

    let outside = index.replace("two.safetensors", "../two.safetensors");
    std::fs::write(at("model.safetensors.index.json"), outside).unwrap();
    assert!(matches!(
        Weights::open(folder.path()),
        Err(WeightsError::Damaged { .. })
    ));
}

#[test]
fn cut_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    assert!(matches!(
        Weights::open(folder.path()),
        Err(WeightsError::NotFound(_))
    ));
    assert!(matches!(
        Weights::open(&file),
        Err(WeightsError::Open { .. })
    ));
    write(&file, &[("a", Tensor::from_slice(&[1f32, 2.0, 3.0]))]);
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 4, 12, whole.len() - 1] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let error = Weights::open(&file).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{cut}: {error}");
    }
    std::fs::write(&file, [0xff; 64]).unwrap();
    assert!(matches!(
        Weights::open(&file),
        Err(WeightsError::Damaged { .. })
    ));
}
