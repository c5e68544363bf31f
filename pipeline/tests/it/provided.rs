//! Features that a user already has: npy, Parquet and safetensors give the same matrix.

use crate::support::Project;
use arrow::array::{ArrayRef, Float32Builder, ListBuilder, RecordBatch, StringArray};
use std::sync::Arc;

fn npy(rows: usize, dim: usize, values: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn parquet(project: &Project, keys: &[&str], rows: &[Option<Vec<f32>>]) {
    let mut lists = ListBuilder::new(Float32Builder::new());
    for row in rows {
        match row {
            Some(values) => lists.append_value(values.iter().copied().map(Some)),
            None => lists.append_null(),
        }
    }
    let columns: Vec<(&str, ArrayRef)> =
        vec![("item", Arc::new(StringArray::from(keys.to_vec()))), ("features", Arc::new(lists.finish()))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(project.path("given.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn npy_project() -> Project {
    Project::new().with("given.safetensors", "given.npy")
}

fn parquet_project() -> Project {
    Project::new().with("file = \"given.safetensors\"\nkeys = \"items.csv\"", "file = \"given.parquet\"")
}

fn matrix(project: &Project) -> (Vec<f32>, Vec<u8>) {
    let (_, matrix) = project.snapshot().features().unwrap().remove(0);
    (matrix.to_f32(), matrix.mask().to_vec())
}

#[test]
fn three_formats_give_the_same_rows() {
    let expect = (vec![0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![0, 1, 1, 1]);
    assert_eq!(matrix(&Project::new()), expect);
    let project = npy_project();
    project.write("given.npy", npy(3, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(matrix(&project), expect);
    let project = parquet_project();
    // In another order, and with an item that no interaction has.
    let rows = [Some(vec![9.0, 9.0]), Some(vec![5.0, 6.0]), Some(vec![1.0, 2.0]), Some(vec![3.0, 4.0])];
    parquet(&project, &["zz", "c", "a", "b"], &rows);
    assert_eq!(matrix(&project), expect);
}

/// A safetensors file of the rows of items.csv, with such further tensors in its header.
fn safetensors(more: &str, data: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"features":{{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]}}{more}}}"#);
    let values = [1.0_f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes());
    (header.len() as u64)
        .to_le_bytes()
        .into_iter()
        .chain(header.into_bytes())
        .chain(values)
        .chain(data.to_vec())
        .collect()
}

#[test]
fn a_mask_may_be_left_out_and_then_every_row_counts() {
    let mask = |kind: &str, bytes: usize| {
        format!(r#","mask":{{"dtype":"{kind}","shape":[3],"data_offsets":[12,{}]}}"#, 12 + bytes)
    };
    let check = |more: &str, data: &[u8], expect: [u8; 4]| {
        let project = Project::new();
        project.write("given.safetensors", safetensors(more, data));
        assert_eq!(matrix(&project).1, expect);
    };
    check("", &[], [0, 1, 1, 1]);
    check(&mask("U8", 3), &[1, 0, 1], [0, 1, 0, 1]);
    let project = Project::new();
    project.write("given.safetensors", safetensors(&mask("F32", 12), &[0; 12]));
    let error = project.build().unwrap_err().to_string();
    assert!(error.contains("given.safetensors") && error.contains("`mask` is F32"), "{error}");
}

#[test]
fn items_without_a_row_are_zero_and_counted() {
    let project = parquet_project();
    parquet(&project, &["c", "a"], &[None, Some(vec![1.0, 2.0])]);
    assert_eq!(matrix(&project), (vec![0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0], vec![0, 1, 0, 0]));
    assert_eq!(project.build().unwrap().notes["given.missing"], 2);
}

#[test]
fn what_does_not_fit_is_named() {
    let check = |project: &Project, parts: &[&str]| {
        let error = project.build().unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    let project = npy_project();
    project.write("given.npy", npy(2, 2, &[1.0; 4]));
    check(&project, &["given.npy", "2 rows", "3"]);
    project.write("given.npy", npy(3, 2, &[1.0; 4]));
    check(&project, &["given.npy", "3 x 2"]);
    project.write("given.npy", npy(3, 2, &[1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0]));
    check(&project, &["given", "NaN"]);
    project.write("given.npy", "");
    check(&project, &["given.npy", "not a whole .npy"]);

    let project = Project::new();
    let whole = std::fs::read(project.path("given.safetensors")).unwrap();
    project.write("given.safetensors", &whole[..whole.len() - 1]);
    check(&project, &["given.safetensors", "not a whole safetensors"]);

    let project = parquet_project();
    parquet(&project, &["a", "a"], &[Some(vec![1.0]), Some(vec![2.0])]);
    check(&project, &["given.parquet", "\"a\"", "rows 1 and 2"]);
    parquet(&project, &["a", "b"], &[Some(vec![1.0]), Some(vec![2.0, 3.0])]);
    check(&project, &["given.parquet", "`features` row 2", "2 numbers"]);
    parquet(&project, &["1.0", "2.0"], &[Some(vec![1.0]), Some(vec![2.0])]);
    check(&project, &["given.parquet", "no row of any item", "\"1.0\"", "\"a\""]);
    parquet(&project, &["a"], &[None]);
    check(&project, &["given.parquet", "no row with features"]);

    check(&Project::new().with("given.safetensors", "items.csv"), &["items.csv", ".npy"]);
}
