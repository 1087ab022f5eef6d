"""Records of a run in tracking services: a process for each service follows the files of the run."""
