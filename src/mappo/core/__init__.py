"""The contract between environments and learners: Spec, TimeStep, Environment."""
