//! Parity with the reference embeddings in the shared fixtures.

use crate::support::{cosine, shared};
use pipeline::{ImageEncoder, Runtime, TextEncoder};
use safetensors::SafeTensors;

/// Least cosine to the reference.
const PARITY: f64 = 0.999;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn text_embeddings_are_those_of_sentence_transformers() {
    let Some(shared) = shared("all-MiniLM-L6-v2 and its reference embeddings") else { return };
    let encoder = TextEncoder::load(&shared.join("models/all-minilm-l6-v2"), &Runtime::Tract, 128).unwrap();
    assert_eq!(encoder.dim(), 384);
    let fixtures = shared.join("fixtures/encoders");
    let sentences = std::fs::read_to_string(fixtures.join("minilm-sentences.txt")).unwrap();
    let reference = std::fs::read(fixtures.join("minilm-embeddings.npy")).unwrap();
    let reference = floats(&reference[reference.len() - 256 * 384 * 4..]);
    let mut least = 1.0f64;
    let sentences: Vec<&str> = sentences.lines().collect();
    assert_eq!(sentences.len(), 256);
    for (sentence, expect) in sentences.iter().zip(reference.chunks_exact(384)) {
        let found = encoder.encode(sentence).unwrap();
        assert!((norm(&found) - 1.0).abs() < 1e-5);
        least = least.min(cosine(&found, expect));
    }
    eprintln!("least cosine of texts: {least:.7}");
    assert!(least >= PARITY, "{least}");
}

#[test]
fn image_embeddings_are_those_of_the_reference() {
    let Some(shared) = shared("EfficientNet-Lite0 and its reference embeddings") else { return };
    let encoder = ImageEncoder::load(&shared.join("models/efficientnet-lite0"), &Runtime::Tract).unwrap();
    assert_eq!(encoder.dim(), 1280);
    let bytes = std::fs::read(shared.join("fixtures/encoders/efficientnet-lite0.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = floats(tensors.tensor("pixel_values").unwrap().data());
    let reference = floats(tensors.tensor("emb").unwrap().data());
    let mut least = 1.0f64;
    for (pixels, expect) in pixels.chunks_exact(3 * 224 * 224).zip(reference.chunks_exact(1280)) {
        let found = encoder.encode_pixels(pixels.to_vec()).unwrap();
        assert!((norm(&found) - 1.0).abs() < 1e-5);
        least = least.min(cosine(&found, expect));
    }
    eprintln!("least cosine of images: {least:.7}");
    assert!(least >= PARITY, "{least}");
    assert!(encoder.encode_pixels(vec![0.0; 3]).unwrap_err().to_string().contains("3 pixels"));
}

#[test]
fn a_folder_without_pooling_is_refused_by_name() {
    let Some(shared) = shared("all-MiniLM-L6-v2") else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = shared.join("models/all-minilm-l6-v2");
    std::fs::copy(model.join("model.onnx"), dir.path().join("model.onnx")).unwrap();
    let check = |expect: &[&str]| {
        let error = TextEncoder::load(dir.path(), &Runtime::Tract, 128).err().unwrap().to_string();
        for part in expect {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    check(&["1_Pooling/config.json", "No such file"]);
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    std::fs::write(dir.path().join("1_Pooling/config.json"), "{}").unwrap();
    check(&["1_Pooling/config.json", "neither mean nor CLS"]);
    std::fs::write(dir.path().join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
    check(&["tokenizer.json", "No such file"]);
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    check(&["tokenizer.json", "is no tokenizer"]);
}
