//! Measures both encoders in this program, one thread, content in and vector out (tokenizing,
//! decoding and resizing included). `encoder_throughput.sh` runs it in turns with Python.
//!
//! `encoder_throughput MODELS_DIR SENTENCES_FILE IMAGES_DIR IMAGES_COUNT`

use pipeline::{ImageEncoder, Runtime, TextEncoder};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [models, sentences, images, count] = arguments.as_slice() else {
        return Err("give MODELS_DIR SENTENCES_FILE IMAGES_DIR IMAGES_COUNT".into());
    };
    let models = PathBuf::from(models);

    let text = TextEncoder::load(&models.join("all-minilm-l6-v2"), &Runtime::Tract, 128)?;
    let sentences = std::fs::read_to_string(sentences)?;
    let sentences: Vec<&str> = sentences.lines().collect();
    text.encode(sentences[0])?;
    let start = Instant::now();
    for sentence in &sentences {
        text.encode(sentence)?;
    }
    report("tract sentences/s", sentences.len(), start);

    let image = ImageEncoder::load(&models.join("efficientnet-lite0"), &Runtime::Tract)?;
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(images)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.truncate(count.parse()?);
    let start = Instant::now();
    for path in &paths {
        image.encode_pixels(image.pixels(&std::fs::read(path)?)?)?;
    }
    report("tract images/s", paths.len(), start);
    Ok(())
}

#[allow(clippy::print_stdout)]
fn report(what: &str, count: usize, start: Instant) {
    println!("{what} {:.1}", count as f64 / start.elapsed().as_secs_f64());
}
