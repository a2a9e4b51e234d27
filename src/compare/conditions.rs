//! What must be equal before times can be compared.
