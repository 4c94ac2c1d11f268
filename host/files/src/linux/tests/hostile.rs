//! A guest that obeys nothing.
