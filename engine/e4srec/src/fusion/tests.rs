//! Fusion beside the modules of PyTorch, and beside itself without what is missing.

use segue_catalog::modality::{Modality, ModalityKind};
use segue_nn::weights::Weights;

use super::*;
use crate::chance::normals;
use crate::item_tower::copy_into;
use crate::settings::Fusion;

const KINDS: [(Fusion, &str); 4] = [
    (Fusion::Concat, "concat"),
    (Fusion::WeightedSum, "weighted_sum"),
    (Fusion::CrossAttention, "cross_attention"),
    (Fusion::Film, "film"),
];
const TOLD: [Modality; 3] = [
    Modality {
        kind: ModalityKind::Text,
        dimensions: 5,
    },
    Modality {
        kind: ModalityKind::Lyrics,
        dimensions: 4,
    },
    Modality {
        kind: ModalityKind::Audio,
        dimensions: 3,
    },
];
/// Where the sound begins.
const AUDIO: usize = 9;

fn settings(fusion: Fusion, modalities: &[ModalityKind]) -> TowerSettings {
    TowerSettings {
        dimensions: 8,
        hidden: 6,
        content: 12,
        fusion,
        modalities: modalities.to_vec(),
        ..TowerSettings::default()
    }
}

fn fuser(fusion: Fusion, modalities: &[ModalityKind]) -> Fuser {
    let settings = settings(fusion, modalities);
    let parts = Parts::new(&settings, Some(&TOLD)).unwrap();
    Fuser::new(&settings, parts, 3, Device::Cpu).unwrap()
}

/// One whose parameters are far from what they begin as.
fn shaken(fusion: Fusion) -> Fuser {
    let fuser = fuser(fusion, &[]);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let shaken: Vec<Tensor> = fuser
        .parameters()
        .iter()
        .map(|value| value.detach() + normals(&value.size(), 0.4, &mut rng, Device::Cpu).unwrap())
        .collect();
    copy_into(&fuser.parameters(), &shaken).unwrap();
    fuser
}

fn drawn(shape: &[i64], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    normals(shape, 1.0, &mut rng, Device::Cpu).unwrap()
}

/// Which parts the rows of `content` have.
fn present(fuser: &Fuser, content: &Tensor) -> Tensor {
    let (rows, _) = content.size2().unwrap();
    let mut present = Vec::new();
    for row in 0..rows {
        let row: Vec<f32> = Vec::try_from(content.get(row)).unwrap();
        fuser.parts().present(Some(&row), &mut present);
    }
    Tensor::from_slice(&present).reshape([rows, -1])
}

fn vectors(fuser: &Fuser, content: &Tensor, own: &Tensor) -> Tensor {
    let present = present(fuser, content);
    let mapped = fuser.map(content, &present).unwrap();
    fuser.fuse(&mapped, &present, own).unwrap()
}

/// The same without the sound's components.
fn silent(content: &Tensor) -> Tensor {
    let silent = content.copy();
    let mut sound = silent.narrow(1, AUDIO as i64, 3);
    let _ = sound.fill_(0.0);
    silent
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// Each row of the golden values was computed alone, of the modalities that it has
/// (`tests/golden/fusion.py`).
#[test]
fn vectors_are_those_of_the_modules_of_pytorch() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/fusion.safetensors"
    );
    let table = Weights::open(path.as_ref()).unwrap();
    let get = |name: &str| table.get(name).unwrap();
    for (kind, name) in KINDS {
        let fuser = fuser(kind, &[]);
        let ours = fuser.parameters();
        let theirs: Vec<Tensor> = (0..ours.len())
            .map(|number| get(&format!("{name}.{number}")))
            .collect();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.size(), theirs.size(), "{name}");
        }
        copy_into(&ours, &theirs).unwrap();
        let mine = vectors(&fuser, &get("content"), &get("own"));
        let apart = furthest(&mine, &get(&format!("{name}.vectors")));
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn what_is_missing_is_as_if_nobody_knew_of_it() {
    let own = drawn(&[6, 8], 1);
    let content = drawn(&[6, 12], 2);
    for (kind, name) in KINDS {
        let whole = shaken(kind);
        let less = fuser(kind, &[ModalityKind::Text, ModalityKind::Lyrics]);
        // The sound is the last of the parts: without its map and its columns it is the other's.
        let all = whole.parameters().into_iter().enumerate();
        let of_both = all.filter(|(at, _)| !(8..12).contains(at));
        for (to, (_, from)) in less.parameters().iter().zip(of_both) {
            let mut from = from.detach();
            for (dimension, &size) in (0i64..).zip(&to.size()) {
                from = from.narrow(dimension, 0, size);
            }
            copy_into(&[to.shallow_clone()], &[from]).unwrap();
        }
        let missing = vectors(&whole, &silent(&content), &own);
        // What the sound is, is nothing to one that does not read it.
        let without = vectors(&less, &content, &own);
        let apart = furthest(&missing, &without);
        assert!(apart < 1e-5, "{name}: {apart}");
        let apart = furthest(&missing, &vectors(&whole, &content, &own));
        assert!(apart > 0.1, "{name} hears nothing: {apart}");
        // What a step leaves out is missing too.
        let kept = Tensor::from_slice(&[1f32, 1.0, 0.0]).expand([6, 3], false);
        let mapped = whole.map(&content, &kept).unwrap();
        let left_out = whole.fuse(&mapped, &kept, &own).unwrap();
        assert!(furthest(&missing, &left_out) < 1e-6, "{name}");
        // And where nothing is known, its own vector and the stand-in are all there is.
        let nothing = vectors(&whole, &Tensor::zeros_like(&content), &own);
        let stand_in = whole.stand_in.detach() + &own;
        assert!(furthest(&nothing, &stand_in) < 1e-6, "{name}");
    }
}

#[test]
fn a_row_alone_is_the_row_in_company() {
    let (content, own) = (drawn(&[40, 12], 4), drawn(&[40, 8], 5));
    let some = content.shallow_clone();
    let _ = some.narrow(0, 10, 20).narrow(1, 0, 5).fill_(0.0);
    let _ = some.narrow(0, 20, 20).narrow(1, AUDIO as i64, 3).fill_(0.0);
    for (kind, name) in KINDS {
        let fuser = shaken(kind);
        let together = vectors(&fuser, &content, &own);
        for row in 0..40 {
            let one = |table: &Tensor| table.narrow(0, row, 1);
            let alone = vectors(&fuser, &one(&content), &one(&own));
            let apart = furthest(&alone, &one(&together));
            assert!(apart < 1e-5, "{name}, row {row}: {apart}");
        }
    }
}

#[test]
fn gradients_reach_every_modality_that_is_there_and_no_other() {
    let content = drawn(&[6, 12], 2);
    for (kind, name) in KINDS {
        for (content, heard) in [(content.copy(), true), (silent(&content), false)] {
            let fuser = fuser(kind, &[]);
            let own = drawn(&[6, 8], 1).set_requires_grad(true);
            let aim = drawn(&[6, 8], 9);
            let vectors = vectors(&fuser, &content, &own);
            (vectors * aim).sum(Kind::Float).backward();
            let moved = |value: &Tensor| {
                let gradient = value.grad();
                gradient.defined() && gradient.abs().max().double_value(&[]) > 1e-6
            };
            let maps: Vec<bool> = fuser
                .maps
                .iter()
                .map(|map| moved(map.parameters()[0]))
                .collect();
            assert_eq!(maps, [true, true, heard], "{name}");
            assert!(moved(&own), "{name}");
            let mixer = fuser.mixer.as_ref().unwrap().parameters();
            assert!(mixer.into_iter().any(moved), "{name}");
        }
    }
}

#[test]
fn it_begins_with_what_the_modalities_say_of_likeness() {
    // Two tracks alike in sound, and a third that is not; of none of them anything else is known.
    let content = Tensor::zeros([3, 12], (Kind::Float, Device::Cpu));
    for (row, values) in (0i64..).zip([[3.0, 0.1, 0.0], [1.0, 0.0, 0.1], [0.0, -1.0, 2.0f32]]) {
        let mut sound = content.get(row).narrow(0, AUDIO as i64, 3);
        sound.copy_(&Tensor::from_slice(&values));
    }
    let new = Tensor::zeros([3, 8], (Kind::Float, Device::Cpu));
    for (kind, name) in KINDS {
        let vectors = vectors(&fuser(kind, &[]), &content, &new);
        let likeness = vectors.matmul(&vectors.tr());
        let at = |a, b| likeness.double_value(&[a, b]);
        assert!(at(0, 1) > 0.8 * at(0, 0), "{name}");
        assert!(at(0, 2) < 0.6 * at(0, 0), "{name}");
    }
}

/// Models and checkpoints from before there was any fusion are what they were, to the last bit.
#[test]
fn a_projection_is_of_the_content_as_a_whole() {
    let settings = settings(Fusion::Projection, &[]);
    let parts = Parts::new(&settings, Some(&TOLD)).unwrap();
    let fuser = Fuser::new(&settings, parts, 3, Device::Cpu).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut drawn_next =
        |shape: &[i64], deviation: f32| normals(shape, deviation, &mut rng, Device::Cpu).unwrap();
    let linear = drawn_next(&[4, 12], 0.5);
    let inner = drawn_next(&[6, 12], 12f32.powf(-0.5));
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let linear = Tensor::cat(&[linear, zeros(&[4, 12])], 0);
    let begun = [linear, inner, zeros(&[6]), zeros(&[8, 6]), zeros(&[8])];
    let own = fuser.parameters();
    assert_eq!(own.len(), begun.len());
    for (own, begun) in own.iter().zip(&begun) {
        assert_eq!(own.detach(), *begun);
    }
    let learnt: Vec<Tensor> = (0..)
        .zip(&begun)
        .map(|(at, value)| value + drawn(&value.size(), at))
        .collect();
    copy_into(&own, &learnt).unwrap();
    let [linear, inner, bias, outer, stand_in] = &learnt[..] else {
        panic!("five of them");
    };
    let (content, own) = (drawn(&[5, 12], 7), drawn(&[5, 8], 8));
    let known = Tensor::from_slice(&[1f32, 0.0, 1.0, 1.0, 0.0]).reshape([5, 1]);
    let none = None::<&Tensor>;
    let wide = content.linear(inner, Some(bias)).relu();
    let mapped = content.linear(linear, none) + wide.linear(outer, none);
    let expected = mapped * &known + (1.0 - &known) * stand_in + &own;
    let mapped = fuser.map(&content, &known).unwrap();
    let found = fuser.fuse(&mapped, &known, &own).unwrap();
    assert_eq!(found.detach(), expected);
    // A vector that is given is known, whatever it is.
    let mut present = Vec::new();
    fuser.parts().present(Some(&[0.0; 12]), &mut present);
    fuser.parts().present(None, &mut present);
    assert_eq!(present, [1.0, 0.0]);
}

#[test]
fn modalities_that_there_are_not_are_refused_by_name() {
    let refused = |settings: &TowerSettings, told: Option<&[Modality]>| {
        Parts::new(settings, told).unwrap_err().to_string()
    };
    let heard = settings(Fusion::Film, &[ModalityKind::Text, ModalityKind::Ratings]);
    let error = refused(&heard, Some(&TOLD));
    assert!(
        error.contains("names ratings, and the content vectors tell of text, lyrics, audio"),
        "{error}"
    );
    // Untold, it is text.
    let heard = settings(Fusion::Film, &[ModalityKind::Audio]);
    let error = refused(&heard, None);
    assert!(error.contains("tell of text:"), "{error}");
    let error = refused(&settings(Fusion::Concat, &[]), Some(&TOLD[..2]));
    assert!(
        error.contains("e4srec.tower.content = 12") && error.contains("9 components"),
        "{error}"
    );
    let parts = Parts::new(&settings(Fusion::Concat, &[]), Some(&TOLD)).unwrap();
    assert_eq!(
        parts.described(),
        "text of 5 and lyrics of 4 and audio of 3"
    );
    // What tells nothing apart asks for nothing.
    Parts::new(&settings(Fusion::Projection, &[]), Some(&TOLD[..2])).unwrap();
}
