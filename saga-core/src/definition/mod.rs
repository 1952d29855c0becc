//! What a saga is.
/// Why parts do not make a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// Placeholder.
    #[error("empty")]
    Empty,
}
