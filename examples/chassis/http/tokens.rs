//! Who may ask: bearer tokens, each with what it may do and, if it is a customer's, whose orders it sees.

use anyhow::{Context as _, ensure};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use subtle::ConstantTimeEq as _;

use super::Problem;
use super::fields::is_id;

/// Shortest token, in bytes: what is shorter can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The tokens of a service. Without any, everybody may do everything.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    secret: String,
    may_write: bool,
    user_id: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The customer whose things alone they may see; `None` if they may see everybody's.
    pub user_id: Option<String>,
}

impl Tokens {
    /// Reads tokens such as `SECRET=read,SECRET=write,SECRET=write:u-1`.
    ///
    /// # Errors
    ///
    /// What is wrong with one, without showing it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let token = |(number, text): (usize, &str)| {
            Token::parse(text.trim())
                .with_context(|| format!("token {} of API_TOKENS cannot be used", number + 1))
        };
        Ok(Self(text.split(',').enumerate().map(token).collect::<Result<_, _>>()?))
    }

    /// Returns true if everybody may do everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says who asks.
    ///
    /// # Errors
    ///
    /// A [`Problem`] if nobody with such a token may ask for this.
    pub(super) fn caller(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.is_empty() {
            return Ok(Caller::default());
        }
        let unknown = |detail| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
        let given = given.ok_or_else(|| unknown("send a token: `Authorization: Bearer TOKEN`"))?;
        // All are compared, each in the same time, so that nothing is learnt from how long it takes.
        let token = self.0.iter().fold(None, |found, token| {
            let is_it = bool::from(token.secret.as_bytes().ct_eq(given));
            if is_it { Some(token) } else { found }
        });
        let token = token.ok_or_else(|| unknown("this token is not known"))?;
        if !token.may_write && method != Method::GET && method != Method::HEAD {
            let detail = "this token may only read";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        }
        Ok(Caller { user_id: token.user_id.clone() })
    }
}

impl Token {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (secret, may) =
            text.rsplit_once('=').context("it must be TOKEN=read or TOKEN=write")?;
        ensure!(
            secret.len() >= TOKEN_BYTES_MIN,
            "it must have at least {TOKEN_BYTES_MIN} characters"
        );
        let is_plain = secret.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(is_plain, "it must be letters, digits and signs without spaces");
        let (role, user_id) = match may.split_once(':') {
            None => (may, None),
            Some((role, user_id)) => (role, Some(user_id.to_owned())),
        };
        ensure!(user_id.as_deref().is_none_or(is_id), "the customer behind `:` cannot be one");
        ensure!(matches!(role, "read" | "write"), "what it may is `read` or `write`");
        Ok(Self { secret: secret.to_owned(), may_write: role == "write", user_id })
    }
}

impl std::fmt::Debug for Tokens {
    /// Tells how many there are, and none of them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Caller {
    /// Returns true if they may see what is a customer's.
    #[must_use]
    pub fn may_see(&self, user_id: &str) -> bool {
        self.user_id.as_deref().is_none_or(|own| own == user_id)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: &str =
        "reader-0123456789=read, writer-0123456789=write,customer-0123456789=write:u-1";

    fn ask(method: &Method, token: &str) -> Result<Caller, StatusCode> {
        let mut headers = HeaderMap::new();
        if !token.is_empty() {
            let value = format!("Bearer {token}").parse().expect("a header");
            headers.insert(header::AUTHORIZATION, value);
        }
        let tokens = Tokens::parse(TOKENS).expect("sound");
        tokens.caller(method, &headers).map_err(|problem| problem.status())
    }

    #[test]
    fn each_token_may_do_what_it_says() {
        let anybody = || Ok(Caller::default());
        assert_eq!(ask(&Method::GET, "reader-0123456789"), anybody());
        assert_eq!(ask(&Method::POST, "reader-0123456789"), Err(StatusCode::FORBIDDEN));
        assert_eq!(ask(&Method::POST, "writer-0123456789"), anybody());
        let customer = Caller { user_id: Some("u-1".to_owned()) };
        assert_eq!(ask(&Method::POST, "customer-0123456789"), Ok(customer));
        for token in ["", "reader", "reader-0123456788", "reader-01234567890"] {
            assert_eq!(ask(&Method::GET, token), Err(StatusCode::UNAUTHORIZED), "{token}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_used_is_named_and_not_shown() {
        for text in ["", "secret-secret-secret", "short=read", "secret-secret-secret=admin"] {
            let error = format!("{:#}", Tokens::parse(text).expect_err(text));
            assert!(error.starts_with("token 1 of API_TOKENS"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let tokens = Tokens::parse(TOKENS).expect("sound");
        assert_eq!(format!("{tokens:?}"), "3 tokens");
    }
}
