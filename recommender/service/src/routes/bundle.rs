//! `GET /v1/bundle`: what is served, and how good it is at each dim.

use crate::attributes;
use crate::request_id::RequestId;
use crate::serving::Serving;
use crate::tiers::Tier;
use actix_web::web;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The Bundle and the tiers made of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BundleResponse {
    /// Names the Bundle's bytes.
    bundle_id: String,
    /// Trained dims, ascending.
    dims: Vec<usize>,
    /// Items that it was trained on.
    items: usize,
    /// Items that came after training.
    added_items: usize,
    /// Dims that `recommender tune` chose a search for other than exact: tiers with `search = "tuned"` use it.
    tuned_dims: Vec<usize>,
    /// What recommendations can be filtered by.
    attributes: Vec<AttributeInfo>,
    /// Newest items of a history that the model reads.
    max_history: usize,
    /// The tiers; who gets one is not told.
    tiers: Vec<TierInfo>,
    /// Quality at each dim, as measured when the Bundle was trained.
    quality: Vec<QualityInfo>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// An attribute of items.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AttributeInfo {
    name: String,
    /// `text` or `number`.
    kind: &'static str,
}

/// A tier.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TierInfo {
    name: String,
    dim: usize,
    default: bool,
    /// Dim that requests get now: smaller than `dim` under load.
    dim_now: usize,
}

/// Quality at one dim.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct QualityInfo {
    dim: usize,
    /// By metric, such as `ndcg@10`.
    metrics: BTreeMap<String, f64>,
}

/// Describe the Bundle that is served.
#[utoipa::path(
    get, path = "/v1/bundle", tag = "operations",
    responses((status = 200, description = "The Bundle", body = BundleResponse))
)]
pub(crate) async fn describe(serving: web::Data<Serving>, id: RequestId) -> web::Json<BundleResponse> {
    let view = serving.bundle.view();
    let (bundle, table) = (&view.bundle, serving.tiers.current());
    let tier = |tier: &Arc<Tier>| TierInfo {
        name: tier.config.name.clone(),
        dim: tier.config.dim,
        default: tier.config.default,
        dim_now: tier.dim_now(bundle.dims(), tier.config.dim),
    };
    let attribute = |attribute: &feature_store::Attribute| AttributeInfo {
        name: attribute.name.clone(),
        kind: attributes::kind(attribute),
    };
    let quality = bundle.report().dims.iter().map(|at| QualityInfo { dim: at.dim, metrics: at.metrics.clone() });
    web::Json(BundleResponse {
        bundle_id: bundle.id().to_string(),
        dims: bundle.dims().to_vec(),
        items: bundle.items().len(),
        added_items: view.added().len(),
        tuned_dims: view.plans().dims().collect(),
        attributes: bundle.attributes().iter().map(attribute).collect(),
        max_history: bundle.max_history(),
        tiers: table.tiers().iter().map(tier).collect(),
        quality: quality.collect(),
        request_id: id.0,
    })
}
