//! Items that came after training: their vectors are what training would have put into the table.

use crate::training::{ITEMS, bytes, config, snapshot};
use fmrlrec::{Bundle, Device, FeatureWidth, ModelConfig, ProjectorStart, TrainConfig, train};
use std::collections::BTreeMap;
use std::path::Path;

fn bundle(dir: &Path, config: &TrainConfig) -> Bundle {
    // Item 5 has no image, as a film without a poster.
    let snapshot = snapshot(&dir.join("snapshot"), |contents| {
        let image = &mut contents.features[1];
        image.values[5 * ITEMS..6 * ITEMS].fill(0.0);
        image.mask[5] = 0;
    });
    train(&snapshot, config, &dir.join("bundle"), false, Device::Cpu, &mut ()).unwrap();
    Bundle::open(&dir.join("bundle")).unwrap()
}

fn one_hot(item: usize) -> Vec<f32> {
    (1..=ITEMS).map(|at| if at == item { 1.0 } else { 0.0 }).collect()
}

fn features(item: usize) -> BTreeMap<String, Vec<f32>> {
    let names: &[&str] = if item == 5 { &["text"] } else { &["image", "text"] };
    names.iter().map(|name| ((*name).to_owned(), one_hot(item))).collect()
}

#[test]
fn an_items_vector_is_its_row_of_the_table_also_with_a_feature_missing() {
    let whitened = ModelConfig { projector_start: ProjectorStart::Whitened, ..config().model };
    let normed = ModelConfig { vector_norm: true, ..whitened.clone() };
    for model in [config().model, whitened, normed] {
        check_item_vectors(&TrainConfig { model, ..config() });
    }
}

fn check_item_vectors(config: &TrainConfig) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path(), config);
    let width = bundle.dims()[2];
    for item in 1..=ITEMS {
        let vector = bundle.item_vector(&features(item)).unwrap();
        let row = &bundle.item_table()[item * width..][..width];
        let far = vector.iter().zip(row).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-6, "item {item} is {far} off");
    }
    let text = bundle.item_vector(&BTreeMap::from([("text".to_owned(), one_hot(1))])).unwrap();
    assert_ne!(text, bundle.item_vector(&features(1)).unwrap());
    let named = |name: &str| FeatureWidth { name: name.into(), width: ITEMS };
    assert_eq!(bundle.features().unwrap(), [named("text"), named("image")]);
}

#[test]
fn with_learned_embeddings_the_projection_lacks_that_part() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelConfig { item_embedding: true, ..config().model };
    let bundle = bundle(dir.path(), &TrainConfig { model, epochs: 2, ..config() });
    let vector = bundle.item_vector(&features(3)).unwrap();
    assert_ne!(vector, bundle.item_table()[3 * 16..4 * 16], "the row has its embedding as well");

    let dir = tempfile::tempdir().unwrap();
    let model = ModelConfig { item_embedding: true, ..config().model };
    let ids_only = TrainConfig { features: vec![], model, epochs: 2, ..config() };
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    train(&snapshot, &ids_only, &dir.path().join("bundle"), false, Device::Cpu, &mut ()).unwrap();
    let bundle = Bundle::open(&dir.path().join("bundle")).unwrap();
    let message = bundle.item_vector(&features(3)).unwrap_err().to_string();
    assert!(message.contains("features are of no use"), "{message}");
}

/// The card says what items are known by, and with it what those lack that came later.
#[test]
fn the_model_card_says_what_an_items_vector_comes_from() {
    let check = |features: &[&str], item_embedding: bool, expect: [&str; 3]| {
        let dir = tempfile::tempdir().unwrap();
        let model = ModelConfig { item_embedding, ..config().model };
        let features = features.iter().map(|name| (*name).to_owned()).collect();
        bundle(dir.path(), &TrainConfig { features, model, epochs: 1, ..config() });
        let card = String::from_utf8(bytes(&dir.path().join("bundle"), "MODEL_CARD.md")).unwrap();
        for part in expect {
            assert!(card.contains(part), "{part:?} is not in {card}");
        }
    };
    check(
        &["text", "image"],
        false,
        [
            "on the features text + image",
            "known by their features and the vocabulary",
            "by its features like all others",
        ],
    );
    check(
        &["text"],
        true,
        [
            "on the features text",
            "known by their features, a vector learned for each of them and the vocabulary",
            "it lacks the learned vector",
        ],
    );
    check(
        &[],
        true,
        [
            "on item ids alone",
            "known by a vector learned for each of them and the vocabulary",
            "added by training again",
        ],
    );
}

#[test]
fn a_history_of_vectors_gives_the_bits_of_a_history_of_ids() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path(), &config());
    let row = |id: &u32| &bundle.item_table()[*id as usize * 16..][..16];
    for history in [vec![], vec![1], vec![3, 4, 5], (1..=20).collect::<Vec<u32>>()] {
        for dim in [4, 8, 16] {
            // `user_vector` reads the newest 8, which is `max_len` here.
            let rows: Vec<&[f32]> = history[history.len().saturating_sub(8)..].iter().map(row).collect();
            assert_eq!(
                bundle.fold_of(&rows, dim, &bundle.shape().whole()).unwrap().vector(),
                bundle.user_vector(&history, dim).unwrap()
            );
        }
    }
    assert!(bundle.fold_of(&[], 5, &bundle.shape().whole()).is_err());
}

/// A service lays the table out in its own way and keeps one copy.
#[test]
fn without_its_item_table_a_bundle_goes_by_item_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let mut bundle = bundle(dir.path(), &config());
    let (user, start) = (bundle.user_vector(&[3, 4], 16).unwrap(), bundle.user_vector(&[], 16).unwrap());
    let added = bundle.item_vector(&features(3)).unwrap();
    let table = bundle.take_item_table();
    let (rows, whole) = ([3, 4].map(|id| &table[id * 16..][..16]), bundle.shape().whole());
    assert_eq!(bundle.fold_of(&rows, 16, &whole).unwrap().vector(), user);
    assert_eq!(bundle.fold_of(&[], 16, &whole).unwrap().vector(), start);
    assert_eq!(bundle.item_vector(&features(3)).unwrap(), added);
    assert!(bundle.user_vector(&[3], 16).is_err());
    let far = features(3).into_iter().map(|(name, vector)| (name, vector.iter().map(|v| v * 1e6).collect())).collect();
    assert!(bundle.item_vector(&far).is_err(), "what it is compared with is still known");
}

#[test]
fn features_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path(), &config());
    let check = |features: &[(&str, Vec<f32>)], expect: &str| {
        let features = features.iter().map(|(name, vector)| ((*name).to_owned(), vector.clone())).collect();
        let message = bundle.item_vector(&features).unwrap_err().to_string();
        assert!(message.contains(expect), "{message:?} lacks {expect:?}");
    };
    check(&[], "features is empty");
    check(
        &[("sound", vec![1.0])],
        "features.sound was not trained on; the features and their widths are: text (24), image",
    );
    check(&[("text", vec![1.0; 23])], "features.text has 23 numbers; send 24");
    check(&[("text", one_hot(1)), ("image", vec![f32::NAN; ITEMS])], "features.image[0] is no finite number");
    check(&[("text", vec![1e6; ITEMS])], "the longest trained one is");
    check(&[("text", vec![f32::MAX; ITEMS])], "the longest trained one is");
}

/// A Bundle of before widths were written down, with two features.
#[test]
fn an_old_bundle_opens_and_says_that_it_cannot_take_features_apart() {
    let dir = tempfile::tempdir().unwrap();
    bundle(dir.path(), &config());
    let path = dir.path().join("bundle");
    let config_path = path.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&config_path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("feature_widths").unwrap();
    for (table, later) in [("model", "vector_norm"), ("objective", "scaled_logits")] {
        config["train"][table].as_object_mut().unwrap().remove(later).unwrap();
    }
    crate::refusals::reseal(&path, &config.to_string());
    let bundle = Bundle::open(&path).unwrap();
    let message = bundle.item_vector(&features(1)).unwrap_err().to_string();
    assert!(message.contains("does not say how wide each is; train it again"), "{message}");
}
