//! Makes the repository's sample: runs the full build, then keeps the rating and film lines that the
//! k-core kept, as they are, and the f16 features.
//!
//! `make_sample BUILD_CONFIG MOVIELENS_DIR SNAPSHOT_DIR OUTPUT_DIR`

use feature_store::{FeatureDtype, Snapshot, write_matrix};
use std::collections::HashSet;
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [config, movielens, snapshot, output] = arguments.as_slice() else {
        return Err("give BUILD_CONFIG MOVIELENS_DIR SNAPSHOT_DIR OUTPUT_DIR".into());
    };
    full_build(config, snapshot)?;
    std::fs::create_dir_all(output)?;
    write_sample(&Snapshot::open(snapshot)?, movielens, output)
}

fn full_build(config_path: &Path, snapshot: &Path) -> Result<(), Box<dyn Error>> {
    let config = toml::from_str(&std::fs::read_to_string(config_path)?)?;
    let base_dir = config_path.parent().unwrap_or(Path::new(""));
    let start = std::time::Instant::now();
    let manifest = pipeline::build(&config, base_dir, snapshot, &mut |at| {
        if at.done % 512 == 0 || at.done == at.total {
            eprintln!("{:7.1} s {} {} of {}", start.elapsed().as_secs_f64(), at.stage, at.done, at.total);
        }
    })?;
    eprintln!("{:?} {:?}", manifest.counts, manifest.notes);
    Ok(())
}

fn write_sample(snapshot: &Snapshot, movielens: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    let users: HashSet<String> = snapshot.users()?.into_iter().collect();
    let keys: Vec<String> = snapshot.items()?.into_iter().map(|item| item.key).collect();
    let items: HashSet<&str> = keys.iter().map(String::as_str).collect();

    // The k-core is the subgraph that its users and items induce, so two look-ups find its lines.
    let ratings = std::fs::read_to_string(movielens.join("ratings.csv"))?;
    let kept = lines(&ratings, "userId,movieId,rating,timestamp", |fields| {
        users.contains(fields[0]) && items.contains(fields[1])
    })?;
    if kept.len() as u64 != snapshot.manifest.counts.interactions {
        return Err(format!("{} lines kept, the Snapshot has {:?}", kept.len(), snapshot.manifest.counts).into());
    }
    write_lines(&output.join("ratings.csv"), "userId,movieId,rating,timestamp", &kept)?;

    let movies = std::fs::read_to_string(movielens.join("movies.csv"))?;
    let kept = lines(&movies, "movieId,title,genres", |fields| items.contains(fields[0]))?;
    let order: Vec<&str> = kept.iter().filter_map(|line| line.split(',').next()).collect();
    if order != keys {
        return Err("movies.csv is not in the order of the vocabulary".into());
    }
    write_lines(&output.join("items.csv"), "item,title,genres", &kept)?;

    for (name, matrix) in snapshot.features()? {
        // Without PAD: row r belongs to row r of items.csv.
        let path = output.join(format!("{name}.safetensors"));
        let values = matrix.to_f32();
        write_matrix(&path, &values[matrix.dim()..], &matrix.mask()[1..], matrix.dim(), FeatureDtype::F16)?;
    }
    // Read and written, not copied: a copy would keep a read-only mode and refuse the next run.
    let terms = "LICENSE-movielens.txt";
    std::fs::write(output.join(terms), std::fs::read(movielens.join(terms))?)?;
    Ok(())
}

/// Data lines whose leading fields, which hold no quotes, pass.
fn lines<'a>(text: &'a str, header: &str, keep: impl Fn(&[&str]) -> bool) -> Result<Vec<&'a str>, Box<dyn Error>> {
    let mut lines = text.lines();
    if lines.next() != Some(header) {
        return Err(format!("the header is not {header}").into());
    }
    Ok(lines.filter(|line| keep(&line.splitn(3, ',').collect::<Vec<_>>())).collect())
}

fn write_lines(path: &Path, header: &str, lines: &[&str]) -> std::io::Result<()> {
    std::fs::write(path, format!("{header}\n{}\n", lines.join("\n")))
}
