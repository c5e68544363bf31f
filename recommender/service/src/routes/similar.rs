//! `GET /v1/items/{id}/similar`: the items whose vectors point the same way.

use crate::lookup::{RankedItem, answer, check_k, check_key};
use crate::metrics::Labels;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, blocking};
use actix_web::{HttpMessage, HttpRequest, web};
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
pub(crate) struct SimilarResponse {
    /// The item asked about; it is not among `items`.
    item_id: String,
    /// Most similar first; a score is the cosine of the two item vectors at this dim, -1 to 1.
    items: Vec<RankedItem>,
    /// Dim at which they were compared.
    dim: usize,
    /// Tier that chose the dim; null if the request named a dim.
    tier: Option<String>,
    /// Bundle whose item table was read.
    bundle_id: String,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Items similar to an item by cosine over the item table.
#[utoipa::path(
    get, path = "/v1/items/{id}/similar", tag = "recommend",
    params(
        ("id" = String, Path, description = "Item key, percent-encoded"),
        ("k" = Option<usize>, Query, description = "Items to answer; the service's default if absent"),
        ("dim" = Option<usize>, Query, description = "A trained dim. Not together with tier"),
        ("tier" = Option<String>, Query, description = "Tier by name. Not together with dim"),
        ("x-api-key" = Option<String>, Header, description = "Chooses a tier if the query names neither tier nor dim"),
    ),
    responses(
        (status = 200, description = "Similar items", body = SimilarResponse),
        (status = 400, description = "A wrong k, dim or tier", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "The Bundle does not know the item", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late; try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn similar(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    path: web::Path<String>,
    query: web::Query<SimilarQuery>,
) -> Result<web::Json<SimilarResponse>, Problem> {
    let (key, query) = (path.into_inner(), query.into_inner());
    check_key("id", &key, &serving.limits)?;
    let k = check_k(number("k", query.k.as_deref())?, &serving.limits)?;
    let dim = number("dim", query.dim.as_deref())?;
    let choice = serving.tiers.choose(query.tier.as_deref(), dim, http.headers())?;
    http.extensions_mut().insert(Labels::from(&choice));
    let unknown = || Problem::not_found(format!("item {key:?} is not in this bundle"));
    let item = serving.bundle.vocabulary().id(&key).ok_or_else(unknown)?;
    let work = move |serving: &Serving| {
        let ranked = serving.table.most_similar(item, choice.dim, k, &|_| true)?;
        let bundle_id = serving.bundle.id().to_string();
        let items = answer(&serving.bundle, ranked);
        Ok(SimilarResponse { item_id: key, items, dim: choice.dim, tier: choice.tier, bundle_id, request_id: id.0 })
    };
    blocking(&serving, work).await.map(web::Json)
}

fn number(field: &str, text: Option<&str>) -> Result<Option<usize>, Problem> {
    let parse = |text: &str| {
        let shown: String = text.chars().take(32).collect();
        text.parse().map_err(|_| Problem::bad_request(format!("{field} is {shown:?}; send a whole number")))
    };
    text.map(parse).transpose()
}
