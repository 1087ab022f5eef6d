"""Small tasks with known answers, as tests of the learner."""
