//! Search plans of a Bundle: used by tiers that ask for them, with filters and added items as ever.

use crate::fixture::{DIMS, ITEMS, Server, bundle_dir};
use fmrlrec::Bundle;
use retrieval::{
    Filter, Funnel, Ivf, IvfConfig, NestedTable, Plan, Precision, Probe, Scored, Stage, TuneConfig, Tuned,
};
use serde_json::{Value, json};
use service::{SearchMode, TuneRequest, tune_bundle};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEEPER: [(&str, &str); 2] = [("content-type", "application/json"), ("x-api-key", "key-of-keeper")];

/// A copy of the Bundle, to write into.
fn copy(dir: &Path) -> PathBuf {
    let copy = dir.join("bundle");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(bundle_dir()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    copy
}

fn tuned(dim: usize, plan: Plan) -> Tuned {
    Tuned {
        dim,
        config: TuneConfig { k: 10, recall: 0.9, ivf: None, threads: 1 },
        plan,
        held_out_recall: 0.9,
        choosing_queries: 10,
        held_out_queries: 10,
        cost_bytes: 1,
        exact_bytes: 2,
    }
}

fn funnel() -> Funnel {
    // So short that it loses items.
    Funnel { stages: vec![Stage { dim: 4, shortlist: 6 }] }
}

/// A server whose tier `premium` is tuned.
fn server(bundle: &Path) -> Server {
    Server::with(|config| {
        config.bundle = bundle.to_path_buf();
        config.tiers[2].search = SearchMode::Tuned;
    })
}

#[test]
fn a_tuned_tier_searches_by_the_plan_of_its_dim_and_the_others_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path());
    let plans = vec![tuned(16, Plan::Funnel(funnel())), tuned(8, Plan::Coded(Precision::Int8)), tuned(4, Plan::Exact)];
    Bundle::open(&path).unwrap().write_search_plans(&path, &serde_json::to_string(&plans).unwrap()).unwrap();
    let server = server(&path);
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.id(), Bundle::open(bundle_dir()).unwrap().id(), "the same was trained");
    let table = NestedTable::new(bundle.item_table(), &DIMS).unwrap();
    let user = bundle.user_vector(&[3, 4], 16).unwrap();
    let by_plan = table.search_funnel(&user, 6, &funnel(), &Filter::all().without(&[3, 4]), 1).unwrap();
    let by_plan: Vec<String> =
        by_plan.iter().map(|item| bundle.vocabulary().key(item.id).unwrap().to_owned()).collect();
    let ask = |rest: Value| {
        let mut body = json!({"history": ["i3", "i4"], "k": 6});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        server.client.recommend(&body)
    };
    let found = ask(json!({"tier": "premium"}));
    assert_eq!(found.item_ids(), by_plan);
    assert_eq!(found.json()["next"], Value::Null, "its pages could repeat an item");
    let exact = ask(json!({"dim": 16})).item_ids();
    assert_ne!(exact, by_plan, "the shortlist loses items");
    assert_eq!(ask(json!({"tier": "premium", "k": 20})).item_ids()[..6], exact, "more than it was tuned for: exactly");
    let only: Vec<&str> = vec!["i20", "i21", "i22"];
    assert_eq!(
        ask(json!({"tier": "premium", "only": only})).item_ids().len(),
        3,
        "a filter comes before the shortlist"
    );
    // With a filter the plan's recall was not measured.
    let filter = json!({"not": {"equals": {"attribute": "genre", "value": "no such"}}});
    assert_eq!(ask(json!({"tier": "premium", "filter": filter})).item_ids(), exact);
    assert_eq!(server.client.get("/v1/bundle").json()["tuned_dims"], json!([8, 16]));

    // A new item is found whatever the plan is.
    let features: Vec<f32> = (1..=ITEMS).map(|at| if at == 5 || at == 6 { 1.0 } else { 0.0 }).collect();
    let body = json!({"features": {"text": features}}).to_string();
    assert_eq!(server.client.call("PUT", "/v1/items/new", &KEEPER, &body).status, 200);
    assert!(ask(json!({"tier": "premium"})).item_ids().contains(&"new".to_owned()));
    let requests = json!({"requests": [
        {"history": ["i3", "i4"], "tier": "premium", "k": 6}, {"history": ["i9"], "tier": "premium", "k": 3},
        {"history": ["i3", "i4"], "tier": "premium", "k": 20}
    ]});
    let batch = server.client.post("/v1/recommend/batch", &requests).json();
    for (at, k) in [(0, 6), (2, 20)] {
        let alone = ask(json!({"tier": "premium", "k": k})).json()["items"].clone();
        assert_eq!(batch["answers"][at]["items"], alone, "those beside it change nothing, k {k}");
    }
}

#[test]
fn a_plan_of_cells_is_searched_by_its_cells() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path());
    let bundle = Bundle::open(&path).unwrap();
    let table = Arc::new(NestedTable::new(bundle.item_table(), &DIMS).unwrap());
    let keys = |found: Vec<Scored>| -> Vec<String> {
        found.iter().map(|item| bundle.vocabulary().key(item.id).unwrap().to_owned()).collect()
    };
    let (user, unseen) = (bundle.user_vector(&[3, 4], 16).unwrap(), Filter::all().without(&[3, 4]));
    let exact = keys(table.search(&user, 6, &unseen, 1).unwrap());
    let probe = Probe { cells: 1, shortlist: 6 };
    let by_cells = |index: IvfConfig| {
        keys(Ivf::new(Arc::clone(&table), index, 1).unwrap().search(&user, 6, probe, &unseen).unwrap())
    };
    // Another seed deals other cells: one that loses items tells the plan from an exact search.
    let dealt = |seed| IvfConfig { cell_dim: 4, scan_dim: 4, cells: 4, iterations: 2, seed };
    let index = (1..50).map(dealt).find(|&index| by_cells(index) != exact).expect("a few cells hold six others");
    let plans = serde_json::to_string(&[tuned(16, Plan::Ivf { index, probe })]).unwrap();
    bundle.write_search_plans(&path, &plans).unwrap();
    let server = server(&path);
    let found = server.client.recommend(&json!({"history": ["i3", "i4"], "k": 6, "tier": "premium"}));
    assert_eq!(found.item_ids(), by_cells(index));
    assert_eq!(found.json()["next"], Value::Null, "its pages could repeat an item");
    assert_eq!(server.client.recommend(&json!({"history": ["i3", "i4"], "k": 6, "dim": 16})).item_ids(), exact);
    assert_eq!(server.client.get("/v1/bundle").json()["tuned_dims"], json!([16]));
}

#[test]
fn plans_that_do_not_fit_are_refused_and_altered_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path());
    let reload = |server: &Server| {
        let headers = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
        server.client.call("POST", "/admin/v1/bundle", &headers, "{}")
    };
    let server = server(&path);
    for (plans, detail) in [
        (json!([tuned(16, Plan::Funnel(Funnel { stages: vec![] }))]), "search plan of dim 16: a funnel"),
        (json!([tuned(5, Plan::Coded(Precision::Half))]), "search plan of dim 5: dim 5 was not trained"),
        (json!({"plan": 1}), "its search plans are none"),
    ] {
        Bundle::open(&path).unwrap().write_search_plans(&path, &plans.to_string()).unwrap();
        let reply = reload(&server);
        assert_eq!(reply.status, 422, "{}", reply.text);
        assert!(reply.text.contains(detail), "{} lacks {detail:?}", reply.text);
    }
    Bundle::open(&path).unwrap().write_search_plans(&path, &json!([tuned(16, Plan::Exact)]).to_string()).unwrap();
    assert_eq!(reload(&server).status, 200);
    let is_plans = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("search-plans-");
    let files: Vec<PathBuf> = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect();
    let plans: Vec<&PathBuf> = files.iter().filter(|file| is_plans(file.file_name().unwrap())).collect();
    assert_eq!(plans.len(), 1, "older ones are removed: {files:?}");
    std::fs::write(plans[0], "[]").unwrap();
    let error = Bundle::open(&path).unwrap_err().to_string();
    assert!(error.contains("search-plans-"), "{error}");
}

#[test]
fn a_small_bundle_is_tuned_to_exact_and_the_same_seed_gives_the_same() {
    let bundle = Bundle::open(bundle_dir()).unwrap();
    let request = TuneRequest { recall: 0.9, k: 5, dims: vec![], queries: 40, seed: 1, threads: 1 };
    let tuned = tune_bundle(&bundle, &request, &[]).unwrap();
    assert_eq!(tuned.iter().map(|tuned| tuned.dim).collect::<Vec<_>>(), DIMS);
    assert!(tuned.iter().all(|tuned| tuned.plan == Plan::Exact && tuned.held_out_recall == 1.0));
    assert_eq!(tuned, tune_bundle(&bundle, &request, &[]).unwrap());
    // Of more histories than are asked for, as many as are asked for.
    let histories: Vec<Vec<u32>> = (0..30).map(|user| vec![1 + user % 5]).collect();
    let few = TuneRequest { queries: 20, ..request.clone() };
    for tuned in tune_bundle(&bundle, &few, &histories).unwrap() {
        assert_eq!(tuned.choosing_queries + tuned.held_out_queries, 20);
    }
    let refused = |request: TuneRequest| tune_bundle(&bundle, &request, &[]).unwrap_err().to_string();
    assert!(refused(TuneRequest { dims: vec![5], ..request.clone() }).contains("dim 5 was not trained"));
    assert!(refused(TuneRequest { recall: 1.5, ..request.clone() }).contains("recall 1.5"));
    assert!(refused(TuneRequest { queries: 3, ..request.clone() }).contains("3 queries"));
    assert!(refused(TuneRequest { k: 0, ..request }).contains("k is 0"));
}
