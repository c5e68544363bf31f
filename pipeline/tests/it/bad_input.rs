//! Bad input gives one sentence that names the file, field or value, and no Snapshot.

use crate::support::{CONFIG, ITEMS, Project, refused};
use pipeline::BuildConfig;

#[test]
fn tables() {
    let check = |file: &str, contents: &str, parts: &[&str]| {
        let project = Project::new();
        project.write(file, contents);
        refused(&project, parts);
    };
    check("ratings.csv", "", &["ratings.csv", "is empty"]);
    check("ratings.csv", "user,item,time\n", &["ratings.csv", "no row"]);
    check("ratings.csv", "user,item,when\n1,a,2\n", &["ratings.csv", "no column `time`", "user, item, when"]);
    check("ratings.csv", "user,item,time\n1,a,2\n1,b,noon\n", &["ratings.csv", "`time` row 2", "\"noon\""]);
    check("ratings.csv", "user,item,time\n1,a,2\n1,b,\n", &["ratings.csv", "`time` row 2"]);
    check("ratings.csv", "user,item,time\n1,a,2.5\n", &["ratings.csv", "`time` row 1", "2.5"]);
    check("ratings.csv", "user,item,time\n1,a,-2\n", &["ratings.csv", "`time` row 1", "-2"]);
    check(
        "ratings.csv",
        "user,item,time\n1,a,99999999999999999\n",
        &["ratings.csv", "`time` row 1", "99999999999999999"],
    );
    let in_ms = "user,item,time\n1,a,2\n1,b,1700000000000\n";
    check(
        "ratings.csv",
        in_ms,
        &["ratings.csv", "`time` row 2 is 1700000000000, past the year 9999", "timestamp_unit"],
    );
    check("ratings.csv", "user,item,time\n1,a,2\n,b,3\n", &["ratings.csv", "`user` row 2", "empty"]);
    check("ratings.csv", "user,item,time\n1,a,2\n1,b\n", &["ratings.csv", "CSV"]);
    check("ratings.csv", &format!("user,item,time\n{},a,2\n", "u".repeat(300)), &["`user` row 1", "300 bytes"]);
    check("items.csv", &format!("{ITEMS}b,Again,\n"), &["items.sql", "\"b\"", "2 and 4"]);
    check("items.csv", "item,title,genres\n,Nameless,\n", &["items.sql", "row 1", "no `item`"]);
    check("items.csv", "key,title,genres\na,First,\n", &["items.sql", "item"]);
    check("items.csv", "item,title,genres\nA,First,\nB,Second,\n", &["items.sql", "gives 2 rows", "\"A\"", "\"a\""]);
}

/// Seconds taken for milliseconds would put everything into January 1970. Numbers that only give an order are fine.
#[test]
fn seconds_that_are_said_to_be_milliseconds() {
    let build = |times: [i64; 2]| {
        let project = Project::new().with("timestamp_unit = \"s\"", "timestamp_unit = \"ms\"");
        project.write("ratings.csv", format!("user,item,time\n1,a,{}\n1,b,{}\n", times[0], times[1]));
        project
    };
    for times in [[1, 2], [0, 1_700_000_000], [1_700_000_000, 1_700_000_000_000], [1_700_000_000_000; 2]] {
        build(times).build().unwrap();
    }
    let parts = ["ratings.csv", "`time`", "from 978300760 to 1700000000", "before 1980", "timestamp_unit", "\"s\""];
    refused(&build([1_700_000_000, 978_300_760]), &parts);
}

#[test]
fn missing_files() {
    for file in ["ratings.csv", "items.csv", "given.safetensors"] {
        let project = Project::new();
        std::fs::remove_file(project.path(file)).unwrap();
        refused(&project, &[file, "No such file"]);
    }
}

#[test]
fn configs_that_parse() {
    let check = |from: &str, to: &str, parts: &[&str]| refused(&Project::new().with(from, to), parts);
    check("{title}. {genres}", "{title}. {genre}", &["items.text_template", "`genre`", "item, title, genres"]);
    check("{title}. {genres}", "{title", &["items.text_template", "closing brace"]);
    check("SELECT item,", "SELEKT item,", &["items.sql"]);
    check("FROM items", "FROM films", &["items.sql", "films"]);
    let query = "SELECT item, title, genres FROM items";
    check(query, &format!("{query} WHERE false"), &["items.sql", "gives no row", "WHERE"]);
    check(query, "CREATE VIEW v AS SELECT item FROM items", &["items.sql", "DDL not supported"]);
    check(query, "COPY items TO 'copied.csv'", &["items.sql"]);
    check(query, "SET datafusion.execution.batch_size = 1", &["items.sql", "not supported"]);
    check("table = \"ratings\"", "table = \"rating\"", &["interactions.table", "\"rating\"", "items, ratings"]);
    check("min_user = 1", "min_user = 0", &["k_core.min_user", "0"]);
    check("min_user = 1", "min_user = 99", &["k_core", "99"]);
    check("name = \"items\"", "name = \"ratings\"", &["tables", "\"ratings\"", "twice"]);
    check("keys = \"items.csv\"", "", &["features.given.keys", "missing"]);
    check("file = \"given.safetensors\"\n", "", &["features.given", "exactly one"]);
    check("format = \"csv\"", "format = \"parquet\"", &["ratings.csv", "Parquet"]);
    let encoder = "text_encoder = { dir = \"absent\", runtime = \"tract\", max_tokens = 8 }";
    check("file = \"given.safetensors\"\nkeys = \"items.csv\"", encoder, &["cache_dir", "\"given\""]);
    let cached = |features: &str, parts: &[&str]| refused(&Project::new().with_features(features), parts);
    let feature = |source: &str| format!("[[features]]\nname = \"f\"\ndtype = \"f16\"\n{source}\n");
    cached(&feature(encoder), &["absent", "model.onnx"]);
    cached(&feature(&encoder.replace("= 8", "= 1")), &["features.f.text_encoder.max_tokens", "1"]);
    check("name = \"given\"", "name = \"the given\"", &["features", "\"the given\" is no name"]);
    let image = "image_encoder = { dir = \"absent\", runtime = \"tract\", images = \"posters\", extension = \"jpg\" }";
    cached(&feature(image), &["absent", "model.onnx"]);
}

#[test]
fn configs_that_do_not_parse_name_the_field() {
    let check = |from: &str, to: &str, part: &str| {
        let error = toml::from_str::<BuildConfig>(&CONFIG.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    };
    check("min_user = 1", "", "min_user");
    check("min_user = 1", "min_user = 1\nmin_usr = 1", "min_usr");
    check("timestamp_unit = \"s\"", "timestamp_unit = \"h\"", "unknown variant `h`");
    check("dtype = \"f32\"", "dtype = \"f64\"", "unknown variant `f64`");
    check("min_user = 1", "min_user = -1", "-1");
}

#[test]
fn an_output_that_is_something_else_is_not_replaced() {
    let project = Project::new();
    project.write("snapshot/letter.txt", "dear");
    let error = project.build().unwrap_err().to_string();
    assert!(error.contains("snapshot") && error.contains("not replaced"), "{error}");
    assert_eq!(std::fs::read(project.path("snapshot/letter.txt")).unwrap(), b"dear");
}

#[cfg(not(feature = "ort"))]
#[test]
fn onnxruntime_needs_its_feature() {
    let project = Project::new().with_features(
        "[[features]]\nname = \"image\"\ndtype = \"f16\"\n[features.image_encoder]\ndir = \"encoder\"\n\
         runtime = { onnxruntime = \"libonnxruntime.so\" }\nimages = \"images\"\nextension = \"png\"\n",
    );
    project.write("encoder/model.onnx", crate::onnx::mean_colour(2));
    refused(&project, &["runtime", "libonnxruntime.so", "recommender/ort"]);
}
