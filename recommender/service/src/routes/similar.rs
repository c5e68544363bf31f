//! `GET /v1/items/{id}/similar`: the items whose vectors point the same way.

use crate::access::Caller;
use crate::compute::{Ask, Source};
use crate::lookup::{RankedItem, check_k, check_key, ranked_items, unknown_item};
use crate::metrics::Labels;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, admit, ranked};
use crate::tiers::Wish;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Numbers stay text here, so that a wrong one can be named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimilarQuery {
    k: Option<String>,
    dim: Option<String>,
    tier: Option<String>,
}

/// The items, most similar first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SimilarResponse<'a> {
    /// The item asked about; it is not among `items`.
    item_id: &'a str,
    /// Most similar first; a score is the cosine of the two item vectors at this dim, -1 to 1.
    items: Vec<RankedItem<'a>>,
    /// Dim at which they were compared.
    dim: usize,
    /// Whether load made that dim smaller than the one chosen.
    degraded: bool,
    /// Tier that chose the dim; null if the request named a dim.
    tier: Option<&'a str>,
    /// Bundle whose item table was read.
    bundle_id: &'a str,
    /// As in the `x-request-id` header.
    request_id: &'a str,
}

/// Items similar to an item by cosine over the item table.
#[utoipa::path(
    get, path = "/v1/items/{id}/similar", tag = "recommend",
    params(
        ("id" = String, Path, description = "Item key, percent-encoded"),
        ("k" = Option<usize>, Query, minimum = 1, description = "Items to answer; the service's default if absent"),
        ("dim" = Option<usize>, Query, description = "A trained dim. Not together with tier"),
        ("tier" = Option<String>, Query, description = "Tier by name. Not together with dim"),
    ),
    responses(
        (status = 200, description = "Similar items", body = SimilarResponse),
        (status = 400, description = "A wrong k, dim or tier", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope, or has another tier alone", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "The item is unknown or hidden", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Past the tier's rate; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Overloaded past the smallest dim, or late; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn similar(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    path: web::Path<String>,
    query: web::Query<SimilarQuery>,
) -> Result<HttpResponse, Problem> {
    let (key, query) = (path.into_inner(), query.into_inner());
    check_key("id", &key, &serving.limits)?;
    let k = number("k", query.k.as_deref())?;
    let dim = number("dim", query.dim.as_deref())?;
    let view = serving.bundle.view();
    let caller = http.extensions().get::<Caller>().copied().unwrap_or_default();
    let wish = Wish { tier: query.tier.as_deref(), dim, key: caller.0 };
    let choice = serving.tiers.current().choose(wish, http.headers(), view.dims())?;
    http.extensions_mut().insert(Labels::of(&choice, choice.dim));
    let k = check_k(k, &serving.limits, &choice.tier)?;
    let item = view.id(&key).ok_or_else(|| unknown_item(&key))?;
    admit(&serving, &choice, caller.0)?;
    let ask = Ask {
        source: Source::Item(item),
        dim: choice.dim,
        k,
        exclude: Vec::new(),
        only: None,
        filter: None,
        include_seen: true,
        diversity: 0.0,
        explain: false,
        page: None,
    };
    let found = ranked(&serving, &view, &choice, ask).await?;
    http.extensions_mut().insert(Labels::ranked(&choice, &found));
    Ok(HttpResponse::Ok().json(SimilarResponse {
        item_id: &key,
        items: ranked_items(&view, &found),
        dim: found.dim,
        degraded: found.dim < choice.dim,
        tier: choice.by_tier.then_some(&*choice.tier.name),
        bundle_id: view.bundle.id(),
        request_id: &id.0,
    }))
}

/// A whole number of a query string.
pub(crate) fn number(field: &str, text: Option<&str>) -> Result<Option<usize>, Problem> {
    let parse = |text: &str| {
        let shown: String = text.chars().take(32).collect();
        text.parse().map_err(|_| Problem::bad_request(format!("{field} is {shown:?}; send a whole number")))
    };
    text.map(parse).transpose()
}
