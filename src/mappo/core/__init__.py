"""The contract between environments and learners."""
