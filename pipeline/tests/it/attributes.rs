//! Attributes of items: from columns of the catalogue query to the Snapshot, and what is refused.

use crate::support::{Project, folder, refused};
use feature_store::{AttributeValues, Snapshot};
use pipeline::BuildConfig;

const TEMPLATE: &str = "text_template = \"{title}. {genres}\"\n";

/// A project whose items have these attributes.
fn with(attributes: &str) -> Project {
    let project = Project::new().with(TEMPLATE, &format!("{TEMPLATE}{attributes}"));
    project
        .write("items.csv", "item,title,genres,year\na,First,Drama|War|Drama,1990\nb,Second,,\nc,Third,Crime,1994\n");
    project.with("SELECT item, title, genres FROM items", "SELECT * FROM items")
}

const BOTH: &str = r#"
[[items.attributes]]
name = "genre"
column = "genres"
kind = "text"
separator = "|"
[[items.attributes]]
name = "year"
column = "year"
kind = "number"
"#;

#[test]
fn columns_become_attributes_in_the_order_of_items() {
    let attributes = with(BOTH).snapshot().attributes().unwrap();
    let names: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    assert_eq!(names, ["genre", "year"]);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let genres = vec![texts(&["Drama", "War"]), texts(&[]), texts(&["Crime"])];
    assert_eq!(attributes[0].values, AttributeValues::Texts(genres));
    assert_eq!(attributes[1].values, AttributeValues::Numbers(vec![Some(1990.0), None, Some(1994.0)]));
    assert!(Project::new().snapshot().attributes().unwrap().is_empty(), "none are asked for");
}

#[test]
fn wrong_attributes_are_named() {
    let changed = |from: &str, to: &str| with(&BOTH.replace(from, to));
    refused(&changed("column = \"year\"", "column = \"years\""), &["items.attributes.year", "`years`", "it gives"]);
    refused(
        &changed("kind = \"text\"\nseparator = \"|\"", "kind = \"number\""),
        &["item \"a\"", "Drama|War", "\"genre\""],
    );
    refused(&changed("separator = \"|\"", "separator = \"\""), &["items.attributes.genre.separator", "empty"]);
    refused(&changed("kind = \"number\"", "kind = \"number\"\nseparator = \",\""), &["year.separator", "number"]);
    refused(&changed("name = \"year\"", "name = \"genre\""), &["attributes", "\"genre\" is given twice"]);
    refused(&changed("name = \"year\"", "name = \"the year\""), &["attributes", "\"the year\" is no name"]);
}

#[test]
fn the_sample_can_be_filtered_by_genre_and_year() {
    let base = folder("sample/movielens-small");
    let config: BuildConfig = toml::from_str(&std::fs::read_to_string(base.join("build.toml")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("snapshot");
    pipeline::build(&config, &base, &output, &mut |_| {}).unwrap();
    let snapshot = Snapshot::open(&output).unwrap();
    let (items, attributes) = (snapshot.items().unwrap(), snapshot.attributes().unwrap());
    let [genre, year] = &attributes[..] else { panic!("{} attributes", attributes.len()) };
    let (AttributeValues::Texts(genres), AttributeValues::Numbers(years)) = (&genre.values, &year.values) else {
        panic!("genres are texts and years are numbers")
    };
    assert_eq!(items[0].title, "Toy Story (1995)");
    assert_eq!(genres[0], ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]);
    for (item, year) in items.iter().zip(years) {
        let end = item.title.trim().strip_suffix(')').and_then(|title| title.rsplit('(').next());
        assert_eq!(*year, end.and_then(|year| year.parse().ok()), "{}", item.title);
    }
    assert!(
        years.iter().flatten().count() > 3_600 && genres.iter().filter(|genres| !genres.is_empty()).count() > 3_600
    );
}
