//! Which components of a content vector are which modality.

use segue_catalog::modality::{Modality, ModalityKind};

use crate::error::ModelError;
use crate::settings::{Fusion, TowerSettings};

/// The parts of a content vector that are read, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parts {
    parts: Vec<Part>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// `None`: the content vector as a whole, whatever it is made of.
    pub kind: Option<ModalityKind>,
    pub from: i64,
    pub length: i64,
}

impl Parts {
    /// Of vectors that are made of `told`, as the settings have it; untold they are text.
    ///
    /// # Errors
    /// A modality that there is not, or vectors of another length than the settings say.
    pub fn new(settings: &TowerSettings, told: Option<&[Modality]>) -> Result<Self, ModelError> {
        let content = settings.content;
        if settings.fusion == Fusion::Projection {
            let whole = Part {
                kind: None,
                from: 0,
                length: content as i64,
            };
            return Ok(Self { parts: vec![whole] });
        }
        let text = [Modality {
            kind: ModalityKind::Text,
            dimensions: content,
        }];
        let told = told.unwrap_or(&text);
        let length = told.iter().map(|one| one.dimensions).sum();
        if length != content {
            return Err(ModelError::OtherContent {
                content,
                told: length,
            });
        }
        for named in &settings.modalities {
            if !told.iter().any(|one| one.kind == *named) {
                let there: Vec<&str> = told.iter().map(|one| one.kind.name()).collect();
                return Err(ModelError::NoModality {
                    named: named.name(),
                    there: there.join(", "),
                });
            }
        }
        let mut from = 0;
        let mut parts = Vec::new();
        for one in told {
            let length = one.dimensions as i64;
            if settings.modalities.is_empty() || settings.modalities.contains(&one.kind) {
                parts.push(Part {
                    kind: Some(one.kind),
                    from,
                    length,
                });
            }
            from += length;
        }
        Ok(Self { parts })
    }

    pub fn all(&self) -> &[Part] {
        &self.parts
    }

    /// Appends for each part 1 where a content vector has it and 0 where not. A segment that is zero
    /// throughout is a modality that is missing; the vector as a whole is there if it is given.
    pub fn present(&self, content: Option<&[f32]>, out: &mut Vec<f32>) {
        out.extend(self.parts.iter().map(|part| {
            let there = content.is_some_and(|content| {
                let segment = content
                    .iter()
                    .skip(part.from as usize)
                    .take(part.length as usize);
                part.kind.is_none() || segment.into_iter().any(|&x| x != 0.0)
            });
            f32::from(u8::from(there))
        }));
    }

    /// Whether modalities are told apart, and are more than one.
    pub fn is_apart(&self) -> bool {
        self.parts.len() > 1
    }

    /// The parts, in words: `text of 384 and audio of 200`.
    pub fn described(&self) -> String {
        let name = |part: &Part| {
            let name = part.kind.map_or("content", ModalityKind::name);
            format!("{name} of {}", part.length)
        };
        let parts: Vec<String> = self.parts.iter().map(name).collect();
        parts.join(" and ")
    }
}
