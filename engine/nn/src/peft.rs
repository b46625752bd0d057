//! Adapters in PEFT's own format: a folder with `adapter_config.json` and
//! `adapter_model.safetensors`, as `PeftModel.save_pretrained` of the `peft` package leaves it.
//!
//! An adapter trained there answers the same here, and the other way round. What PEFT can do and
//! this room cannot (DoRA, trained biases, whole modules saved beside the adapter, patterns of
//! ranks) is refused by the name of its setting, never left out in silence.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::NnError;
use crate::decoder::{Decoder, Projection};
use crate::lora::{Lora, LoraConfig, LoraInit};
use crate::weights::Weights;

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

/// What an adapter says about itself beside its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeftAbout {
    /// The class of the model that it sits on.
    pub task: PeftTask,
    /// `base_model_name_or_path`, where PEFT looks for that model.
    pub base_model: Option<String>,
}

/// The class of model that an adapter was made for; it decides how its tensors are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeftTask {
    /// With an output layer (`AutoModelForCausalLM`): `base_model.model.model.layers…`.
    #[serde(rename = "CAUSAL_LM")]
    CausalLm,
    /// Without one (`AutoModel`): `base_model.model.layers…`.
    #[serde(rename = "FEATURE_EXTRACTION")]
    FeatureExtraction,
}

impl PeftTask {
    fn prefix(self) -> &'static str {
        match self {
            Self::CausalLm => "base_model.model.model.",
            Self::FeatureExtraction => "base_model.model.",
        }
    }
}

/// `adapter_config.json`, as far as it is understood.
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    peft_type: String,
    task_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Value,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers_to_transform: Option<OneOrMore>,
    #[serde(default = "yes")]
    init_lora_weights: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(usize),
    More(Vec<usize>),
}

fn none() -> String {
    "none".into()
}

fn yes() -> Value {
    true.into()
}

/// Settings that change nothing about what an adapter computes once it is trained.
const ONLY_TOLD: [&str; 6] = [
    "auto_mapping",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
];

/// Puts the adapter in `folder` onto a decoder, in place of all adapters that it has. Layers that
/// the decoder was cut by are left out.
///
/// # Errors
/// [`NnError::Adapter`] for a setting that is not supported, a module that no adapter can sit on,
/// or tensors that are missing, left over or of another shape; the decoder is as it was then.
pub fn read(folder: &Path, decoder: &mut Decoder) -> Result<PeftAbout, NnError> {
    let wrong = |problem: String| NnError::Adapter {
        path: folder.to_path_buf(),
        problem,
    };
    let text = std::fs::read(folder.join(CONFIG)).map_err(|e| wrong(format!("{CONFIG}: {e}")))?;
    let published: Published =
        serde_json::from_slice(&text).map_err(|e| wrong(format!("{CONFIG}: {e}")))?;
    let lora = published.supported().map_err(wrong)?;
    lora.validate()?;
    let modules = published
        .modules(decoder.config().num_hidden_layers)
        .map_err(wrong)?;

    let weights = Weights::open(&folder.join(TENSORS))?;
    let names = weights.names();
    let whole = PeftTask::CausalLm.prefix();
    let task = match names.iter().all(|name| name.starts_with(whole)) {
        true => PeftTask::CausalLm,
        false => PeftTask::FeatureExtraction,
    };
    let mut adapters = Vec::new();
    let mut expected = Vec::new();
    for (layer, projection) in modules {
        let at = |part: &str| {
            let module = module(layer, projection);
            format!("{}{module}.lora_{part}.weight", task.prefix())
        };
        expected.extend([at("A"), at("B")]);
        let Some(dense) = decoder.dense(layer, projection) else {
            continue;
        };
        let (output, input) = dense.sizes()?;
        let a = weights.get_shaped(&at("A"), &[lora.rank, input])?;
        let b = weights.get_shaped(&at("B"), &[output, lora.rank])?;
        let adapter = Lora::of_tensors(&lora, &a, &b, dense.device())?;
        adapters.push((layer, projection, adapter));
    }
    if let Some(left) = names.iter().find(|name| !expected.contains(name)) {
        return Err(wrong(format!(
            "{TENSORS}: `{left}` belongs to none of the modules that {CONFIG} targets"
        )));
    }
    decoder.detach_lora();
    for (layer, projection, adapter) in adapters {
        if let Some(dense) = decoder.dense_mut(layer, projection) {
            dense.attach(adapter);
        }
    }
    Ok(PeftAbout {
        task,
        base_model: published.base_model_name_or_path,
    })
}

/// Writes the adapters of a decoder into `folder`, which is made if it is not there: the tensors
/// first, the configuration last, each moved into place whole.
///
/// # Errors
/// [`NnError::Adapter`] if the decoder has no adapters, adapters of different shapes, or the files
/// cannot be written.
pub fn write(folder: &Path, decoder: &Decoder, about: &PeftAbout) -> Result<(), NnError> {
    let wrong = |problem: String| NnError::Adapter {
        path: folder.to_path_buf(),
        problem,
    };
    let mut modules = Vec::new();
    let mut tensors = Vec::new();
    let mut config: Option<&LoraConfig> = None;
    for layer in 0..decoder.depth() {
        for projection in Projection::ALL {
            let dense = decoder.dense(layer, projection);
            let Some(lora) = dense.and_then(|dense| dense.lora()) else {
                continue;
            };
            if config.get_or_insert(lora.config()) != &lora.config() {
                return Err(wrong(
                    "adapters of different ranks or scales cannot be written".into(),
                ));
            }
            modules.push((layer, projection));
            for (part, tensor) in lora.tensors() {
                let module = module(layer, projection);
                let name = format!("{}{module}.{part}", about.task.prefix());
                tensors.push((name, bytes(&tensor)?));
            }
        }
    }
    let config = config.ok_or_else(|| wrong("the decoder has no adapters to write".into()))?;
    let published = Published {
        peft_type: "LORA".into(),
        task_type: serde_json::to_value(about.task)
            .ok()
            .and_then(|task| task.as_str().map(String::from)),
        base_model_name_or_path: about.base_model.clone(),
        r: config.rank,
        lora_alpha: config.alpha,
        lora_dropout: config.dropout,
        target_modules: targets(&modules, decoder.config().num_hidden_layers).into(),
        bias: none(),
        use_rslora: config.rank_stabilised,
        layers_to_transform: None,
        init_lora_weights: match config.init {
            LoraInit::Kaiming => true.into(),
            LoraInit::Gaussian => "gaussian".into(),
        },
        others: BTreeMap::from([("inference_mode".into(), true.into())]),
    };
    let mut text = serde_json::to_string_pretty(&published).map_err(|e| wrong(e.to_string()))?;
    text.push('\n');
    let views = tensors
        .iter()
        .map(|(name, (shape, data))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| wrong(format!("{TENSORS}: {e}")))?;

    std::fs::create_dir_all(folder).map_err(|e| wrong(e.to_string()))?;
    // What readers of the format ask for before they take a file for PyTorch's.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    in_place(&folder.join(TENSORS), |path| {
        safetensors::serialize_to_file(views, Some(metadata), path).map_err(|e| e.to_string())
    })
    .map_err(wrong)?;
    in_place(&folder.join(CONFIG), |path| {
        std::fs::write(path, text).map_err(|e| e.to_string())
    })
    .map_err(wrong)
}

/// Lets `write` make a file beside `path` and moves it there.
fn in_place(path: &Path, write: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    write(&part)
        .and_then(|()| std::fs::rename(&part, path).map_err(|e| e.to_string()))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The shape and the `f32` values of a tensor, little endian.
fn bytes(tensor: &Tensor) -> Result<(Vec<usize>, Vec<u8>), NnError> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?;
    let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
    let shape = tensor.size().iter().map(|&size| size as usize).collect();
    let mut bytes = vec![0; tensor.numel() * Kind::Float.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok((shape, bytes))
}

/// A projection's place in the decoder without an output layer.
fn module(layer: usize, projection: Projection) -> String {
    format!("layers.{layer}.{}", projection.name())
}

/// `target_modules` that mean exactly `modules`: projections by their short names if they are the
/// same in each of the model's layers, else one by one.
fn targets(modules: &[(usize, Projection)], layers: usize) -> Vec<String> {
    let projections: Vec<Projection> = Projection::ALL
        .into_iter()
        .filter(|projection| modules.contains(&(0, *projection)))
        .collect();
    let everywhere = (0..layers).flat_map(|layer| projections.iter().map(move |&p| (layer, p)));
    if everywhere.eq(modules.iter().copied()) {
        let short =
            |projection: &Projection| projection.name().rsplit('.').next().map(String::from);
        return projections.iter().filter_map(short).collect();
    }
    modules.iter().map(|&(layer, p)| module(layer, p)).collect()
}

impl Published {
    /// The shape of the adapter, or the first setting that cannot be honoured.
    fn supported(&self) -> Result<LoraConfig, String> {
        let refused = |what: &str, value: &dyn std::fmt::Display| {
            Err(format!(
                "{CONFIG}: {what} is {value}, which is not supported"
            ))
        };
        if self.peft_type != "LORA" {
            return refused("peft_type", &self.peft_type);
        }
        if self.bias != "none" {
            return refused("bias", &self.bias);
        }
        // PiSSA, OLoRA and their like change the base weights that the adapter is an addition to.
        let init = match &self.init_lora_weights {
            Value::Bool(_) => LoraInit::Kaiming,
            Value::String(name) if name == "gaussian" => LoraInit::Gaussian,
            other => return refused("init_lora_weights", other),
        };
        for (name, value) in &self.others {
            let off = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::String(text) => name == "layers_pattern" && text == "layers",
                _ => false,
            };
            if !off && !ONLY_TOLD.contains(&name.as_str()) {
                return refused(name, value);
            }
        }
        Ok(LoraConfig {
            rank: self.r,
            alpha: self.lora_alpha,
            dropout: self.lora_dropout,
            rank_stabilised: self.use_rslora,
            init,
        })
    }

    /// The modules that the adapter sits on, of a model of so many layers.
    fn modules(&self, layers: usize) -> Result<Vec<(usize, Projection)>, String> {
        let Some(targets) = self.target_modules.as_array() else {
            return Err(format!(
                "{CONFIG}: target_modules is {}, only a list of names is supported",
                self.target_modules
            ));
        };
        let chosen: Vec<usize> = match &self.layers_to_transform {
            None => (0..layers).collect(),
            Some(OneOrMore::One(layer)) => vec![*layer],
            Some(OneOrMore::More(list)) => list.clone(),
        };
        if let Some(beyond) = chosen.iter().find(|&&layer| layer >= layers) {
            return Err(format!(
                "{CONFIG}: layers_to_transform names layer {beyond}, the model has {layers}"
            ));
        }
        let mut modules = Vec::new();
        for target in targets {
            let named = target.as_str().unwrap_or_default();
            let before = modules.len();
            for &layer in &chosen {
                for projection in Projection::ALL {
                    // As PEFT has it: the module's whole name, or whole parts at its end.
                    let whole = format!("model.{}", module(layer, projection));
                    let end = whole.strip_suffix(named);
                    if end.is_some_and(|start| start.is_empty() || start.ends_with('.')) {
                        modules.push((layer, projection));
                    }
                }
            }
            if modules.len() == before {
                return Err(format!(
                    "{CONFIG}: target_modules names {target}, on which no adapter can sit here"
                ));
            }
        }
        modules.sort_unstable();
        modules.dedup();
        Ok(modules)
    }
}
