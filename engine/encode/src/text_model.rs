//! The networks that texts may go through, by what their `config.json` says of itself.

use std::path::Path;

use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::Weights;
use serde::Deserialize;

use crate::EncodeError;
use crate::bert::{Bert, BertConfig};
use crate::mpnet::{Mpnet, MpnetConfig};

/// The longest text in tokens that sentence-transformers publishes each family with, where a folder
/// does not say: MiniLM's `tokenizer.json` says 128, and would pad every title to that.
const BERT_TOKENS: i64 = 256;
const MPNET_TOKENS: i64 = 384;

/// A loaded network.
#[derive(Debug)]
pub(crate) enum TextModel {
    Bert(Bert),
    Mpnet(Mpnet),
}

/// What decides between them.
#[derive(Deserialize)]
struct Kinship {
    #[serde(default)]
    model_type: String,
}

/// What sentence-transformers keeps beside a model.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: i64,
}

impl TextModel {
    /// Loads what a folder holds.
    pub fn load(folder: &Path, place: (Kind, Device)) -> Result<Self, EncodeError> {
        let weights = Weights::open(folder)?;
        let kinship: Kinship = json(&folder.join("config.json"))?;
        if kinship.model_type == "mpnet" {
            let config: MpnetConfig = json(&folder.join("config.json"))?;
            return Ok(Self::Mpnet(Mpnet::load(&weights, &config, place)?));
        }
        let config = BertConfig::of_folder(folder)?;
        Ok(Self::Bert(Bert::load(&weights, &config, place)?))
    }

    /// Token ids, `[batch, length]`, to hidden states, `[batch, length, hidden]`; `mask` is added to
    /// the scores, `[batch, 1, length, length]`.
    pub fn forward(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, EncodeError> {
        match self {
            Self::Bert(bert) => bert.forward(ids, mask),
            Self::Mpnet(mpnet) => mpnet.forward(ids, mask),
        }
    }

    /// Width.
    pub fn hidden_size(&self) -> i64 {
        match self {
            Self::Bert(bert) => bert.config().hidden_size,
            Self::Mpnet(mpnet) => mpnet.config().hidden_size,
        }
    }

    /// Tokens that it knows.
    pub fn vocab_size(&self) -> i64 {
        match self {
            Self::Bert(bert) => bert.config().vocab_size,
            Self::Mpnet(mpnet) => mpnet.config().vocab_size,
        }
    }

    /// The token that fills a batch up.
    pub fn padding(&self) -> &'static str {
        match self {
            Self::Bert(_) => "[PAD]",
            Self::Mpnet(_) => "<pad>",
        }
    }

    /// The longest text in tokens: what the folder says, else what the family is published with, and
    /// never more than there are positions.
    pub fn tokens_at_most(&self, folder: &Path) -> Result<usize, EncodeError> {
        let path = folder.join("sentence_bert_config.json");
        let said = match path.is_file() {
            true => Some(json::<SentenceConfig>(&path)?.max_seq_length),
            false => None,
        };
        let (usual, positions) = match self {
            Self::Bert(bert) => (BERT_TOKENS, bert.config().max_position_embeddings),
            Self::Mpnet(mpnet) => (MPNET_TOKENS, mpnet.config().tokens_at_most()),
        };
        let most = said.unwrap_or(usual).min(positions);
        // Two are the marks of a text.
        match usize::try_from(most) {
            Ok(most) if most > 2 => Ok(most),
            _ => Err(EncodeError::File {
                path,
                problem: format!("max_seq_length is {most}"),
            }),
        }
    }
}

/// A file of JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, EncodeError> {
    let wrong = |problem: String| EncodeError::File {
        path: path.to_path_buf(),
        problem,
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}
