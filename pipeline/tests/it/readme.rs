//! "Your own data" of README: its config is read whole, and builds all but the features, whose encoder is not here.

use crate::support::Project;
use pipeline::BuildConfig;

#[test]
fn the_shop_of_the_readme_builds() {
    let readme = include_str!("../../../README.md");
    let config = readme.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    toml::from_str::<BuildConfig>(config).unwrap();
    let without_encoder = config.split_once("[[features]]").unwrap().0;
    let mut project = Project::new();
    project.config = format!("features = []\n{without_encoder}");
    let events: String =
        (0..36).map(|n| format!("c{},s{},{}\n", n / 6, n % 6, 1_700_000_000 + n)).collect::<Vec<_>>().concat();
    project.write("events.csv", format!("customer,sku,time\n{events}"));
    let items: String = (0..6).map(|n| format!("s{n},Thing {n},toys,\"Small, red\",{n}.5\n")).collect();
    project.write("items.csv", format!("sku,name,category,description,price\n{items}"));
    let snapshot = project.snapshot();
    assert_eq!((snapshot.items().unwrap().len(), snapshot.sequences().unwrap().len()), (6, 6));
    assert_eq!(snapshot.items().unwrap()[2].text, "Thing 2. Small, red");
    assert_eq!(snapshot.attributes().unwrap()[0].name, "price");
}
