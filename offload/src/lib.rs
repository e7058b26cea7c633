//! Residency plan, slots, links, the prefetch thread and visits. Knows no token and no model.
