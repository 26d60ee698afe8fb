//! Networks by name.

use super::ModelError;
use super::definition::Entry;
use crate::zoo;

/// Every network, in the order in which they are listed.
pub(super) fn networks() -> impl Iterator<Item = &'static dyn Entry> {
    zoo::NETWORKS.iter().flat_map(|file| file.iter().copied())
}

/// The network of this name or alias.
pub(super) fn find(name: &str) -> Result<&'static dyn Entry, ModelError> {
    networks()
        .find(|n| n.name() == name || n.aliases().contains(&name))
        .ok_or_else(|| ModelError::UnknownName { name: name.into(), known: networks().map(|n| n.name()).collect() })
}
