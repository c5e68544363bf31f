//! The Snapshot on disk.

use feature_store::{
    Attribute, AttributeValues, EncoderInfo, FeatureBlock, FeatureDtype, Interaction, Item, Snapshot, SnapshotContents,
    StagedDir, StoreError, UserStateStore, artefact_around, create_dir_all_synced, lies_in, write_snapshot,
    write_whole,
};
use std::path::Path;

fn attributes() -> Vec<Attribute> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    vec![
        Attribute { name: "genre".into(), values: AttributeValues::Texts(vec![texts(&["Drama", "War"]), texts(&[])]) },
        Attribute { name: "year".into(), values: AttributeValues::Numbers(vec![None, Some(1994.0)]) },
    ]
}

fn contents() -> SnapshotContents {
    let row = |user, item, timestamp_ms| Interaction { user, item, timestamp_ms };
    SnapshotContents {
        users: vec!["ann".into(), "bob".into()],
        items: ["x", "y"].map(|key| Item { key: key.into(), title: key.to_uppercase(), text: "t".into() }).into(),
        interactions: vec![row(0, 2, 5), row(0, 1, 5), row(1, 1, 3)],
        features: vec![block("text", FeatureDtype::F16), block("image", FeatureDtype::F32)],
        attributes: attributes(),
        sources: Vec::new(),
        config: serde_json::json!({"k": 1}),
        notes: [("image.missing".to_owned(), 1)].into(),
    }
}

fn block(name: &str, dtype: FeatureDtype) -> FeatureBlock {
    FeatureBlock {
        name: name.into(),
        dim: 2,
        values: vec![0.0, 0.0, 0.5, -0.25, 0.0, 0.0],
        mask: vec![0, 1, 0],
        dtype,
        encoder: EncoderInfo { name: "given".into(), weights_sha256: None },
    }
}

#[test]
fn a_round_trip_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let manifest = write_snapshot(&path, contents()).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    assert_eq!(snapshot.manifest, manifest);
    assert_eq!(snapshot.users().unwrap(), contents().users);
    assert_eq!(snapshot.attributes().unwrap(), attributes());
    assert_eq!(snapshot.items().unwrap(), contents().items);
    assert_eq!(snapshot.interactions().unwrap(), contents().interactions);
    assert_eq!(snapshot.sequences().unwrap(), vec![vec![2, 1], vec![1]]);
    for (matrix, block) in snapshot.features().unwrap().iter().zip(contents().features) {
        assert_eq!(
            (matrix.0.as_str(), matrix.1.to_f32(), matrix.1.mask()),
            (block.name.as_str(), block.values, &block.mask[..])
        );
    }
    assert_eq!(manifest.features[0].missing, 1);
}

#[test]
fn two_writes_give_the_same_bytes_and_leave_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    write_snapshot(&path, contents()).unwrap();
    let first = Snapshot::open(&path).unwrap().fingerprint().unwrap();
    write_snapshot(&path, contents()).unwrap();
    assert_eq!(Snapshot::open(&path).unwrap().fingerprint().unwrap(), first);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    write_snapshot(&path, contents()).unwrap();
    let check = |file: &str, damage: &dyn Fn(Vec<u8>) -> Vec<u8>, expect: &str| {
        let whole = std::fs::read(path.join(file)).unwrap();
        std::fs::write(path.join(file), damage(whole.clone())).unwrap();
        let message = Snapshot::open(&path).unwrap_err().to_string();
        std::fs::write(path.join(file), whole).unwrap();
        assert!(message.contains(file) && message.contains(expect), "{message}");
    };
    for file in ["users.parquet", "items.parquet", "interactions.parquet", "features/text.safetensors"] {
        check(file, &|bytes| bytes[..bytes.len() - 1].to_vec(), "bytes and the manifest says");
        check(
            file,
            &|mut bytes| {
                bytes[9] ^= 1;
                bytes
            },
            "altered",
        );
    }
    check("manifest.json", &|_| b"{\"schema_version\": 7}".to_vec(), "version 7");
    check("manifest.json", &|_| b"{".to_vec(), "no version");
    let counted = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(&from), "{text}");
            text.replacen(&from, &to, 1).into_bytes()
        }
    };
    let most = u64::MAX.to_string();
    for (name, rows) in [("users", 2), ("items", 2), ("interactions", 3)] {
        for wrong in ["0", most.as_str()] {
            let damage = counted(&format!("\"{name}\": {rows}"), &format!("\"{name}\": {wrong}"));
            check("manifest.json", &damage, &format!("counts.{name} is {wrong}, which does not fit"));
        }
    }
}

#[test]
fn contents_that_do_not_fit_are_refused_and_the_old_snapshot_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    write_snapshot(&path, contents()).unwrap();
    let check = |change: &dyn Fn(&mut SnapshotContents), expect: &str| {
        let mut contents = contents();
        change(&mut contents);
        let message = write_snapshot(&path, contents).unwrap_err().to_string();
        assert!(message.contains(expect), "{message} does not contain {expect}");
        Snapshot::open(&path).expect("the last good Snapshot is still there");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half-written is left");
    };
    check(&|c| c.items[1].key = "x".into(), "\"x\" is the key of items 1 and 2");
    check(&|c| c.interactions[0].item = 3, "outside 2 users and 2 items");
    check(&|c| c.interactions[0].item = 0, "outside");
    check(&|c| c.interactions.reverse(), "out of order");
    check(&|c| c.features[0].mask.truncate(2), "2 rows for 2 items and PAD");
    check(&|c| c.features[0].values[0] = 1.0, "row 0 of text is PAD");
    check(&|c| c.features[0].values[2] = f32::NAN, "row 1 column 0");
    check(&|c| c.features[0].values[3] = 70_000.0, "row 1 column 1");
    check(&|c| c.features[0].values[3] = 70_000.0, "is 70000; the dtype f16 holds at most 65504; use the dtype f32");
    check(&|c| c.features[0].name = "../x".into(), "../x");
    check(&|c| c.features[1].name = "text".into(), "given twice");
}

#[test]
fn somebody_elses_folder_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    let refused = |path: &Path| matches!(write_snapshot(path, contents()), Err(StoreError::Corrupt { .. }));
    assert!(refused(dir.path()));
    assert!(dir.path().join("thesis.tex").is_file());
}

#[test]
fn a_snapshot_with_something_else_in_it_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let check = |file: &str, contents: &str, part: &str| {
        std::fs::write(path.join(file), contents).unwrap();
        for refused in [StagedDir::check(&path, "manifest.json"), write_snapshot(&path, self::contents()).map(drop)] {
            let message = refused.unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("not replaced"), "{message} lacks {part}");
        }
        assert_eq!(std::fs::read_to_string(path.join(file)).unwrap(), contents);
        std::fs::remove_file(path.join(file)).unwrap();
    };
    write_snapshot(&path, contents()).unwrap();
    check("notes.txt", "mine", "holds notes.txt, which");
    check("features/.hidden", "mine", "holds features/.hidden, which");
    write_snapshot(&path, contents()).expect("without them it is one of ours");
    check("manifest.json", "{\"name\": \"app\", \"files\": {}}", "manifest.json is none that");
    check("manifest.json", "{\"schema_version\": 1, \"files\": {}}", "holds attributes.parquet, which");
    check("manifest.json", "{\"schema_version\": 1}", "manifest.json is none that");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_place_knows_the_artefact_and_the_folder_that_it_lies_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    write_snapshot(&root.join("snapshot"), contents()).unwrap();
    std::fs::create_dir(root.join("app")).unwrap();
    std::fs::write(root.join("app/manifest.json"), "{\"name\": \"app\"}").unwrap();
    let check = |place: &str, expect: Option<&str>| {
        let found = artefact_around(&root.join(place), &["bundle.json", "manifest.json"]);
        assert_eq!(found, expect.map(|name| (root.join(name), "manifest.json")), "{place}");
    };
    check("snapshot", None);
    check("snapshot/report", Some("snapshot"));
    check("snapshot/features/deep/down", Some("snapshot"));
    check("other/report", None);
    check("app/report", None);
    assert!(lies_in(&root.join("app/not/yet"), &root.join("app")) && lies_in(&root.join("app"), &root.join("app")));
    assert!(!lies_in(&root.join("apps"), &root.join("app")), "another folder with a longer name");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.join("snapshot"), root.join("link")).unwrap();
        check("link/report", Some("snapshot"));
        assert!(lies_in(&root.join("link/report"), &root.join("snapshot")));
    }
}

/// A writer is told by its lock, not by its process: in another container it may have any id, or this one's.
#[test]
fn what_a_killed_writer_left_is_removed_and_what_a_running_one_writes_stays() {
    let dir = tempfile::tempdir().unwrap();
    let own = std::process::id();
    let (left, held) = (dir.path().join(".snapshot.4194999.part"), dir.path().join(format!(".snapshot.{own}.0.part")));
    for path in [&left, &held] {
        std::fs::create_dir(path).unwrap();
    }
    let lock = std::fs::File::open(&held).unwrap();
    lock.lock().unwrap();
    write_snapshot(&dir.path().join("snapshot"), contents()).unwrap();
    assert!(!left.exists() && held.exists());
    drop(lock);
    write_snapshot(&dir.path().join("snapshot"), contents()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let (left, held) = (dir.path().join("report.json.4194999.part"), dir.path().join("report.json.7.3.part"));
    for path in [&left, &held] {
        std::fs::write(path, "half").unwrap();
    }
    let lock = std::fs::File::open(&held).unwrap();
    lock.lock().unwrap();
    write_whole(&dir.path().join("report.json"), b"whole").unwrap();
    assert!(!left.exists() && held.exists());
}

#[cfg(unix)]
#[test]
fn a_link_as_output_stays_and_what_it_leads_to_is_replaced() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (elsewhere, link) = (dir.path().join("elsewhere"), dir.path().join("link"));
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &link).unwrap();
    for output in [&link, &dir.path().join("link/")] {
        StagedDir::check(output, "manifest.json").unwrap();
        write_snapshot(output, contents()).unwrap();
        assert!(link.is_symlink());
        Snapshot::open(&elsewhere).unwrap();
    }
    // Found before the work, not after it.
    let dangling = dir.path().join("dangling");
    symlink(dir.path().join("nowhere"), &dangling).unwrap();
    for refused in [StagedDir::check(&dangling, "manifest.json"), write_snapshot(&dangling, contents()).map(drop)] {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("dangling") && message.contains("leads nowhere"), "{message}");
    }
    assert!(UserStateStore::open(&dangling, 3).unwrap_err().to_string().contains("leads nowhere"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left beside them");
}

/// The place went away during the work: what was made stays, and the message says where.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_renamed_into_place_is_kept() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let staged = StagedDir::create(&link.join("snapshot"), "manifest.json").unwrap();
    std::fs::write(staged.path().join("work"), "hours of it").unwrap();
    std::fs::remove_file(&link).unwrap();
    let message = staged.commit().unwrap_err().to_string();
    let kept = std::fs::read_dir(&real).unwrap().next().expect("it is there").unwrap().path();
    assert!(message.contains(kept.to_str().unwrap()) && message.contains("move it"), "{message}");
    assert_eq!(std::fs::read_to_string(kept.join("work")).unwrap(), "hours of it");
    write_snapshot(&real.join("snapshot"), contents()).unwrap();
    assert!(kept.exists(), "no later writer takes it for a left-over");
}

#[test]
fn folders_are_made_and_may_be_there() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["a/b/c", "a/b/c", "a/d/", "a"] {
        create_dir_all_synced(&dir.path().join(path)).unwrap();
        assert!(dir.path().join(path).is_dir(), "{path}");
    }
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(create_dir_all_synced(&dir.path().join("file/a")), Err(StoreError::Io { .. })));
}

#[test]
fn a_single_file_appears_whole_and_leaves_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/report.json");
    for text in ["first", "a second and longer one", ""] {
        write_whole(&path, text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    let folder = dir.path().join("deep");
    std::fs::create_dir(folder.join("taken")).unwrap();
    assert!(matches!(write_whole(&folder.join("taken"), b"x"), Err(StoreError::Io { .. })), "a folder is no file");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
}
