//! The real data: exact counts, and the sample in the repository.

use crate::support::{folder, shared, tree};
use feature_store::{FeatureDtype, Manifest, Snapshot, write_matrix};
use pipeline::BuildConfig;
use std::path::Path;

fn config(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn build(text: &str, base_dir: &Path, output: &Path) -> Manifest {
    let config: BuildConfig = toml::from_str(text).unwrap();
    pipeline::build(&config, base_dir, output, &mut |_| {}).unwrap()
}

fn check_counts(manifest: &Manifest) {
    let counts = manifest.counts;
    assert_eq!((counts.users, counts.items, counts.interactions), (610, 3650, 90_274));
}

#[test]
fn the_five_core_has_the_exact_counts() {
    if shared("MovieLens ml-latest-small").is_none() {
        return;
    }
    // The committed config with given features in place of the encoders, so that it takes seconds.
    let text = config(&folder("configs/movielens-small.toml"));
    let (head, _) = text.split_once("[[features]]").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.csv"), "item\n1\n").unwrap();
    let given = dir.path().join("given.safetensors");
    write_matrix(&given, &[1.0], &[1], 1, FeatureDtype::F32).unwrap();
    let (given, keys) = (given.display(), dir.path().join("keys.csv"));
    let text = format!(
        "{head}[[features]]\nname = \"given\"\ndtype = \"f32\"\nfile = \"{given}\"\nkeys = \"{}\"\n",
        keys.display()
    );

    let manifest = build(&text, &folder("configs"), &dir.path().join("one"));
    check_counts(&manifest);
    assert_eq!(manifest.notes["interactions.read"], 100_836);
    assert_eq!(manifest.notes["items.without_row"], 0);
    build(&text, &folder("configs"), &dir.path().join("two"));
    assert_eq!(tree(&dir.path().join("one")), tree(&dir.path().join("two")));

    let items = Snapshot::open(&dir.path().join("one")).unwrap().items().unwrap();
    let text = &items[0].text;
    assert!(text.starts_with("Toy Story (1995). Adventure, Animation, Children, Comedy, Fantasy. "), "{text}");
    assert!(text.contains("Woody") && text.ends_with("fun, pixar"), "overview, then tags: {text}");
}

#[test]
fn the_sample_builds_to_the_same_interactions() {
    let dir = tempfile::tempdir().unwrap();
    let sample = folder("sample/movielens-small");
    let text = config(&sample.join("build.toml"));
    let manifest = build(&text, &sample, &dir.path().join("one"));
    check_counts(&manifest);
    assert_eq!(manifest.notes["image.missing"], 102);
    assert_eq!(manifest.notes["text.missing"], 0);
    let snapshot = Snapshot::open(&dir.path().join("one")).unwrap();
    let dims: Vec<(String, usize)> = snapshot.features().unwrap().iter().map(|(n, m)| (n.clone(), m.dim())).collect();
    assert_eq!(dims, [("text".to_owned(), 384), ("image".to_owned(), 1280)]);
    for (name, matrix) in snapshot.features().unwrap() {
        for (row, mask) in matrix.to_f32().chunks_exact(matrix.dim()).zip(matrix.mask()) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((norm - f32::from(*mask)).abs() < 2e-3, "{name}: norm {norm}, mask {mask}");
        }
    }
    build(&text, &sample, &dir.path().join("two"));
    assert_eq!(tree(&dir.path().join("one")), tree(&dir.path().join("two")));
}

#[test]
fn the_sample_is_small_and_has_its_terms() {
    let files = tree(&folder("sample/movielens-small"));
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes <= 16 << 20, "{bytes} bytes");
    assert!(files.iter().any(|(name, _)| name == "LICENSE-movielens.txt"));
}

#[test]
fn the_full_build_gives_the_features_of_the_sample() {
    // The clock of a test run is short: encoding takes minutes.
    if std::env::var("RECOMMENDER_SLOW_TESTS").as_deref() != Ok("1") {
        crate::support::say_skipped("set RECOMMENDER_SLOW_TESTS=1 to encode every text and poster (minutes)");
        return;
    }
    if shared("MovieLens ml-latest-small, posters and encoders").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let text = config(&folder("configs/movielens-small.toml"));
    let text = text.replace("\"../../runs/embeddings\"", &format!("{:?}", cache.display().to_string()));
    let full = build(&text, &folder("configs"), &dir.path().join("full"));
    check_counts(&full);
    assert_eq!((full.notes["image.missing"], full.notes["image.unreadable"]), (102, 0));
    let sample = folder("sample/movielens-small");
    build(&config(&sample.join("build.toml")), &sample, &dir.path().join("sample"));
    let matrices = |name: &str| Snapshot::open(&dir.path().join(name)).unwrap().features().unwrap();
    for ((name, full), (_, sample)) in matrices("full").into_iter().zip(matrices("sample")) {
        assert_eq!(full.mask(), sample.mask(), "{name}");
        // Another processor may round otherwise; the vectors must agree far beyond f16.
        let dim = full.dim();
        for (a, b) in full.to_f32().chunks_exact(dim).zip(sample.to_f32().chunks_exact(dim)) {
            let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
            assert!(dot > 0.998 || a.iter().all(|v| *v == 0.0), "{name}: cosine {dot}");
        }
    }
}
