//! `/v1/items/{id}`: one item; adding one that came after training, and taking one away.

use crate::attributes;
use crate::json_body::JsonBody;
use crate::lookup::{check_key, hidden_item, unknown_item};
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, changing_items};
use crate::view::View;
use actix_web::http::StatusCode;
use actix_web::web;
use feature_store::{AttributeValue, ItemContent, MAX_TITLE_BYTES, NewItem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An item by its features.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"title": "A film of this week", "features": {"text": [0.03, -0.11]}}))]
pub(crate) struct ItemRequest {
    /// What it is called; the title it has, or its key, if absent.
    title: Option<String>,
    /// A vector for each feature that the Bundle was trained on, by name, from the encoder that made the
    /// training's features. One that is absent counts as zeros, as in training.
    features: BTreeMap<String, Vec<f32>>,
    /// What filters know of it, by attribute: a number, a text, or a list of texts. `/v1/bundle` lists the
    /// attributes.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"genre": ["Drama"], "year": 2024}))]
    attributes: BTreeMap<String, AttributeValue>,
}

/// An item.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ItemResponse {
    /// Item key.
    item_id: String,
    /// What it is called.
    title: String,
    /// Whether it came after training; such an item has no learned embedding of its own.
    added: bool,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// What became of an item that was put.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ItemPut {
    /// Item key.
    item_id: String,
    /// What it is called.
    title: String,
    /// Whether it was not there before.
    created: bool,
    /// Whether it is served by these features. Not so if the Bundle was trained on the item: then its own
    /// row counts, and the features are kept for a Bundle that was not.
    added: bool,
    /// Features of the Bundle that the request did not give: they count as zeros.
    missing_features: Vec<String>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// What became of an item that was deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ItemDeleted {
    /// Item key.
    item_id: String,
    /// Whether features of it were kept, as those of an added item; they are gone now.
    removed: bool,
    /// Whether its key is hidden from now on, under a next Bundle that was trained on it too: so it is until it is put
    /// again.
    hidden: bool,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Show an item.
#[utoipa::path(
    get, path = "/v1/items/{id}", tag = "recommend",
    params(("id" = String, Path, description = "Item key, percent-encoded")),
    responses(
        (status = 200, description = "The item", body = ItemResponse),
        (status = 400, description = "No key", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "The item is unknown or hidden", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    serving: web::Data<Serving>,
    id: RequestId,
    path: web::Path<String>,
) -> Result<web::Json<ItemResponse>, Problem> {
    let key = path.into_inner();
    check_key("id", &key, &serving.limits)?;
    let view = serving.bundle.view();
    let item = view.id(&key).ok_or_else(|| unknown_item(&key))?;
    if view.hidden_at((serving.clock)()).binary_search(&item).is_ok() {
        return Err(hidden_item(&view, item));
    }
    let item = view.item(item).ok_or_else(|| unknown_item(&key))?;
    let (title, added) = (item.title.to_owned(), item.added);
    Ok(web::Json(ItemResponse { item_id: key, title, added, request_id: id.0 }))
}

/// Add an item without training, or replace what it is. It is recommended, found and read in histories
/// when the answer arrives, and after every restart and swap.
#[utoipa::path(
    put, path = "/v1/items/{id}", tag = "items", security(("api_key" = [])), request_body = ItemRequest,
    params(("id" = String, Path, description = "Item key, percent-encoded")),
    responses(
        (status = 200, description = "The item as it is served now", body = ItemPut),
        (status = 400, description = "A wrong field", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or item changes are off", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "There are as many added items as the config allows", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "Features that the Bundle cannot place", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late; try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn put(
    serving: web::Data<Serving>,
    id: RequestId,
    path: web::Path<String>,
    body: JsonBody<ItemRequest>,
) -> Result<web::Json<ItemPut>, Problem> {
    let (key, ItemRequest { title, features, attributes }) = (path.into_inner(), body.0);
    check_key("id", &key, &serving.limits)?;
    if title.as_ref().is_some_and(|title| title.is_empty() || title.len() > MAX_TITLE_BYTES) {
        return Err(Problem::bad_request(format!(
            "title is not 1 to {MAX_TITLE_BYTES} bytes; leave it out or mend it"
        )));
    }
    let content = ItemContent::new(features, attributes)?;
    changing_items(&serving, move |serving| add(serving, key, title, content, id)).await.map(web::Json)
}

/// Blocking: checks against the Bundle of now, stores, takes in.
fn add(
    serving: &Serving,
    key: String,
    title: Option<String>,
    content: ItemContent,
    id: RequestId,
) -> Result<ItemPut, Problem> {
    let before = serving.bundle.view();
    // Projected again when it is taken in: here to refuse what cannot be placed before it is stored.
    before.bundle.item_vector(content.features()).map_err(unplaceable)?;
    attributes::check(before.bundle.attributes(), content.attributes())?;
    let known = before.bundle.features().map_err(unplaceable)?.into_iter().map(|feature| feature.name);
    let missing_features = known.filter(|name| !content.features().contains_key(name)).collect();
    let most = serving.limits.added_items;
    if before.id(&key).is_none() && before.added().len() + before.added().left_out() >= most {
        return Err(full(most));
    }
    let item = NewItem { item_id: key.clone(), title, content };
    let created = serving.store.store().put_item(&item, (serving.clock)())?;
    serving.refresh_items()?;
    let view = serving.bundle.view();
    let Some(item) = view.id(&key).and_then(|id| view.item(id)) else {
        // Others came first in the meantime. Forgotten, not removed: a removal would hide it under every Bundle to come.
        if created {
            serving.store.store().forget_item(&key)?;
        }
        return Err(full(most));
    };
    let created = created && before.id(&key).is_none();
    Ok(ItemPut {
        title: item.title.to_owned(),
        added: item.added,
        item_id: key,
        created,
        missing_features,
        request_id: id.0,
    })
}

/// Remove an added item and hide its key, under every Bundle trained on it. Putting it shows it again.
#[utoipa::path(
    delete, path = "/v1/items/{id}", tag = "items", security(("api_key" = [])),
    params(("id" = String, Path, description = "Item key, percent-encoded")),
    responses(
        (status = 200, description = "It is not recommended any more", body = ItemDeleted),
        (status = 400, description = "No key", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or item changes are off", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "The item is unknown", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late; try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    serving: web::Data<Serving>,
    id: RequestId,
    path: web::Path<String>,
) -> Result<web::Json<ItemDeleted>, Problem> {
    let key = path.into_inner();
    check_key("id", &key, &serving.limits)?;
    let work = move |serving: &Serving| {
        let trained = is_trained(&serving.bundle.view(), &key);
        let store = serving.store.store();
        if !trained && store.item_content(&key)?.is_none() {
            return Err(unknown_item(&key));
        }
        let removed = store.remove_item(&key, (serving.clock)())?;
        serving.refresh_items()?;
        Ok(ItemDeleted { item_id: key, removed, hidden: true, request_id: id.0 })
    };
    changing_items(&serving, work).await.map(web::Json)
}

fn is_trained(view: &View, key: &str) -> bool {
    view.bundle.vocabulary().id(key).is_some()
}

fn unplaceable(error: fmrlrec::BundleError) -> Problem {
    match error {
        fmrlrec::BundleError::Feature { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        failure => Problem::internal(failure),
    }
}

fn full(most: usize) -> Problem {
    Problem::conflict(format!(
        "limits.added_items allows {most} added items, and so many there are; delete some, or train a bundle with them"
    ))
}
