//! The service against its own description, by schemathesis, where a Python that has it is named.

use crate::data::Data;
use crate::program::{say_skipped, text};
use std::path::Path;
use std::process::Command;

#[test]
fn the_service_is_what_its_description_says() {
    let python = std::env::var("RECOMMENDER_PYTHON").unwrap_or_default();
    let has_it = Command::new(&python).args(["-c", "import schemathesis"]).output();
    if !has_it.is_ok_and(|done| done.status.success()) {
        return say_skipped("RECOMMENDER_PYTHON names no Python with schemathesis (pip install schemathesis)");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/schemathesis.sh");
    let data = Data::new();
    let bundle = data.trained(&data.built("snapshot"), "bundle");
    let examples = if std::env::var("RECOMMENDER_SLOW_TESTS").is_ok_and(|value| value == "1") { "200" } else { "15" };
    let done = Command::new(&script)
        .arg(text(&bundle))
        .env("RECOMMENDER_PROGRAM", env!("CARGO_BIN_EXE_recommender"))
        .env("SCHEMATHESIS_EXAMPLES", examples)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
}
