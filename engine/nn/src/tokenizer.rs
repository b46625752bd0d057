//! Text to token ids: from a `tokenizer.json`, or rebuilt from what a GGUF file carries.

use std::path::Path;

use serde_json::{Value, json};

use crate::NnError;
use crate::weights::Weights;
use crate::weights::gguf::Gguf;

/// GGUF's token types that are matched in the text before it is split.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// A tokenizer of a decoder.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// The tokenizer that belongs to a checkpoint: inside a GGUF file, else the `tokenizer.json`
    /// beside it.
    pub fn of(weights: &Weights) -> Result<Self, NnError> {
        match weights.gguf() {
            Some(gguf) => Self::from_gguf(gguf),
            None => Self::from_json(&weights.path().with_file_name("tokenizer.json")),
        }
    }

    /// Reads a `tokenizer.json`; truncation and padding it may ask for are switched off.
    pub fn from_json(path: &Path) -> Result<Self, NnError> {
        let inner = tokenizers::Tokenizer::from_file(path)
            .map_err(|e| NnError::Tokenizer(format!("{}: {e}", path.display())))?;
        Self::plain(inner)
    }

    /// Rebuilds the byte-level BPE whose tokens, types and merges a GGUF file carries.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, NnError> {
        let model = gguf.text("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(NnError::Tokenizer(format!(
                "GGUF tokenizer `{model}`; only byte-level BPE (gpt2) can be rebuilt, use a \
                 checkpoint with a tokenizer.json"
            )));
        }
        let tokens = gguf.texts("tokenizer.ggml.tokens")?;
        let types = gguf.integers("tokenizer.ggml.token_type")?;
        if tokens.len() != types.len() {
            return Err(NnError::Tokenizer(format!(
                "{} tokens with {} types",
                tokens.len(),
                types.len()
            )));
        }
        let (normalizer, splitter) = splitting(gguf.text("tokenizer.ggml.pre")?)?;
        let added: Vec<Value> = tokens
            .iter()
            .zip(types)
            .enumerate()
            .filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED))
            .map(|(id, (token, &kind))| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false, "special": kind == CONTROL})
            })
            .collect();
        let vocabulary: serde_json::Map<String, Value> = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), id.into()))
            .collect();
        let whole = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": splitter,
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                        "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                      "continuing_subword_prefix": null, "end_of_word_suffix": null,
                      "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": vocabulary, "merges": gguf.texts("tokenizer.ggml.merges")?},
        });
        let inner = serde_json::to_vec(&whole)
            .map_err(|e| NnError::Tokenizer(e.to_string()))
            .and_then(|bytes| {
                tokenizers::Tokenizer::from_bytes(bytes)
                    .map_err(|e| NnError::Tokenizer(format!("rebuilt from GGUF: {e}")))
            })?;
        Self::plain(inner)
    }

    fn plain(mut inner: tokenizers::Tokenizer) -> Result<Self, NnError> {
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| NnError::Tokenizer(e.to_string()))?;
        Ok(Self { inner })
    }

    /// The ids of a text; markers such as `<|im_start|>` in it become their single id, and no
    /// others are added.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, NnError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| NnError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// The text of ids, markers included. An id that is none is left out.
    pub fn decode(&self, ids: &[i64]) -> Result<String, NnError> {
        let ids: Vec<u32> = ids
            .iter()
            .filter_map(|&id| u32::try_from(id).ok())
            .collect();
        self.inner
            .decode(&ids, false)
            .map_err(|e| NnError::Tokenizer(e.to_string()))
    }

    /// The largest id that it can say; the model needs a row for it.
    pub fn largest_id(&self) -> Option<i64> {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map(i64::from)
    }

    /// The id of one token, such as a marker.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }
}

/// Normaliser and pre-tokenizer behind a GGUF `tokenizer.ggml.pre`, as the published
/// `tokenizer.json` of each family has them.
fn splitting(name: &str) -> Result<(Value, Value), NnError> {
    let by = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
             "use_regex": false}]})
    };
    Ok(match name {
        "smollm" => (
            Value::Null,
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                 "use_regex": true}]}),
        ),
        "qwen2" => (json!({"type": "NFC"}), by(QWEN2)),
        "llama-bpe" => (Value::Null, by(LLAMA3)),
        other => {
            return Err(NnError::Tokenizer(format!(
                "GGUF pre-tokenizer `{other}`; smollm, qwen2 and llama-bpe are known, use a \
                 checkpoint with a tokenizer.json"
            )));
        }
    })
}

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
