//! What a checkpoint has to hold, and whether it does: by names and shapes alone, no value is read.

use crate::decoder::Projection;
use crate::decoder_config::DecoderConfig;
use crate::weights::Weights;

/// A tensor that a model needs: its name, and its shape with the outermost dimension first.
pub type Needed = (String, Vec<i64>);

impl DecoderConfig {
    /// The tensors of a decoder of this shape, its first `depth` layers of them, in a fixed order.
    pub fn tensors(&self, depth: usize) -> Vec<Needed> {
        let hidden = self.hidden_size;
        let mut tensors = vec![
            (
                "model.embed_tokens.weight".to_owned(),
                vec![self.vocab_size, hidden],
            ),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        for layer in 0..depth {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            tensors.push((at("input_layernorm.weight"), vec![hidden]));
            tensors.push((at("post_attention_layernorm.weight"), vec![hidden]));
            for projection in Projection::ALL {
                let ((output, input), bias) = self.dense(projection);
                let name = projection.name();
                tensors.push((at(&format!("{name}.weight")), vec![output, input]));
                if bias {
                    tensors.push((at(&format!("{name}.bias")), vec![output]));
                }
            }
        }
        tensors
    }
}

/// What is wrong with a checkpoint that should hold these tensors, a line for each; nothing if they
/// are all there in their shapes. What else it holds does not matter.
pub fn faults(weights: &Weights, needed: &[Needed]) -> Vec<String> {
    let fault = |(name, shape): &Needed| match weights.shape(name) {
        None => Some(format!("no tensor `{name}`")),
        Some(found) if found != *shape => Some(format!(
            "tensor `{name}` is {found:?}, the model needs {shape:?}"
        )),
        Some(_) => None,
    };
    needed.iter().filter_map(fault).collect()
}
