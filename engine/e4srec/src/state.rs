//! E4SRec in a checkpoint: all that it has learnt, counted and remembered, and where its generators
//! stand.
//!
//! What is not kept: the published weights, of which the identity is kept and compared; the tracks'
//! content, which the stage has; the vectors, which follow from what is kept; and, unless the settings
//! say so, the listeners' keys and values, which are read anew from the contexts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;

use segue_listen::{TrackId, TrackKey};
use segue_recommend::catalogue::{Catalogue, check_told};
use segue_recommend::recommender::Admitted;
use serde::{Deserialize, Serialize};

use crate::adapter::Publication;
use crate::backbone::{Backbone, Foundation, Identity};
use crate::error::ModelError;
use crate::head::Head;
use crate::hidden::{Memo, MemoFacts};
use crate::item_tower::{ItemTower, copy_into};
use crate::kept::{Named, counted, numbered, part, read};
use crate::learner::LearnerFacts;
use crate::listener_cache::{CacheFacts, ListenerCache};
use crate::memory::Memory;
use crate::model::{E4SRec, Trained};
use crate::popularity::Counted;
use crate::settings::{E4SRecSettings, Fusion};

/// What of a model is not a tensor.
#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    language_model: Cow<'a, Identity>,
    made: String,
    taught: bool,
    adapter_version: u64,
    published: Vec<Publication>,
    catalogue: Cow<'a, Catalogue>,
    settled: usize,
    popularity: Counted,
    memory: Cow<'a, Memory>,
    pending: Cow<'a, BTreeMap<TrackId, u32>>,
    /// Of tracks that are still to come.
    trained: Vec<(TrackKey, Trained)>,
    inputs: Vec<u32>,
    /// A print of the lines that the caches were read with.
    lines: u64,
    learner: Option<LearnerFacts>,
    cache: Option<CacheFacts>,
    memo: Option<MemoFacts>,
}

impl E4SRec {
    /// A model that has not been trained, to take up a state: frozen, like one from [`E4SRec::fit`].
    ///
    /// # Errors
    /// Settings out of range, or libtorch's own.
    pub fn untaught(
        foundation: &Foundation,
        settings: &E4SRecSettings,
    ) -> Result<Self, ModelError> {
        settings.check()?;
        let d = settings.tower.dimensions;
        let device = foundation.device();
        let mut backbone = Backbone::new(foundation, settings)?;
        backbone.decoder.merge_lora()?;
        let head = Head::new(backbone.hidden(), d, settings.seed, device)?;
        let parts = foundation.parts(&settings.tower)?;
        let tower = ItemTower::new(&settings.tower, parts, settings.seed, device)?;
        let items = (tower, foundation.lines(settings)?);
        Self::assemble(settings, backbone, head, items, HashMap::new())
    }

    pub(crate) fn kept(&self, name: &str) -> Result<Vec<u8>, ModelError> {
        let mut named = Named::new();
        self.backbone.kept(&mut named);
        numbered("head", &self.head.parameters(), &mut named);
        self.tower.kept(&mut named)?;
        let inputs = self.inputs.kept(&mut named)?;
        let learner = self
            .learner
            .as_ref()
            .map(|learner| learner.kept(&mut named))
            .transpose()?;
        let (mut cache, mut memo) = (None, None);
        if self.settings.keep_caches {
            let held = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            memo = Some(held.kept(&mut named)?);
            if let Some(held) = &self.cache {
                cache = Some(held.kept(&mut named)?);
            }
        }
        let trained = self.trained.iter();
        let mut trained: Vec<_> = trained.map(|(key, known)| (*key, known.clone())).collect();
        trained.sort_unstable_by_key(|(key, _)| *key);
        let facts = Facts {
            language_model: Cow::Borrowed(&*self.backbone.identity),
            made: self.made(),
            taught: self.taught,
            adapter_version: self.adapter_version,
            published: self.journal.publications(),
            catalogue: Cow::Borrowed(&self.catalogue),
            settled: self.settled,
            popularity: self.popularity.kept(),
            memory: Cow::Borrowed(&self.memory),
            pending: Cow::Borrowed(&self.pending),
            trained,
            inputs,
            lines: self.inputs.lines.print(),
            learner,
            cache,
            memo,
        };
        part(name, &facts, named)
    }

    pub(crate) fn take_up(
        &mut self,
        name: &'static str,
        state: &[u8],
        tracks: &[Admitted<'_>],
    ) -> Result<(), ModelError> {
        let (facts, mut tensors) = read::<Facts<'_>>(name, state)?;
        self.check_same(&facts)?;
        let told = check_told(name, &facts.catalogue, tracks);
        told.map_err(|error| ModelError::State(error.detail))?;
        self.backbone.take_up(&mut tensors)?;
        let head = self.head.parameters();
        copy_into(&head, &tensors.all("head", &head)?)?;
        self.tower.take_up(tracks, &mut tensors)?;
        self.inputs.take_up(facts.inputs, &mut tensors)?;
        self.inputs.lines = self.inputs.lines.emptied();
        for track in tracks {
            self.inputs.lines.admit(track.key, track.names)?;
        }
        let (shared, version, lines) = (self.shared(), facts.adapter_version, facts.lines);
        match (&mut self.learner, facts.learner) {
            (Some(learner), Some(facts)) => {
                learner.take_up(facts, (&shared, &self.tower, version), &mut tensors)?;
            }
            (None, None) => {}
            _ => return Err(ModelError::State("only one of both learns".to_owned())),
        }
        let mut cache = None;
        if let Some(facts) = facts.cache {
            let mut held = self.empty_cache(version)?;
            held.take_up(facts, &self.backbone, &mut tensors)?;
            cache = Some(held);
        }
        let place = (self.backbone.hidden(), self.device());
        let memo = match facts.memo {
            Some(facts) => Some(Memo::taken_up(facts, place, &mut tensors)?),
            None => None,
        };
        // What was read with other lines is read anew.
        let same = lines == self.inputs.lines.print();
        self.cache = cache.filter(|_| same);
        let memo = memo.filter(|_| same).unwrap_or_default();
        tensors.finish()?;
        *self.memo.lock().unwrap_or_else(PoisonError::into_inner) = memo;
        self.popularity
            .take_up(facts.popularity, facts.catalogue.keys())?;
        self.levels = self.popularity.levels();
        self.taught = facts.taught;
        self.catalogue = facts.catalogue.into_owned();
        self.settled = facts.settled;
        self.adapter_version = counted("the adapter's version", facts.adapter_version)?;
        self.journal.go_on(facts.published);
        self.memory = facts.memory.into_owned();
        self.pending = facts.pending.into_owned();
        self.trained = facts.trained.into_iter().collect();
        Ok(())
    }

    fn check_same(&self, facts: &Facts<'_>) -> Result<(), ModelError> {
        let (was, now) = (&facts.language_model, &self.backbone.identity);
        if **was != **now {
            return Err(ModelError::OtherModel(format!(
                "the language model is {now} and was {was} when the state was kept: set models.folder, \
                 models.language_model, models.precision and models.e4srec.backbone as they were, or begin \
                 anew (a run with --from earliest)"
            )));
        }
        let now = self.made();
        if facts.made != now {
            return Err(ModelError::OtherModel(format!(
                "models.e4srec makes a model of {now}, and it was {} when the state was kept: set it \
                 back, or begin anew (a run with --from earliest)",
                facts.made
            )));
        }
        Ok(())
    }

    pub(crate) fn empty_cache(&self, adapter: u64) -> Result<ListenerCache, ModelError> {
        ListenerCache::new(&self.backbone, &self.settings, adapter)
    }

    /// What the settings say of a model's sizes and memories, in words. Rates may change from one run
    /// to the next; these would make it another model.
    fn made(&self) -> String {
        let settings = &self.settings;
        let (lora, tower, online) = (&settings.lora, &settings.tower, &settings.online);
        let fused = match tower.fusion {
            Fusion::Projection => String::new(),
            fusion => format!(", {fusion:?} of {}", self.tower.map.parts().described()),
        };
        format!(
            "lookback {}, prompt {:?} of up to {} tokens a play, completion {:?}, lora of rank {} and alpha {} on {:?}, {} components of {} through {}{fused}, {} \
             examples of all time and {} new ones, {} tracks remembered, half-life {}",
            settings.lookback,
            settings.backbone.prompt,
            settings.backbone.play_tokens(),
            settings.completion,
            lora.rank,
            lora.alpha,
            lora.projections,
            tower.dimensions,
            tower.content,
            tower.hidden,
            online.reservoir,
            online.recent,
            online.remembered,
            online.half_life
        )
    }
}
