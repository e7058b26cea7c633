//! The APIs that clients speak: each translates requests into asks, and pieces of answers into events.
