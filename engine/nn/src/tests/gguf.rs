//! GGUF: a forged file reads back, every tampering is an error.

use std::path::PathBuf;

use crate::weights::gguf::GgufValue;
use crate::weights::{Weights, WeightsError};

/// A GGUF file being written, as `docs/gguf.md` of ggml lays it out.
#[derive(Default)]
struct Forge {
    keys: u64,
    metadata: Vec<u8>,
    tensors: u64,
    table: Vec<u8>,
    data: Vec<u8>,
}

impl Forge {
    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys += 1;
        self.metadata.extend(text(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self
    }

    /// `shape` innermost first, as the file has it.
    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, data: &[u8]) -> Self {
        self.tensors += 1;
        self.table.extend(text(name));
        self.table.extend((shape.len() as u32).to_le_bytes());
        for size in shape {
            self.table.extend(size.to_le_bytes());
        }
        self.table.extend(kind.to_le_bytes());
        self.table.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensors.to_le_bytes());
        bytes.extend(self.keys.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.table);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}

fn open(bytes: &[u8]) -> Result<Weights, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("forged.gguf");
    std::fs::write(&file, bytes).unwrap();
    Weights::open(&file)
}

fn values(weights: &Weights, name: &str) -> Vec<f32> {
    let tensor = weights.get(name).unwrap().reshape([-1]);
    (0..tensor.numel())
        .map(|i| tensor.double_value(&[i as i64]) as f32)
        .collect()
}

fn llama() -> Forge {
    Forge::default()
        .key("general.architecture", 8, &text("llama"))
        .key("llama.attention.head_count", 4, &1u32.to_le_bytes())
        .key("llama.attention.head_count_kv", 4, &1u32.to_le_bytes())
}

#[test]
fn names_shapes_and_row_order_are_the_published_ones() {
    let order = floats(&[0.0, 2.0, 1.0, 3.0]);
    let weights = open(
        &llama()
            .tensor(
                "token_embd.weight",
                &[2, 3],
                0,
                &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            )
            .tensor("blk.12.attn_q.weight", &[1, 4], 0, &order)
            .tensor("blk.12.attn_v.weight", &[1, 4], 0, &order)
            .bytes(),
    )
    .unwrap();
    let embedding = weights
        .get_shaped("model.embed_tokens.weight", &[3, 2])
        .unwrap();
    assert_eq!(embedding.double_value(&[2, 0]), 5.0);
    // Rows of queries are stored as pairs (0, 2), (1, 3); values as they are.
    assert_eq!(
        values(&weights, "model.layers.12.self_attn.q_proj.weight"),
        [0.0, 1.0, 2.0, 3.0]
    );
    assert_eq!(
        values(&weights, "model.layers.12.self_attn.v_proj.weight"),
        [0.0, 2.0, 1.0, 3.0]
    );
}

#[test]
fn blocks_are_dequantised_as_ggml_does() {
    let nibbles: Vec<u8> = (0..16).map(|j| j | (15 - j) << 4).collect();
    let blocks = |parts: &[&[u8]]| parts.concat();
    let high = 0x8000_0001u32.to_le_bytes();
    let mut bytes8 = half(0.5).to_vec();
    bytes8.extend((0..32u8).map(|j| j.wrapping_sub(16)));
    let weights = open(
        &llama()
            .tensor("q4_0", &[32], 2, &blocks(&[&half(2.0), &nibbles]))
            .tensor(
                "q4_1",
                &[32],
                3,
                &blocks(&[&half(2.0), &half(0.5), &nibbles]),
            )
            .tensor("q5_0", &[32], 6, &blocks(&[&half(1.0), &high, &nibbles]))
            .tensor(
                "q5_1",
                &[32],
                7,
                &blocks(&[&half(1.0), &half(0.25), &high, &nibbles]),
            )
            .tensor("q8_0", &[32], 8, &bytes8)
            .tensor("f16", &[2], 1, &blocks(&[&half(1.5), &half(-2.0)]))
            .tensor("bf16", &[1], 30, &half::bf16::from_f32(3.0).to_le_bytes())
            .bytes(),
    )
    .unwrap();
    let ends = |name: &str| {
        let values = values(&weights, name);
        (values[0], values[1], values[16], values[31])
    };
    assert_eq!(ends("q4_0"), (-16.0, -14.0, 14.0, -16.0));
    assert_eq!(ends("q4_1"), (0.5, 2.5, 30.5, 0.5));
    // Bits 0 and 31 of `high` add 16 to the first and the last value.
    assert_eq!(ends("q5_0"), (0.0, -15.0, -1.0, 0.0));
    assert_eq!(ends("q5_1"), (16.25, 1.25, 15.25, 16.25));
    assert_eq!(ends("q8_0"), (-8.0, -7.5, 0.0, 7.5));
    assert_eq!(values(&weights, "f16"), [1.5, -2.0]);
    assert_eq!(values(&weights, "bf16"), [3.0]);
}

/// The `gguf` package's own reading of seeded blocks (`tests/golden/blocks.py`).
fn golden() -> (Weights, serde_json::Map<String, serde_json::Value>) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/blocks");
    let table = Weights::open(format!("{folder}.safetensors").as_ref()).unwrap();
    let about: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{folder}.json")).unwrap()).unwrap();
    (table, about["types"].as_object().unwrap().clone())
}

/// The blocks of one format as a file with one tensor, `[rows, values]`, called `name`.
fn of_golden(table: &Weights, format: &str, number: u32, name: &str) -> (Forge, [i64; 2]) {
    let bytes = values(table, &format!("{format}.bytes"));
    let bytes: Vec<u8> = bytes.iter().map(|&byte| byte as u8).collect();
    let shape = table
        .get(&format!("{format}.values"))
        .unwrap()
        .size2()
        .unwrap();
    let size = [shape.1 as u64, shape.0 as u64];
    (llama().tensor(name, &size, number, &bytes), shape.into())
}

#[test]
fn every_format_reads_as_in_the_gguf_package() {
    let (table, types) = golden();
    assert_eq!(types.len(), 8);
    for (format, number) in types {
        let number = number.as_u64().unwrap() as u32;
        let (forge, shape) = of_golden(&table, &format, number, "t");
        let mine = open(&forge.bytes())
            .unwrap()
            .get_shaped("t", &shape)
            .unwrap();
        let theirs = table.get(&format!("{format}.values")).unwrap();
        assert_eq!(mine, theirs, "{format}");
    }
}

#[test]
fn blocks_of_four_bits_are_taken_as_they_are() {
    let (table, _) = golden();
    // The rows of a query projection are put back in order, packed or not.
    for name in ["blk.0.ffn_up.weight", "blk.0.attn_q.weight"] {
        for (format, number, apart) in [("Q4_0", 2, 0.0), ("Q4_1", 3, 0.0), ("Q4_K", 12, 1e-3)] {
            let (forge, shape) = of_golden(&table, format, number, name);
            let weights = open(&forge.bytes()).unwrap();
            let published = weights.names().remove(0);
            let packed = weights.get_packed(&published, shape.into()).unwrap();
            let plain = weights.get(&published).unwrap();
            let off = (packed.unpacked(tch::Kind::Float).unwrap() - &plain).norm() / plain.norm();
            assert!(off.double_value(&[]) <= apart, "{format} {name}: {off:?}");
        }
    }
}

#[test]
fn large_blocks_that_are_cut_or_do_not_fill_a_row_are_refused() {
    for (number, size) in [(12, 144), (13, 176), (14, 210)] {
        let whole = llama().tensor("t", &[256, 2], number, &vec![0x5a; 2 * size]);
        let bytes = whole.bytes();
        let padding = (2 * size).next_multiple_of(32) - 2 * size;
        let opened = open(&bytes).unwrap();
        assert_eq!(opened.get("t").unwrap().numel(), 512);
        // What random scales make of it may be anything, packed or not, but an answer.
        drop(opened.get_packed("t", (2, 256)));
        let cut = open(&bytes[..bytes.len() - padding - 1]).unwrap_err();
        assert!(matches!(cut, WeightsError::Damaged { .. }), "{cut}");
        let narrow = llama().tensor("t", &[128, 4], number, &vec![0; 2 * size]);
        let narrow = open(&narrow.bytes()).unwrap_err();
        assert!(matches!(narrow, WeightsError::Damaged { .. }), "{narrow}");
    }
}

#[test]
fn metadata_of_every_kind_is_read() {
    let mut list = 8u32.to_le_bytes().to_vec();
    list.extend(2u64.to_le_bytes());
    list.extend([text("a"), text("b")].concat());
    let weights = open(
        &llama()
            .key("eps", 6, &1e-5f32.to_le_bytes())
            .key("signed", 5, &(-3i32).to_le_bytes())
            .key("yes", 7, &[1])
            .key("tokens", 9, &list)
            .bytes(),
    )
    .unwrap();
    let gguf = weights.gguf().unwrap();
    assert_eq!(gguf.float("eps").unwrap(), f64::from(1e-5f32));
    assert_eq!(gguf.integer("signed").unwrap(), -3);
    assert_eq!(gguf.metadata("yes"), Some(&GgufValue::Integer(1)));
    assert_eq!(gguf.texts("tokens").unwrap(), ["a", "b"]);
    let error = gguf.texts("eps").unwrap_err().to_string();
    assert!(
        error.contains("`eps`") && error.contains("forged.gguf"),
        "{error}"
    );
}

#[test]
fn every_cut_is_an_error_that_names_the_file() {
    let bytes = llama()
        .tensor(
            "blk.0.attn_q.weight",
            &[1, 4],
            0,
            &floats(&[0.0, 2.0, 1.0, 3.0]),
        )
        .bytes();
    // The last 16 bytes are padding after the only tensor.
    for cut in 0..bytes.len() - 16 {
        let error = open(&bytes[..cut])
            .expect_err(&format!("cut at {cut}"))
            .to_string();
        assert!(error.contains("forged.gguf"), "{error}");
    }
    assert!(open(&bytes).is_ok());
}

#[test]
fn no_flipped_byte_panics() {
    let bytes = llama()
        .tensor(
            "blk.0.attn_q.weight",
            &[1, 4],
            0,
            &floats(&[0.0, 2.0, 1.0, 3.0]),
        )
        .bytes();
    for at in 0..bytes.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut forged = bytes.clone();
            forged[at] = value;
            if let Ok(weights) = open(&forged) {
                for name in weights.names() {
                    // Right or wrong, but an answer.
                    drop(weights.get(&name));
                }
            }
        }
    }
}

#[test]
fn forged_counts_and_sizes_are_refused_before_anything_is_reserved() {
    let huge = u64::MAX.to_le_bytes();
    let good = llama().tensor("t", &[4], 0, &floats(&[0.0; 4])).bytes();
    for at in [8, 16, 24] {
        // Tensors, keys, the length of the first key.
        let mut forged = good.clone();
        forged[at..at + 8].copy_from_slice(&huge);
        assert!(
            matches!(open(&forged), Err(WeightsError::Damaged { .. })),
            "{at}"
        );
    }
    let mut list = 4u32.to_le_bytes().to_vec();
    list.extend(huge);
    let nested = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat();
    let wrong: [(Forge, &str); 8] = [
        (llama().key("list", 9, &list), "`list`"),
        (llama().key("list", 9, &nested), "array of arrays"),
        (llama().key("what", 77, &[0; 8]), "value type 77"),
        (llama().key("general.alignment", 4, &[0; 4]), "alignment"),
        (llama().tensor("t", &[1 << 40, 1 << 40], 0, &[0; 8]), "`t`"),
        (llama().tensor("t", &[u64::MAX], 0, &[0; 8]), "`t`"),
        (llama().tensor("t", &[31], 3, &[0; 20]), "`t`"),
        (llama().tensor("t", &[1; 9], 0, &[0; 4]), "9 dimensions"),
    ];
    for (forge, named) in wrong {
        let error = open(&forge.bytes()).unwrap_err();
        assert!(matches!(error, WeightsError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
    let mut other = good.clone();
    other[..4].copy_from_slice(b"GGML");
    assert!(
        open(&other)
            .unwrap_err()
            .to_string()
            .contains("not a GGUF file")
    );
    other[..8].copy_from_slice(b"GGUF\x01\0\0\0");
    assert!(open(&other).unwrap_err().to_string().contains("version 1"));
}

#[test]
fn an_unknown_format_is_an_error_only_when_asked_for() {
    // Q2_K, in blocks of 84 bytes.
    let weights = open(&llama().tensor("t", &[256], 10, &[0; 84]).bytes()).unwrap();
    let error = weights.get("t").unwrap_err();
    assert!(
        matches!(&error, WeightsError::Format { tensor, .. } if tensor == "t"),
        "{error}"
    );
}
