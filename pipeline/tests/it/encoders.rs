//! Parity with the reference embeddings in the shared fixtures, in every runtime that is there, and
//! the layouts of other encoders of the same kind.

use crate::support::{cosine, say_skipped, shared};
use pipeline::{ImageEncoder, Runtime, TextEncoder};
use safetensors::SafeTensors;
use std::path::Path;

/// Least cosine to the reference.
const PARITY: f64 = 0.999;

/// tract, and ONNX Runtime where the feature `ort` is built and RECOMMENDER_ONNXRUNTIME names its
/// shared library.
fn runtimes() -> Vec<Runtime> {
    let library = std::env::var_os("RECOMMENDER_ONNXRUNTIME").filter(|_| cfg!(feature = "ort"));
    if library.is_none() {
        say_skipped("ONNX Runtime: it needs --features recommender/ort and its library in RECOMMENDER_ONNXRUNTIME");
    }
    std::iter::once(Runtime::Tract).chain(library.map(|path| Runtime::Onnxruntime(path.into()))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn text_embeddings_are_those_of_sentence_transformers() {
    let Some(shared) = shared("all-MiniLM-L6-v2 and its reference embeddings") else { return };
    let fixtures = shared.join("fixtures/encoders");
    let sentences = std::fs::read_to_string(fixtures.join("minilm-sentences.txt")).unwrap();
    let reference = std::fs::read(fixtures.join("minilm-embeddings.npy")).unwrap();
    let reference = floats(&reference[reference.len() - 256 * 384 * 4..]);
    let sentences: Vec<&str> = sentences.lines().collect();
    assert_eq!(sentences.len(), 256);
    for runtime in runtimes() {
        let encoder = TextEncoder::load(&shared.join("models/all-minilm-l6-v2"), &runtime, 128).unwrap();
        assert_eq!(encoder.dim(), 384);
        let mut least = 1.0f64;
        for (sentence, expect) in sentences.iter().zip(reference.chunks_exact(384)) {
            let found = encoder.encode(sentence).unwrap();
            assert!((norm(&found) - 1.0).abs() < 1e-5);
            least = least.min(cosine(&found, expect));
        }
        eprintln!("{runtime:?}: least cosine of texts {least:.7}");
        assert!(least >= PARITY, "{runtime:?}: {least}");
    }
}

#[test]
fn image_embeddings_are_those_of_the_reference() {
    let Some(shared) = shared("EfficientNet-Lite0 and its reference embeddings") else { return };
    let bytes = std::fs::read(shared.join("fixtures/encoders/efficientnet-lite0.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = floats(tensors.tensor("pixel_values").unwrap().data());
    let reference = floats(tensors.tensor("emb").unwrap().data());
    for runtime in runtimes() {
        let encoder = ImageEncoder::load(&shared.join("models/efficientnet-lite0"), &runtime).unwrap();
        assert_eq!(encoder.dim(), 1280);
        let mut least = 1.0f64;
        for (pixels, expect) in pixels.chunks_exact(3 * 224 * 224).zip(reference.chunks_exact(1280)) {
            let found = encoder.encode_pixels(pixels.to_vec()).unwrap();
            assert!((norm(&found) - 1.0).abs() < 1e-5);
            least = least.min(cosine(&found, expect));
        }
        eprintln!("{runtime:?}: least cosine of images {least:.7}");
        assert!(least >= PARITY, "{runtime:?}: {least}");
        assert!(encoder.encode_pixels(vec![0.0; 3]).unwrap_err().to_string().contains("3 pixels"));
    }
}

/// A folder whose files are links into another one, so that single files can be replaced.
fn linked(model: &Path, files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        std::os::unix::fs::symlink(model.join(file).canonicalize().unwrap(), dir.path().join(file)).unwrap();
    }
    dir
}

/// bge models pool like this.
#[test]
fn cls_pooling_takes_the_first_token() {
    let Some(shared) = shared("all-MiniLM-L6-v2") else { return };
    let model = shared.join("models/all-minilm-l6-v2");
    let dir = linked(&model, &["model.onnx", "tokenizer.json", "config.json"]);
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    std::fs::write(dir.path().join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
    let mean = TextEncoder::load(&model, &Runtime::Tract, 128).unwrap();
    let cls = TextEncoder::load(dir.path(), &Runtime::Tract, 128).unwrap();
    let text = "a heist goes wrong";
    let (by_mean, by_cls) = (mean.encode(text).unwrap(), cls.encode(text).unwrap());
    assert!((norm(&by_cls) - 1.0).abs() < 1e-5);
    let near = cosine(&by_mean, &by_cls);
    assert!((0.2..0.99).contains(&near), "mean and first token agree to {near}");
}

/// A PNG of waves in three colours.
fn picture() -> Vec<u8> {
    let wave = |x: u32, period: f32| (127.0 + 120.0 * (x as f32 / period).sin()) as u8;
    let image = image::RgbImage::from_fn(300, 200, |x, y| image::Rgb([wave(x, 9.0), wave(y, 17.0), wave(x + y, 31.0)]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// SigLIP's file: pixels scaled to 0..1, then by mean and deviation. Written for this encoder's own
/// normalisation it must give its own embeddings.
#[test]
fn a_preprocessor_config_is_followed() {
    let Some(shared) = shared("EfficientNet-Lite0") else { return };
    let model = shared.join("models/efficientnet-lite0");
    let own = ImageEncoder::load(&model, &Runtime::Tract).unwrap();
    let dir = linked(&model, &["model.onnx"]);
    let with = |mean: f64, std: f64| {
        let config = format!(
            r#"{{"size": {{"height": 224, "width": 224}}, "resample": 3, "rescale_factor": {},
                "image_mean": [{mean}, {mean}, {mean}], "image_std": [{std}, {std}, {std}]}}"#,
            1.0 / 255.0
        );
        std::fs::write(dir.path().join("preprocessor_config.json"), config).unwrap();
        ImageEncoder::load(dir.path(), &Runtime::Tract).unwrap()
    };
    let picture = picture();
    let encode = |encoder: &ImageEncoder| encoder.encode_pixels(encoder.pixels(&picture).unwrap()).unwrap();
    let expect = encode(&own);
    let same = encode(&with(127.0 / 255.0, 128.0 / 255.0));
    assert!(cosine(&same, &expect) > 0.99999, "{}", cosine(&same, &expect));
    let other = encode(&with(0.0, 1.0));
    assert!(cosine(&other, &expect) < 0.999, "{}", cosine(&other, &expect));
}

/// Found when the encoder is loaded, not at the first long text in the midst of a build.
#[test]
fn more_tokens_than_a_model_has_positions_for_are_refused() {
    let Some(shared) = shared("all-MiniLM-L6-v2") else { return };
    let model = shared.join("models/all-minilm-l6-v2");
    TextEncoder::load(&model, &Runtime::Tract, 512).unwrap();
    let error = TextEncoder::load(&model, &Runtime::Tract, 513).err().unwrap().to_string();
    for part in ["model.onnx", "513 tokens", "text_encoder.max_tokens"] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
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
