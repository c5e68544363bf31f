//! `GET /v1/items`: the catalogue by title, so that a person finds item keys.

use crate::cursor::{CatalogueCursor, expired, fingerprint};
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::routes::similar::number;
use crate::serving::{Serving, searching_catalogue};
use crate::view::ItemRef;
use actix_web::web;
use serde::{Deserialize, Serialize};

/// Most items of an answer, and how many come if the request does not say.
const MAX_LIMIT: usize = 100;
const DEFAULT_LIMIT: usize = 20;
/// Longest part of a title, in bytes.
const MAX_QUERY_BYTES: usize = 200;

/// Numbers stay text here, so that a wrong one can be named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemsQuery {
    #[serde(default)]
    title: String,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Items in the order of the catalogue, those that came after training last.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ItemsResponse {
    /// Those whose title holds the text.
    items: Vec<CatalogueItem>,
    /// Send it as `cursor` for the next page; null on the last one. Valid under the same Bundle; else 410.
    next: Option<String>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// An item of the catalogue.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CatalogueItem {
    /// Item key.
    item_id: String,
    /// Title in the catalogue.
    title: String,
    /// Whether it came after training.
    added: bool,
    /// Whether it is kept from being recommended.
    hidden: bool,
}

/// Find items by title.
#[utoipa::path(
    get, path = "/v1/items", tag = "recommend",
    params(
        ("title" = Option<String>, Query, description = "Part of the title, in any case; all items if absent"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "Items a page, 1 to 100; 20 if absent"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of items", body = ItemsResponse),
        (status = 400, description = "A wrong limit, title or cursor", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "The cursor is not valid any more", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Too many searches at once, or late; try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn search(
    serving: web::Data<Serving>,
    id: RequestId,
    query: web::Query<ItemsQuery>,
) -> Result<web::Json<ItemsResponse>, Problem> {
    let ItemsQuery { title, limit, cursor } = query.into_inner();
    if title.len() > MAX_QUERY_BYTES {
        return Err(Problem::bad_request(format!("title has {} bytes; at most {MAX_QUERY_BYTES}", title.len())));
    }
    let limit = match number("limit", limit.as_deref())? {
        None => DEFAULT_LIMIT,
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(limit) => return Err(Problem::bad_request(format!("limit is {limit}; ask for 1 to {MAX_LIMIT}"))),
    };
    let cursor = cursor.as_deref().map(CatalogueCursor::parse).transpose()?;
    let work = move |serving: &Serving| {
        let view = serving.bundle.view();
        let bundle = fingerprint([view.bundle.id()]);
        let skip = match &cursor {
            None => 0,
            Some(cursor) if cursor.bundle != bundle => return Err(expired("another bundle is served")),
            Some(cursor) => view.id(&cursor.after).ok_or_else(|| expired("its item was removed"))?,
        };
        let wanted = title.to_lowercase();
        let hidden = view.hidden_at((serving.clock)());
        let rest = (skip + 1..=view.items() as u32).filter_map(|id| Some((id, view.item(id)?)));
        let mut found = rest.filter(|(_, item)| wanted.is_empty() || item.title.to_lowercase().contains(&wanted));
        let item = |(id, item): (u32, ItemRef<'_>)| CatalogueItem {
            item_id: item.key.to_owned(),
            title: item.title.to_owned(),
            added: item.added,
            hidden: hidden.binary_search(&id).is_ok(),
        };
        let items: Vec<CatalogueItem> = found.by_ref().take(limit).map(item).collect();
        let next = found.next().and_then(|_| items.last());
        let next = next.map(|last| CatalogueCursor { bundle, after: last.item_id.clone() }.encode());
        Ok(ItemsResponse { items, next, request_id: id.0 })
    };
    searching_catalogue(&serving, work).await.map(web::Json)
}
