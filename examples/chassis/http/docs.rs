//! A service's description of itself: `OpenAPI`, made from its handlers, and a page to try it out.

use axum::Router;
use axum::handler::Handler;
use axum::routing::MethodRouter;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::path::{Operation, Paths};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Tag};
use utoipa::{Modify, OpenApi as _, Path, ToSchema as _};
use utoipa_axum::PathItemExt as _;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_swagger_ui::SwaggerUi;

use super::probes::PROBES;
use super::problem::{PROBLEM_JSON, ShownProblem};

/// Where the description is.
const OPENAPI: &str = "/openapi.json";

/// What is the same in the description of each service.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(ShownProblem)), modifiers(&Bearer), security((), ("token" = [])))]
struct Common;

/// Tokens, where a service asks for them.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// Makes a route of a handler and of what its `#[utoipa::path]` says: the path and the method are written
/// once, so that the description cannot differ from what is served.
#[expect(clippy::needless_pass_by_value, reason = "it stands for its type")]
pub fn documented<P, H, T, S>(_described: P, handler: H) -> UtoipaMethodRouter<S>
where
    P: Path + SchemaReferences + for<'t> Tags<'t>,
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    let mut schemas = Vec::new();
    P::schemas(&mut schemas);
    let methods = P::methods();
    let routes = methods.iter().fold(MethodRouter::new(), |routes, method| {
        routes.on(method.to_method_filter(), handler.clone())
    });
    let mut operation = P::operation();
    operation.tags = Some(P::tags().into_iter().map(str::to_owned).collect());
    let mut paths = Paths::new();
    paths.add_path_operation(P::path(), methods, operation);
    (schemas, paths, routes)
}

/// Returns a router with the description of its routes at `/openapi.json`, and a page at `/docs` on which
/// they can be read and tried out. The page loads nothing from elsewhere.
pub fn described(title: &str, routes: OpenApiRouter) -> Router {
    let (served, mut api) =
        OpenApiRouter::with_openapi(Common::openapi()).merge(routes).split_for_parts();
    api.info.title = format!("OrderWeaver: {title}");
    api.info.description = Some(format!("The {title} service of the reference services."));
    api.info.license = None;
    api.info.contact = None;
    describe_problems(&mut api);
    api.tags = Some(groups(&mut api));
    served.merge(SwaggerUi::new("/docs").url(OPENAPI, api))
}

/// Adds to each operation what any of them may answer, but for the probes, which anybody may ask for as they like.
fn describe_problems(api: &mut OpenApi) {
    let problem = || {
        let schema = Ref::from_schema_name(ShownProblem::name());
        ContentBuilder::new().schema(Some(schema)).build()
    };
    let everywhere = [
        ("401", "No token, or one that is not known, where tokens are asked for."),
        ("403", "The token does not allow this."),
        ("408", "The body did not come in time."),
        ("413", "The body is too large."),
        ("429", "This client asks too often; `Retry-After` says when to ask again."),
        ("503", "The service cannot do this now; try again."),
    ];
    for item in api.paths.paths.values_mut() {
        let guarded =
            operations(item).filter(|it| it.tags.iter().flatten().all(|tag| tag != PROBES));
        for operation in guarded {
            for (status, description) in everywhere {
                let response = ResponseBuilder::new()
                    .description(description)
                    .content(PROBLEM_JSON, problem())
                    .build();
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert(RefOr::T(response));
            }
        }
    }
}

/// Returns the groups of operations, each once, what every service has at the end.
fn groups(api: &mut OpenApi) -> Vec<Tag> {
    let operations = api.paths.paths.values_mut().flat_map(operations);
    let mut names: Vec<_> = operations.flat_map(|it| it.tags.iter().flatten().cloned()).collect();
    names.sort_by_key(|name| (name == PROBES, name.clone()));
    names.dedup();
    names.into_iter().map(Tag::new).collect()
}

fn operations(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten()
}
