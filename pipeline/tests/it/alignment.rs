//! Row i is item i, whatever is missing or broken; the cache changes nothing but time.

use crate::onnx::mean_colour;
use crate::support::{Project, tree};
use image::{Rgb, RgbImage};

const FEATURES: &str = r#"
[[features]]
name = "image"
dtype = "f32"
image_encoder = { dir = "encoder", runtime = "tract", images = "images", extension = "png" }
"#;

/// Items a (red), b (no image), c (not an image), d (blue), and `e/../a`, a key that is a path.
fn project() -> Project {
    let project = Project::new().with_features(FEATURES);
    project.write("ratings.csv", "user,item,time\n1,d,1\n1,c,2\n1,b,3\n1,a,4\n1,e/../a,5\n");
    project.write("encoder/model.onnx", mean_colour(8));
    let preprocess =
        r#"{"size": {"height": 8, "width": 8}, "resample": 3, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;
    project.write("encoder/preprocessor_config.json", preprocess);
    project.write("images/c.png", "this is no image");
    for (name, colour) in [("a", [255, 0, 0]), ("d", [0, 0, 51])] {
        RgbImage::from_pixel(20, 30, Rgb(colour)).save(project.path(&format!("images/{name}.png"))).unwrap();
    }
    project
}

#[test]
fn missing_and_unreadable_images_are_zero_rows() {
    let project = project();
    let snapshot = project.snapshot();
    let keys: Vec<String> = snapshot.items().unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["a", "b", "c", "d", "e/../a"]);
    let (name, matrix) = snapshot.features().unwrap().remove(0);
    assert_eq!((name.as_str(), matrix.rows(), matrix.dim()), ("image", 6, 3));
    assert_eq!(matrix.mask(), [0, 1, 0, 0, 1, 0]);
    let zero = [0.0; 3];
    let expect = [zero, [1.0, 0.0, 0.0], zero, zero, [0.0, 0.0, 1.0], zero].concat();
    for (found, expect) in matrix.to_f32().iter().zip(&expect) {
        assert!((found - expect).abs() < 1e-6, "{:?}", matrix.to_f32());
    }
    let notes = &snapshot.manifest.notes;
    assert_eq!((notes["image.missing"], notes["image.unreadable"]), (2, 1));
    let encoder = &snapshot.manifest.features[0].encoder;
    assert_eq!(encoder.name, "encoder");
    assert_eq!(encoder.weights_sha256.as_deref(), Some(feature_store::sha256_bytes(&mean_colour(8)).as_str()));
}

#[test]
fn an_image_file_past_the_limit_is_not_read_whole() {
    let project = project();
    std::fs::File::create(project.path("images/a.png")).unwrap().set_len((64 << 20) + 1).unwrap();
    let snapshot = project.snapshot();
    assert_eq!(snapshot.features().unwrap()[0].1.mask(), [0, 0, 0, 0, 1, 0]);
    assert_eq!(snapshot.manifest.notes["image.unreadable"], 2);
}

#[test]
fn a_warm_a_cold_and_a_damaged_cache_give_the_same_bytes() {
    let project = project();
    project.build_to("cold").unwrap();
    let entries = tree(&project.path("cache"));
    assert_eq!(entries.len(), 2, "one file an image that was read");
    project.build_to("warm").unwrap();
    for (name, bytes) in &entries {
        project.write(&format!("cache/{name}"), &bytes[..bytes.len() / 2]);
    }
    project.build_to("damaged").unwrap();
    assert_eq!(tree(&project.path("cache")), entries, "damaged entries were made again");
    let cold = tree(&project.path("cold"));
    assert_eq!(tree(&project.path("warm")), cold);
    assert_eq!(tree(&project.path("damaged")), cold);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_a_name_that_no_file_can_have_is_not() {
    let project = project();
    let long = "l".repeat(255);
    project.write("ratings.csv", format!("user,item,time\n1,a,1\n1,{long},2\n"));
    let matrix = project.snapshot().features().unwrap().remove(0).1;
    assert_eq!(matrix.mask(), [0, 1, 0]);
    project.write("ratings.csv", "user,item,time\n1,a,1\n1,b,2\n");
    std::fs::create_dir(project.path("images/b.png")).unwrap();
    let error = project.build().unwrap_err().to_string();
    assert!(error.contains("images/b.png"), "{error}");
}

/// Weights beside the graph are part of what an embedding depends on, whatever the exporter calls them.
#[test]
fn external_weights_are_part_of_an_encoder() {
    let weights = |files: &[(&str, &str)]| {
        let project = project();
        for (name, contents) in files {
            project.write(&format!("encoder/{name}"), *contents);
        }
        project.snapshot().manifest.features[0].encoder.weights_sha256.clone().unwrap()
    };
    let graph = weights(&[]);
    assert_eq!(weights(&[("notes.md", "x"), ("my_model.onnx", "x")]), graph, "no part of it");
    let all = [
        graph,
        weights(&[("model.onnx_data", "x")]),
        weights(&[("model.onnx.data", "y")]),
        weights(&[("model.onnx.data", "z")]),
        weights(&[("model.onnx_data", "x"), ("model.onnx_data_1", "y")]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{at}");
    }
}

#[test]
fn a_folder_of_images_that_is_not_there_is_an_error() {
    let project = project().with("images = \"images\"", "images = \"posters\"");
    let error = project.build().unwrap_err().to_string();
    assert!(error.contains("posters") && error.contains("\"image\""), "{error}");
}

#[test]
fn a_model_that_is_no_onnx_is_named() {
    let project = project();
    project.write("encoder/model.onnx", "weights");
    let error = project.build().unwrap_err().to_string();
    assert!(error.contains("model.onnx") && error.contains("tract cannot load it"), "{error}");
}

#[test]
fn grey_and_jpeg_images_decode() {
    let project = project().with("extension = \"png\"", "extension = \"jpg\"");
    image::GrayImage::from_pixel(9, 5, image::Luma([200])).save(project.path("images/b.jpg")).unwrap();
    let matrix = project.snapshot().features().unwrap().remove(0).1;
    assert_eq!(matrix.mask(), [0, 0, 1, 0, 0, 0]);
    let row = &matrix.to_f32()[6..9];
    assert!(row.iter().all(|v| (v - 1.0 / 3f32.sqrt()).abs() < 1e-3), "{row:?}");
}
