//! The snapshot format: write, read a file, list a tree.
