//! Fragments, merged inputs, validated settings.
