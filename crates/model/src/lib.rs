//! Plans, events, progress, inventory, image descriptors, API messages: plain serialisable data, versioned.
