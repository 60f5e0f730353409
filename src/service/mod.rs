//! The service's side of the protocol: a brain as pure as the agent's, a registry, a REST face.
